use super::*;
use crate::check_request::RequestRule::*;

fn newest() -> Profile {
    Profile::for_model(Some("claude-opus-5-5"))
}

fn old() -> Profile {
    Profile::for_model(Some("claude-3-5-sonnet-20241022"))
}

fn user() -> Value {
    json!({"role": "user", "content": "How high is the tide?"})
}

fn answer() -> Value {
    json!({"role": "assistant", "content": "4.1 m"})
}

fn system() -> Value {
    json!({"role": "system", "content": "Be brief."})
}

fn tool_use(id: &str) -> Value {
    json!({"type": "tool_use", "id": id, "name": "get_tide", "input": {"port": "Brest"}})
}

fn calls(ids: &[&str]) -> Value {
    let blocks: Vec<_> = ids.iter().map(|id| tool_use(id)).collect();
    json!({"role": "assistant", "content": blocks})
}

fn result(id: &str) -> Value {
    json!({"type": "tool_result", "tool_use_id": id, "content": [{"type": "text", "text": "4.1 m"}]})
}

fn results(ids: &[&str]) -> Value {
    let blocks: Vec<_> = ids.iter().map(|id| result(id)).collect();
    json!({"role": "user", "content": blocks})
}

fn search(id: &str) -> Value {
    json!({"type": "server_tool_use", "id": id, "name": "web_search", "input": {"query": "tide"}})
}

fn found(id: &str) -> Value {
    json!({"type": "web_search_tool_result", "tool_use_id": id, "content": []})
}

fn thinking() -> Value {
    json!({"type": "thinking", "thinking": "", "signature": "c2ln"})
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn messages(messages: Value) -> Value {
    json!({"messages": messages})
}

fn block(block: Value) -> Value {
    messages(json!([{"role": "user", "content": [text("see"), block]}]))
}

fn said(blocks: Value) -> Value {
    messages(json!([user(), {"role": "assistant", "content": blocks}, user()]))
}

fn image() -> Value {
    json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}})
}

pub(super) fn valid() -> Vec<(Profile, Value)> {
    let mut all: Vec<_> = [
        json!({"system": "You know tides.", "messages": [user()]}),
        json!({"system": [{"type": "text", "text": "You know tides.",
                           "cache_control": {"type": "ephemeral", "ttl": "1h"}}], "messages": [user()]}),
        messages(json!([user(), user(), answer(), answer(), user()])),
        messages(json!([user(), calls(&["toolu_a", "toolu_b"]), results(&["toolu_b", "toolu_a"])])),
        messages(json!([user(), {"role": "assistant", "content": [thinking(), text("Looking."), tool_use("t")]},
                        {"role": "user", "content": [result("t"), text("and at noon?")]}])),
        messages(json!([user(), calls(&["t"]), {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "is_error": true}]}])),
        messages(json!([user(), calls(&["t"]), {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": [image(),
             {"type": "tool_reference", "tool_name": "x"}]}]}])),
        said(json!([search("srvtoolu_1"), found("srvtoolu_1"), text("4.1 m")])),
        said(json!([search("srvtoolu_1"),
            {"type": "advisor_tool_result", "tool_use_id": "srvtoolu_1", "content": {}}, text("x")])),
        said(json!([{"type": "compaction", "content": "Tides were discussed."}, text("x")])),
        said(json!([{"type": "redacted_thinking", "data": "c2ln"}, text("4.1 m")])),
        messages(json!([user(), {"role": "assistant", "content": [search("srvtoolu_1")]}])),
        block(image()),
        block(json!({"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}})),
        block(json!({"type": "image", "source": {"type": "file", "file_id": "f"}})),
        block(json!({"type": "document", "title": "a", "context": "b", "citations": {"enabled": true},
            "source": {"type": "text", "media_type": "text/plain", "data": "high tide"}})),
        block(json!({"type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}})),
        block(json!({"type": "search_result", "source": "s", "title": "t", "content": [text("x")]})),
        json!({"thinking": {"type": "enabled", "budget_tokens": 1024}, "messages": [
            user(), {"role": "assistant", "content": [thinking(), tool_use("t")]}, results(&["t"])]}),
    ]
    .into_iter()
    .map(|request| (Profile::anthropic(), request))
    .collect();
    all.push((newest(), messages(json!([user(), system(), answer(), user(), system()]))));
    all.push((newest(), messages(json!([user(), calls(&["t"]), results(&["t"]), system()]))));
    all.push((old(), messages(json!([user(), answer()]))));
    all.push((old(), messages(json!([user(), {"role": "assistant", "content": ""}]))));
    all
}

pub(super) fn broken() -> Vec<Broken> {
    let rows = |rule, place, request| breaks(Profile::anthropic(), rule, place, request);
    let marked = json!({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}});
    vec![
        breaks(Profile::anthropic(), Json, "", "{\"messages\": ]}"),
        rows(Form, "", json!([user()])),
        rows(Form, "", json!({"system": "x"})),
        rows(
            Form,
            "/messages/0/content/0",
            messages(json!([{"role": "user", "content": ["hello"]}])),
        ),
        rows(Messages, "/messages", messages(json!([]))),
        rows(RequestSize, "", messages(json!([{"role": "user", "content": "x".repeat(33 << 20)}]))),
        rows(Role, "/messages/0/role", messages(json!([{"role": "tool", "content": "x"}]))),
        rows(FirstMessage, "/messages/0", messages(json!([answer(), user()]))),
        rows(SystemPlacement, "/messages/1", messages(json!([user(), system(), answer(), user()]))),
        breaks(newest(), SystemPlacement, "/messages/0", messages(json!([system()]))),
        breaks(
            newest(),
            SystemPlacement,
            "/messages/1",
            messages(json!([user(), system(), user()])),
        ),
        breaks(
            newest(),
            SystemPlacement,
            "/messages/2",
            messages(json!([user(), answer(), system()])),
        ),
        rows(LastMessage, "/messages/1", messages(json!([user(), answer()]))),
        breaks(
            old(),
            LastMessage,
            "/messages/1/content",
            messages(json!([user(), {"role": "assistant", "content": "The tide is "}])),
        ),
        rows(
            UnknownField,
            "/messages/0/name",
            messages(json!([{"role": "user", "name": "ann", "content": "x"}])),
        ),
        rows(
            UnknownField,
            "/messages/1/usage",
            messages(json!([user(),
            {"role": "assistant", "content": "x", "usage": {}}, user()])),
        ),
        rows(
            UnknownField,
            "/messages/1/content/0/index",
            said(json!([{"type": "text", "text": "x", "index": 0}])),
        ),
        breaks(
            Profile::anthropic(),
            DuplicateField,
            "/messages/0/role",
            r#"{"messages": [{"role": "user", "role": "user", "content": "x"}]}"#,
        ),
        breaks(
            Profile::anthropic(),
            DuplicateField,
            "/system",
            r#"{"system": "x", "system": "y", "messages": [{"role": "user", "content": "x"}]}"#,
        ),
        rows(MissingField, "/messages/0/content", messages(json!([{"role": "user"}]))),
        rows(MissingField, "/messages/0/role", messages(json!([{"content": "x"}]))),
        rows(
            MissingField,
            "/messages/1/content/0/id",
            messages(json!([user(), {"role": "assistant",
            "content": [{"type": "tool_use", "name": "f", "input": {}}]}, user()])),
        ),
        rows(FieldType, "/messages/0/content", messages(json!([{"role": "user", "content": 7}]))),
        rows(
            FieldType,
            "/messages/2/content/0/is_error",
            messages(json!([user(), calls(&["t"]),
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "is_error": "no"}]}])),
        ),
        rows(FieldType, "/system", json!({"system": {"text": "x"}, "messages": [user()]})),
        rows(
            FieldValue,
            "/messages/0/content/1/source/media_type",
            block(json!({"type": "image",
            "source": {"type": "base64", "media_type": "image/tiff", "data": "aGk="}})),
        ),
        rows(
            FieldValue,
            "/system/0/cache_control/ttl",
            json!({"system": [{"type": "text", "text": "x",
                               "cache_control": {"type": "ephemeral", "ttl": "1d"}}],
                   "messages": [user()]}),
        ),
        rows(
            NullField,
            "/messages/0/content",
            messages(json!([{"role": "user", "content": null}])),
        ),
        rows(
            NullField,
            "/messages/1/content/0/citations",
            said(json!([{"type": "text", "text": "x", "citations": null}])),
        ),
        rows(
            EmptyContent,
            "/messages/0/content",
            messages(json!([{"role": "user", "content": " "}])),
        ),
        rows(EmptyContent, "/messages/1/content", said(json!([]))),
        rows(
            EmptyContent,
            "/messages/2/content/0/content",
            messages(json!([user(), calls(&["t"]),
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": []}]}])),
        ),
        rows(EmptyContent, "/system", json!({"system": [], "messages": [user()]})),
        rows(EmptyText, "/messages/1/content/0/text", said(json!([text(""), text("x")]))),
        rows(EmptyText, "/messages/1/content/0/text", said(json!([text(" \n"), text("x")]))),
        rows(EmptyText, "/system", json!({"system": " ", "messages": [user()]})),
        rows(
            PartType,
            "/messages/0/content/1",
            block(json!({"type": "image_url", "image_url": {}})),
        ),
        rows(
            PartType,
            "/messages/2/content/0/content/0",
            messages(json!([user(), calls(&["t"]), {"role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "audio"}]}]}])),
        ),
        rows(PartPlacement, "/messages/1/content/0", said(json!([image(), text("x")]))),
        rows(PartPlacement, "/messages/0/content/1", block(thinking())),
        rows(PartPlacement, "/messages/0/content/1", block(tool_use("t"))),
        rows(
            CallId,
            "/messages/1/content/0/id",
            messages(json!([user(), calls(&["functions.f:0"]), results(&["functions.f:0"])])),
        ),
        rows(
            CallId,
            "/messages/1/content/0/id",
            messages(json!([user(), calls(&[&"x".repeat(65)]), results(&[&"x".repeat(65)])])),
        ),
        rows(
            DuplicateCallId,
            "/messages/3/content/0/id",
            messages(json!([
                user(),
                calls(&["t"]),
                results(&["t"]),
                calls(&["t"]),
                results(&["t"])
            ])),
        ),
        rows(UnansweredCall, "/messages/1/content/0/id", messages(json!([user(), calls(&["t"])]))),
        rows(
            UnansweredCall,
            "/messages/1/content/1/id",
            messages(json!([user(), calls(&["a", "b"]), results(&["a"])])),
        ),
        rows(UnansweredCall, "/messages/1/content/0/id", said(json!([search("s"), text("x")]))),
        rows(OrphanResult, "/messages/0/content/0/tool_use_id", messages(json!([results(&["t"])]))),
        rows(
            OrphanResult,
            "/messages/1/content/0/tool_use_id",
            said(json!([found("s"), text("x")])),
        ),
        rows(
            DuplicateResult,
            "/messages/2/content/1/tool_use_id",
            messages(json!([user(), calls(&["t"]), results(&["t", "t"])])),
        ),
        rows(
            ResultPlacement,
            "/messages/3/content/0/tool_use_id",
            messages(json!([user(), calls(&["t"]), user(), results(&["t"])])),
        ),
        rows(
            ResultPlacement,
            "/messages/2/content/1",
            messages(json!([user(), calls(&["t"]),
            {"role": "user", "content": [text("first"), result("t")]}])),
        ),
        rows(
            ResultPlacement,
            "/messages/3/content/0/tool_use_id",
            messages(json!([user(), calls(&["a", "b"]), results(&["a"]), results(&["b"])])),
        ),
        rows(
            Arguments,
            "/messages/1/content/0/input",
            messages(json!([user(), {"role": "assistant", "content": [
            {"type": "tool_use", "id": "t", "name": "f", "input": "{}"}]}, results(&["t"])])),
        ),
        rows(
            FunctionName,
            "/messages/1/content/0/name",
            messages(json!([user(), {"role": "assistant", "content": [
            {"type": "tool_use", "id": "t", "name": "get tide", "input": {}}]}, results(&["t"])])),
        ),
        rows(
            ReasoningForm,
            "/messages/1/content/0",
            said(json!([{"type": "thinking", "thinking": "hm"}, text("x")])),
        ),
        rows(
            ReasoningForm,
            "/messages/1/content/0",
            said(json!([{"type": "thinking", "thinking": "hm", "signature": ""}, text("x")])),
        ),
        rows(ReasoningPlacement, "/messages/1/content/1", said(json!([text("x"), thinking()]))),
        rows(
            ReasoningMissing,
            "/messages/1",
            json!({"thinking": {"type": "enabled", "budget_tokens": 1024},
            "messages": [user(), calls(&["t"]), results(&["t"])]}),
        ),
        rows(
            Media,
            "/messages/0/content/1/source",
            block(json!({"type": "image", "source": {"type": "text", "data": "x"}})),
        ),
        rows(
            Media,
            "/messages/0/content/1/source/url",
            block(json!({"type": "image", "source": {"type": "url", "url": "file:///a.png"}})),
        ),
        rows(
            MediaCount,
            "/messages/0/content/100",
            messages(json!([{"role": "user", "content": vec![image(); 101]}])),
        ),
        breaks(
            Profile::for_model(Some("claude-opus-5")),
            MediaCount,
            "/messages/0/content/600",
            messages(json!([{"role": "user", "content": vec![image(); 601]}])),
        ),
        rows(
            CacheMarks,
            "/messages/0/content/4/cache_control",
            messages(json!([{"role": "user", "content": vec![marked; 5]}])),
        ),
    ]
}
