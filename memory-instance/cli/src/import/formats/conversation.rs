//! One conversation per record: an array of messages, or an object that has them under one of several keys.
//!
//! Fine-tuning and preference examples, bodies of requests, and exported sessions and states have this form. The
//! messages may be of any format. A system prompt beside them comes first. Tools, settings and other fields are left
//! out, but `--key` sees them.

use memory_core::json::{Json, JsonObject};

use super::message;

/// Keys of the messages.
const KEYS: [&str; 6] =
    ["messages", "conversation", "conversations", "contents", "chat_history", "history"];

/// The messages of a conversation, none if it is something else.
pub(super) fn elements(json: &Json) -> Option<Vec<Json>> {
    if let Some(messages) = json.as_array() {
        return Some(messages.to_vec());
    }
    let object = json.as_object()?;
    let is_other = ["role", "from", "conversation_hash", "mapping", "payload", "lc"]
        .iter()
        .any(|key| object.contains_key(key));
    if is_other {
        return None;
    }
    // States of LangGraph hold the messages one level deeper.
    let state = ["values", "channel_values"].iter().find_map(|key| object.get(key));
    if let Some(state) = state.filter(|state| state.get("messages").is_some()) {
        return elements(state);
    }
    let mut messages = system(object);
    let found = KEYS.iter().find_map(|key| object.get(key));
    match found {
        Some(Json::Array(elements)) if elements.iter().any(|turn| turn.get("from").is_some()) => {
            None
        }
        Some(Json::Array(elements)) if !is_cohere(elements) => {
            messages.extend_from_slice(elements);
            Some(messages)
        }
        Some(_) => None,
        // Items of Responses have such keys too.
        None if object.contains_key("type") => None,
        None => {
            messages.extend(parts_of_example(object)?);
            Some(messages)
        }
    }
}

/// The history of a Cohere v1 request, whose turns no dialect knows.
fn is_cohere(elements: &[Json]) -> bool {
    elements.iter().any(|turn| turn.get("message").is_some() && turn.get("role").is_some())
}

/// Messages that are in two places: the prompt and the preferred answer of an example, or the items of a
/// Responses request, whose input may be a text, or of its answer; the first choice of a Chat Completions answer.
fn parts_of_example(object: &JsonObject) -> Option<Vec<Json>> {
    let array = |key| object.get(key).and_then(Json::as_array);
    let is_response = object.get("object").and_then(Json::as_str) == Some("response");
    if let Some(output) = array("output").filter(|_| is_response) {
        return Some(output.to_vec());
    }
    let choice = array("choices").and_then(<[Json]>::first);
    if let Some(message) = choice.and_then(|choice| choice.get("message")) {
        return Some(vec![message.clone()]);
    }
    let answers = ["preferred_output", "chosen", "completion"].iter().find_map(|key| array(key));
    let prompt = match object.get("input").or_else(|| object.get("prompt")) {
        Some(Json::Array(items)) => Some(items.clone()),
        Some(Json::String(text)) if object.contains_key("model") || answers.is_some() => {
            Some(vec![message("user", text.as_str()).into()])
        }
        Some(inner) => inner.get("messages").and_then(Json::as_array).map(<[Json]>::to_vec),
        None => None,
    };
    let mut messages = prompt.unwrap_or_default();
    messages.extend_from_slice(answers.unwrap_or_default());
    (!messages.is_empty()).then_some(messages)
}

/// The system prompt of a request: a text or blocks, of Gemini a content.
fn system(object: &JsonObject) -> Vec<Json> {
    let found = ["system", "instructions", "systemInstruction", "system_instruction"]
        .iter()
        .find_map(|key| object.get(key));
    match found {
        Some(Json::String(text)) if !text.is_empty() => {
            vec![message("system", text.as_str()).into()]
        }
        Some(Json::Array(blocks)) if !blocks.is_empty() => {
            vec![message("system", blocks.clone()).into()]
        }
        Some(Json::Object(content)) => {
            let parts = match content.get("parts") {
                Some(Json::Array(parts)) => parts.clone(),
                Some(part @ Json::Object(_)) => vec![part.clone()],
                _ => return Vec::new(),
            };
            vec![JsonObject::new().with("role", "system").with("parts", parts).into()]
        }
        _ => Vec::new(),
    }
}
