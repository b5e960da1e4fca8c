//! All forms of a request have the same content.

use proptest::prelude::*;
use serde::Serialize;

use super::histories::{lines, messages};
use super::{profiles, render_all};
use crate::json::Json;
use crate::message::Message;
use crate::profile::{Profile, ProfileName};
use crate::render::{Extent, Request};

/// The body of a request to a model.
#[derive(Serialize)]
struct Body<'r> {
    model: &'static str,
    #[serde(flatten)]
    history: &'r Request,
    stream: bool,
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]
    #[test]
    fn forms_of_a_request_agree(lines in lines(12)) {
        let messages = messages(&lines);
        for profile in profiles() {
            let request = render_all(&messages, &profile, Extent::Whole).request;
            let text = request.to_string();
            prop_assert_eq!(&serde_json::to_string(&request).unwrap(), &text);
            prop_assert_eq!(&request.to_json().to_string(), &text);
            prop_assert_eq!(&Json::parse(&text).unwrap(), &request.to_json());
            prop_assert_eq!(&request.to_value(), &serde_json::from_str::<serde_json::Value>(&text).unwrap());
        }
    }
}

/// Integers and decimals that no Rust type can represent.
const INPUT: &str = r#"{"id":1234567890123456789012345,"rate":0.10,"large":1e400}"#;

fn history() -> Vec<Message> {
    [
        r#"{"role":"user","content":"Which ferry?"}"#.to_owned(),
        format!(r#"{{"role":"assistant","content":[{{"type":"tool_use","id":"a","name":"f","input":{INPUT}}}]}}"#),
        r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"none"}]}"#.to_owned(),
    ]
    .map(|line| Message::from_json(&line).unwrap())
    .into()
}

#[test]
fn numbers_are_written_as_stored() {
    for profile in profiles() {
        let request = render_all(&history(), &profile, Extent::Whole).request;
        // Arguments are a text in some APIs.
        let expected = match profile.name {
            ProfileName::Anthropic | ProfileName::Gemini | ProfileName::Bedrock => INPUT.to_owned(),
            _ => INPUT.replace('"', "\\\""),
        };
        let text = serde_json::to_string(&request).unwrap();
        assert!(text.contains(&expected), "{} {text}", profile.name);
        assert!(request.to_string().contains(&expected));
        assert!(
            serde_json::to_string_pretty(&request).unwrap().contains("1234567890123456789012345")
        );
    }
}

#[test]
fn flattened_request_keeps_large_numbers() {
    for profile in [Profile::anthropic(), Profile::bedrock(), Profile::gemini()] {
        let request = render_all(&history(), &profile, Extent::Whole).request;
        let body = Body { model: "m", history: &request, stream: true };
        let text = serde_json::to_string(&body).unwrap();
        assert!(
            text.starts_with(r#"{"model":"m","#) && text.ends_with(r#","stream":true}"#),
            "{text}"
        );
        assert!(text.contains(INPUT), "{text}");
        let whole = request.to_string();
        let inner = whole.trim_start_matches('{').trim_end_matches('}');
        assert!(text.contains(inner), "{text}");
    }
    let request = render_all(&history(), &Profile::openai_responses(), Extent::Whole).request;
    let body = Body { model: "m", history: &request, stream: true };
    assert!(serde_json::to_string(&body).unwrap().contains("1234567890123456789012345"));
    // A list cannot be flattened into an object.
    let request = render_all(&history(), &Profile::openai_chat(), Extent::Whole).request;
    let body = Body { model: "m", history: &request, stream: true };
    assert!(serde_json::to_string(&body).is_err());
}
