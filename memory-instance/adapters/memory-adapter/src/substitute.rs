//! Messages that take the place of others in a plan.

use memory_instance::memory_core::json::Json;
use memory_instance::{MemoryInstance, Message, Part, StoredMessage};
use serde_json::{Value, json};

/// How the substitute of a message shows reasoning and provider blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpaqueParts {
    /// As texts of about the same number of tokens.
    Counted,
    /// As the shortest text, to plan a window that only their tokens make too large.
    Short,
}

/// A message of which a renderer leaves out nothing.
pub(crate) fn substitute(
    memory: &MemoryInstance,
    stored: &StoredMessage,
    opaque: OpaqueParts,
) -> StoredMessage {
    let Some(message) = replaced(&stored.message, opaque) else { return stored.clone() };
    let mut meta = stored.meta.clone();
    meta.tokens = u32::try_from(memory.count(&message)).unwrap_or(u32::MAX);
    StoredMessage::new(meta, message)
}

/// The message with texts in place of reasoning and provider blocks; `None` if it has none of them.
fn replaced(message: &Message, opaque: OpaqueParts) -> Option<Message> {
    let mut is_opaque = false;
    message.read(&mut |part| is_opaque |= matches!(part, Part::Reasoning(_) | Part::Other(_)));
    if !is_opaque {
        return None;
    }
    let mut value = message.to_value();
    for block in value.get_mut("content")?.as_array_mut()? {
        let text = match block.get("type").and_then(Value::as_str) {
            Some("reasoning" | "custom") if opaque == OpaqueParts::Short => "-".to_owned(),
            Some("reasoning") => match block.get("text").and_then(Value::as_str) {
                Some(text) if !text.trim().is_empty() => text.to_owned(),
                // The signature alone.
                _ => block.to_string(),
            },
            Some("custom") => block.to_string(),
            _ => continue,
        };
        *block = json!({"type": "text", "text": text});
    }
    match Json::from(value) {
        Json::Object(object) => Some(Message::from(object)),
        _ => None,
    }
}
