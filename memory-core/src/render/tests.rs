//! Every rendered request is accepted, whatever the history.

pub(crate) mod histories;

use proptest::prelude::*;

use self::histories::{lines, messages};
use super::{Input, Rendered, render};
use crate::check_request::check_request;
use crate::message::Message;
use crate::profile::{Profile, ProfileName};
use crate::stored::Sequence;
use crate::tokens::{EstimateCounter, message_tokens};

/// Every profile, with old and new generations.
pub(crate) fn profiles() -> Vec<Profile> {
    use ProfileName::{
        Anthropic, Bedrock, Gemini, Mistral, OpenaiChat, OpenaiResponses, StrictTemplate,
    };
    [
        (OpenaiChat, None),
        (OpenaiChat, Some("deepseek-v3.2")),
        (OpenaiChat, Some("qwen3")),
        (OpenaiResponses, None),
        (Anthropic, None),
        (Anthropic, Some("claude-3-5-sonnet-20241022")),
        (Anthropic, Some("claude-opus-4-8")),
        (Gemini, None),
        (Gemini, Some("gemini-2.5-pro")),
        (Bedrock, None),
        (Bedrock, Some("amazon.nova-pro-v1:0")),
        (Mistral, None),
        (Mistral, Some("mistral-large-latest")),
        (StrictTemplate, None),
    ]
    .into_iter()
    .map(|(name, model)| Profile::new(name, model))
    .collect()
}

fn render_all(messages: &[Message], profile: &Profile, is_whole: bool) -> Rendered {
    let inputs: Vec<_> = messages
        .iter()
        .zip(1..)
        .map(|(message, number)| Input {
            sequence: Some(Sequence::new(number)),
            tokens: Some(message_tokens(&EstimateCounter, message).into()),
            ..Input::new(message)
        })
        .collect();
    render(&inputs, None, profile, &EstimateCounter, is_whole)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn every_history_is_accepted(lines in lines(8), is_whole in any::<bool>()) {
        let messages = messages(&lines);
        for profile in profiles() {
            let rendered = render_all(&messages, &profile, is_whole);
            if rendered.request.messages().is_empty() {
                continue;
            }
            let text = rendered.request.to_string();
            if let Err(error) = check_request(&text, &profile) {
                return Err(TestCaseError::fail(format!("{profile:?}\n{error}\n{text}")));
            }
            let recount = rendered.request.count_tokens(&EstimateCounter);
            prop_assert_eq!(rendered.tokens, recount, "{:?} {}", profile.name, text);
        }
    }
}

#[test]
fn zz_survey() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut found: std::collections::BTreeMap<String, (usize, usize, String)> = Default::default();
    for round in 0..6000 {
        let strategy = lines(1 + round % 5);
        let case = strategy.new_tree(&mut runner).unwrap().current();
        let messages = messages(&case);
        for profile in profiles() {
            for whole in [true, false] {
            let rendered = render_all(&messages, &profile, whole);
            if rendered.request.messages().is_empty() { continue; }
            let text = rendered.request.to_string();
            let mut add = |key: String| {
                let entry = found.entry(key).or_insert((0, usize::MAX, String::new()));
                entry.0 += 1;
                let size: usize = case.iter().map(|l| l.len() + 20).sum();
                if size < entry.1 { entry.1 = size; entry.2 = format!("{}\n    -> {text}", case.join("\n    ")); }
            };
            if let Err(error) = check_request(&text, &profile) {
                for problem in &error.problems {
                    add(format!("{} {}", profile.name, problem.rule));
                }
            } else if rendered.request.count_tokens(&EstimateCounter) != rendered.tokens {
                add(format!("{} count {} {}", profile.name, rendered.tokens, rendered.request.count_tokens(&EstimateCounter)).split(' ').take(2).collect::<Vec<_>>().join(" "));
            }
            }
        }
    }
    for (key, (count, _, example)) in &found { println!("## {key}: {count}\n    {example}"); }
}
