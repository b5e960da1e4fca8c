use super::*;
use crate::check_request::RequestRule::*;

fn user() -> Value {
    json!({"role": "user", "content": "How high is the tide?"})
}

fn system() -> Value {
    json!({"role": "system", "content": "You know tides."})
}

fn answer() -> Value {
    json!({"role": "assistant", "content": "4.1 m"})
}

fn call(id: &str, arguments: Value) -> Value {
    json!({"id": id, "type": "function", "function": {"name": "get_tide", "arguments": arguments}})
}

fn calls(ids: &[&str]) -> Value {
    let calls: Vec<_> = ids.iter().map(|id| call(id, json!("{}"))).collect();
    json!({"role": "assistant", "content": "", "tool_calls": calls})
}

fn result(id: &str) -> Value {
    json!({"role": "tool", "tool_call_id": id, "content": "4.1 m"})
}

fn part(part: Value) -> Value {
    json!([{"role": "user", "content": [{"type": "text", "text": "see"}, part]}])
}

pub(super) fn valid() -> Vec<(Profile, Value)> {
    [
        json!([user()]),
        json!([system(), user(), answer(), user()]),
        json!([user(), calls(&["a", "b"]), result("a"), result("b")]),
        json!([user(), calls(&["a"]), result("a"), calls(&["b"]), result("b"), answer(), user()]),
        json!([user(), {"role": "assistant", "content": "", "reasoning_content": "hm",
                        "tool_calls": [call("a", json!({"port": "Brest"}))]}, result("a")]),
        part(json!({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}})),
        part(json!({"type": "video_url", "video_url": {"url": "https://example.org/a.mp4"}})),
        part(json!({"type": "audio_url", "audio_url": {"url": "https://example.org/a.wav"}})),
    ]
    .into_iter()
    .map(|request| (Profile::strict_template(), request))
    .collect()
}

pub(super) fn broken() -> Vec<Broken> {
    let rows = |rule, place, request| breaks(Profile::strict_template(), rule, place, request);
    let function = |name: &str, arguments: Value| {
        json!([user(), {"role": "assistant", "content": "", "tool_calls": [{"id": "a",
               "type": "function", "function": {"name": name, "arguments": arguments}}]}, result("a")])
    };
    let arguments = "/1/tool_calls/0/function/arguments";
    vec![
        breaks(Profile::strict_template(), Json, "", ""),
        rows(Form, "", json!(null)),
        rows(Messages, "", json!([])),
        rows(Role, "/0/role", json!([{"role": "developer", "content": "x"}, user()])),
        rows(FirstMessage, "/0", json!([answer(), user()])),
        rows(Alternation, "/1", json!([user(), user()])),
        rows(Alternation, "/2", json!([user(), answer(), answer(), user()])),
        rows(Alternation, "/3", json!([user(), calls(&["a"]), result("a"), user()])),
        rows(SystemPlacement, "/1", json!([system(), system(), user()])),
        rows(SystemPlacement, "/2", json!([user(), answer(), system(), user()])),
        rows(LastMessage, "/1", json!([user(), answer()])),
        rows(LastMessage, "/0", json!([system()])),
        rows(
            UnknownField,
            "/0/metadata",
            json!([{"role": "user", "content": "x", "metadata": {}}]),
        ),
        breaks(
            Profile::strict_template(),
            DuplicateField,
            "/0/content",
            r#"[{"role": "user", "content": "x", "content": "x"}]"#,
        ),
        rows(
            MissingField,
            "/1/content",
            json!([user(), {"role": "assistant",
            "tool_calls": [call("a", json!({}))]}, result("a")]),
        ),
        rows(
            FieldType,
            "/0/content",
            json!([{"role": "system", "content": [{"type": "text", "text": "x"}]}, user()]),
        ),
        rows(
            FieldValue,
            "/1/tool_calls/0/type",
            json!([user(), {"role": "assistant", "content": "",
            "tool_calls": [{"id": "a", "type": "x", "function": {"name": "f", "arguments": {}}}]}, result("a")]),
        ),
        rows(
            NullField,
            "/1/content",
            json!([user(), {"role": "assistant", "content": null,
            "tool_calls": [call("a", json!({}))]}, result("a")]),
        ),
        rows(
            EmptyToolCalls,
            "/1/tool_calls",
            json!([user(),
            {"role": "assistant", "content": "x", "tool_calls": []}, user()]),
        ),
        rows(EmptyContent, "/0/content", json!([{"role": "user", "content": ""}])),
        rows(EmptyText, "/0/content/1/text", part(json!({"type": "text", "text": ""}))),
        rows(PartType, "/0/content/1", part(json!({"type": "document", "source": {}}))),
        rows(
            CallId,
            "/1/tool_calls/0/id",
            json!([user(), calls(&[&"x".repeat(41)]), result(&"x".repeat(41))]),
        ),
        rows(
            DuplicateCallId,
            "/3/tool_calls/0/id",
            json!([user(), calls(&["a"]), result("a"), calls(&["a"]), result("a")]),
        ),
        rows(UnansweredCall, "/1/tool_calls/0/id", json!([user(), calls(&["a"])])),
        rows(OrphanResult, "/1/tool_call_id", json!([user(), result("a")])),
        rows(
            DuplicateResult,
            "/3/tool_call_id",
            json!([user(), calls(&["a"]), result("a"), result("a")]),
        ),
        rows(
            ResultPlacement,
            "/3/tool_call_id",
            json!([user(), calls(&["a"]), user(), result("a")]),
        ),
        rows(Arguments, arguments, function("f", json!("{\"port\": "))),
        rows(Arguments, arguments, function("f", json!("[]"))),
        rows(Arguments, arguments, function("f", json!([]))),
        rows(FunctionName, "/1/tool_calls/0/function/name", function("get tide", json!({}))),
        rows(
            MessageName,
            "/0/name",
            json!([{"role": "user", "name": "Ann Smith", "content": "x"}]),
        ),
        rows(
            Media,
            "/0/content/1/video_url/url",
            part(json!({"type": "video_url", "video_url": {"url": "a.mp4"}})),
        ),
    ]
}
