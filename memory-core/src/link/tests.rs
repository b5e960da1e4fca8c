use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn link(message: Value) -> ToolLink {
    Message::from_value(message).unwrap().tool_link()
}

fn named(id: &str, name: &str) -> ToolRef {
    ToolRef { id: id.into(), name: name.into() }
}

fn any_ref() -> impl Strategy<Value = ToolRef> {
    ("\\PC{0,6}", "\\PC{0,4}").prop_map(|(id, name)| named(&id, &name))
}

const ITEMS: &[AnswerItem] = &[AnswerItem::Work, AnswerItem::Text, AnswerItem::Call];

proptest! {
    #[test]
    fn link_reads_back(
        calls in prop::collection::vec(any_ref(), 0..4),
        results in prop::collection::vec(any_ref(), 0..3),
        item in prop::option::of(prop::sample::select(ITEMS)),
    ) {
        let link = ToolLink { calls: calls.into(), results: results.into(), item };
        let read = link.encode().map_or(Some(ToolLink::default()), |text| ToolLink::decode(&text));
        prop_assert_eq!(read, Some(link));
    }

    #[test]
    fn decoding_never_panics(text in "\\PC{0,40}") {
        let _ = ToolLink::decode(&text);
    }
}

#[test]
fn earlier_stored_form_is_read() {
    let calls = ToolLink::of_calls([ToolRef::by_id("a"), ToolRef::by_id("b")]);
    assert_eq!(ToolLink::decode(r#"["a","b"]"#), Some(calls));
    let result = ToolLink::of_results([ToolRef::by_id("a")]);
    assert_eq!(ToolLink::decode(r#""a""#), Some(result.clone()));
    assert_eq!(
        result.encode().as_deref(),
        Some(r#""a""#),
        "the most frequent form is the shortest"
    );
    for odd in ["7", "[7]", r#"{"calls":7}"#, r#"{"calls":[["a"]]}"#, "", "{"] {
        assert_eq!(ToolLink::decode(odd), None, "{odd}");
    }
}

#[test]
fn chat_calls_have_id_and_name() {
    let calls = json!([
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"function": {"name": "g", "arguments": {}}},
    ]);
    let expected = ToolLink::of_calls([named("a", "f"), named("", "g")]);
    assert_eq!(link(json!({"role": "assistant", "tool_calls": calls})), expected);
    let result = json!({"role": "tool", "tool_call_id": "a", "name": "f", "content": "r"});
    assert_eq!(link(result), ToolLink::of_results([ToolRef::by_id("a")]));
    let by_name = json!({"role": "tool", "name": "f", "content": "22"});
    assert_eq!(link(by_name), ToolLink::of_results([ToolRef::by_name("f")]));
    let by_position = json!({"role": "tool", "content": "22"});
    assert_eq!(link(by_position), ToolLink::of_results([ToolRef::default()]));
    assert!(Message::user("hi").tool_link().is_none());
}

#[test]
fn first_function_api_is_linked_by_name() {
    let call = json!({"role": "assistant", "content": null, "function_call": {"name": "f"}});
    let id = ToolRef::by_id("function_call:f");
    assert_eq!(link(call), ToolLink::of_calls([id.clone()]));
    let result = json!({"role": "function", "name": "f", "content": "r"});
    assert_eq!(link(result), ToolLink::of_results([id]));
    let odd = json!({"role": "assistant", "content": "x", "function_call": {"name": 7}});
    assert!(link(odd).is_none());
}

#[test]
fn every_dialect_has_links() {
    for (call, result, made) in [
        (
            json!({"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]}),
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "r"}]}),
            named("t", "f"),
        ),
        (
            json!({"type": "function_call", "call_id": "t", "name": "f", "arguments": "{}"}),
            json!({"type": "function_call_output", "call_id": "t", "output": "r"}),
            named("t", "f"),
        ),
        (
            json!({"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "f", "input": {}}}]}),
            json!({"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": []}}]}),
            named("t", "f"),
        ),
        (
            json!({"role": "assistant", "content": [{"type": "tool-call", "toolCallId": "t", "toolName": "f", "input": {}}]}),
            json!({"role": "tool", "content": [{"type": "tool-result", "toolCallId": "t", "toolName": "f", "output": {"type": "text", "value": "r"}}]}),
            named("t", "f"),
        ),
        (
            json!({"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]}),
            json!({"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "r"}}}]}),
            named("", "f"),
        ),
    ] {
        let answered = if made.id.is_empty() { made.clone() } else { ToolRef::by_id(&*made.id) };
        assert_eq!(link(call).calls[..], [made]);
        assert_eq!(link(result), ToolLink::of_results([answered]));
    }
}

#[test]
fn items_of_answers_are_marked() {
    for (item, expected) in [
        (json!({"type": "reasoning", "id": "r", "summary": []}), Some(AnswerItem::Work)),
        (
            json!({"type": "web_search_call", "id": "w", "status": "completed"}),
            Some(AnswerItem::Work),
        ),
        (
            json!({"type": "message", "role": "assistant", "content": [
            {"type": "output_text", "text": "hi"}]}),
            Some(AnswerItem::Text),
        ),
        (
            json!({"type": "function_call", "call_id": "t", "name": "f", "arguments": "{}"}),
            Some(AnswerItem::Call),
        ),
        (json!({"type": "function_call_output", "call_id": "t", "output": "r"}), None),
        (
            json!({"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "hi"}]}),
            None,
        ),
        (json!({"role": "assistant", "content": "hi"}), None),
    ] {
        assert_eq!(link(item.clone()).item, expected, "{item}");
    }
}

#[test]
fn pairs_within_a_message_are_left_out() {
    let own = json!({"role": "assistant", "parts": [{"type": "tool-weather", "toolCallId": "c1",
        "state": "output-available", "input": {}, "output": "rain"}, {"type": "text", "text": "Rain."}]});
    assert!(link(own).is_none());
    let server = json!({"role": "assistant", "content": [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}}]});
    assert_eq!(link(server), ToolLink::of_calls([named("t", "f")]));
}

#[test]
fn message_may_hold_several_results_and_text() {
    let message = json!({"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "a", "content": "x"},
        {"type": "tool_result", "tool_use_id": "b", "content": "y"},
        {"type": "text", "text": "go on"}]});
    assert_eq!(link(message), ToolLink::of_results([ToolRef::by_id("a"), ToolRef::by_id("b")]));
}
