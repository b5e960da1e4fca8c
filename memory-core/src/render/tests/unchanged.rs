//! The short way for plain texts gives the result of the general one.

use proptest::prelude::*;

use super::super::turn::Input;
use super::super::{Extent, Rendered, dialect_of, render_parts, unchanged};
use super::{histories, profiles};
use crate::message::{Message, Role};
use crate::profile::{Profile, ProfileName};
use crate::stored::Sequence;
use crate::tokens::{EstimateCounter, message_tokens};
use crate::window::SummaryRole;

/// Texts, most of them as a chat has them.
fn plain() -> impl Strategy<Value = Message> {
    let role = prop_oneof![
        4 => Just(Role::User),
        4 => Just(Role::Assistant),
        1 => Just(Role::System),
        1 => Just(Role::Developer),
    ];
    let text = prop_oneof![8 => "[a-z ]{1,12}[a-z]", 1 => Just(" ".to_owned()), 1 => "[a-z]{1,3} "];
    (role, text).prop_map(|(role, text)| Message::new(role, text))
}

/// Chats in which user and assistant take turns, and others.
fn history() -> impl Strategy<Value = Vec<Message>> {
    let turns = prop::collection::vec("[a-z]{1,9}", 1..8).prop_map(|texts| {
        let mut is_user = false;
        let message = |text| {
            is_user = !is_user;
            if is_user { Message::user(text) } else { Message::assistant(text) }
        };
        texts.into_iter().map(message).collect()
    });
    prop_oneof![
        turns,
        prop::collection::vec(plain(), 0..8),
        histories::lines(6).prop_map(|lines| histories::messages(&lines))
    ]
}

fn parts_of(rendered: &Rendered) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        rendered.request.to_string(),
        serde_json::to_string(&rendered.request).unwrap(),
        rendered.tokens,
        rendered.message_tokens.clone(),
        rendered.repairs.clone(),
        rendered.is_left_out.clone(),
        rendered.has_left,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn both_ways_render_the_same(
        messages in history(),
        system in prop::option::of("[a-z ]{0,6}"),
        summary in prop::option::of(0..3_usize),
    ) {
        let roles = [SummaryRole::User, SummaryRole::System, SummaryRole::Assistant];
        let inputs: Vec<_> = messages.iter().zip(1..).map(|(message, number)| {
            let input = Input {
                sequence: Some(Sequence::new(number)),
                tokens: Some(message_tokens(&EstimateCounter, message).into()),
                ..Input::new(message)
            };
            match summary {
                Some(role) if number == 1 => input.as_summary(roles[role]),
                _ => input,
            }
        }).collect();
        let system = system.as_deref();
        for profile in profiles() {
            let dialect = dialect_of(profile.name);
            let short = unchanged::render(&inputs, system, &profile, dialect, &EstimateCounter);
            if let Some(short) = short {
                let extent = Extent::Part;
                let long = render_parts(&inputs, system, &profile, &EstimateCounter, extent, None);
                prop_assert_eq!(parts_of(&short), parts_of(&long), "{}", profile.name);
            }
        }
    }
}

#[test]
fn plain_chats_take_the_short_way() {
    let chat = [Message::user("where?"), Message::assistant("In Brest."), Message::user("thanks")];
    let inputs = chat.each_ref().map(|message| Input { tokens: Some(9), ..Input::new(message) });
    let is_short = |inputs: &[Input<'_>], profile: &Profile| {
        let dialect = dialect_of(profile.name);
        unchanged::render(inputs, Some("Be brief."), profile, dialect, &EstimateCounter).is_some()
    };
    for profile in profiles() {
        let is_written_so = !matches!(
            profile.name,
            ProfileName::OpenaiResponses | ProfileName::Gemini | ProfileName::Bedrock
        );
        assert_eq!(is_short(&inputs, &profile), is_written_so, "{}", profile.name);
        // An answer without its tokens is counted.
        let [first, answer, last] = inputs;
        let uncounted = [first, Input { tokens: None, ..answer }, last];
        assert!(!is_short(&uncounted, &profile));
    }
}
