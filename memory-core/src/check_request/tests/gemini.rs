use super::*;
use crate::check_request::RequestRule::*;

fn older() -> Profile {
    Profile::for_model(Some("gemini-2.5-pro"))
}

fn user() -> Value {
    json!({"role": "user", "parts": [{"text": "How high is the tide?"}]})
}

fn answer() -> Value {
    json!({"role": "model", "parts": [{"text": "4.1 m"}]})
}

fn call(name: &str) -> Value {
    json!({"functionCall": {"name": name, "args": {"port": "Brest"}}})
}

fn calls(names: &[&str]) -> Value {
    let mut parts: Vec<_> = names.iter().map(|name| call(name)).collect();
    parts[0]["thoughtSignature"] = json!("c2ln");
    json!({"role": "model", "parts": parts})
}

fn result(name: &str) -> Value {
    json!({"functionResponse": {"name": name, "response": {"result": "4.1 m"}}})
}

fn results(names: &[&str]) -> Value {
    let parts: Vec<_> = names.iter().map(|name| result(name)).collect();
    json!({"role": "user", "parts": parts})
}

fn with_ids(ids: &[&str], answered: &[&str]) -> Value {
    let calls: Vec<_> = ids
        .iter()
        .map(|id| json!({"functionCall": {"id": id, "name": "f", "args": {}}, "thoughtSignature": "c2ln"}))
        .collect();
    let results: Vec<_> = answered
        .iter()
        .map(|id| json!({"functionResponse": {"id": id, "name": "f", "response": {}}}))
        .collect();
    contents(json!([user(), {"role": "model", "parts": calls}, {"role": "user", "parts": results}]))
}

fn contents(contents: Value) -> Value {
    json!({"contents": contents})
}

fn part(part: Value) -> Value {
    contents(json!([{"role": "user", "parts": [{"text": "see"}, part]}]))
}

fn said(parts: Value) -> Value {
    contents(json!([user(), {"role": "model", "parts": parts}, user()]))
}

fn image() -> Value {
    json!({"inlineData": {"mimeType": "image/png", "data": "aGk="}})
}

pub(super) fn valid() -> Vec<(Profile, Value)> {
    let mut all: Vec<_> = [
        json!({"systemInstruction": {"parts": [{"text": "You know tides."}]}, "contents": [user()]}),
        json!({"system_instruction": {"parts": [{"text": "x"}]}, "contents": [user(), user()]}),
        contents(json!([user(), calls(&["f"]), results(&["f"])])),
        contents(json!([user(), calls(&["f", "g", "f"]), results(&["g", "f", "f"]), calls(&["f"]),
                        results(&["f"]), answer(), user()])),
        with_ids(&["a", "b"], &["b", "a"]),
        // Calls of earlier turns need no signature.
        contents(json!([user(), {"role": "model", "parts": [call("f")]}, results(&["f"]), answer(), user()])),
        said(json!([{"text": "hm", "thought": true}, {"text": "", "thoughtSignature": "c2ln"}, {"text": "x"}])),
        said(json!([{"executableCode": {"language": "PYTHON", "code": "1"}},
                    {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}])),
        contents(json!([user(), {"role": "model", "parts": [{"function_call": {"name": "f", "args": {}},
            "thought_signature": "skip_thought_signature_validator"}]},
            {"role": "user", "parts": [{"function_response": {"name": "f", "response": {}}}]}])),
        contents(json!([user(), calls(&["f"]), {"role": "user", "parts": [{"functionResponse":
            {"name": "f", "response": {}, "parts": [image()]}}]}])),
        part(image()),
        part(json!({"fileData": {"mimeType": "video/mp4", "fileUri": "https://example.org/a"},
                    "videoMetadata": {"fps": 1}})),
    ]
    .into_iter()
    .map(|request| (Profile::gemini(), request))
    .collect();
    let unsigned = json!([user(), {"role": "model", "parts": [call("f")]}, results(&["f"])]);
    all.push((older(), contents(unsigned)));
    all
}

pub(super) fn broken() -> Vec<Broken> {
    let rows = |rule, place, request| breaks(Profile::gemini(), rule, place, request);
    let function = |name: &str, args: Value| {
        contents(
            json!([user(), {"role": "model", "parts": [{"functionCall": {"name": name, "args": args},
            "thoughtSignature": "c2ln"}]}, results(&["f"])]),
        )
    };
    vec![
        breaks(Profile::gemini(), Json, "", "{'contents': []}"),
        rows(Form, "", json!([user()])),
        rows(Form, "/contents/0/parts/0", contents(json!([{"role": "user", "parts": ["x"]}]))),
        rows(Messages, "/contents", contents(json!([]))),
        rows(
            RequestSize,
            "",
            contents(json!([{"role": "user", "parts": [{"text": "x".repeat(21 << 20)}]}])),
        ),
        rows(
            Role,
            "/contents/0/role",
            contents(json!([{"role": "function", "parts": [{"text": "x"}]}])),
        ),
        rows(FirstMessage, "/contents/0", contents(json!([answer(), user()]))),
        rows(
            Alternation,
            "/contents/2",
            contents(json!([user(), answer(), calls(&["f"]), results(&["f"])])),
        ),
        rows(
            SystemPlacement,
            "/contents/0",
            contents(json!([{"role": "system", "parts": [{"text": "x"}]}, user()])),
        ),
        rows(LastMessage, "/contents/1", contents(json!([user(), answer()]))),
        rows(
            UnknownField,
            "/contents/0/content",
            contents(json!([{"role": "user", "content": "x", "parts": [{"text": "x"}]}])),
        ),
        rows(UnknownField, "/contents/0/parts/1/type", part(json!({"type": "text", "text": "x"}))),
        breaks(
            Profile::gemini(),
            DuplicateField,
            "/contents/0/role",
            r#"{"contents": [{"role": "user", "role": "user", "parts": [{"text": "x"}]}]}"#,
        ),
        rows(MissingField, "/contents/0/role", contents(json!([{"parts": [{"text": "x"}]}]))),
        rows(MissingField, "/contents/0/parts", contents(json!([{"role": "user"}]))),
        rows(
            MissingField,
            "/contents/0/parts/1/inlineData/mimeType",
            part(json!({"inlineData": {"data": "aGk="}})),
        ),
        rows(
            FieldType,
            "/contents/0/parts",
            contents(json!([{"role": "user", "parts": {"text": "x"}}])),
        ),
        rows(
            FieldType,
            "/contents/2/parts/0/functionResponse/response",
            contents(json!([user(), calls(&["f"]),
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": "x"}}]}])),
        ),
        rows(
            FieldValue,
            "/contents/0/parts/1/inlineData/data",
            part(json!({"inlineData": {"mimeType": "image/png", "data": ""}})),
        ),
        rows(
            NullField,
            "/contents/0/parts/0/thought",
            contents(json!([{"role": "user", "parts": [{"text": "x", "thought": null}]}])),
        ),
        rows(EmptyContent, "/contents/1/parts", said(json!([]))),
        rows(EmptyText, "/contents/1/parts/0/text", said(json!([{"text": ""}]))),
        rows(
            PartShape,
            "/contents/0/parts/1",
            part(json!({"text": "x", "inlineData": {"mimeType": "image/png", "data": "aGk="}})),
        ),
        rows(PartShape, "/contents/0/parts/1", part(json!({}))),
        rows(PartPlacement, "/contents/0/parts/1", part(call("f"))),
        rows(PartPlacement, "/contents/1/parts/0", said(json!([result("f")]))),
        breaks(
            older(),
            PartPlacement,
            "/contents/2/parts/0/functionResponse/parts/0",
            contents(json!([user(), calls(&["f"]),
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}, "parts": [image()]}}]}])),
        ),
        rows(CallId, "/contents/1/parts/0/functionCall/id", with_ids(&[""], &[""])),
        rows(
            DuplicateCallId,
            "/contents/1/parts/1/functionCall/id",
            contents(json!([user(), {"role": "model", "parts": [
            {"functionCall": {"id": "a", "name": "f"}, "thoughtSignature": "c2ln"}, {"functionCall": {"id": "a", "name": "f"}}]},
            results(&["f", "f"])])),
        ),
        rows(UnansweredCall, "/contents/1", contents(json!([user(), calls(&["f"])]))),
        rows(
            UnansweredCall,
            "/contents/1",
            contents(json!([user(), calls(&["f", "g"]), results(&["g"]), answer(), user()])),
        ),
        rows(
            OrphanResult,
            "/contents/0/parts/0/functionResponse",
            contents(json!([results(&["f"]), user()])),
        ),
        rows(
            OrphanResult,
            "/contents/2/parts/1/functionResponse",
            contents(json!([user(), calls(&["f"]), results(&["f", "g"])])),
        ),
        rows(
            DuplicateResult,
            "/contents/2/parts/1/functionResponse",
            contents(json!([user(), calls(&["f"]), results(&["f", "f"])])),
        ),
        rows(
            DuplicateResult,
            "/contents/2/parts/1/functionResponse",
            with_ids(&["a"], &["a", "a"]),
        ),
        rows(
            ResultPlacement,
            "/contents/3",
            contents(json!([user(), calls(&["f"]), user(), results(&["f"])])),
        ),
        rows(
            ResultPlacement,
            "/contents/2/parts/1",
            contents(json!([user(), calls(&["f"]),
            {"role": "user", "parts": [result("f"), {"text": "and at noon?"}]}])),
        ),
        rows(Arguments, "/contents/1/parts/0/functionCall/args", function("f", json!("{}"))),
        rows(
            FunctionName,
            "/contents/1/parts/0/functionCall/name",
            contents(json!([user(), calls(&["get tide"]), results(&["get tide"])])),
        ),
        rows(
            ReasoningForm,
            "/contents/1/parts/0",
            said(json!([{"text": "x", "thoughtSignature": "not base64!"}])),
        ),
        rows(
            ReasoningMissing,
            "/contents/1/parts/0",
            contents(json!([user(), {"role": "model", "parts": [call("f")]}, results(&["f"])])),
        ),
        rows(
            ReasoningMissing,
            "/contents/3/parts/0",
            contents(json!([user(), calls(&["f"]), results(&["f"]),
            {"role": "model", "parts": [call("g")]}, results(&["g"])])),
        ),
        rows(
            Media,
            "/contents/0/parts/1/inlineData",
            part(json!({"inlineData": {"mimeType": "png", "data": "aGk="}})),
        ),
        rows(
            MediaCount,
            "/contents/0/parts/3000/inlineData",
            contents(json!([{"role": "user", "parts": vec![image(); 3001]}])),
        ),
    ]
}
