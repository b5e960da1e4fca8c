//! Detects the dialect of a message.

use super::{Dialect, ai_sdk, anthropic, bedrock, gemini, responses};
use crate::json::{Json, JsonObject};

/// See [`Dialect::detect`], whose docs number these steps.
pub(super) fn detect(message: &Json) -> Option<Dialect> {
    let object = message.as_object()?;
    if is_envelope(object) {
        return None;
    }
    let kind = message.get_str("type");
    if let Some(kind) = kind.filter(|kind| responses::is_item(kind)) {
        // A call of Gemini's Interactions API has the same type and no `call_id`.
        let is_item = kind != "function_call" || object.contains_key("call_id");
        return is_item.then_some(Dialect::Responses);
    }
    if let Some(parts) = object.get("parts").and_then(Json::as_array) {
        return by_parts(object, parts);
    }
    if object.contains_key("toolInvocations") || object.contains_key("experimental_attachments") {
        return Some(Dialect::AiSdk);
    }
    if is_cohere_v1(object) {
        return None;
    }
    let blocks = match object.get("content") {
        Some(Json::Array(blocks)) => blocks.as_slice(),
        Some(block @ Json::Object(_)) => std::slice::from_ref(block),
        _ => &[],
    };
    let links = calls(object).next().is_some()
        || object.get("tool_call_id").and_then(Json::as_str).is_some_and(|id| !id.is_empty());
    if links {
        // Even if the content has the form of another dialect: gateways pass it on, and LangChain repeats calls
        // there.
        return Some(Dialect::Chat);
    }
    if let Some(dialect) = blocks.iter().find_map(by_block) {
        return Some(dialect);
    }
    const CHAT_KEYS: [&str; 10] = [
        "tool_calls",
        "tool_call_id",
        "function_call",
        "refusal",
        "reasoning_content",
        "reasoning_details",
        "thinking_blocks",
        "tool_plan",
        "images",
        "tool_name",
    ];
    let has_role = message.get_str("role").is_some_and(|role| !role.trim().is_empty());
    if has_role {
        if CHAT_KEYS.iter().any(|key| object.contains_key(key)) {
            return Some(Dialect::Chat);
        }
        if kind == Some("message") {
            return Some(typed_message(object));
        }
        return by_marks(blocks).or_else(|| is_chat(object).then_some(Dialect::Chat));
    }
    let is_flat = matches!(
        kind,
        Some("human" | "ai" | "AIMessageChunk" | "system" | "tool" | "function" | "developer")
    );
    (is_flat && object.contains_key("content")).then_some(Dialect::Chat)
}

/// Whether the object contains a message rather than being one: a line of a session, a conversation.
fn is_envelope(object: &JsonObject) -> bool {
    let has = |key| object.contains_key(key);
    has("payload") && has("type")
        || has("message") && (has("uuid") || has("sessionId") || has("parentUuid"))
        || has("kwargs") && has("lc")
        || has("data") && has("type") && !has("role")
        || has("messages") && !has("role")
        || has("contents") && !has("role")
}

/// Whether it is a turn of Cohere's first API, which has its text in `message`, and calls like a chat message.
fn is_cohere_v1(object: &JsonObject) -> bool {
    let has_text = object.get("message").and_then(Json::as_str).is_some();
    (has_text || object.contains_key("tool_results")) && !object.contains_key("content")
}

fn calls(object: &JsonObject) -> impl Iterator<Item = &Json> {
    object.get("tool_calls").and_then(Json::as_array).unwrap_or_default().iter()
}

fn by_parts(object: &JsonObject, parts: &[Json]) -> Option<Dialect> {
    for part in parts {
        if part.get("part_kind").is_some() {
            return None;
        }
        if part.get("type").is_some() {
            return Some(Dialect::AiSdk);
        }
        if gemini::is_part(part) {
            return Some(Dialect::Gemini);
        }
    }
    // Messages of the user interface have an id, and a role in any case.
    if !object.contains_key("role") {
        return None;
    }
    Some(if object.contains_key("id") { Dialect::AiSdk } else { Dialect::Gemini })
}

fn by_block(block: &Json) -> Option<Dialect> {
    let object = block.as_object()?;
    match block.get_str("type") {
        None if bedrock::tag(object).is_some() => Some(Dialect::Bedrock),
        None if gemini::is_part(block) => Some(Dialect::Gemini),
        None => None,
        Some("input_text" | "output_text" | "input_image" | "input_file") => {
            Some(Dialect::Responses)
        }
        Some("image_url" | "input_audio" | "video_url" | "audio_url" | "document_url") => {
            Some(Dialect::Chat)
        }
        Some("file") if object.contains_key("file") => Some(Dialect::Chat),
        Some("toolRequest" | "toolResponse" | "redactedThinking") => Some(Dialect::Chat),
        Some(_) if ai_sdk::is_decisive(block) => Some(Dialect::AiSdk),
        Some(_) if anthropic::is_decisive(block) => Some(Dialect::Anthropic),
        Some(_) => None,
    }
}

/// By marks that other dialects may also have, so only if no other step decides.
fn by_marks(blocks: &[Json]) -> Option<Dialect> {
    let marked = |key| blocks.iter().any(|block| block.get(key).is_some());
    (marked("cache_control") || marked("citations")).then_some(Dialect::Anthropic)
}

/// A message with `type` `message`: an item of Responses, or an answer of Anthropic's API.
fn typed_message(object: &JsonObject) -> Dialect {
    let is_answer = object.contains_key("stop_reason") || object.contains_key("stop_sequence");
    if is_answer { Dialect::Anthropic } else { Dialect::Responses }
}

/// Whether an object with a role is a chat message rather than one of a format whose text is elsewhere.
fn is_chat(object: &JsonObject) -> bool {
    const FOREIGN: [&str; 5] = ["message", "text", "value", "parts", "data"];
    object.contains_key("content") || !FOREIGN.iter().any(|key| object.contains_key(key))
}
