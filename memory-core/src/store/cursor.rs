use serde::{Deserialize, Serialize};

use super::Generation;
use crate::stored::{MessageId, MessageMeta, Sequence};

/// The position of a reader, or the snapshot of a planner.
///
/// A cursor can be stored and used later, also by another process. It stays valid until a message that was read is
/// removed or changed, or the store [rolls back](crate::MemoryStore) to a state without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// The generation that was read.
    pub generation: Generation,
    /// The place of the last message that was read.
    pub sequence: Sequence,
    /// The id of that message. A store that rolled back compares it to detect that the place now holds another
    /// message or none. `None` at the start of a memory, and in a cursor of an earlier version: such a cursor is
    /// valid in its generation if its place is not beyond the memory's last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
}

impl Cursor {
    /// A cursor after this message.
    #[must_use]
    pub const fn at(generation: Generation, message: &MessageMeta) -> Self {
        Self { generation, sequence: message.sequence, id: Some(message.id) }
    }

    /// A cursor after this place, without the identity of the message there.
    #[must_use]
    pub const fn unidentified(generation: Generation, sequence: Sequence) -> Self {
        Self { generation, sequence, id: None }
    }
}

/// The start of a generation.
impl From<Generation> for Cursor {
    fn from(generation: Generation) -> Self {
        Self::unidentified(generation, Sequence::ZERO)
    }
}

/// The newest message that a planner saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Newest {
    /// Its place.
    pub sequence: Sequence,
    /// Its id.
    pub id: MessageId,
}

impl MessageMeta {
    /// This message as the newest of a snapshot.
    #[must_use]
    pub const fn newest(&self) -> Newest {
        Newest { sequence: self.sequence, id: self.id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_without_identity_reads_back() {
        let old = r#"{"generation":7,"sequence":3}"#;
        let cursor: Cursor = serde_json::from_str(old).unwrap();
        assert_eq!(cursor, Cursor::unidentified(Generation::new(7), Sequence::new(3)));
        assert_eq!(serde_json::to_string(&cursor).unwrap(), old);
        let cursor = Cursor { id: Some(MessageId::new(uuid::Uuid::from_u128(5))), ..cursor };
        let text = serde_json::to_string(&cursor).unwrap();
        assert_eq!(serde_json::from_str::<Cursor>(&text).unwrap(), cursor);
    }
}
