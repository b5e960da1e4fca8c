//! Replacing all messages of a memory.

use serde::{Deserialize, Serialize};

use super::generation::spread_of_write;
use super::{Append, Retention, StoreErrorKind};

/// A request to replace all messages of a memory by a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplaceAll {
    /// The batch, and the version that the memory must still have.
    pub batch: Append,
    /// Keeps the removed messages in the archive; `None` keeps nothing, as in a [`Clear`](super::Clear).
    #[serde(default)]
    pub archive: Option<Retention>,
}

impl ReplaceAll {
    /// The distance beyond the next generation, as used by [`Generation::after`](super::Generation::after).
    #[must_use]
    pub fn spread(&self) -> u16 {
        spread_of_write(self.batch.write)
    }

    /// Validates the request without looking at the memory. Every store calls this first.
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`] without a message.
    pub fn check(&self) -> Result<(), StoreErrorKind> {
        if self.batch.messages.is_empty() {
            return Err(StoreErrorKind::Invalid("a batch must hold at least one message".into()));
        }
        Ok(())
    }
}
