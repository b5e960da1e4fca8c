use super::*;
use crate::check_request::RequestRule::*;

fn openai() -> Profile {
    Profile::openai_chat()
}

fn host() -> Profile {
    Profile::for_model(Some("llama-3.3-70b"))
}

fn deepseek() -> Profile {
    Profile::for_model(Some("deepseek-v4-pro"))
}

fn user() -> Value {
    json!({"role": "user", "content": "How high is the tide?"})
}

fn call(id: &str) -> Value {
    json!({"id": id, "type": "function",
           "function": {"name": "get_tide", "arguments": "{\"port\":\"Brest\"}"}})
}

fn calls(ids: &[&str]) -> Value {
    let calls: Vec<_> = ids.iter().map(|id| call(id)).collect();
    json!({"role": "assistant", "content": null, "tool_calls": calls})
}

fn result(id: &str) -> Value {
    json!({"role": "tool", "tool_call_id": id, "content": "4.1 m"})
}

fn with(mut message: Value, key: &str, value: Value) -> Value {
    message[key] = value;
    message
}

fn part(part: Value) -> Value {
    json!([{"role": "user", "content": [{"type": "text", "text": "see"}, part]}])
}

pub(super) fn valid() -> Vec<(Profile, Value)> {
    let openai_only = vec![
        json!([user()]),
        json!([{"role": "system", "content": "You know tides."}, user()]),
        json!([{"role": "developer", "content": "You know tides."}, user()]),
        json!([user(), calls(&["a", "b"]), result("b"), result("a"),
               {"role": "assistant", "content": "4.1 m"}]),
        json!([user(), {"role": "assistant", "tool_calls": [call("a")]},
               {"role": "tool", "tool_call_id": "a", "content": ""}]),
        json!([user(), {"role": "assistant", "content": "Looking.", "tool_calls": [call("a")]},
               {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "x"}]}]),
        json!([{"role": "assistant", "content": "Hello."}, {"role": "system", "content": "Be brief."},
               {"role": "user", "name": "ann-2", "content": "Tide?"}]),
        json!([user(), {"role": "assistant", "refusal": "I cannot."}]),
        json!([user(), {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}]),
        json!([user(), {"role": "assistant", "audio": {"id": "audio_1"}}, user()]),
        json!([user(), {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
               {"role": "function", "name": "f", "content": "done"}]),
        json!([user(), {"role": "assistant", "tool_calls":
               [{"id": "c", "type": "custom", "custom": {"name": "patch", "input": "any text"}}]},
               result("c")]),
        part(json!({"type": "image_url",
                    "image_url": {"url": "https://example.org/a.png", "detail": "low"}})),
        part(json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}})),
        part(json!({"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}})),
        part(json!({"type": "file", "file": {"file_id": "file-1"}})),
        part(json!({"type": "file",
                    "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}})),
        // Models write arguments that are not JSON, and the API accepts them when they are sent back.
        json!([user(), {"role": "assistant", "tool_calls": [{"id": "a", "type": "function",
               "function": {"name": "f", "arguments": "{\"port\": "}}]}, result("a")]),
    ];
    let on_host = vec![
        json!([user(), {"role": "assistant", "content": "", "tool_calls": [call("a")]}, result("a")]),
    ];
    let reasoning = vec![
        json!([user(), {"role": "assistant", "content": "", "reasoning_content": "",
                        "tool_calls": [call("a")]}, result("a")]),
        json!([user(), {"role": "assistant", "content": "4.1 m", "reasoning_content": "hm"}]),
    ];
    let mut all: Vec<_> = openai_only.into_iter().map(|request| (openai(), request)).collect();
    all.extend(on_host.into_iter().map(|request| (host(), request)));
    all.extend(reasoning.into_iter().map(|request| (deepseek(), request)));
    all
}

pub(super) fn broken() -> Vec<Broken> {
    let rows = |rule, place, request| breaks(openai(), rule, place, request);
    let answer = || json!({"role": "assistant", "content": "4.1 m"});
    let image = json!({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}});
    let many: Vec<_> = (0..129).map(|n| format!("c{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let mut too_many_calls = vec![user(), calls(&many)];
    too_many_calls.extend(many.iter().map(|id| result(id)));
    let in_function = |name: &str, arguments: Value| {
        json!([user(), {"role": "assistant", "tool_calls": [{"id": "a", "type": "function",
               "function": {"name": name, "arguments": arguments}}]}, result("a")])
    };
    vec![
        breaks(openai(), Json, "", "[{\"role\": \"user\""),
        breaks(openai(), Json, "", "[] []"),
        breaks(openai(), Json, "", &*format!("{}{}", "[".repeat(200), "]".repeat(200))),
        rows(Form, "", json!("hello")),
        rows(Form, "", json!({"contents": []})),
        rows(Form, "/0", json!(["hello", user()])),
        rows(Form, "/0/content/0", json!([{"role": "user", "content": ["hello"]}])),
        rows(Messages, "", json!([])),
        rows(Messages, "/messages", json!({"messages": []})),
        rows(RequestSize, "", json!([{"role": "user", "content": "x".repeat(51 << 20)}])),
        rows(Role, "/0/role", json!([{"role": "human", "content": "x"}])),
        rows(Role, "/0/role", json!([{"role": "User", "content": "x"}])),
        breaks(host(), Role, "/0/role", json!([{"role": "developer", "content": "x"}, user()])),
        breaks(
            host(),
            Role,
            "/1/role",
            json!([user(), {"role": "function", "name": "f", "content": "x"}]),
        ),
        rows(
            UnknownField,
            "/0/conversation_id",
            json!([with(user(), "conversation_id", json!(7))]),
        ),
        rows(
            UnknownField,
            "/1/reasoning_content",
            json!([user(), with(answer(), "reasoning_content", json!("x"))]),
        ),
        rows(
            Media,
            "/0/content/1/file/file_data",
            part(json!({"type": "file", "file": {"filename": "a.pdf", "file_data": "aGk="}})),
        ),
        breaks(
            Profile::for_model(Some("deepseek-reasoner")),
            UnknownField,
            "/1/reasoning_content",
            json!([user(), with(answer(), "reasoning_content", json!("x"))]),
        ),
        breaks(
            Profile::for_model(Some("deepseek-reasoner")),
            ReasoningMissing,
            "/1",
            json!([user(), with(calls(&["a"]), "content", json!("")), result("a")]),
        ),
        rows(
            UnknownField,
            "/2/name",
            json!([user(), calls(&["a"]), with(result("a"), "name", json!("f"))]),
        ),
        rows(
            UnknownField,
            "/1/tool_calls/0/index",
            json!([user(),
            {"role": "assistant", "tool_calls": [with(call("a"), "index", json!(0))]}, result("a")]),
        ),
        rows(
            UnknownField,
            "/0/content/0/cache_control",
            json!([{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {}}]}]),
        ),
        rows(
            UnknownField,
            "/1/audio/transcript",
            json!([user(),
            {"role": "assistant", "audio": {"id": "a", "transcript": "x"}}]),
        ),
        breaks(
            host(),
            UnknownField,
            "/1/function_call",
            json!([user(), {"role": "assistant",
            "content": "", "function_call": {"name": "f", "arguments": "{}"}}]),
        ),
        breaks(
            openai(),
            DuplicateField,
            "/0/content",
            r#"[{"role": "user", "content": "a", "content": "b"}]"#,
        ),
        breaks(
            openai(),
            DuplicateField,
            "/messages",
            r#"{"messages": [{"role": "user", "content": "a"}], "messages": []}"#,
        ),
        rows(MissingField, "/0/content", json!([{"role": "user"}])),
        rows(MissingField, "/0/role", json!([{"content": "x"}])),
        rows(MissingField, "/2/content", json!([user(), answer(), {"role": "system"}])),
        rows(
            MissingField,
            "/1/tool_calls/0/id",
            json!([user(), {"role": "assistant", "tool_calls":
            [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]}]),
        ),
        rows(
            MissingField,
            "/1/tool_calls/0/function/arguments",
            json!([user(), {"role": "assistant",
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f"}}]}, result("a")]),
        ),
        rows(
            MissingField,
            "/0/content/0/type",
            json!([{"role": "user", "content": [{"text": "x"}]}]),
        ),
        breaks(
            host(),
            MissingField,
            "/1/content",
            json!([user(),
            {"role": "assistant", "tool_calls": [call("a")]}, result("a")]),
        ),
        rows(FieldType, "/0/content", json!([{"role": "user", "content": {"text": "x"}}])),
        rows(FieldType, "/0/role", json!([{"role": 7, "content": "x"}])),
        rows(FieldType, "/1/tool_calls", json!([user(), with(answer(), "tool_calls", json!({}))])),
        rows(
            FieldType,
            "/0/content/1/image_url",
            part(json!({"type": "image_url", "image_url": "https://example.org/a.png"})),
        ),
        rows(
            FieldValue,
            "/0/content/1/image_url/detail",
            part(json!({"type": "image_url",
            "image_url": {"url": "https://example.org/a.png", "detail": "ultra"}})),
        ),
        rows(
            FieldValue,
            "/1/tool_calls/0/type",
            json!([user(),
            {"role": "assistant", "tool_calls": [with(call("a"), "type", json!("tool"))]}, result("a")]),
        ),
        rows(NullField, "/0/name", json!([with(user(), "name", Value::Null)])),
        rows(NullField, "/0/content", json!([{"role": "user", "content": null}])),
        rows(
            NullField,
            "/1/tool_calls",
            json!([user(), with(answer(), "tool_calls", Value::Null)]),
        ),
        rows(
            NullField,
            "/1/function_call",
            json!([user(), with(answer(), "function_call", Value::Null)]),
        ),
        rows(NullField, "/1/refusal", json!([user(), with(answer(), "refusal", Value::Null)])),
        breaks(host(), NullField, "/1/content", json!([user(), calls(&["a"]), result("a")])),
        breaks(
            host(),
            NullField,
            "/1/function_call",
            json!([user(), with(answer(), "function_call", Value::Null)]),
        ),
        rows(
            EmptyToolCalls,
            "/1/tool_calls",
            json!([user(), with(answer(), "tool_calls", json!([]))]),
        ),
        rows(EmptyContent, "/0/content", json!([{"role": "user", "content": ""}])),
        rows(EmptyContent, "/0/content", json!([{"role": "user", "content": []}])),
        rows(EmptyContent, "/1", json!([user(), {"role": "assistant", "content": null}])),
        rows(EmptyContent, "/1", json!([user(), {"role": "assistant"}])),
        rows(EmptyContent, "/1/content", json!([user(), {"role": "assistant", "content": ""}])),
        rows(EmptyText, "/0/content/1/text", part(json!({"type": "text", "text": ""}))),
        rows(PartType, "/0/content/1", part(json!({"type": "tool_result", "content": "x"}))),
        rows(
            PartType,
            "/0/content/1",
            part(json!({"type": "video_url", "video_url": {"url": "https://a"}})),
        ),
        rows(
            PartPlacement,
            "/2/content/0",
            json!([user(), calls(&["a"]), with(result("a"), "content", json!([image]))]),
        ),
        rows(
            PartPlacement,
            "/0/content/0",
            json!([{"role": "system", "content": [image]}, user()]),
        ),
        rows(PartPlacement, "/0/content/1", part(json!({"type": "refusal", "refusal": "x"}))),
        rows(
            CallId,
            "/1/tool_calls/0/id",
            json!([user(), calls(&[&"x".repeat(41)]), result(&"x".repeat(41))]),
        ),
        rows(CallId, "/1/tool_calls/0/id", json!([user(), calls(&[""]), result("")])),
        rows(
            DuplicateCallId,
            "/1/tool_calls/1/id",
            json!([user(), calls(&["a", "a"]), result("a")]),
        ),
        rows(
            DuplicateCallId,
            "/4/tool_calls/0/id",
            json!([user(), calls(&["a"]), result("a"), user(), calls(&["a"]), result("a")]),
        ),
        rows(UnansweredCall, "/1/tool_calls/0/id", json!([user(), calls(&["a"])])),
        rows(
            UnansweredCall,
            "/1/tool_calls/1/id",
            json!([user(), calls(&["a", "b"]), result("a"), user()]),
        ),
        rows(
            UnansweredCall,
            "/1/function_call",
            json!([user(),
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}, user()]),
        ),
        rows(
            UnansweredCall,
            "/1/function_call",
            json!([user(),
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}]),
        ),
        rows(OrphanResult, "/1/tool_call_id", json!([user(), result("a")])),
        rows(OrphanResult, "/0/tool_call_id", json!([result("a"), user()])),
        rows(
            OrphanResult,
            "/1",
            json!([user(), {"role": "function", "name": "f", "content": "x"}]),
        ),
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
        rows(CallCount, "/1/tool_calls/128", json!(too_many_calls)),
        rows(
            Arguments,
            "/1/tool_calls/0/function/arguments",
            in_function("f", json!({"port": "Brest"})),
        ),
        rows(FunctionName, "/1/tool_calls/0/function/name", in_function("get tide", json!("{}"))),
        rows(
            FunctionName,
            "/1/tool_calls/0/function/name",
            in_function(&"x".repeat(65), json!("{}")),
        ),
        rows(FunctionName, "/1/tool_calls/0/function/name", in_function("", json!("{}"))),
        rows(MessageName, "/0/name", json!([with(user(), "name", json!("Ann Smith"))])),
        rows(
            Media,
            "/0/content/1/image_url/url",
            part(json!({"type": "image_url", "image_url": {"url": "/tmp/a.png"}})),
        ),
        rows(
            Media,
            "/0/content/1/file",
            part(json!({"type": "file", "file": {"filename": "a.pdf"}})),
        ),
        rows(MediaCount, "/0/content/500", json!([{"role": "user", "content": vec![image; 501]}])),
        breaks(
            deepseek(),
            ReasoningMissing,
            "/1",
            json!([user(),
            {"role": "assistant", "content": "", "tool_calls": [call("a")]}, result("a")]),
        ),
    ]
}

#[test]
fn many_problems_are_found_at_once() {
    let error = check_request(
        &json!([{"role": "user", "content": "", "name": null}, calls(&["a"]), {"role": "bot"}]),
        &openai(),
    )
    .unwrap_err();
    for rule in [EmptyContent, NullField, UnansweredCall, Role] {
        assert!(error.breaks(rule), "{rule}: {error}");
    }
}
