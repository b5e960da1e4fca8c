//! Messages that other programs stored, and messages that a memory changed, as messages of rig.

use memory_instance::memory_core::EstimateCounter;
use memory_instance::memory_core::resource::{RedactPreset, Redactor};
use memory_instance::{Message, ToolCall};
use memory_rig::{message_from_rig, rig_from_messages};
use rig_core::message::{
    AssistantContent, AssistantMessage, DocumentSourceKind, ImageMediaType, Message as RigMessage,
    Reasoning, ToolCall as RigCall, ToolFunction, ToolName, ToolResult, ToolResultContent,
    UserContent,
};
use serde_json::json;

fn read(messages: &[Message]) -> Vec<RigMessage> {
    rig_from_messages(messages)
}

fn from_json(value: serde_json::Value) -> Message {
    Message::from_value(value).unwrap()
}

fn call(id: &str) -> RigCall {
    let function = ToolFunction::new(ToolName::new("weather").unwrap(), json!({"city": "Oslo"}));
    RigCall::from_wire(id, function)
}

fn answered(call: &RigCall, text: &str) -> RigMessage {
    let result = call.result(vec![ToolResultContent::text(text)]);
    RigMessage::User { content: vec![UserContent::ToolResult(result)] }
}

#[test]
fn chat_messages_become_calls_and_results() {
    let call = call("call-1");
    let expected = [RigMessage::from(call.clone()), answered(&call, "rain")];
    let calls = [ToolCall::function("call-1", "weather", r#"{"city":"Oslo"}"#)];
    let chat = [Message::calls(calls), Message::tool_result("call-1", "rain")];
    assert_eq!(read(&chat), expected);
}

#[test]
fn blocks_of_anthropic_keep_their_order() {
    let call = call("toolu_1");
    let messages = [
        from_json(json!({"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Look.", "signature": "c2ln"},
            {"type": "text", "text": "One moment."},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}},
        ]})),
        from_json(json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "no network", "is_error": true},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0K"}},
        ]})),
    ];
    let turn = AssistantMessage::new(vec![
        AssistantContent::Reasoning(Reasoning::new("Look.")),
        AssistantContent::text("One moment."),
        AssistantContent::ToolCall(call.clone()),
    ]);
    let failed = call.error_result(vec![ToolResultContent::text("no network")]);
    let image = UserContent::image_base64("iVBORw0K", Some(ImageMediaType::PNG), None);
    let content = vec![UserContent::ToolResult(failed), image];
    assert_eq!(read(&messages), [RigMessage::Assistant(turn), RigMessage::User { content }]);
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
    let call = call("weather");
    let result = call.result(vec![ToolResultContent::Json { value: json!({"sky": "gray"}) }]);
    let content = vec![UserContent::ToolResult(result)];
    assert_eq!(read(&messages), [RigMessage::from(call), RigMessage::User { content }]);
}

#[test]
fn instructions_become_system_messages() {
    let developer = from_json(json!({"role": "developer", "content": "Be brief."}));
    assert_eq!(read(&[developer]), [RigMessage::system("Be brief.")]);
}

#[test]
fn text_documents_stay_documents() {
    let message = from_json(json!({"role": "user", "content": [
        {"type": "document", "title": "rules", "source": {"type": "text", "media_type": "text/plain", "data": "No smoking."}},
    ]}));
    let read = read(&[message]);
    let [RigMessage::User { content }] = read.as_slice() else { panic!("{read:?}") };
    let [UserContent::Document(document)] = content.as_slice() else { panic!("{content:?}") };
    assert_eq!(document.data, DocumentSourceKind::string("No smoking."));
}

#[test]
fn cleared_result_stays_a_result() {
    let call = call("call-1");
    let long = answered(&call, &"a long page ".repeat(200));
    let cleared = message_from_rig(&long).clear_tool_results(&EstimateCounter).unwrap();
    let text = cleared.text().into_owned();
    assert!(text.starts_with("[tool result cleared: "), "{text}");
    assert_eq!(read(&[cleared]), [answered(&call, &text)]);
}

#[test]
fn redaction_reaches_provider_items() {
    let redactor =
        Redactor::new::<&str>(&[], "[GONE]").unwrap().with_presets(&[RedactPreset::Email]);
    let text = "Ask ann@example.com.";
    let item = json!({"type": "thinking", "thinking": text, "signature": "ann@example.com"});
    let thought = AssistantContent::Reasoning(Reasoning::new(text)).with_native(item);
    let stored = message_from_rig(&RigMessage::from(thought));
    let redacted = redactor.redact(stored);
    let json = redacted.to_json().unwrap();
    assert_eq!(json.matches("ann@example.com").count(), 1, "only the signature: {json}");
    let read = read(&[redacted]);
    let [RigMessage::Assistant(turn)] = read.as_slice() else { panic!("{read:?}") };
    let [AssistantContent::Reasoning(thought)] = turn.content.as_slice() else {
        panic!("{turn:?}")
    };
    assert_eq!(thought.text, "Ask [GONE].");
    // Rig sends no item whose text was edited.
    assert_eq!(turn.content[0].native_item(), None);
}

#[test]
fn unreadable_block_is_read_by_its_parts() {
    let stored = json!({"role": "tool", "content": [
        {"type": "tool-result", "toolCallId": "call-1", "toolName": "weather",
         "output": {"type": "execution-denied", "reason": "not allowed"}, "providerOptions": {"rig": {}}},
    ], "providerOptions": {"rig": {}}});
    let expected = ToolResult {
        is_error: true,
        ..call("call-1").result(vec![ToolResultContent::text("not allowed")])
    };
    let content = vec![UserContent::ToolResult(expected)];
    assert_eq!(read(&[from_json(stored)]), [RigMessage::User { content }]);
}
