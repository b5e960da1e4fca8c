//! Reads items other than messages.

use std::borrow::Cow;

use super::super::Visit;
use super::super::media::{at_url, read_mcp_text};
use super::super::part::{
    Arguments, CallKind, CallPart, MediaKind, MediaPart, MediaSource, Native, Part, ReasoningPart,
    ResultPart, join,
};
use super::super::write::read_arguments;
use super::read_block;
use crate::json::Json;

pub(super) fn read<'a>(kind: &'a str, item: &'a Json, native: Native<'a>, visit: Visit<'_, 'a>) {
    let native_kind = match kind {
        "function_call" | "function_call_output" => CallKind::Function,
        "custom_tool_call" | "custom_tool_call_output" => CallKind::Custom,
        kind => CallKind::Native(kind),
    };
    let id = item.get_str("call_id").filter(|id| !id.is_empty());
    let own_id = || item.get_str("id");
    let call = |id, name, arguments| CallPart {
        kind: native_kind,
        native: Some(native),
        ..CallPart::new(id, name, arguments)
    };
    let result = |id, content| ResultPart {
        kind: native_kind,
        native: Some(native),
        ..ResultPart::new(id, None, content)
    };
    let name = item.get_str("name").unwrap_or_default();
    match kind {
        "reasoning" => visit(Part::Reasoning(read_reasoning(item, native))),
        "compaction" => visit(Part::Reasoning(ReasoningPart {
            text: Cow::Borrowed(""),
            opaque: item.get_str("encrypted_content"),
            native: Some(native),
        })),
        "function_call" => visit(Part::Call(call(id, name, read_arguments(item.get("arguments"))))),
        "custom_tool_call" => visit(Part::Call(call(id, name, read_arguments(item.get("input"))))),
        "function_call_output" | "custom_tool_call_output" => {
            visit(Part::Result(read_output(item, result(id, Vec::new()))));
        }
        // The client runs these tools and answers their calls.
        "local_shell_call" => {
            // The output refers to the item's id, if the two differ.
            let arguments = read_arguments(item.get("action"));
            visit(Part::Call(call(own_id().or(id), "local_shell", arguments)));
        }
        "computer_call" | "shell_call" | "apply_patch_call" => {
            let arguments = ["action", "actions", "operation"].iter().find_map(|key| item.get(key));
            visit(Part::Call(call(id, tool_name(kind), read_arguments(arguments))));
        }
        "local_shell_call_output" => {
            visit(Part::Result(read_output(item, result(own_id().or(id), Vec::new()))));
        }
        "computer_call_output" | "shell_call_output" | "apply_patch_call_output" => {
            let failed = item.get_str("status") == Some("failed");
            let output = read_output(item, result(id, Vec::new()));
            visit(Part::Result(ResultPart { is_error: failed, ..output }));
        }
        "tool_search_call" => {
            let provider_run = item.get_str("execution") != Some("client");
            let call =
                call(id.or_else(own_id), "tool_search", read_arguments(item.get("arguments")));
            visit(Part::Call(CallPart { provider_run, ..call }));
        }
        "tool_search_output" => {
            let provider_run = item.get_str("execution") != Some("client");
            let content = item.get("tools").map(Part::Data).into_iter().collect();
            let result = result(id, content);
            visit(Part::Result(ResultPart { provider_run, ..result }));
        }
        "mcp_approval_response" => {
            let content = item.get_str("reason").map(Part::text).into_iter().collect();
            let result = result(item.get_str("approval_request_id"), content);
            visit(Part::Result(ResultPart { provider_run: true, ..result }));
        }
        "mcp_approval_request" => {
            let call = call(own_id(), name, read_arguments(item.get("arguments")));
            visit(Part::Call(CallPart { provider_run: true, ..call }));
        }
        "web_search_call"
        | "file_search_call"
        | "code_interpreter_call"
        | "image_generation_call"
        | "mcp_call" => {
            let name = if kind == "mcp_call" { name } else { tool_name(kind) };
            let arguments = match kind {
                "code_interpreter_call" => {
                    item.get_str("code").map_or(Arguments::Missing, Arguments::Text)
                }
                _ => read_arguments(
                    ["arguments", "action", "queries"].iter().find_map(|key| item.get(key)),
                ),
            };
            let call = call(own_id(), name, arguments);
            visit(Part::Call(CallPart { provider_run: true, ..call }));
            let content = read_inner_output(item);
            let error = item.get("error").filter(|error| !error.is_null());
            if !content.is_empty() || error.is_some() {
                let result = result(own_id(), content);
                let is_error = error.is_some();
                visit(Part::Result(ResultPart { provider_run: true, is_error, ..result }));
            }
        }
        _ => visit(Part::Other(native)),
    }
}

/// The name of the tool behind a type of item.
fn tool_name(kind: &str) -> &str {
    kind.strip_suffix("_call").unwrap_or(kind)
}

fn read_reasoning<'a>(item: &'a Json, native: Native<'a>) -> ReasoningPart<'a> {
    let texts = ["summary", "content"]
        .into_iter()
        .flat_map(|key| item.get(key).and_then(Json::as_array).unwrap_or_default().iter());
    let text = join(texts.filter_map(|part| part.get_str("text")).map(Cow::Borrowed));
    ReasoningPart { text, opaque: item.get_str("encrypted_content"), native: Some(native) }
}

fn read_output<'a>(item: &'a Json, mut result: ResultPart<'a>) -> ResultPart<'a> {
    let content = &mut result.content;
    match item.get("output") {
        Some(Json::String(text)) => match read_mcp_text(text) {
            Some(parts) => {
                *content = parts;
                result.native = None;
            }
            None if text.is_empty() => {}
            None => content.push(Part::text(text.as_str())),
        },
        Some(Json::Array(blocks)) => {
            for block in blocks {
                match (block.get_str("stdout"), block.get_str("stderr")) {
                    (None, None) => read_block(block, &mut |part| content.push(part)),
                    (stdout, stderr) => content.extend(
                        [stdout, stderr]
                            .into_iter()
                            .flatten()
                            .filter(|text| !text.is_empty())
                            .map(Part::text),
                    ),
                }
            }
        }
        Some(block @ Json::Object(_)) => read_block(block, &mut |part| content.push(part)),
        _ => {}
    }
    let is_foreign = result.content.iter().any(|part| match part {
        Part::Media(part) => part.native.is_some_and(|native| {
            !super::DIALECT.knows_part(native.json)
                && native.json.get_str("type") != Some("computer_screenshot")
        }),
        _ => false,
    });
    if is_foreign {
        result.native = None;
    }
    result
}

/// The result of the provider's tool, inside the item of the call.
fn read_inner_output(item: &Json) -> Vec<Part<'_>> {
    let mut content = Vec::new();
    if let Some(data) = item.get_str("result").filter(|data| !data.is_empty()) {
        content.push(Part::Media(MediaPart::new(MediaKind::Image, MediaSource::Data(data))));
    }
    content.extend(item.get_str("output").map(Part::text));
    for key in ["results", "outputs"] {
        for output in item.get(key).and_then(Json::as_array).unwrap_or_default() {
            let text = output.get_str("text").or_else(|| output.get_str("logs"));
            content.extend(text.map(Part::text));
            if let Some(url) =
                output.get_str("url").filter(|_| output.get_str("type") == Some("image"))
            {
                content.push(Part::Media(at_url(MediaKind::Image, url)));
            }
        }
    }
    if let Some(error) = item.get("error").filter(|error| !error.is_null()) {
        content.push(error.as_str().map_or(Part::Data(error), Part::text));
    }
    content
}
