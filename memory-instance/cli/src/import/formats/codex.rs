//! Rollouts of the Codex CLI: `{"timestamp", "type", "payload"}` a line.
//!
//! The payload of a `response_item` is an item of OpenAI Responses, kept as it is. Left out are `event_msg`, which
//! repeats items for display, `session_meta`, `turn_context`, and `compacted`, whose summary repeats items.
//! Early versions wrote items without an envelope, and metadata and states between them.

use memory_core::dialect::Dialect;
use memory_core::json::{Json, JsonObject};

use super::has;

pub(super) fn is_line(json: &Json) -> bool {
    let Some(object) = json.as_object() else { return false };
    let is_envelope = json.get_str("type").is_some()
        && object.contains_key("payload")
        && !object.contains_key("role");
    is_envelope || is_early_metadata(object)
}

fn is_early_metadata(object: &JsonObject) -> bool {
    let has = |key| object.contains_key(key);
    has("record_type")
        || has("instructions") && has("timestamp") && has("id") && !has("type") && !has("role")
}

pub(super) fn convert(json: &Json) -> Result<Vec<Json>, String> {
    if json.get_str("type") != Some("response_item") {
        return Ok(Vec::new());
    }
    let Some(payload) = json.get("payload").and_then(Json::as_object) else {
        return Err("the `payload` of a response item must be an object".to_owned());
    };
    let item = Json::Object(payload.clone());
    // States of the work tree and unknown kinds contain nothing that is sent to a model.
    let is_item = has(payload, "role") || Dialect::detect(&item) == Some(Dialect::Responses);
    Ok(if is_item { vec![item] } else { Vec::new() })
}
