//! Replacing one message by another.

use serde::{Deserialize, Serialize};

use super::StoreErrorKind;
use super::generation::spread_of_write;
use crate::stored::{MessageId, MessageMeta, NewMessage, Sequence};
use crate::write::WriteId;

/// A request to replace one message by another.
///
/// The message to replace is identified by its place and its id. If several writers that read the same message
/// replace it, one succeeds and the others get [`StoreErrorKind::Conflict`] and must read again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replace {
    /// Recognizes a retry.
    pub write: WriteId,
    /// The place of the message.
    pub sequence: Sequence,
    /// The id of the message that must be there.
    pub replaced: MessageId,
    /// The new message. It needs a new id, because a reader that knows a message by its id must not confuse the new
    /// text with the old one.
    pub message: NewMessage,
}

impl Replace {
    /// The distance beyond the next generation, as used by [`Generation::after`](super::Generation::after).
    #[must_use]
    pub fn spread(&self) -> u16 {
        spread_of_write(self.write)
    }

    /// Validates the request without looking at the stored message. Every store calls this first.
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`] if the new message has the id of the one that it replaces.
    pub fn check(&self) -> Result<(), StoreErrorKind> {
        if self.message.id == self.replaced {
            return Err(Self::same_id());
        }
        Ok(())
    }

    /// Validates the request against the stored message, within the store's atomic step.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`] if the message is missing or another; [`StoreErrorKind::Invalid`] if the calls or
    /// results of the two differ.
    pub fn check_against(&self, found: Option<&MessageMeta>) -> Result<(), StoreErrorKind> {
        let Some(found) = found.filter(|found| found.id == self.replaced) else {
            return Err(StoreErrorKind::Conflict);
        };
        if found.link != self.message.message.tool_link() {
            return Err(Self::other_link(self.sequence));
        }
        Ok(())
    }

    /// The error for a message with the id of the one that it replaces.
    #[must_use]
    pub fn same_id() -> StoreErrorKind {
        let problem = "the new message has the id of the one that it replaces; give it a new id";
        StoreErrorKind::Invalid(problem.into())
    }

    /// The error for a message whose calls or results differ from those of the message that it replaces. Replacing it
    /// would leave calls without results, or results without calls.
    #[must_use]
    pub fn other_link(sequence: Sequence) -> StoreErrorKind {
        StoreErrorKind::Invalid(format!(
            "the message at place {sequence} makes or answers other tool calls than its replacement; keep their ids and names"
        ))
    }
}
