//! Sessions of Claude Code: a line for each message, and lines of other kinds between them.
//!
//! The `message` of a line is one of Anthropic's, kept as it is; the fields around it are dropped. Left out are the
//! messages of subagents (`isSidechain`), errors of the API that the session shows as messages, lines that repeat
//! one with the same `uuid`, and all that is no message: titles, system lines, snapshots, queues. A message of the model
//! is written as one line for each block of its content; lines in a row with one `message.id` become one message again. A
//! summary that a compaction wrote is kept as the user message that was sent to the model. Branches that were abandoned
//! are kept too.

use std::collections::HashSet;

use memory_core::dialect::Dialect;
use memory_core::json::Json;

use super::has;

/// Lines without a message, by their type.
const OTHERS: [&str; 12] = [
    "summary",
    "system",
    "file-history-snapshot",
    "queue-operation",
    "mode",
    "custom-title",
    "agent-name",
    "ai-title",
    "last-prompt",
    "pr-link",
    "attachment",
    "progress",
];

/// Fields that only the lines of a session have.
const MARKS: [&str; 8] = [
    "uuid",
    "parentUuid",
    "sessionId",
    "leafUuid",
    "isSidechain",
    "isSnapshotUpdate",
    "logicalParentUuid",
    "snapshot",
];

pub(super) fn is_line(json: &Json) -> bool {
    let Some(object) = json.as_object() else { return false };
    if object.contains_key("role") {
        return false;
    }
    let is_marked = MARKS.iter().any(|key| object.contains_key(key));
    match json.get_str("type") {
        Some("user" | "assistant") => object.contains_key("message"),
        Some(kind) if OTHERS.contains(&kind) => is_marked,
        // An unknown kind has no message either.
        Some(_) => is_marked && Dialect::detect(json).is_none(),
        None => is_marked && object.contains_key("message"),
    }
}

pub(super) fn convert(json: &Json) -> Result<Vec<Json>, String> {
    let Some(object) = json.as_object() else { return Ok(Vec::new()) };
    let flag = |key| object.get(key).and_then(Json::as_bool) == Some(true);
    let is_message = matches!(json.get_str("type"), None | Some("user" | "assistant"));
    if !is_message || flag("isSidechain") || flag("isApiErrorMessage") {
        return Ok(Vec::new());
    }
    let Some(message) = object.get("message").and_then(Json::as_object) else {
        return Err("the `message` of a session's line must be an object".to_owned());
    };
    let mut message = message.clone();
    if !has(&message, "role")
        && let Some(role) = json.get_str("type")
    {
        message.insert("role", role);
    }
    if !message.contains_key("stop_reason") {
        // Without the reason, the type alone reads as an item of OpenAI Responses.
        message.remove("type");
    }
    Ok(vec![message.into()])
}

/// Whether the record is a line of a message of the model, which the next line may continue.
pub(crate) fn is_turn(json: &Json) -> bool {
    let message = json.get("message");
    let has_id = message.is_some_and(|message| message.get_str("id").is_some());
    has_id && json.get_str("type") == Some("assistant") && is_line(json)
}

/// One message of two with the same id: the fields of the later one, such as its usage, and the blocks of both.
pub(crate) fn merge(first: &Json, next: &Json) -> Option<Json> {
    let blocks =
        |message: &Json| message.get("content").and_then(Json::as_array).map(<[Json]>::to_vec);
    if first.get_str("id").is_none() || first.get_str("id") != next.get_str("id") {
        return None;
    }
    let (mut content, more) = (blocks(first)?, blocks(next)?);
    for block in more {
        // Lines that are written again have the same blocks.
        if !content.contains(&block) {
            content.push(block);
        }
    }
    let mut merged = next.clone();
    merged.as_object_mut()?.insert("content", content);
    Some(merged)
}

/// The lines of a session that were read so far.
#[derive(Debug, Default)]
pub(crate) struct ClaudeSession {
    seen: HashSet<String>,
}

impl ClaudeSession {
    /// Whether a line repeats one before it: sessions that are resumed write some lines again.
    pub(super) fn is_repeated(&mut self, json: &Json) -> bool {
        if !is_line(json) {
            return false;
        }
        let Some(uuid) = json.get_str("uuid") else { return false };
        !self.seen.insert(uuid.to_owned())
    }
}
