//! Writes messages of Anthropic.

use super::super::part::{
    CallKind, CallPart, MediaKind, MediaPart, MediaSource, Part, ReasoningPart, ResultPart,
    TextKind, TextPart,
};
use super::super::write::{
    Loss, Sides, Written, carries_reasoning, media_type_of, native_part, set_id,
};
use super::DIALECT;
use crate::json::{Json, JsonObject};
use crate::message::Role;

pub(in super::super) fn write(role: &Role, parts: &[Part<'_>]) -> Written {
    let mut written = Written::default();
    for (role, parts) in Sides::new(&mut written, role, parts, "assistant", "user") {
        let mut blocks = Vec::new();
        for part in parts {
            if let Some(block) = block(&mut written, part) {
                blocks.push(block.into());
            }
        }
        if blocks.is_empty() {
            continue;
        }
        let message = JsonObject::new().with("role", role).with("content", content_of(blocks));
        written.push(message);
    }
    written
}

/// A string for a single text without marks, else the array.
fn content_of(mut blocks: Vec<Json>) -> Json {
    if let [Json::Object(block)] = blocks.as_mut_slice()
        && block.len() == 2
        && let Some(text) = block.remove("text")
    {
        return text;
    }
    Json::Array(blocks)
}

fn typed(kind: &str) -> JsonObject {
    JsonObject::new().with("type", kind)
}

fn text_block(text: &str) -> JsonObject {
    typed("text").with("text", text)
}

fn block(written: &mut Written, part: &Part<'_>) -> Option<JsonObject> {
    match part {
        Part::Text(part) => Some(text(written, part)),
        Part::Media(part) => Some(media(written, part)),
        Part::Reasoning(part) => reasoning(written, part),
        Part::Call(part) => call(written, part),
        Part::Result(part) => result(written, part),
        Part::Data(json) => {
            written.lose(Loss::DataAsText);
            Some(text_block(&json.to_string()))
        }
        Part::Other(native) => {
            let block = native_part(DIALECT, Some(*native));
            if block.is_none() {
                written.lose(Loss::Unknown);
            }
            block
        }
    }
}

fn text(written: &mut Written, part: &TextPart<'_>) -> JsonObject {
    if let Some(mut block) = native_part(DIALECT, part.native) {
        if part.citations.is_none() {
            block.remove("citations");
        }
        let key = if part.kind == TextKind::Compaction { "content" } else { "text" };
        return block.with(key, part.text.as_ref());
    }
    written.lose_text_extras(part, DIALECT);
    text_block(&part.text)
}

fn reasoning(written: &mut Written, part: &ReasoningPart<'_>) -> Option<JsonObject> {
    if !written.may_write(DIALECT, part.native, Loss::Reasoning) {
        return None;
    }
    if let Some(block) = native_part(DIALECT, part.native) {
        return Some(block);
    }
    match part.opaque {
        _ if !carries_reasoning(part) => None,
        Some(data) if part.text.is_empty() => Some(typed("redacted_thinking").with("data", data)),
        Some(signature) => Some(
            typed("thinking").with("thinking", part.text.as_ref()).with("signature", signature),
        ),
        // Without a signature it would be refused.
        None => {
            written.lose(Loss::Reasoning);
            None
        }
    }
}

fn call(written: &mut Written, part: &CallPart<'_>) -> Option<JsonObject> {
    if part.provider_run && part.native.is_none_or(|native| native.dialect != DIALECT) {
        written.lose(Loss::ProviderRun);
        return None;
    }
    if part.id.is_none() {
        written.lose(Loss::IdMissing);
    }
    if let Some(mut block) = native_part(DIALECT, part.native) {
        set_id(&mut block, "id", part.id);
        return Some(block.with("name", part.name));
    }
    if part.kind != CallKind::Function {
        written.lose(Loss::CallKind);
    }
    let mut block = typed("tool_use");
    set_id(&mut block, "id", part.id);
    let input = written.argument_object(part.arguments);
    Some(block.with("name", part.name).with("input", input))
}

fn result(written: &mut Written, part: &ResultPart<'_>) -> Option<JsonObject> {
    if part.provider_run && part.native.is_none_or(|native| native.dialect != DIALECT) {
        written.lose(Loss::ProviderRun);
        return None;
    }
    if part.link.is_none() {
        written.lose(Loss::IdMissing);
    }
    if let Some(mut block) = native_part(DIALECT, part.native) {
        set_id(&mut block, "tool_use_id", part.link);
        let is_odd = block.get("is_error").is_some_and(|flag| flag.as_bool().is_none());
        if is_odd {
            block.remove("is_error");
            if part.is_error {
                block.insert("is_error", true);
            }
        }
        return Some(block);
    }
    if part.name.is_some() {
        written.lose(Loss::ResultName);
    }
    let mut object = typed("tool_result");
    set_id(&mut object, "tool_use_id", part.link);
    let blocks: Vec<Json> =
        part.content.iter().filter_map(|part| block(written, part)).map(Json::Object).collect();
    if !blocks.is_empty() {
        object.insert("content", content_of(blocks));
    }
    if part.is_error {
        object.insert("is_error", true);
    }
    Some(object)
}

fn media(written: &mut Written, part: &MediaPart<'_>) -> JsonObject {
    if let Some(block) = native_part(DIALECT, part.native)
        && block.contains_key("source")
    {
        return block;
    }
    written.lose_cache_mark(part.native, DIALECT);
    let kind = match part.kind {
        MediaKind::Image => "image",
        MediaKind::Document => "document",
        MediaKind::Audio | MediaKind::Video => return text_block(&written.media_note(part)),
    };
    let is_own = part.native.is_none_or(|native| native.dialect == DIALECT);
    let is_text = part.media_type.is_some_and(|name| name.starts_with("text/"));
    let source = match &part.source {
        MediaSource::Data(data) if !is_text => {
            typed("base64").with("media_type", media_type_of(part)).with("data", *data)
        }
        MediaSource::Url(url) if url.starts_with("http") => typed("url").with("url", *url),
        MediaSource::FileId(id) if is_own => typed("file").with("file_id", *id),
        MediaSource::Text(text) if kind == "document" => {
            typed("text").with("media_type", "text/plain").with("data", *text)
        }
        MediaSource::Parts(parts) if kind == "document" => {
            let blocks: Vec<Json> =
                parts.iter().filter_map(|part| block(written, part)).map(Json::Object).collect();
            typed("content").with("content", blocks)
        }
        _ => return text_block(&written.media_note(part)),
    };
    let mut object = typed(kind).with("source", source);
    if kind == "document" {
        for (key, text) in [("title", part.title), ("context", part.context)] {
            if let Some(text) = text {
                object.insert(key, text);
            }
        }
    }
    object
}
