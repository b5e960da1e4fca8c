//! Messages that other programs stored, and messages that a memory changed, as messages of genai.

use genai::chat::{ChatMessage, ContentPart, ToolCall, ToolResponse};
use memory_genai::{genai_from_messages, message_from_genai};
use memory_instance::memory_core::EstimateCounter;
use memory_instance::memory_core::resource::{RedactPreset, Redactor};
use memory_instance::{Message, ToolCall as StoredCall};
use serde_json::{Value, json};

fn read(messages: &[Message]) -> Value {
    json!(genai_from_messages(messages))
}

fn from_json(value: Value) -> Message {
    Message::from_value(value).unwrap()
}

fn call(id: &str) -> ToolCall {
    ToolCall {
        call_id: id.into(),
        fn_name: "weather".into(),
        fn_arguments: json!({"city": "Oslo"}),
        thought_signatures: None,
    }
}

#[test]
fn chat_messages_become_calls_and_responses() {
    let calls = [StoredCall::function("call-1", "weather", r#"{"city":"Oslo"}"#)];
    let chat = [Message::calls(calls), Message::tool_result("call-1", "rain")];
    let expected =
        [ChatMessage::from(vec![call("call-1")]), ToolResponse::new("call-1", "rain").into()];
    assert_eq!(read(&chat), json!(expected));
}

#[test]
fn arguments_that_are_no_json_stay_text() {
    let chat = [Message::calls([StoredCall::function("call-1", "weather", r#"{"city": "Os"#)])];
    let cut = ToolCall { fn_arguments: r#"{"city": "Os"#.into(), ..call("call-1") };
    assert_eq!(read(&chat), json!([ChatMessage::from(vec![cut])]));
}

#[test]
fn blocks_of_anthropic_keep_their_order() {
    let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0K"}});
    let messages = [
        from_json(json!({"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Look.", "signature": "c2ln"},
            {"type": "text", "text": "One moment."},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}},
        ]})),
        from_json(json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": true,
             "content": [{"type": "text", "text": "no network"}, image]},
            {"type": "text", "text": "Go on."},
        ]})),
    ];
    let image = || ContentPart::from_binary_base64("image/png", "iVBORw0K", None);
    let expected = [
        ChatMessage::assistant(vec![
            ContentPart::ReasoningContent("Look.".into()),
            ContentPart::from_text("One moment."),
            ContentPart::ToolCall(call("toolu_1")),
        ]),
        ToolResponse::new("toolu_1", "Error: no network").into(),
        ChatMessage::user(vec![image(), ContentPart::from_text("Go on.")]),
    ];
    assert_eq!(read(&messages), json!(expected));
}

#[test]
fn calls_without_ids_are_answered_by_name() {
    let messages = [
        from_json(
            json!({"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {"city": "Oslo"}}}]}),
        ),
        from_json(
            json!({"role": "user", "parts": [{"functionResponse": {"name": "weather", "response": {"sky": "gray"}}}]}),
        ),
    ];
    let response = ToolResponse::new("weather", r#"{"sky":"gray"}"#).with_fn_name("weather");
    let expected = [ChatMessage::from(vec![call("weather")]), response.into()];
    assert_eq!(read(&messages), json!(expected));
}

#[test]
fn instructions_become_system_messages() {
    let developer = from_json(json!({"role": "developer", "content": "Be brief."}));
    assert_eq!(read(&[developer]), json!([ChatMessage::system("Be brief.")]));
}

#[test]
fn format_of_audio_becomes_a_media_type() {
    let message = from_json(json!({"role": "user", "content": [
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
    ]}));
    let audio = ContentPart::from_binary_base64("audio/wav", "UklGRg==", None);
    assert_eq!(read(&[message]), json!([ChatMessage::user(audio)]));
}

#[test]
fn cleared_response_stays_a_response() {
    let long = ToolResponse::from_tool_call(&call("call-1"), "a long page ".repeat(200));
    let stored = message_from_genai(&long.clone().into());
    let cleared = stored.clear_tool_results(&EstimateCounter).unwrap();
    let text = cleared.text().into_owned();
    assert!(text.starts_with("[tool result cleared: "), "{text}");
    assert_eq!(
        read(&[cleared]),
        json!([ChatMessage::from(ToolResponse { content: text, ..long })])
    );
}

#[test]
fn redaction_leaves_signatures() {
    let redactor =
        Redactor::new::<&str>(&[], "[GONE]").unwrap().with_presets(&[RedactPreset::Email]);
    let secret = "ann@example.com";
    let signed = ToolCall { thought_signatures: Some(vec![secret.into()]), ..call("call-1") };
    let parts = |text: &str| {
        ChatMessage::assistant(vec![
            ContentPart::ThoughtSignature(secret.into()),
            ContentPart::ReasoningContent(text.into()),
            ContentPart::ToolCall(signed.clone()),
            ContentPart::from_custom(json!({"type": "note", "text": text}), None),
        ])
    };
    let redacted = redactor.redact(message_from_genai(&parts(secret)));
    assert_eq!(read(&[redacted]), json!([parts("[GONE]")]));
}
