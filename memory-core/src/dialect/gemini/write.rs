//! Writes contents of Gemini.

use super::super::part::{
    CallKind, CallPart, MediaPart, MediaSource, Part, ReasoningPart, ResultPart, TextPart,
};
use super::super::write::{
    Loss, Sides, Written, carries_reasoning, media_type_of, native_part, set_id,
};
use super::{DIALECT, unwrap_response};
use crate::json::{Json, JsonObject};
use crate::message::Role;

pub(in super::super) fn write(role: &Role, parts: &[Part<'_>]) -> Written {
    let mut written = Written::default();
    for (role, parts) in Sides::new(&mut written, role, parts, "model", "user") {
        let mut blocks: Vec<Json> = Vec::new();
        for part in parts {
            blocks.extend(block(&mut written, part).map(Json::Object));
        }
        if !blocks.is_empty() {
            written.push(JsonObject::new().with("role", role).with("parts", blocks));
        }
    }
    written
}

fn text_part(text: impl Into<String>) -> JsonObject {
    JsonObject::new().with("text", text.into())
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
            Some(text_part(json.to_string()))
        }
        Part::Other(native) => {
            let block = native_part(DIALECT, Some(*native)).filter(|block| !block.is_empty());
            if block.is_none() {
                written.lose(Loss::Unknown);
            }
            block
        }
    }
}

fn text(written: &mut Written, part: &TextPart<'_>) -> JsonObject {
    if let Some(block) = native_part(DIALECT, part.native) {
        return block.with("text", part.text.as_ref());
    }
    written.lose_text_extras(part, DIALECT);
    text_part(part.text.as_ref())
}

fn reasoning(written: &mut Written, part: &ReasoningPart<'_>) -> Option<JsonObject> {
    if !written.may_write(DIALECT, part.native, Loss::Reasoning) || !carries_reasoning(part) {
        return None;
    }
    if let Some(block) = native_part(DIALECT, part.native) {
        return Some(block);
    }
    let block = text_part(part.text.as_ref()).with("thought", true);
    Some(match part.opaque {
        Some(signature) => block.with("thoughtSignature", signature),
        None => block,
    })
}

/// The member in either spelling, to set its ids and names.
fn inner<'o>(block: &'o mut JsonObject, camel: &str, snake: &str) -> Option<&'o mut JsonObject> {
    let key = if block.contains_key(camel) { camel } else { snake };
    block.get_mut(key)?.as_object_mut()
}

fn call(written: &mut Written, part: &CallPart<'_>) -> Option<JsonObject> {
    let native = native_part(DIALECT, part.native);
    if part.provider_run {
        if native.is_none() {
            written.lose(Loss::ProviderRun);
        }
        return native;
    }
    if let Some(mut block) = native {
        if let Some(call) = inner(&mut block, "functionCall", "function_call") {
            set_id(call, "id", part.id);
            call.insert("name", part.name);
        }
        return Some(block);
    }
    if part.kind != CallKind::Function {
        written.lose(Loss::CallKind);
    }
    let mut call = JsonObject::new();
    set_id(&mut call, "id", part.id);
    let arguments = written.argument_object(part.arguments);
    let call = call.with("name", part.name).with("args", arguments);
    Some(JsonObject::new().with("functionCall", call))
}

fn result(written: &mut Written, part: &ResultPart<'_>) -> Option<JsonObject> {
    let native = native_part(DIALECT, part.native);
    if part.provider_run {
        if native.is_none() {
            written.lose(Loss::ProviderRun);
        }
        return native;
    }
    if part.name.is_none() {
        written.lose(Loss::NameMissing);
    }
    let name = part.name.or(part.link).unwrap_or("tool");
    if let Some(mut block) = native {
        if let Some(response) = inner(&mut block, "functionResponse", "function_response") {
            set_id(response, "id", part.link);
            response.insert("name", name);
        }
        return Some(block);
    }
    let mut object = JsonObject::new();
    set_id(&mut object, "id", part.link);
    object.insert("name", name);
    let (response, media) = response(written, part);
    object.insert("response", response);
    if !media.is_empty() {
        object.insert("parts", media);
    }
    Some(JsonObject::new().with("functionResponse", object))
}

/// The response object and the media beside it.
fn response(written: &mut Written, part: &ResultPart<'_>) -> (JsonObject, Vec<Json>) {
    let mut media: Vec<Json> = Vec::new();
    let mut texts = Vec::new();
    let mut data = Vec::new();
    for part in &part.content {
        match part {
            Part::Text(part) => {
                written.lose_text_extras(part, DIALECT);
                texts.push(part.text.as_ref().to_owned());
            }
            Part::Data(json) => data.push(*json),
            Part::Media(part) => match &part.source {
                MediaSource::Data(_) => media.push(self::media(written, part).into()),
                _ => texts.push(written.media_note(part)),
            },
            _ => written.lose(Loss::Unknown),
        }
    }
    let key = if part.is_error { "error" } else { "result" };
    let response = match (texts.is_empty(), data.as_slice()) {
        (true, []) if !part.is_error => JsonObject::new(),
        (true, [data]) => match data.as_object() {
            // Unchanged, if reading returns the same value.
            Some(object)
                if unwrap_response(object) == (None, part.is_error) && !object.is_empty() =>
            {
                object.clone()
            }
            _ => JsonObject::new().with(key, (*data).clone()),
        },
        _ => {
            texts.extend(data.iter().map(|data| {
                written.losses.push(Loss::DataAsText);
                data.to_string()
            }));
            JsonObject::new().with(key, texts.join("\n"))
        }
    };
    (response, media)
}

fn media(written: &mut Written, part: &MediaPart<'_>) -> JsonObject {
    if let Some(block) = native_part(DIALECT, part.native).filter(|block| !block.is_empty()) {
        return block;
    }
    written.lose_cache_mark(part.native, DIALECT);
    let is_own = part.native.is_none_or(|native| native.dialect == DIALECT);
    match &part.source {
        MediaSource::Data(data) => {
            let inline =
                JsonObject::new().with("mimeType", media_type_of(part)).with("data", *data);
            JsonObject::new().with("inlineData", inline)
        }
        MediaSource::Url(url) => file(part, url),
        MediaSource::FileId(uri) if is_own => file(part, uri),
        _ => text_part(written.media_note(part)),
    }
}

fn file(part: &MediaPart<'_>, uri: &str) -> JsonObject {
    let file = JsonObject::new().with("mimeType", media_type_of(part)).with("fileUri", uri);
    JsonObject::new().with("fileData", file)
}
