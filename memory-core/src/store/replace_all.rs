//! Replacing all messages of a memory.

use serde::{Deserialize, Serialize};

use super::generation::spread_of_write;
use super::{Append, Appended, ClearReceipt, Retention, StoreErrorKind};

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

/// The answer to a replacement of all messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReplacedAll {
    /// The outcome of the batch, with its fields in JSON.
    #[serde(flatten)]
    pub appended: Appended,
    /// The record of the messages that were removed; `None` if the store recognized a retry, as in
    /// [`Cleared`](super::Cleared).
    pub receipt: Option<ClearReceipt>,
}

impl ReplacedAll {
    /// The answer with this outcome and this record.
    #[must_use]
    pub const fn new(appended: Appended, receipt: Option<ClearReceipt>) -> Self {
        Self { appended, receipt }
    }
}
