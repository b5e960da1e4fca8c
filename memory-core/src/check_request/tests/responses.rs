use super::*;
use crate::check_request::RequestRule::*;

fn user() -> Value {
    json!({"role": "user", "content": "How high is the tide?"})
}

fn answer() -> Value {
    json!({"type": "message", "role": "assistant",
           "content": [{"type": "output_text", "text": "4.1 m", "annotations": []}]})
}

fn call(id: &str) -> Value {
    json!({"type": "function_call", "call_id": id, "name": "get_tide", "arguments": "{}"})
}

fn output(id: &str) -> Value {
    json!({"type": "function_call_output", "call_id": id, "output": "4.1 m"})
}

fn reasoning() -> Value {
    json!({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]})
}

fn with(mut item: Value, key: &str, value: Value) -> Value {
    item[key] = value;
    item
}

fn input(items: Value) -> Value {
    json!({"input": items})
}

fn part(part: Value) -> Value {
    input(json!([{"role": "user", "content": [{"type": "input_text", "text": "see"}, part]}]))
}

fn image() -> Value {
    json!({"type": "input_image", "image_url": "https://example.org/a.png"})
}

pub(super) fn valid() -> Vec<(Profile, Value)> {
    [
        json!({"input": "How high is the tide?", "instructions": "You know tides."}),
        input(json!([{"role": "developer", "content": "Be brief."}, user(), answer(),
                     {"type": "message", "role": "system", "content": "x"}, user()])),
        input(json!([user(), call("a"), call("b"), user(), output("b"), output("a"), answer()])),
        input(json!([user(), reasoning(), with(call("a"), "id", json!("fc_1")), output("a")])),
        input(json!([user(), {"type": "reasoning", "summary": [], "encrypted_content": "c2ln"},
                     call("a"), output("a")])),
        json!({"store": false, "input": [user(), {"type": "reasoning", "id": "rs_1", "summary": [],
               "encrypted_content": "c2ln"}, with(answer(), "id", json!("msg_1"))]}),
        json!({"previous_response_id": "resp_1", "input": [output("a")]}),
        input(json!([{"type": "item_reference", "id": "fc_1"}, output("a")])),
        input(json!([user(), {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c", "name": "patch",
                     "input": "x"}, {"type": "custom_tool_call_output", "call_id": "c", "output": ""}])),
        input(json!([user(), {"type": "local_shell_call", "id": "lsh_1", "call_id": "c", "action": {},
                     "status": "completed"},
                     {"type": "local_shell_call_output", "id": "lsh_1", "output": "x"}])),
        input(json!([user(), {"type": "web_search_call", "id": "ws_1", "status": "completed"}, answer()])),
        input(json!([user(), call("a"), {"type": "function_call_output", "call_id": "a",
                     "output": [{"type": "input_text", "text": "x"}, image()]}])),
        input(json!([user(), {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}])),
        part(image()),
        part(json!({"type": "input_image", "file_id": "file-1", "detail": "high"})),
        part(json!({"type": "input_file", "file_data": "data:application/pdf;base64,aGk=", "filename": "a"})),
    ]
    .into_iter()
    .map(|request| (Profile::openai_responses(), request))
    .collect()
}

pub(super) fn broken() -> Vec<Broken> {
    let rows = |rule, place, request| breaks(Profile::openai_responses(), rule, place, request);
    vec![
        breaks(Profile::openai_responses(), Json, "", "{\"input\": \"\\ud800\"}"),
        rows(Form, "", json!([user()])),
        rows(Form, "", json!({"messages": [user()]})),
        rows(Form, "/input/0", input(json!(["x"]))),
        rows(Messages, "/input", input(json!([]))),
        rows(RequestSize, "", json!({"input": "x".repeat(51 << 20)})),
        rows(Role, "/input/0/role", input(json!([{"role": "tool", "content": "x"}]))),
        rows(
            UnknownField,
            "/input/0/metadata",
            input(json!([with(user(), "metadata", json!({}))])),
        ),
        rows(
            UnknownField,
            "/input/1/status",
            input(json!([user(), with(reasoning(), "status", json!("completed")), answer()])),
        ),
        rows(
            UnknownField,
            "/input/1/parsed_arguments",
            input(json!([user(), with(call("a"), "parsed_arguments", json!({})), output("a")])),
        ),
        breaks(
            Profile::openai_responses(),
            DuplicateField,
            "/input/0/role",
            r#"{"input": [{"role": "user", "role": "user", "content": "x"}]}"#,
        ),
        rows(MissingField, "/input/0/role", input(json!([{"content": "x"}]))),
        rows(
            MissingField,
            "/input/1/arguments",
            input(
                json!([user(), {"type": "function_call", "call_id": "a", "name": "f"}, output("a")]),
            ),
        ),
        rows(FieldType, "/input/0/content", input(json!([{"role": "user", "content": 7}]))),
        rows(FieldType, "/instructions", json!({"instructions": [], "input": [user()]})),
        rows(
            FieldValue,
            "/input/1/status",
            input(json!([user(), with(call("a"), "status", json!("done")), output("a")])),
        ),
        rows(
            NullField,
            "/input/1/id",
            input(json!([user(), with(call("a"), "id", Value::Null), output("a")])),
        ),
        rows(EmptyContent, "/input/0/content", input(json!([{"role": "user", "content": ""}]))),
        rows(EmptyContent, "/input/0/content", input(json!([{"role": "user", "content": []}]))),
        rows(EmptyContent, "/input", json!({"input": ""})),
        rows(
            EmptyContent,
            "/input/2/output",
            input(json!([user(), call("a"), with(output("a"), "output", json!([]))])),
        ),
        rows(EmptyText, "/input/0/content/1/text", part(json!({"type": "input_text", "text": ""}))),
        rows(EmptyText, "/instructions", json!({"instructions": "", "input": [user()]})),
        rows(PartType, "/input/0/content/1", part(json!({"type": "text", "text": "x"}))),
        rows(PartType, "/input/0", input(json!([{"type": "thought", "summary": []}, user()]))),
        rows(
            PartPlacement,
            "/input/0/content/1",
            part(json!({"type": "output_text", "text": "x"})),
        ),
        rows(
            PartPlacement,
            "/input/0/content/0",
            input(json!([{"role": "assistant",
            "content": [{"type": "input_text", "text": "x"}]}, user()])),
        ),
        rows(
            CallId,
            "/input/1/call_id",
            input(json!([user(), call(&"x".repeat(65)), output(&"x".repeat(65))])),
        ),
        rows(
            DuplicateCallId,
            "/input/3/call_id",
            input(json!([user(), call("a"), output("a"), call("a"), output("a")])),
        ),
        rows(UnansweredCall, "/input/1/call_id", input(json!([user(), call("a")]))),
        rows(
            UnansweredCall,
            "/input/1/call_id",
            json!({"previous_response_id": "resp_1", "input": [user(), call("a")]}),
        ),
        rows(OrphanResult, "/input/1/call_id", input(json!([user(), output("a")]))),
        rows(
            OrphanResult,
            "/input/3/call_id",
            input(json!([user(), call("a"), output("a"),
            {"type": "custom_tool_call_output", "call_id": "a", "output": "x"}])),
        ),
        rows(
            DuplicateResult,
            "/input/3/call_id",
            input(json!([user(), call("a"), output("a"), output("a")])),
        ),
        rows(
            Arguments,
            "/input/1/arguments",
            input(json!([user(), with(call("a"), "arguments", json!({})), output("a")])),
        ),
        rows(
            FunctionName,
            "/input/1/name",
            input(json!([user(), with(call("a"), "name", json!("get.tide")), output("a")])),
        ),
        rows(
            ItemId,
            "/input/1/id",
            input(json!([user(), with(call("a"), "id", json!("call_1")), output("a")])),
        ),
        rows(ItemId, "/input/1/id", input(json!([user(), with(answer(), "id", json!("msg_1.2"))]))),
        rows(
            ItemId,
            "/input/2/id",
            input(json!([user(),
            {"type": "reasoning", "summary": [], "encrypted_content": "c2ln"}, with(answer(), "id", json!("msg_1"))])),
        ),
        rows(
            DuplicateItemId,
            "/input/3/id",
            input(json!([
                user(),
                with(answer(), "id", json!("msg_1")),
                user(),
                with(answer(), "id", json!("msg_1"))
            ])),
        ),
        rows(
            ReasoningForm,
            "/input/1",
            input(json!([user(), with(reasoning(), "summary", json!([])), answer()])),
        ),
        rows(
            ReasoningForm,
            "/input/1",
            json!({"store": false, "input": [user(), reasoning(), answer()]}),
        ),
        rows(ReasoningPlacement, "/input/1", input(json!([user(), reasoning(), user()]))),
        rows(ReasoningPlacement, "/input/1", input(json!([user(), reasoning()]))),
        rows(Media, "/input/0/content/1", part(json!({"type": "input_image", "detail": "low"}))),
        rows(
            Media,
            "/input/0/content/1/image_url",
            part(json!({"type": "input_image", "image_url": "a.png"})),
        ),
        rows(
            MediaCount,
            "/input/0/content/500",
            input(json!([{"role": "user", "content": vec![image(); 501]}])),
        ),
    ]
}
