//! Writes messages of Bedrock Converse.

use super::super::media::{document_format, format_of};
use super::super::part::{
    CallKind, CallPart, MediaKind, MediaPart, MediaSource, Part, ReasoningPart, ResultPart,
    TextPart,
};
use super::super::write::{Loss, Sides, Written, carries_reasoning, native_part, set_id};
use super::DIALECT;
use crate::json::{Json, JsonObject};
use crate::message::Role;

pub(in super::super) fn write(role: &Role, parts: &[Part<'_>]) -> Written {
    let mut written = Written::default();
    for (role, parts) in Sides::new(&mut written, role, parts, "assistant", "user") {
        let mut blocks: Vec<Json> = Vec::new();
        for part in parts {
            blocks.extend(block(&mut written, part).map(Json::Object));
        }
        if !blocks.is_empty() {
            written.push(JsonObject::new().with("role", role).with("content", blocks));
        }
    }
    written
}

fn keyed(key: &str, value: impl Into<Json>) -> JsonObject {
    JsonObject::new().with(key, value)
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
            Some(keyed("text", json.to_string()))
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
    match native_part(DIALECT, part.native) {
        Some(block) if block.contains_key("text") => block.with("text", part.text.as_ref()),
        Some(block) => block,
        None => {
            written.lose_text_extras(part, DIALECT);
            keyed("text", part.text.as_ref())
        }
    }
}

fn reasoning(written: &mut Written, part: &ReasoningPart<'_>) -> Option<JsonObject> {
    if !written.may_write(DIALECT, part.native, Loss::Reasoning) || !carries_reasoning(part) {
        return None;
    }
    if let Some(block) = native_part(DIALECT, part.native) {
        return Some(block);
    }
    let content = match part.opaque {
        Some(data) if part.text.is_empty() => keyed("redactedContent", data),
        Some(signature) => {
            keyed("reasoningText", keyed("text", part.text.as_ref()).with("signature", signature))
        }
        // Models that verify signatures would refuse it without one.
        None => {
            written.lose(Loss::Reasoning);
            return None;
        }
    };
    Some(keyed("reasoningContent", content))
}

fn call(written: &mut Written, part: &CallPart<'_>) -> Option<JsonObject> {
    let native = native_part(DIALECT, part.native);
    if part.provider_run && native.is_none() {
        written.lose(Loss::ProviderRun);
        return None;
    }
    if part.id.is_none() {
        written.lose(Loss::IdMissing);
    }
    if let Some(mut block) = native {
        if let Some(call) = block.get_mut("toolUse").and_then(Json::as_object_mut) {
            set_id(call, "toolUseId", part.id);
            call.insert("name", part.name);
        }
        return Some(block);
    }
    if part.kind != CallKind::Function {
        written.lose(Loss::CallKind);
    }
    let mut call = JsonObject::new();
    set_id(&mut call, "toolUseId", part.id);
    let input = written.argument_object(part.arguments);
    Some(keyed("toolUse", call.with("name", part.name).with("input", input)))
}

fn result(written: &mut Written, part: &ResultPart<'_>) -> Option<JsonObject> {
    let native = native_part(DIALECT, part.native);
    if part.provider_run && native.is_none() {
        written.lose(Loss::ProviderRun);
        return None;
    }
    if part.link.is_none() {
        written.lose(Loss::IdMissing);
    }
    if let Some(mut block) = native {
        if let Some(result) = block.get_mut("toolResult").and_then(Json::as_object_mut) {
            set_id(result, "toolUseId", part.link);
        }
        return Some(block);
    }
    if part.name.is_some() {
        written.lose(Loss::ResultName);
    }
    let mut content: Vec<Json> = Vec::new();
    for part in &part.content {
        let block = match part {
            Part::Data(json) if !json.is_null() => Some(keyed("json", (*json).clone())),
            part => block(written, part),
        };
        content.extend(block.map(Json::Object));
    }
    let mut result = JsonObject::new();
    set_id(&mut result, "toolUseId", part.link);
    result.insert("content", content);
    if part.is_error {
        result.insert("status", "error");
    }
    Some(keyed("toolResult", result))
}

fn media(written: &mut Written, part: &MediaPart<'_>) -> JsonObject {
    if let Some(mut block) = native_part(DIALECT, part.native) {
        if let (Some(document), Some(name)) = (block.get_mut("document"), part.title)
            && let Some(document) = document.as_object_mut()
        {
            document.insert("name", name);
        }
        return block;
    }
    written.lose_cache_mark(part.native, DIALECT);
    let source = match &part.source {
        MediaSource::Data(data) => keyed("bytes", *data),
        MediaSource::Url(uri) if uri.starts_with("s3://") => {
            keyed("s3Location", keyed("uri", *uri))
        }
        MediaSource::Text(text) if part.kind == MediaKind::Document => keyed("text", *text),
        MediaSource::Parts(parts) if part.kind == MediaKind::Document => {
            let blocks: Vec<Json> =
                parts.iter().filter_map(|part| block(written, part)).map(Json::Object).collect();
            keyed("content", blocks)
        }
        _ => return keyed("text", written.media_note(part)),
    };
    let key = match part.kind {
        MediaKind::Image => "image",
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
        MediaKind::Document => "document",
    };
    let format = match (&part.source, part.media_type) {
        (MediaSource::Text(_) | MediaSource::Parts(_), None) => "txt".into(),
        (_, media_type) if part.kind == MediaKind::Document => match document_format(media_type) {
            Some(format) => format.into(),
            None => return keyed("text", written.media_note(part)),
        },
        (_, media_type) => match format_of(media_type, part.kind).as_str() {
            "jpg" => "jpeg".into(),
            format => format.to_owned(),
        },
    };
    let mut inner = keyed("format", format);
    if part.kind == MediaKind::Document {
        inner.insert("name", document_name(part.title));
        if let Some(context) = part.context {
            inner.insert("context", context);
        }
    }
    keyed(key, inner.with("source", source))
}

/// The most characters of a name. (D API_runtime_DocumentBlock)
pub(crate) const MAX_DOCUMENT_NAME: usize = 200;

/// Converts a title to the characters that Bedrock allows in names: letters, digits, single spaces, hyphens, brackets.
/// (D API_runtime_DocumentBlock)
pub(crate) fn document_name(title: Option<&str>) -> String {
    let allowed = |character: char| {
        if character.is_ascii_alphanumeric() || matches!(character, '-' | '(' | ')' | '[' | ']') {
            character
        } else {
            ' '
        }
    };
    let name: String = title.unwrap_or_default().chars().map(allowed).collect();
    let words: Vec<_> = name.split_whitespace().collect();
    if words.is_empty() {
        return "document".into();
    }
    let name: String = words.join(" ").chars().take(MAX_DOCUMENT_NAME).collect();
    name.trim_end().into()
}
