//! Calls, content parts and reasoning, as JSON.

use super::super::media::{data_url, format_of};
use super::super::part::{MediaKind, MediaPart, MediaSource, ReasoningPart};
use super::super::write::{Written, media_type_of};
use super::super::{Dialect, Position};
use crate::json::{Json, JsonObject};

const DIALECT: Dialect = Dialect::Chat;

/// A call with its known fields.
pub(super) fn native_call(json: &Json) -> JsonObject {
    let message = JsonObject::new().with("tool_calls", vec![json.clone()]);
    let known = DIALECT.known_fields(Position::Message).unwrap_or_default();
    let copy = DIALECT.copy_fields(&message.into(), known);
    let call = copy.get("tool_calls").and_then(Json::as_array).and_then(|calls| calls.first());
    call.and_then(Json::as_object).cloned().unwrap_or_default()
}

pub(super) fn audio_id<'a>(part: &MediaPart<'a>) -> Option<&'a str> {
    match part.source {
        MediaSource::FileId(id) if part.native.is_none() => Some(id),
        _ => None,
    }
}

pub(super) fn reasoning_detail(part: &ReasoningPart<'_>) -> Json {
    let detail = JsonObject::new();
    match part.opaque {
        Some(data) if part.text.is_empty() => {
            detail.with("type", "reasoning.encrypted").with("data", data).into()
        }
        Some(signature) => detail
            .with("type", "reasoning.text")
            .with("text", part.text.as_ref())
            .with("signature", signature)
            .into(),
        None => detail.with("type", "reasoning.text").with("text", part.text.as_ref()).into(),
    }
}

pub(super) fn text_block(text: impl Into<String>) -> JsonObject {
    JsonObject::new().with("type", "text").with("text", text.into())
}

/// `null` without blocks, a string for a single text, else the array.
pub(super) fn content_of(mut blocks: Vec<Json>) -> Json {
    let only_text = match blocks.as_mut_slice() {
        [] => return Json::Null,
        [Json::Object(block)]
            if block.len() == 2
                && block.get("type").is_some_and(|kind| kind.as_str() == Some("text")) =>
        {
            block.remove("text")
        }
        _ => None,
    };
    only_text.unwrap_or(Json::Array(blocks))
}

pub(super) fn media_block(written: &mut Written, part: &MediaPart<'_>) -> JsonObject {
    let typed =
        |kind: &str, inner: JsonObject| JsonObject::new().with("type", kind).with(kind, inner);
    // An id of another provider has no meaning here.
    let is_own = part
        .native
        .is_none_or(|native| native.dialect == DIALECT || native.dialect == Dialect::Responses);
    match (part.kind, &part.source) {
        (MediaKind::Image, MediaSource::Data(data)) => {
            typed("image_url", url_object(part, data_url(part.media_type, part.kind, data)))
        }
        (MediaKind::Image, MediaSource::Url(url)) => {
            typed("image_url", url_object(part, (*url).to_owned()))
        }
        (MediaKind::Audio, MediaSource::Data(data)) => {
            let format = format_of(part.media_type, part.kind);
            typed("input_audio", JsonObject::new().with("data", *data).with("format", format))
        }
        (MediaKind::Document, MediaSource::Data(data)) if part.media_type.is_some() => {
            let url = format!("data:{};base64,{data}", media_type_of(part));
            let name = part.title.unwrap_or("document");
            typed("file", JsonObject::new().with("filename", name).with("file_data", url))
        }
        (MediaKind::Document, MediaSource::FileId(id)) if is_own => {
            typed("file", JsonObject::new().with("file_id", *id))
        }
        _ => text_block(written.media_note(part)),
    }
}

fn url_object(part: &MediaPart<'_>, url: String) -> JsonObject {
    let object = JsonObject::new().with("url", url);
    match part.detail {
        Some(detail @ ("low" | "high" | "auto" | "original")) => object.with("detail", detail),
        _ => object,
    }
}
