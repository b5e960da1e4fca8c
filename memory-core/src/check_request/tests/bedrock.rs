use super::*;
use crate::check_request::RequestRule::*;

fn user() -> Value {
    json!({"role": "user", "content": [{"text": "How high is the tide?"}]})
}

fn answer() -> Value {
    json!({"role": "assistant", "content": [{"text": "4.1 m"}]})
}

fn tool_use(id: &str) -> Value {
    json!({"toolUse": {"toolUseId": id, "name": "get_tide", "input": {"port": "Brest"}}})
}

fn result(id: &str) -> Value {
    json!({"toolResult": {"toolUseId": id, "status": "success", "content": [{"text": "4.1 m"}]}})
}

fn calls(ids: &[&str]) -> Value {
    let blocks: Vec<_> = ids.iter().map(|id| tool_use(id)).collect();
    json!({"role": "assistant", "content": blocks})
}

fn results(ids: &[&str]) -> Value {
    let blocks: Vec<_> = ids.iter().map(|id| result(id)).collect();
    json!({"role": "user", "content": blocks})
}

fn messages(messages: Value) -> Value {
    json!({"messages": messages})
}

fn block(block: Value) -> Value {
    messages(json!([{"role": "user", "content": [{"text": "see"}, block]}]))
}

fn said(blocks: Value) -> Value {
    messages(json!([user(), {"role": "assistant", "content": blocks}, user()]))
}

fn answered(content: Value) -> Value {
    messages(json!([user(), calls(&["t"]),
        {"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": content}}]}]))
}

fn image() -> Value {
    json!({"image": {"format": "png", "source": {"bytes": "aGk="}}})
}

fn document() -> Value {
    json!({"document": {"format": "pdf", "name": "tides", "source": {"bytes": "aGk="}}})
}

fn reasoning() -> Value {
    json!({"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}})
}

pub(super) fn valid() -> Vec<(Profile, Value)> {
    let mut all: Vec<_> = [
        json!({"system": [{"text": "You know tides."}, {"cachePoint": {"type": "default"}}],
               "messages": [user()]}),
        messages(json!([user(), calls(&["a", "b"]), results(&["b", "a"]), answer(), user()])),
        messages(
            json!([user(), {"role": "assistant", "content": [reasoning(), {"text": "Looking."},
            tool_use("t")]}, {"role": "user", "content": [result("t"), {"text": "and at noon?"}]}]),
        ),
        said(json!([{"reasoningContent": {"redactedContent": "c2ln"}}, {"text": "x"}])),
        answered(json!([{"json": {"height": 4.1}}, image()])),
        block(image()),
        block(document()),
        block(
            json!({"image": {"format": "png", "source": {"s3Location": {"uri": "s3://b/a.png"}}}}),
        ),
        block(json!({"video": {"format": "mp4", "source": {"bytes": "aGk="}}})),
        block(json!({"cachePoint": {"type": "default"}})),
    ]
    .into_iter()
    .map(|request| (Profile::bedrock(), request))
    .collect();
    let unsigned = json!([{"reasoningContent": {"reasoningText": {"text": "hm"}}}, {"text": "x"}]);
    all.push((Profile::for_model(Some("amazon.nova-pro-v1:0")), said(unsigned)));
    all
}

pub(super) fn broken() -> Vec<Broken> {
    let rows = |rule, place, request| breaks(Profile::bedrock(), rule, place, request);
    let call = |name: &str, input: Value| {
        messages(json!([user(), {"role": "assistant", "content": [
            {"toolUse": {"toolUseId": "t", "name": name, "input": input}}]}, results(&["t"])]))
    };
    vec![
        breaks(Profile::bedrock(), Json, "", "nul"),
        rows(Form, "", json!([user()])),
        rows(Form, "/messages/0/content/0", messages(json!([{"role": "user", "content": ["x"]}]))),
        rows(Messages, "/messages", messages(json!([]))),
        rows(
            RequestSize,
            "",
            messages(json!([{"role": "user", "content": [{"text": "x".repeat(26 << 20)}]}])),
        ),
        rows(
            Role,
            "/messages/0/role",
            messages(json!([{"role": "tool", "content": [{"text": "x"}]}])),
        ),
        rows(FirstMessage, "/messages/0", messages(json!([answer(), user()]))),
        rows(Alternation, "/messages/1", messages(json!([user(), user()]))),
        rows(Alternation, "/messages/2", messages(json!([user(), answer(), answer(), user()]))),
        rows(
            SystemPlacement,
            "/messages/0",
            messages(json!([{"role": "system", "content": [{"text": "x"}]}, user()])),
        ),
        rows(LastMessage, "/messages/1", messages(json!([user(), answer()]))),
        rows(
            UnknownField,
            "/messages/0/id",
            messages(json!([{"role": "user", "id": "m", "content": [{"text": "x"}]}])),
        ),
        rows(
            UnknownField,
            "/messages/2/content/0/toolResult/name",
            messages(json!([user(), calls(&["t"]), {"role": "user",
            "content": [{"toolResult": {"toolUseId": "t", "name": "f", "content": [{"text": "x"}]}}]}])),
        ),
        breaks(
            Profile::bedrock(),
            DuplicateField,
            "/messages/0/role",
            r#"{"messages": [{"role": "user", "role": "user", "content": [{"text": "x"}]}]}"#,
        ),
        rows(MissingField, "/messages/0/content", messages(json!([{"role": "user"}]))),
        rows(
            MissingField,
            "/messages/0/content/1/document/name",
            block(json!({"document": {"format": "pdf", "source": {"bytes": "aGk="}}})),
        ),
        rows(
            FieldValue,
            "/messages/0/content/1/document/format",
            block(
                json!({"document": {"format": "json", "name": "r", "source": {"bytes": "aGk="}}}),
            ),
        ),
        rows(FieldType, "/messages/0/content", messages(json!([{"role": "user", "content": "x"}]))),
        rows(
            FieldType,
            "/messages/2/content/0/toolResult/content/0/json",
            answered(json!([{"json": [1]}])),
        ),
        rows(
            FieldValue,
            "/messages/2/content/0/toolResult/status",
            messages(json!([user(), calls(&["t"]), {"role": "user",
            "content": [{"toolResult": {"toolUseId": "t", "status": "ok", "content": [{"text": "x"}]}}]}])),
        ),
        rows(
            NullField,
            "/messages/0/content",
            messages(json!([{"role": "user", "content": null}])),
        ),
        rows(EmptyContent, "/messages/1/content", said(json!([]))),
        rows(EmptyContent, "/messages/2/content/0/toolResult/content", answered(json!([]))),
        rows(EmptyText, "/messages/1/content/0/text", said(json!([{"text": " \n"}]))),
        rows(
            EmptyText,
            "/messages/2/content/0/toolResult/content/0/text",
            answered(json!([{"text": ""}])),
        ),
        rows(PartType, "/messages/0/content/1/tool", block(json!({"tool": {}}))),
        rows(PartShape, "/messages/0/content/1", block(json!({"type": "text", "text": "x"}))),
        rows(PartShape, "/messages/0/content/1", block(json!({}))),
        rows(PartPlacement, "/messages/1/content/0/image", said(json!([image(), {"text": "x"}]))),
        rows(PartPlacement, "/messages/0/content/1/toolUse", block(tool_use("t"))),
        rows(
            CallId,
            "/messages/1/content/0/toolUse/toolUseId",
            messages(json!([user(), calls(&["a.b"]), results(&["a.b"])])),
        ),
        rows(
            DuplicateCallId,
            "/messages/3/content/0/toolUse/toolUseId",
            messages(json!([
                user(),
                calls(&["t"]),
                results(&["t"]),
                calls(&["t"]),
                results(&["t"])
            ])),
        ),
        rows(
            UnansweredCall,
            "/messages/1/content/0/toolUse/toolUseId",
            messages(json!([user(), calls(&["t"])])),
        ),
        rows(
            UnansweredCall,
            "/messages/1/content/1/toolUse/toolUseId",
            messages(json!([user(), calls(&["a", "b"]), results(&["a"])])),
        ),
        rows(
            OrphanResult,
            "/messages/0/content/0/toolResult/toolUseId",
            messages(json!([results(&["t"])])),
        ),
        rows(
            DuplicateResult,
            "/messages/2/content/1/toolResult/toolUseId",
            messages(json!([user(), calls(&["t"]), results(&["t", "t"])])),
        ),
        rows(
            ResultPlacement,
            "/messages/4/content/0/toolResult/toolUseId",
            messages(json!([user(), calls(&["t"]), user(), answer(), results(&["t"])])),
        ),
        rows(
            ResultPlacement,
            "/messages/2/content/1",
            messages(json!([user(), calls(&["t"]),
            {"role": "user", "content": [{"text": "first"}, result("t")]}])),
        ),
        rows(Arguments, "/messages/1/content/0/toolUse/input", call("f", json!("{}"))),
        rows(FunctionName, "/messages/1/content/0/toolUse/name", call("get.tide", json!({}))),
        rows(FunctionName, "/messages/1/content/0/toolUse/name", call(&"x".repeat(65), json!({}))),
        rows(
            ReasoningForm,
            "/messages/1/content/0/reasoningContent",
            said(json!([{"reasoningContent": {"reasoningText": {"text": "hm"}}}, {"text": "x"}])),
        ),
        rows(
            ReasoningForm,
            "/messages/1/content/0/reasoningContent",
            said(json!([{"reasoningContent": {}}, {"text": "x"}])),
        ),
        rows(
            ReasoningPlacement,
            "/messages/1/content/1",
            said(json!([{"text": "x"}, reasoning()])),
        ),
        rows(
            Media,
            "/messages/0/content/1/image/source",
            block(json!({"image": {"format": "png", "source": {}}})),
        ),
        rows(
            MediaCount,
            "/messages/0/content/20/image",
            messages(json!([{"role": "user", "content": vec![image(); 21]}])),
        ),
        rows(
            MediaCount,
            "/messages/0/content/6/document",
            messages(json!([{"role": "user", "content":
            [{"text": "see"}, document(), document(), document(), document(), document(), document()]}])),
        ),
        rows(
            DocumentText,
            "/messages/0/content/0",
            messages(json!([{"role": "user", "content": [document()]}])),
        ),
    ]
}
