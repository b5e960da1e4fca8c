//! Sessions of goose: chat messages, whose blocks are read as they are.
//!
//! Left out are the metadata on the first line, and messages that only the user sees.

use memory_core::json::Json;

/// Whether the record is never sent to the model.
pub(super) fn is_unsent(json: &Json) -> bool {
    let Some(object) = json.as_object() else { return false };
    let has = |key| object.contains_key(key);
    if has("role") {
        let metadata = json.get("metadata");
        let is_visible = metadata.and_then(|metadata| metadata.get("agentVisible"));
        return is_visible.and_then(Json::as_bool) == Some(false);
    }
    has("working_dir") && !has("conversation") && !has("messages") && !has("content")
}

pub(super) fn convert(_: &Json) -> Result<Vec<Json>, String> {
    Ok(Vec::new())
}
