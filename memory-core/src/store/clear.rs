//! The request to clear a memory, and its answer.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::generation::spread_of_write;
use super::{Head, Newest, Retention, Version, WriteId};
use crate::counters::{Counters, Tally};

/// A request to clear a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clear {
    /// Recognizes a retry.
    pub write: WriteId,
    /// Keeps the removed messages in the archive; `None` keeps nothing, and removes the archive too. Earlier removals
    /// can then no longer be undone. A clear of a memory without messages archives nothing.
    #[serde(default)]
    pub archive: Option<Retention>,
    /// Clears only if the memory has exactly the messages that a reader up to this version has read.
    #[serde(default)]
    pub expected: Option<Version>,
}

impl Clear {
    /// A clear without an archive, in whatever state the memory is.
    #[must_use]
    pub const fn new(write: WriteId) -> Self {
        Self { write, archive: None, expected: None }
    }

    /// Whether a memory with this head and this newest present message is in the expected state. Unlike a
    /// [version](Version::is_current), that state also ends when an older message is replaced or removed.
    #[must_use]
    pub fn is_expected(&self, head: &Head, newest: Option<Newest>) -> bool {
        self.expected.is_none_or(|expected| {
            expected.cursor().generation == head.generation && expected.is_current(head, newest)
        })
    }

    /// The distance beyond the next generation, as used by [`Generation::after`](crate::store::Generation::after).
    #[must_use]
    pub fn spread(&self) -> u16 {
        spread_of_write(self.write)
    }
}

/// The record of a clear, or of the clear that is a part of a replacement of all messages. It is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClearReceipt {
    /// The time, by the store's clock.
    pub cleared_at: Timestamp,
    /// The number of removed messages, including summaries.
    pub messages: u64,
    /// Their tokens.
    pub tokens: u64,
    /// The [number](super::ArchivedRemoval::number) of the removal by which the archive keeps the messages. `None` if it
    /// does not: there was no message, the request had no archive, or the messages alone exceed
    /// [`Retention::max_bytes`].
    pub removal: Option<u64>,
}

impl ClearReceipt {
    /// The record of a clear at this time that removed these messages and kept them under this number.
    #[must_use]
    pub const fn new(cleared_at: Timestamp, removed: Tally, removal: Option<u64>) -> Self {
        let Tally { messages, tokens } = removed;
        Self { cleared_at, messages, tokens, removal }
    }
}

/// The answer to a clear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Cleared {
    /// The record of the clear. `None` if the store recognized a retry: an earlier request was applied, and the record was
    /// lost with its answer. The archive then still lists the removal, if it keeps the messages.
    pub receipt: Option<ClearReceipt>,
    /// The counters after it.
    pub counters: Counters,
}

impl Cleared {
    /// The answer with this record and these counters.
    #[must_use]
    pub const fn new(receipt: Option<ClearReceipt>, counters: Counters) -> Self {
        Self { receipt, counters }
    }
}
