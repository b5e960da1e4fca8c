//! Dialect detection.

use super::*;

#[test]
fn decisive_keys_are_found() {
    let cases = [
        (r#"{"role":"user","content":"hi"}"#, Some(Dialect::Chat)),
        (r#"{"role":"user","content":[{"type":"text","text":"hi"}]}"#, Some(Dialect::Chat)),
        (r#"{"role":"user"}"#, Some(Dialect::Chat)),
        (r#"{"role":"user","content":null}"#, Some(Dialect::Chat)),
        (
            r#"{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{}}}]}"#,
            Some(Dialect::Chat),
        ),
        (
            r#"{"role":"assistant","content":[{"type":"thinking","thinking":[{"type":"text","text":"a"}]}]}"#,
            Some(Dialect::Chat),
        ),
        (
            r#"{"role":"assistant","content":[{"type":"thinking","thinking":"a"}]}"#,
            Some(Dialect::Anthropic),
        ),
        (
            r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"tool_result","tool_use_id":"t"}]}"#,
            Some(Dialect::Anthropic),
        ),
        (
            r#"{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]}"#,
            Some(Dialect::Anthropic),
        ),
        (
            r#"{"role":"tool","tool_call_id":"c","content":[{"type":"text","text":"a","citations":[]}]}"#,
            Some(Dialect::Chat),
        ),
        (
            r#"{"type":"message","role":"assistant","content":[{"type":"text","text":"a"}],"stop_reason":"end_turn"}"#,
            Some(Dialect::Anthropic),
        ),
        (r#"{"type":"message","role":"user","content":"hi"}"#, Some(Dialect::Responses)),
        (
            r#"{"role":"user","content":[{"type":"input_text","text":"hi"}]}"#,
            Some(Dialect::Responses),
        ),
        (r#"{"type":"reasoning","summary":[]}"#, Some(Dialect::Responses)),
        (r#"{"type":"function_call","id":"i","name":"f","arguments":{}}"#, None),
        (r#"{"role":"user","content":[{"text":"hi"}]}"#, Some(Dialect::Bedrock)),
        (
            r#"{"role":"user","content":[{"cachePoint":{"type":"default"}}]}"#,
            Some(Dialect::Bedrock),
        ),
        (r#"{"role":"user","parts":[{"text":"hi"}]}"#, Some(Dialect::Gemini)),
        (r#"{"role":"model","parts":[]}"#, Some(Dialect::Gemini)),
        (
            r#"{"role":"assistant","content":[{"type":"custom","kind":"openai.compaction"}]}"#,
            Some(Dialect::AiSdk),
        ),
        (r#"{"id":"m","role":"user","parts":[]}"#, Some(Dialect::AiSdk)),
        (r#"{"id":"m","role":"user","parts":[{"type":"text","text":"hi"}]}"#, Some(Dialect::AiSdk)),
        (
            r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"image","image":"QUJD"}]}"#,
            Some(Dialect::AiSdk),
        ),
        (
            r#"{"role":"tool","content":[{"type":"tool-result","toolCallId":"c","toolName":"f","output":{}}]}"#,
            Some(Dialect::AiSdk),
        ),
        (r#"{"type":"ai","content":""}"#, Some(Dialect::Chat)),
        // Not a message, or a format with its text elsewhere.
        (r#"{"timestamp":"t","type":"response_item","payload":{"type":"message"}}"#, None),
        (
            r#"{"type":"user","message":{"role":"user","content":"hi"},"uuid":"u","parentUuid":null}"#,
            None,
        ),
        (r#"{"type":"human","data":{"content":"hi"}}"#, None),
        (r#"{"kind":"request","parts":[{"content":"hi","part_kind":"user-prompt"}]}"#, None),
        (r#"{"messages":[]}"#, None),
        (r#"{"conversations":[{"from":"human","value":"hi"}]}"#, None),
        (r#"{"role":"CHATBOT","message":"hello"}"#, None),
        (r#"{"message_id":"a","text":"hi","role":"prompter"}"#, None),
        (r#"{"author":"user","content":{"role":"user","parts":[{"text":"hi"}]},"id":"e1"}"#, None),
        (r#"{"id":"1","source":"user","content":"hi","type":"TextMessage"}"#, None),
        (r#"{"id":"message-1","message_type":"user_message","content":"hi"}"#, None),
        (r#"{"Role":{"Label":"user"},"Items":[]}"#, None),
        (r#"{"id":1,"query":"q","answers":"[]","tools":"[]"}"#, None),
        ("[]", None),
        (r#""hi""#, None),
        ("{}", None),
    ];
    for (message, expected) in cases {
        assert_eq!(Dialect::detect(&json(message)), expected, "{message}");
    }
}

#[test]
fn written_messages_are_of_their_dialect() {
    let call = CallPart::new(Some("c"), "f", Arguments::Text("{}"));
    let result = ResultPart::new(Some("c"), Some("f"), vec![Part::text("r")]);
    for dialect in Dialect::ALL {
        for (role, part) in [
            (Role::Assistant, Part::Call(call.clone())),
            (Role::Tool, Part::Result(result.clone())),
        ] {
            let written = dialect.write(&role, &[part]);
            assert_eq!(Dialect::detect(&written.messages[0]), Some(dialect), "{written:?}");
        }
    }
}

#[test]
fn names_parse_back() {
    for dialect in Dialect::ALL {
        assert_eq!(dialect.to_string().parse(), Ok(dialect));
    }
    assert!("openai".parse::<Dialect>().is_err());
}
