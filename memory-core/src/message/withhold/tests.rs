use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::profile::{Profile, ProfileName};
use crate::render::tests::histories::{lines, messages};
use crate::{EstimateCounter, WindowOptions, check_request, trim_messages};

fn withheld(value: Value) -> Option<Value> {
    let message = Message::from_value(value).unwrap();
    let withheld = message.withheld("[gone]")?;
    assert_eq!(withheld.tool_link(), message.tool_link());
    Some(withheld.to_value())
}

#[test]
fn ids_and_names_remain_in_each_dialect() {
    let gone = json!({"withheld": "[gone]"});
    for (before, after) in [
        (
            json!({"role": "assistant", "content": "secret", "reasoning_content": "secret", "x": "secret",
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\": \"secret\"}"}}]}),
            json!({"role": "assistant", "content": "[gone]",
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": gone.to_string()}}]}),
        ),
        (
            json!({"role": "assistant", "content": null,
                "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "f", "input": "secret"}}]}),
            json!({"role": "assistant", "content": null,
                "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "f", "input": "[gone]"}}]}),
        ),
        (
            json!({"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "secret"}], "artifact": "secret"}),
            json!({"role": "tool", "tool_call_id": "c", "content": "[gone]"}),
        ),
        (
            json!({"role": "function", "name": "f", "content": "secret"}),
            json!({"role": "function", "name": "f", "content": "[gone]"}),
        ),
        (
            json!({"type": "function_call", "id": "fc_secret", "call_id": "c", "name": "f", "arguments": "secret"}),
            json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": gone.to_string()}),
        ),
        (
            json!({"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c", "content": "secret", "is_error": true},
                {"type": "tool_result", "tool_use_id": "d", "content": [{"type": "text", "text": "secret"}]},
                {"type": "text", "text": "secret"}, {"type": "text", "text": "secret"}]}),
            json!({"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c", "content": "[gone]"},
                {"type": "tool_result", "tool_use_id": "d", "content": "[gone]"},
                {"type": "text", "text": "[gone]"}]}),
        ),
        (
            json!({"role": "assistant", "content": [{"type": "thinking", "thinking": "secret", "signature": "s"},
                {"type": "tool_use", "id": "c", "name": "f", "input": {"secret": 1}}]}),
            json!({"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": gone}]}),
        ),
        (
            json!({"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"a": "secret"}}, "thoughtSignature": "c2ln"}]}),
            json!({"role": "model", "parts": [{"functionCall": {"name": "f", "args": gone}}]}),
        ),
        (
            json!({"role": "user", "content": [{"toolResult": {"toolUseId": "c", "content": [{"json": {"a": "secret"}}]}}]}),
            json!({"role": "user", "content": [{"toolResult": {"toolUseId": "c", "content": [{"text": "[gone]"}]}}]}),
        ),
    ] {
        assert_eq!(withheld(before.clone()), Some(after), "{before}");
    }
}

#[test]
fn message_without_open_links_has_no_stub() {
    for message in [
        json!({"role": "user", "content": "secret"}),
        json!({"role": "assistant", "content": "secret", "tool_calls": []}),
        // The provider ran the tool, and the message has its result.
        json!({"role": "assistant", "content": [
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "secret"}},
            {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}]}),
        json!({"id": "m", "role": "assistant", "parts": [{"type": "tool-f", "toolCallId": "c",
            "state": "output-available", "input": {}, "output": "secret"}]}),
    ] {
        assert_eq!(withheld(message.clone()), None, "{message}");
    }
}

/// Contents of the random histories that are neither ids nor names.
const CONTENTS: [&str; 9] =
    ["~", "thought", "free", "example.com", "iVBOR", "sig\"", "\"bad\"", "and now?", "not json"];

proptest! {
    #[test]
    fn windows_with_stubs_pair(
        lines in lines(8),
        choice in prop::collection::vec(any::<bool>(), 40),
        name in prop::sample::select(&ProfileName::ALL[..]),
    ) {
        let mut stored = Vec::new();
        for (message, is_excluded) in messages(&lines).into_iter().zip(choice) {
            if !is_excluded {
                stored.push(message);
                continue;
            }
            let Some(stub) = message.withheld("[gone]") else {
                // Without ids, a call and its result in one message are not known to be a pair.
                let ToolLink { calls, results, .. } = message.tool_link();
                prop_assert!(calls.is_empty() == results.is_empty(), "{:?}", message.to_value());
                continue;
            };
            // A call without an id is no item of Responses, so it is written as a message of another dialect.
            let (before, after) = (message.tool_link(), stub.tool_link());
            prop_assert_eq!((after.calls, after.results), (before.calls, before.results));
            let text = stub.to_json().unwrap();
            prop_assert!(CONTENTS.iter().all(|content| !text.contains(content)), "{}", text);
            prop_assert_eq!(stub.withheld("[gone]"), Some(stub.clone()));
            stored.push(stub);
        }
        prop_assume!(stored.iter().any(|message| !message.is_blank()));
        let profile = Profile::new(name, None);
        let options = WindowOptions::new(1_000_000).with_profile(profile.clone());
        if let Ok(window) = trim_messages(stored, &EstimateCounter, options) {
            let checked = check_request(&window.request.to_value(), &profile);
            prop_assert!(checked.is_ok(), "{:?}", checked);
        }
    }
}
