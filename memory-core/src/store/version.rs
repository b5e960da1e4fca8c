use serde::{Deserialize, Serialize};

use super::{Cursor, Head, Newest, Outline};
use crate::stored::Sequence;

/// The state of a memory that a writer has seen: all messages up to the newest one.
///
/// A memory is at this version as long as no message was appended since, and the newest message was neither replaced
/// nor removed. A flush, a closed call or the replacement of an older message does not end a version, because an agent
/// that answers the newest message has missed no message by it. If the newest message was removed and that removal was
/// undone before another write, the version is current again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(Cursor);

impl Version {
    /// The version of a reader that has read the memory up to its end, where its cursor is.
    #[must_use]
    pub const fn at_end(cursor: Cursor) -> Self {
        Self(cursor)
    }

    /// The cursor at its newest message: a read after it returns what was appended since.
    #[must_use]
    pub const fn cursor(self) -> Cursor {
        self.0
    }

    /// Whether the memory with this head and this newest present message is still at this version.
    ///
    /// Without messages, the generation is compared: everything that came and was removed since has changed it. This
    /// is also why it is compared if messages after the newest one were removed. A memory that never had a message is
    /// still at the version of an absent memory.
    #[must_use]
    pub fn is_current(self, head: &Head, newest: Option<Newest>) -> bool {
        let is_same_generation = self.0.generation == head.generation;
        match newest {
            None => {
                // Metadata, or the holder of a lease, may have begun the memory.
                let is_unwritten = self == Self::default() && head.last == Sequence::ZERO;
                self.0.id.is_none() && (is_same_generation || is_unwritten)
            }
            Some(newest) => {
                self.0.id == Some(newest.id)
                    && self.0.sequence == newest.sequence
                    && (newest.sequence == head.last || is_same_generation)
            }
        }
    }
}

impl From<&Outline> for Version {
    fn from(outline: &Outline) -> Self {
        let generation = outline.head.generation;
        Self(match outline.metas.last() {
            Some(newest) => Cursor::at(generation, newest),
            None => generation.into(),
        })
    }
}
