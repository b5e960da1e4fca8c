//! Messages of pydantic-ai: `{"kind": "request" | "response", "parts": [{"part_kind", ..}]}`.
//!
//! They become chat messages: of a request one for each part, of a response one. Left out are `instructions`, tools
//! that the provider ran, files that the model made, and all beside the parts.

use memory_core::json::{Json, JsonObject};

use super::{call, message, text_of};

pub(super) fn is_message(json: &Json) -> bool {
    let parts = json.get("parts").and_then(Json::as_array);
    let is_part = |part: &Json| part.get_str("part_kind").is_some();
    let is_empty = parts.is_some_and(<[Json]>::is_empty)
        && matches!(json.get_str("kind"), Some("request" | "response"));
    is_empty || parts.is_some_and(|parts| parts.iter().any(is_part))
}

pub(super) fn convert(json: &Json) -> Result<Vec<Json>, String> {
    let parts = json.get("parts").and_then(Json::as_array).unwrap_or_default();
    let is_of_model =
        |part: &Json| matches!(part.get_str("part_kind"), Some("text" | "thinking" | "tool-call"));
    let is_response = match json.get_str("kind") {
        Some(kind) => kind == "response",
        None => parts.iter().any(is_of_model),
    };
    if is_response {
        return Ok(response(parts));
    }
    Ok(parts.iter().filter_map(request_part).map(Json::Object).collect())
}

fn request_part(part: &Json) -> Option<JsonObject> {
    let content = part.get("content");
    let tool = part.get_str("tool_name");
    Some(match part.get_str("part_kind")? {
        "system-prompt" => message("system", text_of(content)),
        "user-prompt" => message("user", prompt(content)),
        "tool-return" => result(part, text_of(content)),
        // A retry of no tool is said to the model by the user.
        "retry-prompt" if tool.is_none() => message("user", text_of(content)),
        "retry-prompt" => result(part, format!("Error: {}", text_of(content))),
        _ => return None,
    })
}

fn result(part: &Json, text: String) -> JsonObject {
    let mut result = JsonObject::new().with("role", "tool");
    for (key, from) in [("tool_call_id", "tool_call_id"), ("name", "tool_name")] {
        if let Some(value) = part.get_str(from) {
            result.insert(key, value);
        }
    }
    result.with("content", text)
}

/// A text, or texts and media.
fn prompt(content: Option<&Json>) -> Json {
    match content {
        Some(Json::Array(items)) => {
            let blocks: Vec<Json> = items.iter().filter_map(block).map(Json::Object).collect();
            blocks.into()
        }
        other => text_of(other).into(),
    }
}

fn block(item: &Json) -> Option<JsonObject> {
    let typed = |kind: &str| JsonObject::new().with("type", kind);
    let text = |text: &str| typed("text").with("text", text);
    if let Some(plain) = item.as_str() {
        return Some(text(plain));
    }
    let url = item.get_str("url");
    let at = |kind: &str| Some(typed(kind).with(kind, JsonObject::new().with("url", url?)));
    match item.get_str("kind")? {
        "image-url" => at("image_url"),
        "audio-url" => at("audio_url"),
        "video-url" => at("video_url"),
        "document-url" => Some(typed("document_url").with("document_url", url?)),
        "binary" => {
            let data = item.get_str("data")?;
            let media_type = item.get_str("media_type").unwrap_or("application/octet-stream");
            // Blocks of the Model Context Protocol, in which every dialect reads media.
            let kind = media_type.split('/').next();
            let kind = kind.filter(|kind| ["image", "audio", "video"].contains(kind));
            let kind = kind.unwrap_or("file");
            Some(typed(kind).with("data", data).with("mimeType", media_type))
        }
        _ => item.get_str("content").or_else(|| item.get_str("text")).map(text),
    }
}

fn response(parts: &[Json]) -> Vec<Json> {
    let (mut texts, mut thoughts, mut calls) = (Vec::new(), Vec::<Json>::new(), Vec::<Json>::new());
    for part in parts {
        let content = part.get_str("content").unwrap_or_default();
        match part.get_str("part_kind") {
            Some("text") if !content.is_empty() => texts.push(content),
            Some("thinking") => {
                let mut thought =
                    JsonObject::new().with("type", "thinking").with("thinking", content);
                if let Some(signature) = part.get_str("signature") {
                    thought.insert("signature", signature);
                }
                thoughts.push(thought.into());
            }
            Some("tool-call") => {
                let name = part.get_str("tool_name").unwrap_or_default();
                calls.push(call(part.get_str("tool_call_id"), name, part.get("args")));
            }
            _ => {}
        }
    }
    if texts.is_empty() && thoughts.is_empty() && calls.is_empty() {
        return Vec::new();
    }
    let content = if texts.is_empty() { Json::Null } else { texts.join("\n\n").into() };
    let mut message = message("assistant", content);
    for (key, list) in [("thinking_blocks", thoughts), ("tool_calls", calls)] {
        if !list.is_empty() {
            message.insert(key, list);
        }
    }
    vec![message.into()]
}
