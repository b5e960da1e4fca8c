//! Writes model messages of the AI SDK.

use super::super::media::full_media_type;
use super::super::part::{
    CallKind, CallPart, MediaKind, MediaPart, MediaSource, Native, Part, ReasoningPart, ResultPart,
    TextPart, joined_text,
};
use super::super::write::{
    Loss, Sides, Written, carries_reasoning, media_type_of, native_part, set_id,
};
use super::DIALECT;
use crate::json::{Json, JsonObject};
use crate::message::Role;

pub(in super::super) fn write(role: &Role, parts: &[Part<'_>]) -> Written {
    let mut written = Written::default();
    for (role, parts) in Sides::new(&mut written, role, parts, "assistant", "tool") {
        if role == "system" {
            let text = joined_text(parts).into_owned();
            if parts.iter().any(|part| !matches!(part, Part::Text(_) | Part::Data(_))) {
                written.lose(Loss::Unknown);
            }
            if !text.is_empty() {
                written.push(JsonObject::new().with("role", role).with("content", text));
            }
            continue;
        }
        let mut blocks: Vec<Json> = Vec::new();
        for part in parts {
            blocks.extend(block(&mut written, part, role).map(Json::Object));
        }
        if !blocks.is_empty() {
            let content = content_of(blocks, role);
            written.push(JsonObject::new().with("role", role).with("content", content));
        }
    }
    written
}

/// A string for a single text without options, else the array.
fn content_of(mut blocks: Vec<Json>, role: &str) -> Json {
    if role != "tool"
        && let [Json::Object(block)] = blocks.as_mut_slice()
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

fn text_part(text: &str) -> JsonObject {
    typed("text").with("text", text)
}

/// The options that a user-interface part has under another name.
fn with_options(mut block: JsonObject, native: Option<Native<'_>>) -> JsonObject {
    let native = native.filter(|native| native.dialect == DIALECT);
    let options = native.and_then(|native| {
        native.json.get("providerMetadata").or_else(|| native.json.get("callProviderMetadata"))
    });
    if let Some(options) = options.filter(|options| options.as_object().is_some())
        && !block.contains_key("providerOptions")
    {
        block.insert("providerOptions", options.clone());
    }
    block
}

fn block(written: &mut Written, part: &Part<'_>, role: &str) -> Option<JsonObject> {
    match part {
        Part::Text(part) => Some(text(written, part)),
        Part::Media(part) => Some(media(written, part)),
        Part::Reasoning(part) => reasoning(written, part),
        Part::Call(part) => call(written, part),
        Part::Result(part) => result(written, part),
        Part::Data(json) => {
            written.lose(Loss::DataAsText);
            Some(text_part(&json.to_string()))
        }
        Part::Other(native) => {
            let block = native_part(DIALECT, Some(*native)).filter(|_| role != "user");
            if block.is_none() {
                written.lose(Loss::Unknown);
            }
            block
        }
    }
}

fn text(written: &mut Written, part: &TextPart<'_>) -> JsonObject {
    if let Some(block) = native_part(DIALECT, part.native) {
        return with_options(block.with("text", part.text.as_ref()), part.native);
    }
    written.lose_text_extras(part, DIALECT);
    text_part(&part.text)
}

fn reasoning(written: &mut Written, part: &ReasoningPart<'_>) -> Option<JsonObject> {
    if !written.may_write(DIALECT, part.native, Loss::Reasoning) || !carries_reasoning(part) {
        return None;
    }
    if let Some(block) = native_part(DIALECT, part.native) {
        let block = if block.get("type").and_then(Json::as_str) == Some("reasoning") {
            block.with("text", part.text.as_ref())
        } else {
            block
        };
        return Some(with_options(block, part.native));
    }
    // It is unknown which provider's option a signature belongs to.
    if part.opaque.is_some() {
        written.lose(Loss::Reasoning);
    }
    Some(typed("reasoning").with("text", part.text.as_ref()))
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
        set_id(&mut block, "toolCallId", part.id);
        return Some(block.with("toolName", part.name));
    }
    if part.kind != CallKind::Function {
        written.lose(Loss::CallKind);
    }
    let mut block = typed("tool-call");
    set_id(&mut block, "toolCallId", part.id);
    let input = written.argument_object(part.arguments);
    block = block.with("toolName", part.name).with("input", input);
    if part.provider_run {
        block.insert("providerExecuted", true);
    }
    Some(with_options(block, part.native))
}

fn result(written: &mut Written, part: &ResultPart<'_>) -> Option<JsonObject> {
    if part.provider_run && part.native.is_none_or(|native| native.dialect != DIALECT) {
        written.lose(Loss::ProviderRun);
        return None;
    }
    if part.link.is_none() {
        written.lose(Loss::IdMissing);
    }
    if part.name.is_none() {
        written.lose(Loss::NameMissing);
    }
    let name = part.name.or(part.link).unwrap_or("tool");
    if let Some(mut block) = native_part(DIALECT, part.native) {
        set_id(&mut block, "toolCallId", part.link);
        return Some(block.with("toolName", name));
    }
    let mut block = typed("tool-result");
    set_id(&mut block, "toolCallId", part.link);
    let output = output(written, part);
    Some(block.with("toolName", name).with("output", output))
}

fn output(written: &mut Written, part: &ResultPart<'_>) -> JsonObject {
    let (text, json) = if part.is_error { ("error-text", "error-json") } else { ("text", "json") };
    match part.content.as_slice() {
        [] => return typed(text).with("value", ""),
        [Part::Text(part)] => {
            written.lose_text_extras(part, DIALECT);
            return typed(text).with("value", part.text.as_ref());
        }
        [Part::Data(data)] => return typed(json).with("value", (*data).clone()),
        _ => {}
    }
    let mut blocks: Vec<Json> = Vec::new();
    for part in &part.content {
        let block = match part {
            Part::Text(part) => {
                written.lose_text_extras(part, DIALECT);
                text_part(&part.text)
            }
            Part::Data(data) => {
                written.lose(Loss::DataAsText);
                text_part(&data.to_string())
            }
            Part::Media(part) => match &part.source {
                MediaSource::Data(data) => {
                    let media_type = media_type_of(part);
                    typed("media").with("data", *data).with("mediaType", media_type)
                }
                MediaSource::Url(url) if part.kind == MediaKind::Image => {
                    typed("image-url").with("url", *url)
                }
                _ => text_part(&written.media_note(part)),
            },
            _ => {
                written.lose(Loss::Unknown);
                continue;
            }
        };
        blocks.push(block.into());
    }
    if part.is_error {
        // The form with media has no error flag.
        written.prefix_error(&mut blocks, text_part);
    }
    typed("content").with("value", blocks)
}

fn media(written: &mut Written, part: &MediaPart<'_>) -> JsonObject {
    if let Some(block) = native_part(DIALECT, part.native)
        && (block.contains_key("data") || block.contains_key("image"))
    {
        return block;
    }
    written.lose_cache_mark(part.native, DIALECT);
    let data = match &part.source {
        MediaSource::Data(data) => *data,
        MediaSource::Url(url) => url,
        _ => return text_part(&written.media_note(part)),
    };
    if part.kind == MediaKind::Image {
        let block = typed("image").with("image", data);
        return match part.media_type {
            Some(name) => {
                block.with("mediaType", full_media_type(Some(name), part.kind).into_owned())
            }
            None => block,
        };
    }
    let block = typed("file").with("data", data).with("mediaType", media_type_of(part));
    match part.title {
        Some(title) => block.with("filename", title),
        None => block,
    }
}
