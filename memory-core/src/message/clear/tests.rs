use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::EstimateCounter;
use crate::check_request;
use crate::dialect::{Dialect, convert};
use crate::profile::{Profile, ProfileName};
use crate::{WindowOptions, trim_messages};

fn message(value: &Value) -> Message {
    Message::from_value(value.clone()).unwrap()
}

fn cleared(value: &Value) -> Option<Value> {
    message(value).clear_tool_results(&EstimateCounter).map(|cleared| cleared.to_value())
}

fn long() -> String {
    "a fare of 120 dollars, ".repeat(40)
}

fn text() -> String {
    cleared_text(EstimateCounter.count(&long()))
}

#[test]
fn text_groups_the_digits_of_tokens() {
    let text = |tokens| cleared_text(tokens);
    assert_eq!(text(7), "[tool result cleared: 7 tokens]");
    assert_eq!(text(1_234), "[tool result cleared: 1,234 tokens]");
    assert_eq!(text(1_234_567), "[tool result cleared: 1,234,567 tokens]");
}

/// Each form of a result, before and after.
fn forms() -> Vec<(Value, Value)> {
    let (long, text) = (long(), text());
    let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}});
    vec![
        (
            json!({"role": "tool", "tool_call_id": "c", "name": "f", "content": long, "trace": 7}),
            json!({"role": "tool", "tool_call_id": "c", "name": "f", "content": text, "trace": 7}),
        ),
        (
            json!({"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": long}]}),
            json!({"role": "tool", "tool_call_id": "c", "content": text}),
        ),
        (
            json!({"role": "function", "name": "f", "content": long}),
            json!({"role": "function", "name": "f", "content": text}),
        ),
        (
            json!({"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": long, "is_error": true,
                    "cache_control": {"type": "ephemeral"}},
                {"type": "tool_result", "tool_use_id": "b", "content": "short"},
                {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": long}]},
                {"type": "text", "text": "go on"}]}),
            json!({"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": text, "is_error": true,
                    "cache_control": {"type": "ephemeral"}},
                {"type": "tool_result", "tool_use_id": "b", "content": "short"},
                {"type": "tool_result", "tool_use_id": "c", "content": text},
                {"type": "text", "text": "go on"}]}),
        ),
        (
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": [image]}]}),
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a",
                "content": "[tool result cleared: 1,300 tokens]"}]}),
        ),
        (
            json!({"type": "function_call_output", "id": "fc", "call_id": "c", "output": long, "status": "completed"}),
            json!({"type": "function_call_output", "id": "fc", "call_id": "c", "output": text, "status": "completed"}),
        ),
        (
            json!({"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": long}]}),
            json!({"type": "function_call_output", "call_id": "c", "output": text}),
        ),
        (
            json!({"type": "custom_tool_call_output", "call_id": "c", "output": long}),
            json!({"type": "custom_tool_call_output", "call_id": "c", "output": text}),
        ),
        (
            json!({"type": "local_shell_call_output", "id": "l", "output": long}),
            json!({"type": "local_shell_call_output", "id": "l", "output": text}),
        ),
        (
            json!({"type": "shell_call_output", "call_id": "c", "output": [{"stdout": long, "stderr": "",
                "outcome": {"type": "exit", "exit_code": 1}}]}),
            json!({"type": "shell_call_output", "call_id": "c", "output": [{"stdout": text, "stderr": "",
                "outcome": {"type": "exit", "exit_code": 1}}]}),
        ),
        (
            json!({"role": "user", "parts": [
                {"functionResponse": {"id": "1", "name": "f", "response": {"result": long}}},
                {"functionResponse": {"name": "g", "response": {"error": long}}},
                {"text": "go on"}]}),
            json!({"role": "user", "parts": [
                {"functionResponse": {"id": "1", "name": "f", "response": {"result": text}}},
                {"functionResponse": {"name": "g", "response": {"error": text}}},
                {"text": "go on"}]}),
        ),
        (
            json!({"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"result": long},
                "parts": [{"inlineData": {"mimeType": "image/png", "data": "QUJD"}}]}}]}),
            json!({"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"result":
                cleared_text(EstimateCounter.count(&long) + 1_300)}}}]}),
        ),
        (
            json!({"role": "user", "content": [
                {"toolResult": {"toolUseId": "a", "content": [{"text": long}], "status": "error"}},
                {"toolResult": {"toolUseId": "b", "content": [{"json": {"k": long}}]}}]}),
            json!({"role": "user", "content": [
                {"toolResult": {"toolUseId": "a", "content": [{"text": text}], "status": "error"}},
                {"toolResult": {"toolUseId": "b", "content": [{"text":
                    cleared_text(EstimateCounter.count(&json!({"k": long}).to_string()))}]}}]}),
        ),
        (
            json!({"role": "tool", "content": [
                {"type": "tool-result", "toolCallId": "a", "toolName": "f", "output": {"type": "text", "value": long}},
                {"type": "tool-result", "toolCallId": "b", "toolName": "f", "result": long},
                {"type": "tool-result", "toolCallId": "c", "toolName": "f", "output": {"type": "error-text", "value": long}}]}),
            json!({"role": "tool", "content": [
                {"type": "tool-result", "toolCallId": "a", "toolName": "f", "output": {"type": "text", "value": text}},
                {"type": "tool-result", "toolCallId": "b", "toolName": "f", "result": text},
                {"type": "tool-result", "toolCallId": "c", "toolName": "f", "output": {"type": "error-text", "value": text}}]}),
        ),
    ]
}

#[test]
fn results_of_every_dialect_are_cleared_in_place() {
    for (before, after) in forms() {
        let found = cleared(&before);
        assert_eq!(found.as_ref(), Some(&after), "{before}");
        assert_eq!(cleared(&after), None, "cleared twice: {after}");
    }
}

#[test]
fn other_content_is_left() {
    let long = long();
    for message in [
        json!({"role": "user", "content": long}),
        json!({"role": "assistant", "content": long, "tool_calls": [{"id": "c", "type": "function",
            "function": {"name": "f", "arguments": "{}"}}]}),
        json!({"role": "tool", "tool_call_id": "c", "content": "short"}),
        json!({"role": "tool", "tool_call_id": "c", "content": ""}),
        // The provider ran these tools.
        json!({"role": "assistant", "content": [
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
            {"type": "web_search_tool_result", "tool_use_id": "s", "content":
                [{"type": "web_search_result", "title": long, "url": "u", "encrypted_content": long}]}]}),
        json!({"role": "assistant", "content": [{"type": "tool-result", "toolCallId": "a",
            "toolName": "f", "output": {"type": "text", "value": long}}]}),
        json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content":
            [{"type": "text", "text": long}, {"type": "tool_reference", "tool_name": "f"}]}]}),
        json!({"type": "computer_call_output", "call_id": "c", "output":
            {"type": "computer_screenshot", "image_url": "https://example.com/a.png"}}),
        json!({"type": "tool_search_output", "call_id": "c", "execution": "client", "tools":
            [{"type": "function", "name": "f", "description": long}]}),
    ] {
        assert_eq!(cleared(&message), None, "{message}");
    }
}

#[test]
fn server_results_beside_keep_their_content() {
    let (long, text) = (long(), text());
    let content = |result: &str| {
        json!({"role": "user", "content": [
            {"type": "mcp_tool_result", "tool_use_id": "m", "content": [{"type": "text", "text": long}]},
            {"type": "tool_result", "tool_use_id": "a", "content": result}]})
    };
    assert_eq!(cleared(&content(&long)), Some(content(&text)));
}

const PROFILES: [ProfileName; 7] = [
    ProfileName::OpenaiChat,
    ProfileName::OpenaiResponses,
    ProfileName::Anthropic,
    ProfileName::Gemini,
    ProfileName::Bedrock,
    ProfileName::Mistral,
    ProfileName::StrictTemplate,
];

#[test]
fn cleared_results_are_valid_for_every_provider() {
    let history = [
        json!({"role": "user", "content": "fares?"}),
        json!({"role": "assistant", "content": null, "tool_calls": [{"id": "call_0001", "type": "function",
            "function": {"name": "f", "arguments": "{}"}}]}),
        json!({"role": "tool", "tool_call_id": "call_0001", "content": long()}),
        json!({"role": "assistant", "content": "done"}),
        json!({"role": "user", "content": "thanks"}),
    ];
    let history: Vec<_> = history.map(|message| Json::parse(&message.to_string()).unwrap()).into();
    for from in Dialect::ALL {
        let stored: Vec<_> = history
            .iter()
            .flat_map(|json| convert(json, Dialect::Chat, from).messages)
            .map(|json| Message::try_from(json).unwrap())
            .collect();
        let clear = |message: &Message| {
            message.clear_tool_results(&EstimateCounter).unwrap_or_else(|| message.clone())
        };
        let cleared: Vec<_> = stored.iter().map(clear).collect();
        assert_eq!(stored.iter().zip(&cleared).filter(|(a, b)| a != b).count(), 1, "{from}");
        for name in PROFILES {
            let profile = Profile::new(name, None);
            let options = WindowOptions::new(100_000).with_profile(profile.clone());
            let window = trim_messages(cleared.clone(), &EstimateCounter, options).unwrap();
            check_request(&window.request.to_value(), &profile).unwrap();
            let sent = window.request.to_json().to_string();
            assert!(sent.contains("[tool result cleared: "), "{from} for {name}: {sent}");
            assert!(!sent.contains("120 dollars"), "{from} for {name}");
        }
    }
}

proptest! {
    #[test]
    fn clearing_keeps_everything_but_the_results(which in 0..14_usize, name in "\\PC{0,8}", n in 0..60_usize) {
        let (before, _) = forms().swap_remove(which);
        let mut before = before;
        before["note"] = json!(name);
        let before = message(&before);
        let cleared = before.clear_tool_results(&EstimateCounter).unwrap();
        prop_assert_eq!(cleared.tool_link(), before.tool_link());
        let tokens = |message: &Message| message_tokens(&EstimateCounter, message);
        prop_assert!(tokens(&cleared) < tokens(&before));
        prop_assert_eq!(cleared.clear_tool_results(&EstimateCounter), None);
        let stored = Message::from_stored_json(&cleared.to_json().unwrap()).unwrap();
        prop_assert_eq!(&stored, &cleared);
        // A result of any size is cleared only if that frees tokens.
        let result = Message::tool_result("c", "word ".repeat(n));
        if let Some(cleared) = result.clear_tool_results(&EstimateCounter) {
            prop_assert!(tokens(&cleared) < tokens(&result));
        }
    }
}
