//! Another message in the place of one.

use serde::{Deserialize, Serialize};

use super::generation::spread_of_write;
use super::{Access, StoreErrorKind};
use crate::stored::{MessageId, MessageMeta, NewMessage, Sequence};
use crate::write::WriteId;

/// The order to put another message in the place of one.
///
/// The message that is replaced is named by its place and its id. So of several writers that read the same
/// message one replaces it, and the others get [`StoreErrorKind::Conflict`] and read again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replace {
    /// Recognizes a retry.
    pub write: WriteId,
    /// The place of the message.
    pub sequence: Sequence,
    /// The id of the message that must be there.
    pub replaced: MessageId,
    /// The new message. Its id is a new one: a reader that knows a message by its id must not take the new
    /// text for the old one.
    pub message: NewMessage,
    /// By what right.
    pub access: Access,
}

impl Replace {
    /// How far it moves the generation beyond the next: [`Generation::after`](super::Generation::after).
    #[must_use]
    pub fn spread(&self) -> u16 {
        spread_of_write(self.write)
    }

    /// Checks what is known without the store. Every store does so first.
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`] if the new message has the id of the one that it replaces.
    pub fn check(&self) -> Result<(), StoreErrorKind> {
        if self.message.id == self.replaced {
            let problem =
                "the new message has the id of the one that it replaces; give it a new id";
            return Err(StoreErrorKind::Invalid(problem.into()));
        }
        Ok(())
    }

    /// Checks the message that is at the place, if there is one, within the store's atomic step.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`] for another message or none; [`StoreErrorKind::Invalid`] if the calls or
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

    /// The refusal of a message whose calls or results differ from those of the one that it replaces: the
    /// calls would lose their results, or the results their calls.
    #[must_use]
    pub fn other_link(sequence: Sequence) -> StoreErrorKind {
        StoreErrorKind::Invalid(format!(
            "the message at place {sequence} makes or answers other calls of tools than the one that replaces it; keep their ids and names"
        ))
    }
}
