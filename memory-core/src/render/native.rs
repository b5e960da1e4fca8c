//! Checks whether the JSON of a part can be sent unchanged, because stored messages may be malformed.

use crate::dialect::Dialect;
use crate::json::{Json, JsonObject};
use crate::render::turn::Speaker;

/// Whether the known fields of a block, and of the objects in it, have the types that the API requires. Other blocks
/// are rebuilt from their parsed parts.
pub(super) fn is_sound(dialect: Dialect, block: &Json, speaker: Speaker) -> bool {
    let Some(object) = block.as_object() else { return false };
    let is_shaped = match dialect {
        Dialect::Gemini => gemini(object),
        Dialect::Responses => responses(object, speaker),
        Dialect::Chat | Dialect::Anthropic | Dialect::Bedrock | Dialect::AiSdk => true,
    };
    is_shaped && members(dialect, object)
}

fn members(dialect: Dialect, object: &JsonObject) -> bool {
    object.iter().all(|(key, value)| {
        let is_sound = match key {
            // `null` fields are not copied.
            _ if value.is_null() => true,
            "source" if dialect == Dialect::Anthropic && value.get_str("type") == Some("url") => {
                value.get_str("url").is_some_and(|url| url.starts_with("http"))
            }
            "thought" => value.as_bool().is_some(),
            "cache_control" => mark(value),
            "status" if dialect == Dialect::Bedrock => {
                matches!(value.as_str(), Some("success" | "error"))
            }
            "status" => matches!(
                value.as_str(),
                Some("in_progress" | "completed" | "incomplete" | "failed")
            ),
            "thoughtSignature" | "thought_signature" => value.as_str().is_some_and(is_base64),
            "title" | "context" | "filename" | "phase" => value.as_str().is_some(),
            "annotations" | "logprobs" => value.as_array().is_some(),
            "document" => {
                value.get_str("name").is_some_and(|name| !name.is_empty())
                    && value.get_str("format").is_some_and(|format| !format.is_empty())
            }
            "inlineData" | "inline_data" => {
                let media_type = value.get_str("mimeType").or(value.get_str("mime_type"));
                media_type.is_some_and(|name| name.contains('/'))
            }
            "source" if dialect == Dialect::Bedrock => {
                value.as_object().is_some_and(|source| source.len() == 1)
            }
            "source" if dialect == Dialect::Anthropic => value
                .as_object()
                .is_none_or(|source| source.get("type").and_then(Json::as_str).is_some()),
            _ => true,
        };
        // Input and output of tools may have any form.
        let is_free =
            matches!(key, "input" | "args" | "arguments" | "response" | "json" | "output");
        is_sound
            && match value {
                Json::Object(inner) if !is_free => members(dialect, inner),
                Json::Array(items) if !is_free => items
                    .iter()
                    .all(|item| item.as_object().is_none_or(|inner| members(dialect, inner))),
                _ => true,
            }
    })
}

fn mark(value: &Json) -> bool {
    value.as_object().is_some_and(|mark| {
        mark.get("type").and_then(Json::as_str) == Some("ephemeral")
            && mark.get("ttl").is_none_or(|ttl| matches!(ttl.as_str(), Some("5m" | "1h")))
    })
}

fn is_base64(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte))
}

/// A part must have exactly one kind of data.
fn gemini(part: &JsonObject) -> bool {
    const DATA: [(&str, &str); 7] = [
        ("text", "text"),
        ("inlineData", "inline_data"),
        ("fileData", "file_data"),
        ("functionCall", "function_call"),
        ("functionResponse", "function_response"),
        ("executableCode", "executable_code"),
        ("codeExecutionResult", "code_execution_result"),
    ];
    let is_there =
        |(camel, snake): &&(&str, &str)| part.contains_key(camel) || part.contains_key(snake);
    DATA.iter().filter(is_there).count() == 1
}

/// The user has inputs, the assistant outputs.
fn responses(block: &JsonObject, speaker: Speaker) -> bool {
    match block.get("type").and_then(Json::as_str) {
        Some("input_text") => speaker != Speaker::Assistant,
        Some("output_text" | "refusal") => speaker == Speaker::Assistant,
        Some("input_image") => has_one(block, &["image_url", "file_id"]),
        Some("input_file") => has_one(block, &["file_id", "file_data", "file_url"]),
        _ => match block.get("content") {
            Some(Json::Array(parts)) => parts
                .iter()
                .all(|part| part.as_object().is_some_and(|part| responses(part, speaker))),
            _ => true,
        },
    }
}

fn has_one(block: &JsonObject, keys: &[&str]) -> bool {
    keys.iter().filter(|key| block.get(key).is_some_and(|value| !value.is_null())).count() == 1
}
