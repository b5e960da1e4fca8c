//! Reads user-interface messages, in which a call and its result are one part.

use super::super::Visit;
use super::super::media::{at_url, kind_of, read_tool_value};
use super::super::part::{CallPart, MediaKind, MediaPart, Native, Part, ResultPart, TextPart};
use super::super::write::read_arguments;
use super::{DIALECT, KIND, Runner, read_part, read_reasoning};
use crate::json::Json;

pub(super) fn read<'a>(message: &'a Json, visit: Visit<'_, 'a>) {
    if let Some(parts) = message.get("parts").and_then(Json::as_array) {
        parts.iter().for_each(|part| read_ui_part(part, visit));
    } else {
        // Version 4, in which calls are beside the text.
        if let Some(text) = message.get_str("content").filter(|text| !text.is_empty()) {
            visit(Part::text(text));
        }
        let calls = message.get("toolInvocations").and_then(Json::as_array).unwrap_or_default();
        calls.iter().for_each(|call| read_invocation(call, call.get_str("toolName"), visit));
    }
    let files =
        message.get("experimental_attachments").and_then(Json::as_array).unwrap_or_default();
    for file in files {
        if let Some(url) = file.get_str("url") {
            let media_type = file.get_str("contentType");
            let part = at_url(kind_of(media_type, MediaKind::Document), url);
            let media_type = media_type.or(part.media_type);
            visit(Part::Media(MediaPart { media_type, title: file.get_str("name"), ..part }));
        }
    }
}

fn read_ui_part<'a>(part: &'a Json, visit: Visit<'_, 'a>) {
    let native = Native { dialect: DIALECT, json: part };
    match part.get_str("type").unwrap_or_default() {
        "text" => {
            let text = part.get_str("text").unwrap_or_default();
            visit(Part::Text(TextPart { native: Some(native), ..TextPart::new(text) }));
        }
        "reasoning" => visit(Part::Reasoning(read_reasoning(part))),
        "file" if part.get("url").is_some() => {
            let media_type = part.get_str("mediaType").or_else(|| part.get_str("mimeType"));
            let url = part.get_str("url").unwrap_or_default();
            let medium = at_url(kind_of(media_type, MediaKind::Document), url);
            let media_type = media_type.or(medium.media_type);
            let title = part.get_str("filename");
            visit(Part::Media(MediaPart { media_type, title, native: Some(native), ..medium }));
        }
        // Only a marker between steps.
        "step-start" => {}
        "tool-invocation" => {
            if let Some(call) = part.get("toolInvocation") {
                read_invocation(call, call.get_str("toolName"), visit);
            }
        }
        "dynamic-tool" => read_invocation(part, part.get_str("toolName"), visit),
        "tool-call" | "tool-result" => read_part(part, Runner::Client, visit),
        kind if kind.starts_with("tool-") && part.get("toolCallId").is_some() => {
            read_invocation(part, kind.strip_prefix("tool-"), visit);
        }
        kind if kind.starts_with("data-") || kind.starts_with("source") => {
            visit(Part::Other(native));
        }
        _ => read_part(part, Runner::Client, visit),
    }
}

/// A call, and its result if the state says that there is one.
fn read_invocation<'a>(part: &'a Json, name: Option<&'a str>, visit: Visit<'_, 'a>) {
    let native = Some(Native { dialect: DIALECT, json: part });
    let id = part.get_str("toolCallId");
    let provider_run = part.get("providerExecuted").and_then(Json::as_bool) == Some(true);
    let arguments = ["input", "args", "rawInput"].iter().find_map(|key| part.get(key));
    let call = CallPart::new(id, name.unwrap_or_default(), read_arguments(arguments));
    visit(Part::Call(CallPart { kind: KIND, provider_run, native, ..call }));
    let value = part.get("output").or_else(|| part.get("result"));
    let (content, is_error) = match part.get_str("state") {
        Some("output-available" | "result") => {
            (value.map(|value| read_tool_value(value, DIALECT).0).unwrap_or_default(), false)
        }
        Some("output-error") => {
            (part.get_str("errorText").map(Part::text).into_iter().collect(), true)
        }
        Some("output-denied") => (vec![Part::text("execution denied")], true),
        _ => return,
    };
    let result = ResultPart::new(id, name, content);
    visit(Part::Result(ResultPart { is_error, provider_run, native, ..result }));
}
