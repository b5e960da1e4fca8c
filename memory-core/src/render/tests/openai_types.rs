//! Requests for OpenAI are read by the types of a client library.

use async_openai::types::chat::ChatCompletionRequestMessage;
use async_openai::types::responses::InputItem;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::histories::{lines, messages};
use super::render_all;
use crate::json::Json;
use crate::profile::Profile;
use crate::render::Extent;

/// Reads each message as this type, and checks that no field of it is lost.
fn check<T: DeserializeOwned + Serialize>(
    messages: &[Json],
    adapt: fn(&mut Value),
) -> Result<(), TestCaseError> {
    for message in messages {
        let mut expected = message.to_value();
        adapt(&mut expected);
        let text = expected.to_string();
        let read: T = serde_json::from_str(&text)
            .map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
        let written = serde_json::to_value(&read).unwrap();
        prop_assert!(holds(&written, &expected), "{written} of {expected}");
    }
    Ok(())
}

/// The crate has another key for custom calls than the API.
/// (async-openai 0.43; D platform.openai.com/docs/api-reference/chat/create)
fn adapt_chat(message: &mut Value) {
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten().filter_map(Value::as_object_mut) {
        if let Some(custom) = call.remove("custom") {
            call.insert("custom_tool".into(), custom);
        }
    }
}

/// The crate requires fields that the API does not. (E continue#11494)
fn adapt_item(item: &mut Value) {
    let Some(item) = item.as_object_mut() else { return };
    let is_output = item.get("role").is_some_and(|role| role == "assistant")
        && item.get("content").is_some_and(Value::is_array);
    let kind = item.get("type").and_then(Value::as_str).unwrap_or_default();
    if kind.ends_with("_call") || kind == "reasoning" {
        item.entry("id").or_insert("item_1".into());
    }
    if is_output {
        item.entry("id").or_insert("msg_1".into());
        item.entry("status").or_insert("completed".into());
    }
}

/// Whether one value is the other, with defaults beside its fields. Null is the same as absent.
fn holds(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(key, part)| whole.get(key).map_or(part.is_null(), |whole| holds(whole, part))),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len()
                && whole.iter().zip(part).all(|(whole, part)| holds(whole, part))
        }
        (whole, part) => whole == part,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]
    #[test]
    fn chat_requests_have_the_types_of_openai(lines in lines(12)) {
        let rendered = render_all(&messages(&lines), &Profile::openai_chat(), Extent::Whole);
        check::<ChatCompletionRequestMessage>(rendered.request.messages(), adapt_chat)?;
    }

    #[test]
    fn responses_requests_have_the_types_of_openai(lines in lines(12)) {
        let rendered = render_all(&messages(&lines), &Profile::openai_responses(), Extent::Whole);
        check::<InputItem>(rendered.request.messages(), adapt_item)?;
    }
}

#[test]
fn audio_of_other_formats_becomes_a_note() {
    for (format, is_sent) in [("wav", true), ("mp3", true), ("ogg", false)] {
        let line = format!(
            r#"{{"role":"user","content":[{{"type":"input_audio","input_audio":{{"data":"UklGRg==","format":"{format}"}}}}]}}"#
        );
        for profile in [Profile::openai_chat(), Profile::openai_responses()] {
            let request =
                render_all(&messages(std::slice::from_ref(&line)), &profile, Extent::Whole).request;
            assert_eq!(
                request.to_string().contains("UklGRg=="),
                is_sent,
                "{} {format}",
                profile.name
            );
        }
    }
}
