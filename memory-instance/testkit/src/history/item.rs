//! Messages, as the checks know them.

use memory_core::{Message, Role, StoredMessage};

use crate::program::Kind;

/// A message of a program; unique.
pub type Tag = u32;

/// Properties of a message that are known when it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The message.
    pub tag: Tag,
    /// Its size.
    pub tokens: u32,
    /// Its kind: a result only if it answers a call.
    pub kind: Kind,
    /// Its bytes in an archive.
    pub bytes: u32,
}

/// The content of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Item {
    /// A message of an agent.
    Message(Tag),
    /// A summary, by its id.
    Summary(u128),
    /// The message in place of a tool result that a flush cleared, by its id.
    Cleared(u128),
}

/// The tag of a message, from its text or from the id of its call.
pub(crate) fn tag_of(message: &Message) -> Option<Tag> {
    if let Some(call) = message.tool_link().calls.first() {
        return call.id.strip_prefix('c').and_then(digits);
    }
    if *message.role() == Role::System && !message.text().starts_with('#') {
        return None;
    }
    tag_in(&message.text())
}

/// The tag at the beginning of a text.
pub(crate) fn tag_in(text: &str) -> Option<Tag> {
    text.strip_prefix('#').and_then(digits)
}

fn digits(text: &str) -> Option<Tag> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The content of this place.
pub(crate) fn item_of(stored: &StoredMessage) -> (u64, Item) {
    let place = stored.meta.sequence.number();
    let id = stored.meta.id.uuid().as_u128();
    let item = match tag_of(&stored.message) {
        Some(tag) => Item::Message(tag),
        None if stored.meta.summary => Item::Summary(id),
        None => Item::Cleared(id),
    };
    (place, item)
}
