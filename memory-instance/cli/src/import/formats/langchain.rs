//! Messages of LangChain in an envelope: `{"type", "data"}`, as `messages_to_dict` writes it, and
//! `{"lc", "type": "constructor", "id", "kwargs"}`.
//!
//! The fields of the message are kept, with a `role` before them. Calls that only `additional_kwargs` holds, as
//! older versions wrote them, are moved to where chat messages have them. A `remove` is left out.

use memory_core::json::{Json, JsonObject};

pub(super) fn is_wrapped(json: &Json) -> bool {
    let Some(object) = json.as_object() else { return false };
    let is_object = |key| object.get(key).is_some_and(|value| value.as_object().is_some());
    let is_constructor = object.contains_key("lc") && is_object("kwargs");
    let is_typed = json.get_str("type").is_some_and(|kind| role_of(kind).is_some());
    // Flat, it has no content that would make it a message.
    let is_removal = json.get_str("type") == Some("remove") && object.contains_key("id");
    is_constructor
        || is_removal && !object.contains_key("role")
        || is_typed && is_object("data") && !object.contains_key("role")
}

/// The role of a type or class; empty if the message itself has it, or is none.
fn role_of(kind: &str) -> Option<&'static str> {
    let kind = kind.strip_suffix("Chunk").unwrap_or(kind);
    Some(match kind {
        "human" | "HumanMessage" => "user",
        "ai" | "AIMessage" => "assistant",
        "system" | "SystemMessage" => "system",
        "developer" => "developer",
        "tool" | "ToolMessage" => "tool",
        "function" | "FunctionMessage" => "function",
        "chat" | "ChatMessage" | "remove" | "RemoveMessage" => "",
        _ => return None,
    })
}

pub(super) fn convert(json: &Json) -> Result<Vec<Json>, String> {
    let (kind, fields) = match (json.get("kwargs"), json.get("data")) {
        (Some(fields), _) => {
            let class = json.get("id").and_then(Json::as_array).and_then(<[Json]>::last);
            (class.and_then(Json::as_str), fields)
        }
        (None, Some(fields)) => (json.get_str("type"), fields),
        (None, None) => (json.get_str("type"), json),
    };
    let Some(fields) = fields.as_object() else {
        return Err("the fields of a LangChain message must be an object".to_owned());
    };
    let Some(role) = kind.and_then(role_of) else {
        return Err("a LangChain object that is no message; give its messages".to_owned());
    };
    if matches!(kind, Some("remove" | "RemoveMessage")) {
        return Ok(Vec::new());
    }
    let own = fields.get("role").and_then(Json::as_str).unwrap_or("user");
    let mut message = JsonObject::new().with("role", if role.is_empty() { own } else { role });
    for (key, value) in fields.iter() {
        if !matches!(key, "type" | "role") {
            message.insert(key, value.clone());
        }
    }
    let more = fields.get("additional_kwargs");
    let is_without_calls =
        fields.get("tool_calls").and_then(Json::as_array).is_none_or(<[Json]>::is_empty);
    if is_without_calls {
        for key in ["tool_calls", "function_call"] {
            if let Some(calls) = more.and_then(|more| more.get(key)) {
                message.insert(key, calls.clone());
                break;
            }
        }
    }
    Ok(vec![message.into()])
}
