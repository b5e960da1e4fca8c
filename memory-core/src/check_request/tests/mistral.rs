use super::*;
use crate::check_request::RequestRule::*;

const ID: &str = "a1B2c3D4e";

fn user() -> Value {
    json!({"role": "user", "content": "How high is the tide?"})
}

fn answer() -> Value {
    json!({"role": "assistant", "content": "4.1 m"})
}

fn call(id: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": "get_tide", "arguments": "{}"}})
}

fn calls(ids: &[&str]) -> Value {
    let calls: Vec<_> = ids.iter().map(|id| call(id)).collect();
    json!({"role": "assistant", "content": "", "tool_calls": calls})
}

fn result(id: &str) -> Value {
    json!({"role": "tool", "tool_call_id": id, "name": "get_tide", "content": "4.1 m"})
}

fn part(part: Value) -> Value {
    json!([{"role": "user", "content": [{"type": "text", "text": "see"}, part]}])
}

fn large() -> Profile {
    Profile::for_model(Some("mistral-large-latest"))
}

pub(super) fn valid() -> Vec<(Profile, Value)> {
    let mut all: Vec<_> = [
        json!([user()]),
        json!([{"role": "system", "content": "a"}, {"role": "system", "content": "b"}, user(), user()]),
        json!([user(), calls(&[ID, "123456789"]), result("123456789"), result(ID)]),
        json!([user(), calls(&[ID]), result(ID), answer(), user()]),
        json!([user(), {"role": "assistant", "content": "The tide is", "prefix": true}]),
        json!([user(), {"role": "assistant", "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": true},
            {"type": "text", "text": "4.1 m"}, {"type": "reference", "reference_ids": [1]}]}, user()]),
        part(json!({"type": "image_url", "image_url": "https://example.org/a.png"})),
        part(json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}})),
        part(json!({"type": "document_url", "document_url": "https://example.org/a.pdf",
                    "document_name": "a"})),
        part(json!({"type": "file", "file_id": "f1"})),
        part(json!({"type": "input_audio", "input_audio": "aGk="})),
    ]
    .into_iter()
    .map(|request| (Profile::mistral(), request))
    .collect();
    let both = json!([user(), {"role": "assistant", "content": "Looking.", "tool_calls": [call(ID)]},
                      result(ID)]);
    all.push((large(), both));
    all
}

pub(super) fn broken() -> Vec<Broken> {
    let rows = |rule, place, request| breaks(Profile::mistral(), rule, place, request);
    let image = json!({"type": "image_url", "image_url": "https://example.org/a.png"});
    let function = |name: &str, arguments: Value| {
        json!([user(), {"role": "assistant", "content": "", "tool_calls": [{"id": ID,
               "function": {"name": name, "arguments": arguments}}]}, result(ID)])
    };
    vec![
        breaks(Profile::mistral(), Json, "", "{"),
        rows(Form, "", json!(7)),
        rows(Messages, "", json!([])),
        rows(RequestSize, "", json!([{"role": "user", "content": "x".repeat(51 << 20)}])),
        rows(Role, "/0/role", json!([{"role": "developer", "content": "x"}, user()])),
        rows(FirstMessage, "/0", json!([answer(), user()])),
        rows(FirstMessage, "/1", json!([{"role": "system", "content": "x"}, answer(), user()])),
        rows(Alternation, "/3", json!([user(), calls(&[ID]), result(ID), user()])),
        rows(SystemPlacement, "/1", json!([user(), {"role": "system", "content": "x"}, user()])),
        rows(LastMessage, "/1", json!([user(), answer()])),
        rows(LastMessage, "/0", json!([{"role": "system", "content": "x"}])),
        rows(UnknownField, "/0/name", json!([{"role": "user", "name": "ann", "content": "x"}])),
        rows(
            UnknownField,
            "/1/reasoning_content",
            json!([user(),
            {"role": "assistant", "content": "x", "reasoning_content": "y"}, user()]),
        ),
        breaks(
            Profile::mistral(),
            DuplicateField,
            "/0/role",
            r#"[{"role": "user", "role": "user", "content": "x"}]"#,
        ),
        rows(
            MissingField,
            "/2/content",
            json!([user(), calls(&[ID]), {"role": "tool", "tool_call_id": ID}]),
        ),
        rows(
            MissingField,
            "/1/content",
            json!([user(), {"role": "assistant", "tool_calls": [call(ID)]}, result(ID)]),
        ),
        rows(FieldType, "/0/content", json!([{"role": "user", "content": 7}])),
        rows(
            FieldValue,
            "/1/prefix",
            json!([user(), {"role": "assistant", "content": "x", "prefix": true}, user()]),
        ),
        rows(
            NullField,
            "/1/content",
            json!([user(),
            {"role": "assistant", "content": null, "tool_calls": [call(ID)]}, result(ID)]),
        ),
        rows(
            EmptyToolCalls,
            "/1/tool_calls",
            json!([user(),
            {"role": "assistant", "content": "x", "tool_calls": []}, user()]),
        ),
        rows(
            EmptyContent,
            "/1/content",
            json!([user(), {"role": "assistant", "content": ""}, user()]),
        ),
        rows(EmptyText, "/0/content/1/text", part(json!({"type": "text", "text": ""}))),
        rows(
            TextBesideCalls,
            "/1/content",
            json!([user(),
            {"role": "assistant", "content": "Looking.", "tool_calls": [call(ID)]}, result(ID)]),
        ),
        rows(PartType, "/0/content/1", part(json!({"type": "image", "image": "aGk="}))),
        rows(
            PartPlacement,
            "/2/content/0",
            json!([user(), calls(&[ID]),
            {"role": "tool", "tool_call_id": ID, "content": [image]}]),
        ),
        rows(
            CallId,
            "/1/tool_calls/0/id",
            json!([user(), calls(&["call_1234"]), result("call_1234")]),
        ),
        rows(CallId, "/1/tool_calls/0/id", json!([user(), calls(&["a1"]), result("a1")])),
        rows(DuplicateCallId, "/1/tool_calls/1/id", json!([user(), calls(&[ID, ID]), result(ID)])),
        rows(UnansweredCall, "/1/tool_calls/0/id", json!([user(), calls(&[ID])])),
        rows(OrphanResult, "/1/tool_call_id", json!([user(), result(ID)])),
        rows(
            DuplicateResult,
            "/3/tool_call_id",
            json!([user(), calls(&[ID]), result(ID), result(ID)]),
        ),
        rows(ResultPlacement, "/3/tool_call_id", json!([user(), calls(&[ID]), user(), result(ID)])),
        rows(Arguments, "/1/tool_calls/0/function/arguments", function("f", json!({}))),
        rows(FunctionName, "/1/tool_calls/0/function/name", function("get.tide", json!("{}"))),
        rows(
            MessageName,
            "/2/name",
            json!([user(), calls(&[ID]),
            {"role": "tool", "tool_call_id": ID, "name": "get tide", "content": "x"}]),
        ),
        rows(
            ReasoningForm,
            "/1/content/0/thinking",
            json!([user(), {"role": "assistant", "content": [
            {"type": "thinking", "thinking": []}, {"type": "text", "text": "x"}]}, user()]),
        ),
        rows(
            Media,
            "/0/content/1/image_url",
            part(json!({"type": "image_url", "image_url": "a.png"})),
        ),
        rows(MediaCount, "/0/content/8", json!([{"role": "user", "content": vec![image; 9]}])),
    ]
}
