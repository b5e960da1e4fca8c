//! Messages as a store keeps them: numbered, counted and classified once, on append.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::link::ToolLink;
use crate::message::Message;
use crate::priority::{Class, ContentType, Priority};

/// The id of a message: a UUID; version 7 if this workspace creates it, so that ids sort by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(Uuid);

impl MessageId {
    /// The id with this UUID.
    #[must_use]
    pub const fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The place of a message in its memory, counted from 1 by the store, without gaps.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Sequence(u64);

impl Sequence {
    /// Before the first message.
    pub const ZERO: Self = Self(0);

    /// The place with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The place `count` positions later.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A message to append: counted and classified, not yet numbered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewMessage {
    /// Its id.
    pub id: MessageId,
    /// The message.
    pub message: Message,
    /// Its size in tokens, counted once.
    pub tokens: u32,
    /// Its priority; `None` if it follows from recency.
    pub priority: Option<Priority>,
    /// Its content type.
    pub content_type: ContentType,
    /// Its creation time; stores keep microseconds.
    pub created_at: Timestamp,
}

impl NewMessage {
    /// The counter class of the message.
    #[must_use]
    pub fn class(&self) -> Class {
        Class { priority: self.priority, content_type: self.content_type.clone() }
    }

    /// The message with its place in a store.
    #[must_use]
    pub fn stored_at(self, sequence: Sequence) -> StoredMessage {
        let meta = MessageMeta {
            sequence,
            id: self.id,
            tokens: self.tokens,
            priority: self.priority,
            content_type: self.content_type,
            created_at: self.created_at,
            link: self.message.tool_link(),
            closed: false,
            summary: false,
        };
        StoredMessage { meta, message: self.message }
    }
}

/// The metadata of a stored message, without its text: the input of plans.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MessageMeta {
    /// Its place. A summary has the place of the first message that it replaced.
    pub sequence: Sequence,
    /// Its id.
    pub id: MessageId,
    /// Its size in tokens.
    pub tokens: u32,
    /// Its priority; `None` if it follows from recency.
    pub priority: Option<Priority>,
    /// Its content type.
    pub content_type: ContentType,
    /// Its creation time.
    pub created_at: Timestamp,
    /// The calls that it makes or answers; in JSON the lists `calls` and `results`.
    #[serde(flatten)]
    pub link: ToolLink,
    /// Its open calls were closed explicitly.
    pub closed: bool,
    /// It is a summary that a flush wrote in place of the messages it replaced.
    pub summary: bool,
}

impl MessageMeta {
    /// A message without tokens, priority, calls and results. The caller sets the other fields.
    #[must_use]
    pub fn new(
        sequence: Sequence,
        id: MessageId,
        content_type: ContentType,
        created_at: Timestamp,
    ) -> Self {
        Self {
            sequence,
            id,
            tokens: 0,
            priority: None,
            content_type,
            created_at,
            link: ToolLink::default(),
            closed: false,
            summary: false,
        }
    }

    /// The counter class of the message.
    #[must_use]
    pub fn class(&self) -> Class {
        Class { priority: self.priority, content_type: self.content_type.clone() }
    }

    /// The bytes that it occupies apart from its own size.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.content_type.heap_bytes() + self.link.heap_bytes()
    }

    /// Whether a flush wrote it; such a message counts as a summary, not as an appended message.
    #[must_use]
    pub const fn is_summary(&self) -> bool {
        self.summary
    }
}

/// A message in a store. In JSON the fields of its metadata are beside `message`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StoredMessage {
    /// The metadata.
    #[serde(flatten)]
    pub meta: MessageMeta,
    /// The message as it was appended.
    pub message: Message,
}

impl StoredMessage {
    /// A message and its metadata.
    #[must_use]
    pub const fn new(meta: MessageMeta, message: Message) -> Self {
        Self { meta, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_ids_serialize_as_numbers() {
        let id = MessageId::new(Uuid::from_u128(10));
        assert_eq!(id.to_string(), "00000000-0000-0000-0000-00000000000a");
        assert_eq!(id.uuid(), Uuid::from_u128(10));
        assert_eq!((Sequence::new(7).to_string(), Sequence::ZERO.number()), ("7".to_owned(), 0));
        assert_eq!(Sequence::new(7).plus(3), Sequence::new(10));
        assert_eq!(Sequence::new(7).plus(u64::MAX).number(), u64::MAX);
    }

    #[test]
    fn stored_message_is_one_flat_json_object() {
        let new = NewMessage {
            id: MessageId::new(Uuid::nil()),
            message: Message::tool_result("c", "r"),
            tokens: 5,
            priority: Some(Priority::IMPORTANT),
            content_type: ContentType::ImportantFacts,
            created_at: Timestamp::UNIX_EPOCH,
        };
        let json = serde_json::to_value(new.stored_at(Sequence::new(3))).unwrap();
        let expected = serde_json::json!({
            "sequence": 3, "id": Uuid::nil(), "tokens": 5, "priority": 1,
            "content_type": "important_facts", "created_at": "1970-01-01T00:00:00Z", "calls": [],
            "results": ["c"], "closed": false, "summary": false,
            "message": {"role": "tool", "tool_call_id": "c", "content": "r"},
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn stored_message_keeps_its_metadata() {
        let new = NewMessage {
            id: MessageId::new(Uuid::from_u128(10)),
            message: Message::tool_result("c", "r"),
            tokens: 5,
            priority: Some(Priority::IMPORTANT),
            content_type: ContentType::ImportantFacts,
            created_at: Timestamp::UNIX_EPOCH,
        };
        let class = Class {
            priority: Some(Priority::IMPORTANT),
            content_type: ContentType::ImportantFacts,
        };
        assert_eq!(new.class(), class);
        let StoredMessage { meta, message } = new.clone().stored_at(Sequence::new(3));
        assert_eq!((meta.class(), meta.is_summary()), (class, false));
        assert!(MessageMeta { summary: true, ..meta.clone() }.is_summary());
        let expected = MessageMeta {
            sequence: Sequence::new(3),
            id: new.id,
            tokens: 5,
            priority: new.priority,
            content_type: new.content_type,
            created_at: new.created_at,
            link: ToolLink::of_results([crate::plan::ToolRef::by_id("c")]),
            closed: false,
            summary: false,
        };
        assert_eq!((meta, message), (expected, new.message));
    }
}
