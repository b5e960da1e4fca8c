use proptest::prelude::*;
use serde_json::json;

use super::*;

proptest! {
    #[test]
    fn no_secret_is_kept(number in "[0-9]{3}-[0-9]{2}-[0-9]{4}") {
        let redactor = Redactor::new(&[r"\b\d{3}-\d{2}-\d{4}\b"], "$0").unwrap();
        for message in [
            json!({"role": "user", "content": format!("it is {number}, yes")}),
            json!({"role": "user", "content": [{"type": "text", "text": number}]}),
            json!({"role": "assistant", "content": null, "tool_calls": [
                {"id": "a", "type": "function",
                 "function": {"name": "f", "arguments": format!("{{\"ssn\":\"{number}\"}}")}}]}),
            json!({"role": "assistant", "content": null, "tool_calls": [
                {"id": "a", "type": "function",
                 "function": {"name": "f", "arguments": {"id": number, "name": [number]}}}]}),
            json!({"role": "tool", "tool_call_id": "a", "content": "", "raw": {"deep": [number]}}),
            json!({"role": "assistant", "content": [
                {"type": "tool_use", "id": "t", "name": "f", "input": {"id": number, "x": {"type": number}}}]}),
            json!({"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"name": number}}}]}),
            json!({"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": [{"json": {number.clone(): 1}}]}}]}),
            json!({"type": "function_call_output", "call_id": "c", "output": number}),
            json!({"role": "user", "content": "hi", "user": {"id": number, "name": number, "role": number}}),
        ] {
            let redacted = redactor.redact(Message::from_value(message.clone()).unwrap());
            let text = redacted.to_json().unwrap();
            prop_assert!(!text.contains(&number), "{}", text);
            prop_assert!(text.contains("$0"), "the replacement is text, not a reference");
            prop_assert_eq!(redacted.tool_link(), Message::from_value(message).unwrap().tool_link());
        }
    }
}

fn redacted(patterns: &[&str], message: serde_json::Value) -> serde_json::Value {
    let redactor = Redactor::new(patterns, Redactor::DEFAULT_REPLACEMENT).unwrap();
    redactor.redact(Message::from_value(message).unwrap()).to_value()
}

fn call(arguments: &str) -> serde_json::Value {
    json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}]})
}

#[test]
fn escaped_secrets_are_redacted() {
    let mail = [r"[a-z.]+@example\.com"];
    for (arguments, expected) in [
        (r#"{"mail":"ann\u0040example.com"}"#, r#"{"mail":"[REDACTED]"}"#),
        (r#"{"a":"{\"mail\":\"ann\\u0040example.com\"}"}"#, r#"{"a":"{\"mail\":\"[REDACTED]\"}"}"#),
        (r#"{ "b": 1.0 }"#, r#"{ "b": 1.0 }"#),
    ] {
        assert_eq!(redacted(&mail, call(arguments)), call(expected));
    }
}

#[test]
fn arguments_stay_json_whatever_is_matched() {
    for pattern in [r#""ssn":"[^"]*""#, r#"\{"#, "1"] {
        let message = redacted(&[pattern], call(r#"{"ssn":"x","n":1}"#));
        let arguments = message["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
        assert!(Json::parse(arguments).is_ok(), "{arguments}");
        assert!(arguments.contains("[REDACTED]"), "{arguments}");
    }
}

#[test]
fn json_in_strings_of_json_stays_json() {
    let nested = |text: &str| json!({"a": json!({"b": json!(text).to_string()}).to_string()});
    let inner = json!({"n": 1, "c": json!({"n": 1}).to_string()}).to_string();
    let message = redacted(&["1"], call(&nested(&inner).to_string()));
    let hidden = json!({"n": "[REDACTED]"}).to_string();
    let inner = json!({"c": hidden, "n": "[REDACTED]"}).to_string();
    assert_eq!(message, call(&nested(&inner).to_string()));
}

#[test]
fn numbers_and_keys_are_redacted() {
    let message = json!({"role": "user", "content": "hi", "ssn": 123456789, "x": {"123456789": 1, "1234567890": 2}});
    let expected = json!({"role": "user", "content": "hi", "ssn": "[REDACTED]",
        "x": {"[REDACTED]": 1, "[REDACTED] 2": 2}});
    assert_eq!(redacted(&[r"\d{9,}"], message), expected);
}

#[test]
fn base64_and_signatures_are_unchanged() {
    for part in [
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "123456789"}}),
        json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,123456789"}}),
        json!({"type": "thinking", "thinking": "hm", "signature": "123456789"}),
    ] {
        let message = json!({"role": "user", "content": [part]});
        assert_eq!(redacted(&[r"\d{9}"], message.clone()), message);
    }
    let text = json!({"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": "123456789"}}]});
    assert!(!redacted(&[r"\d{9}"], text).to_string().contains("123"));
}

#[test]
fn invalid_pattern_is_named() {
    let (index, _) = Redactor::new(&["a", "("], "").unwrap_err();
    assert_eq!(index, 1);
}

#[test]
fn pattern_may_take_four_mebibytes() {
    assert_eq!(COMPILED_BYTES, 4_194_304);
    assert!(Redactor::new(&[r"\w{30}"], "").is_ok());
    let (index, error) = Redactor::new(&["a", r"(\w{100}){100}"], "").unwrap_err();
    assert_eq!((index, error), (1, regex::Error::CompiledTooBig(COMPILED_BYTES)));
}

#[test]
fn only_protocol_fields_in_their_places_are_exempt() {
    let call = json!({"id": "secret-1", "type": "secret-2", "function": {
        "name": "secret-3", "arguments": "secret"}});
    let message = json!({"role": "assistant", "content": "a secret", "name": "secret-4",
        "tool_calls": [call], "tool_call_id": "secret-5", "x": {"role": "secret-6", "y": 7}});
    let call = json!({"id": "secret-1", "type": "secret-2", "function": {
        "name": "secret-3", "arguments": "[REDACTED]"}});
    let expected = json!({"role": "assistant", "content": "a [REDACTED]", "name": "[REDACTED]-4",
        "tool_calls": [call], "tool_call_id": "secret-5", "x": {"role": "[REDACTED]-6", "y": 7}});
    assert_eq!(redacted(&["secret"], message), expected);
}

#[test]
fn truncated_and_repeated_json_is_redacted() {
    let mail = [r"[a-z.]+@example\.com"];
    for (arguments, expected) in [
        // Cut off.
        (r#"{"mail":"ann\u0040example.com"#, r#"{"mail":"[REDACTED]"#),
        (r#"{"a":"{\"mail\":\"ann\\u0040example.com"#, r#"{"a":"{\"mail\":\"[REDACTED]"#),
        // More than one value.
        (r#"{"a":"ann\u0040example.com"}{"b":2}"#, r#"{"a":"[REDACTED]"}{"b":2}"#),
        // One key twice, half of a surrogate pair: no JSON to this crate.
        (r#"{"a":"\u0061nn\u0040example.com","a":1}"#, r#"{"a":"[REDACTED]","a":1}"#),
        (r#"{"a":"\ud800 ann\u0040example.com"}"#, r#"{"a":"\ud800 [REDACTED]"}"#),
        // A string and nothing else.
        (r#""ann\u0040example.com""#, r#""[REDACTED]""#),
        (r#"see {"a":"ann\u0040example.com"}"#, r#"see {"a":"[REDACTED]"}"#),
        (r"C:\new\table \u00e9", r"C:\new\table \u00e9"),
    ] {
        assert_eq!(redacted(&mail, call(arguments)), call(expected));
    }
}

/// The deepest nesting that fits into 100 KiB if each level doubles the backslashes, and more.
#[test]
fn strings_in_strings_are_redacted_at_any_depth() {
    let mut inner = "ann@example.com 123-45-6789 ☎".to_owned();
    for depth in 0..14 {
        inner = json!({ "a": [inner, depth] }).to_string();
    }
    let message = json!({"role": "tool", "tool_call_id": "a", "content": inner});
    let text = redacted(&["ann@example.com", r"\d{3}-\d{2}-\d{4}"], message).to_string();
    assert!(!text.contains("ann@") && !text.contains("123-45"), "{}", text.len());
    assert_eq!(text.matches("[REDACTED] [REDACTED]").count(), 1);
}

#[test]
fn chains_of_escapes_take_linear_time() {
    let chain = format!(r#"{{"a":"\u005c{}0040""#, "u005c".repeat(200_000));
    for text in [chain.clone(), format!("{chain}}}"), "\\".repeat(1 << 20), "\"".repeat(1 << 20)] {
        let message = redacted(&["[a-z]@"], json!({"role": "user", "content": text}));
        assert_eq!(message["content"], text);
    }
}

#[test]
fn keys_that_become_equal_are_numbered() {
    let keys: serde_json::Map<_, _> =
        (100_000_000..100_002_000).map(|key: u64| (key.to_string(), json!(1))).collect();
    let message = json!({"role": "user", "content": "hi", "x": keys, "[REDACTED] 2": {"[REDACTED]": 1, "123456789": 2}});
    let message = redacted(&[r"\d{9}"], message);
    let keys = message["x"].as_object().unwrap();
    assert_eq!(keys.len(), 2_000);
    assert!(keys.contains_key("[REDACTED]") && keys.contains_key("[REDACTED] 2000"));
    assert_eq!(message["[REDACTED] 2"], json!({"[REDACTED]": 1, "[REDACTED] 2": 2}));
}

#[test]
fn replaced_places_are_counted_once() {
    let redactor = Redactor::new(&["no-match", "ab+", "b{3}", "\\d{4}"], "*").unwrap();
    let redactor = redactor.with_presets(&RedactPreset::ALL);
    let mut redactions = Redactions::default();
    let nothing = redactor.redact_counting(Message::user("nothing"), &mut redactions);
    assert_eq!((nothing, redactions.is_empty()), (Message::user("nothing"), true));
    // Overlapping, nested in JSON, and a number.
    let message = json!({"role": "user", "content": "{\"x\": \"abbb and abb\"}", "n": 1234});
    let message = Message::from_value(message).unwrap();
    let _ = redactor.redact_counting(message, &mut redactions);
    assert_eq!((redactions.replaced(), redactions.patterns()), (3, vec![1, 2, 3]));
    assert!(redactions.presets().is_empty());
    let text = redactor.redact_string_counting("ann@example.com".into(), &mut redactions);
    assert_eq!((text.as_str(), redactions.replaced()), ("*", 4));
    assert_eq!(redactions.presets(), [RedactPreset::Email]);
}

#[test]
fn overlapping_matches_become_one() {
    let text = |patterns: &[&str], text: &str| {
        redacted(patterns, json!({"role": "user", "content": text}))["content"].clone()
    };
    assert_eq!(text(&["abc", "bcd", "x*"], "abcde"), "[REDACTED]e");
    assert_eq!(text(&["ab", "cd"], "abcd"), "[REDACTED][REDACTED]");
    assert_eq!(text(&["[A-Z]{8}", "secret"], "a secret"), "a [REDACTED]");
}

#[test]
fn ids_and_names_of_tools_link_after_redaction() {
    for message in [
        call("{}"),
        json!({"role": "assistant", "content": "", "tool_calls": [{"name": "f_123", "args": {"a": 1}, "id": "c-123"}]}),
        json!({"role": "tool", "tool_name": "f_123", "content": "ok"}),
        json!({"role": "tool", "name": "f_123", "content": "ok"}),
        json!({"role": "tool", "name": "f_123", "tool_call_id": "c-123", "content": "ok", "x": 1}),
        json!({"role": "function", "name": "f_123", "content": "ok"}),
        json!({"role": "assistant", "content": null, "function_call": {"name": "f_123", "arguments": "{}"}}),
        json!({"role": "assistant", "content": [{"type": "toolRequest", "id": "c-123", "toolCall": {"value": {"name": "f_123", "arguments": {}}}}]}),
        json!({"role": "user", "content": [{"type": "toolResponse", "id": "c-123", "toolResult": {"value": []}}]}),
        json!({"role": "assistant", "content": [{"type": "tool_use", "id": "c-123", "name": "f_123", "input": {}}]}),
        json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c-123", "content": "ok"}]}),
        json!({"role": "assistant", "content": [{"type": "tool-call", "toolCallId": "c-123", "toolName": "f_123", "input": {}}]}),
        json!({"role": "tool", "content": [{"type": "tool-result", "toolCallId": "c-123", "toolName": "f_123", "output": {"type": "text", "value": "ok"}}]}),
        json!({"role": "model", "parts": [{"functionCall": {"id": "c-123", "name": "f_123", "args": {}}}]}),
        json!({"role": "user", "parts": [{"functionResponse": {"id": "c-123", "name": "f_123", "response": {}}}]}),
        json!({"role": "assistant", "content": [{"toolUse": {"toolUseId": "c-123", "name": "f_123", "input": {}}}]}),
        json!({"role": "user", "content": [{"toolResult": {"toolUseId": "c-123", "content": [{"text": "ok"}]}}]}),
        json!({"type": "function_call", "call_id": "c-123", "name": "f_123", "arguments": "{}"}),
        json!({"type": "function_call_output", "call_id": "c-123", "output": "ok"}),
    ] {
        let before = Message::from_value(message.clone()).unwrap();
        let link = before.tool_link();
        assert!(!link.calls.is_empty() || !link.results.is_empty(), "{message}");
        let redactor = Redactor::new(&[r"\d{3}"], "").unwrap();
        let after = redactor.redact(before);
        assert_eq!(after.tool_link(), link, "{message}");
    }
}

#[test]
fn text_in_name_and_setting_fields_is_redacted() {
    for message in [
        json!({"role": "tool", "tool_call_id": "a", "name": "ann@example.com", "content": ""}),
        json!({"role": "tool", "tool_call_id": "a", "content": "", "tool_name": {"x": "ann@example.com"}}),
        json!({"role": "user", "content": "data:text/plain;base64,ann@example.com"}),
        json!({"role": "user", "content": "data:;base64,QUJD ann@example.com"}),
        json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "gs://x/ann@example.com"}}]}),
        json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:text/plain,ann@example.com"}}]}),
        json!({"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"note": ["ann@example.com"]}}]}),
        json!({"role": "user", "content": [{"type": "text", "text": "hi", "providerOptions": {"x": {"user": "ann@example.com"}}}]}),
        json!({"role": "assistant", "content": [{"type": "text", "text": "", "citations": [{"cited_text": "ann@example.com"}]}]}),
        json!({"role": "user", "content": "", "{\"ann\\u0040example.com\":1}": 1}),
    ] {
        let redacted = redacted(&["ann@example.com", r"ann\\u0040"], message.clone()).to_string();
        assert!(redacted.contains("[REDACTED]") && !redacted.contains("ann"), "{redacted}");
    }
    let signed = json!({"role": "assistant", "content": [{"type": "reasoning", "text": "hm",
        "providerOptions": {"anthropic": {"signature": "123456789"}, "openai": {"itemId": "rs_123456789"}}}]});
    assert_eq!(redacted(&[r"\d{9}"], signed.clone()), signed);
}

#[test]
fn unknown_role_is_a_text() {
    let message = serde_json::json!({"role": "123-45-6789", "content": "q"});
    let kept = redacted(&[r"\d{3}-\d{2}-\d{4}"], message).to_string();
    assert!(!kept.contains("6789"), "{kept}");
    let user = serde_json::json!({"role": "user", "content": "q"});
    assert_eq!(redacted(&["user"], user.clone()), user);
}

#[test]
fn protocol_keys_are_exempt_only_in_their_places() {
    const SECRET: &str = "123-45-6789";
    let keys = ["detail", "type", "file_id", "id", "name", "role", "status", "format", "signature"];
    let data = || {
        let members = keys.map(|key| (key.to_owned(), json!(SECRET)));
        let object = serde_json::Value::Object(members.into_iter().collect());
        json!({"file": object, "list": [object], "image_url": object, "x": 1})
    };
    let text = || data().to_string();
    let function = |arguments: serde_json::Value| {
        json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}]})
    };
    let claude = |block| json!({"role": "user", "content": [block]});
    for message in [
        function(data()),
        function(json!(text())),
        json!({"role": "assistant", "content": "", "tool_calls": [{"name": "f", "args": data()}]}),
        json!({"role": "assistant", "function_call": {"name": "f", "arguments": text()}}),
        json!({"role": "tool", "tool_call_id": "a", "content": text()}),
        json!({"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": text()}]}),
        json!({"role": "tool", "tool_call_id": "a", "content": "", "artifact": data()}),
        json!({"type": "function_call", "call_id": "a", "name": "f", "arguments": text()}),
        json!({"type": "function_call_output", "call_id": "a", "output": text()}),
        json!({"type": "function_call_output", "call_id": "a", "output": data()}),
        json!({"type": "computer_call", "call_id": "a", "action": data()}),
        json!({"type": "mcp_call", "id": "m", "name": "f", "arguments": text(), "output": text()}),
        claude(json!({"type": "tool_use", "id": "a", "name": "f", "input": data()})),
        claude(json!({"type": "tool_result", "tool_use_id": "a", "content": text()})),
        claude(json!({"type": "tool_result", "tool_use_id": "a", "content": data()})),
        claude(
            json!({"type": "code_execution_tool_result", "tool_use_id": "a", "content": data()}),
        ),
        json!({"role": "model", "parts": [{"functionCall": {"name": "f", "args": data()}}]}),
        json!({"role": "user", "parts": [{"functionResponse": {"name": "f", "response": data()}}]}),
        claude(json!({"toolUse": {"toolUseId": "a", "name": "f", "input": data()}})),
        claude(json!({"toolResult": {"toolUseId": "a", "content": [{"json": data()}]}})),
        json!({"role": "assistant", "content": [
            {"type": "tool-call", "toolCallId": "a", "toolName": "f", "input": data()}]}),
        json!({"role": "tool", "content": [{"type": "tool-result", "toolCallId": "a",
            "toolName": "f", "output": {"type": "json", "value": data()}}]}),
        json!({"id": "m", "role": "assistant", "parts": [{"type": "tool-f", "toolCallId": "a",
            "state": "output-available", "input": data(), "output": data()}]}),
        json!({"role": "user", "content": "hi", "metadata": data()}),
    ] {
        let redacted = redacted(&[r"\d{3}-\d{2}-\d{4}"], message.clone()).to_string();
        assert!(!redacted.contains(SECRET), "{redacted}");
    }
    for message in [
        json!({"role": "user", "content": [{"type": "image_url",
            "image_url": {"url": "https://example.com/a.png", "detail": SECRET}}]}),
        json!({"role": "user", "content": [{"type": "file", "file": {"file_id": SECRET}}]}),
        json!({"type": "message", "role": "user", "content": [
            {"type": "input_image", "file_id": SECRET, "detail": SECRET}]}),
        claude(json!({"type": "image", "source": {"type": SECRET, "file_id": SECRET}})),
    ] {
        assert_eq!(redacted(&[r"\d{3}-\d{2}-\d{4}"], message.clone()), message);
    }
}
