//! The archive: removed messages, kept until their retention ends.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::receipt::{FlushReceipt, SequenceSet};
use crate::stored::{MessageMeta, Sequence};

/// How long, and up to which size, a memory keeps removed messages.
///
/// The archive of a memory ends with its TTL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Retention {
    /// The time for which removed messages are kept; `None` for no end.
    pub keep: Option<Duration>,
    /// The most bytes of messages in the archive of one memory, in their stored form. The oldest removals are dropped
    /// as a whole until the rest fits. A removal that is larger than this is not kept, and drops no earlier one.
    pub max_bytes: u64,
}

impl Retention {
    /// The default of [`max_bytes`](Self::max_bytes): 64 MiB.
    pub const DEFAULT_MAX_BYTES: u64 = 64 << 20;

    /// Keeps removed messages for this time, up to 64 MiB.
    #[must_use]
    pub const fn keep_for(keep: Duration) -> Self {
        Self { keep: Some(keep), max_bytes: Self::DEFAULT_MAX_BYTES }
    }

    /// Keeps removed messages without an end, up to 64 MiB.
    #[must_use]
    pub const fn forever() -> Self {
        Self { keep: None, max_bytes: Self::DEFAULT_MAX_BYTES }
    }

    /// The time until which messages that are removed now are kept. A time that cannot be represented is no end.
    #[must_use]
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        now.checked_add(self.keep?).ok()
    }
}

/// One removal whose messages are in the archive: a flush, a clear, or messages that were taken back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ArchivedRemoval {
    /// Its number in its memory, ascending in time: the memory's version after the removal.
    pub number: u64,
    /// The cause of the removal.
    pub cause: RemovalCause,
    /// The time of the removal, by the store's clock.
    pub removed_at: Timestamp,
    /// The time until which its messages are kept; `None` for no end.
    pub keep_until: Option<Timestamp>,
    /// The places of its messages. Those of the receipt's [replaced](FlushReceipt::replaced) messages have another message
    /// now.
    pub places: SequenceSet,
    /// The number of its messages.
    pub messages: u64,
    /// The tokens of its messages.
    pub tokens: u64,
    /// The bytes of its messages in their stored form. A store may estimate them for a removal of more than 1,000
    /// messages or 1 MiB.
    pub bytes: u64,
    /// The receipt of the flush, or of the messages that were taken back. It lives as long as the removal.
    pub receipt: Option<FlushReceipt>,
    /// The places of its messages that were [erased](crate::MemoryStore::erase). Such a removal cannot be undone. The
    /// erasure of its summary also erases the original that had the place of the summary.
    #[serde(default, skip_serializing_if = "SequenceSet::is_empty")]
    pub erased: SequenceSet,
}

impl ArchivedRemoval {
    /// A removal at this time, without messages and receipt. The caller sets the other fields.
    #[must_use]
    pub fn new(
        number: u64,
        cause: RemovalCause,
        removed_at: Timestamp,
        retention: &Retention,
    ) -> Self {
        Self {
            number,
            cause,
            removed_at,
            keep_until: retention.until(removed_at),
            places: SequenceSet::default(),
            messages: 0,
            tokens: 0,
            bytes: 0,
            receipt: None,
            erased: SequenceSet::default(),
        }
    }

    /// Whether the message of this place is the original of one that the removal
    /// [replaced](FlushReceipt::replaced).
    #[must_use]
    pub fn has_original(&self, place: Sequence) -> bool {
        self.receipt
            .as_ref()
            .is_some_and(|receipt| receipt.replaced.iter().any(|one| one.sequence == place))
    }

    /// Whether its retention has not ended at this time.
    #[must_use]
    pub fn is_kept(&self, now: Timestamp) -> bool {
        self.keep_until.is_none_or(|end| now < end)
    }

    /// Whether it can be undone, given the later removals in the archive and the messages at the places of its summary
    /// and of its [replaced](FlushReceipt::replaced) messages.
    ///
    /// # Errors
    /// The reason, if it cannot.
    pub fn check_restorable<'a>(
        &self,
        mut later: impl Iterator<Item = &'a Self> + Clone,
        present: impl Fn(Sequence) -> Option<&'a MessageMeta>,
    ) -> Result<(), RestoreRefusal> {
        let all = later.clone();
        if later.any(|later| later.cause == RemovalCause::Clear) {
            return Err(RestoreRefusal::Cleared);
        }
        let receipt = self.receipt.as_ref().ok_or(RestoreRefusal::NotArchived)?;
        if !self.erased.is_empty() {
            return Err(RestoreRefusal::Erased);
        }
        let removed = |place| all.clone().any(|later| later.places.contains(place));
        if let Some(summary) = &receipt.summary {
            match present(summary.sequence) {
                Some(found) if found.summary && found.id == summary.id => {}
                Some(found) if found.summary && !removed(summary.sequence) => {
                    return Err(RestoreRefusal::SummaryReplaced);
                }
                _ => return Err(RestoreRefusal::SummaryRemoved),
            }
        }
        for one in &receipt.replaced {
            match present(one.sequence) {
                Some(found) if found.id == one.id => {}
                Some(_) if !removed(one.sequence) => {
                    return Err(RestoreRefusal::ReplacementReplaced);
                }
                _ => return Err(RestoreRefusal::ReplacementRemoved),
            }
        }
        Ok(())
    }
}

/// The cause of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RemovalCause {
    /// A flush summarized or evicted the messages.
    Flush,
    /// The memory was cleared.
    Clear,
    /// The messages were taken back.
    Withdrawal,
}

/// Why a removal cannot be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RestoreRefusal {
    /// The removal is not in the archive: it never happened, it was undone, or its retention has ended.
    #[error(
        "the removed messages are not in the archive: their retention has ended, or the removal was undone before"
    )]
    NotArchived,
    /// The summary was itself summarized, evicted or cleared.
    #[error(
        "a later removal was built on its summary; undo that one first, if it is still in the archive"
    )]
    SummaryRemoved,
    /// The summary was replaced by another message.
    #[error("its summary was replaced since; the new text would be lost")]
    SummaryReplaced,
    /// A message whose original is in the archive, because its tool results were cleared, was itself summarized, evicted or
    /// taken back.
    #[error(
        "a later removal took a message whose tool results it had cleared; undo that one first, if it is still in the archive"
    )]
    ReplacementRemoved,
    /// A message whose original is in the archive was replaced by another message.
    #[error(
        "a message whose tool results it had cleared was replaced since; the new text would be lost"
    )]
    ReplacementReplaced,
    /// The memory was cleared after the removal.
    #[error("the memory was cleared since")]
    Cleared,
    /// One of its messages, or its summary, was erased.
    #[error("an original or the summary was erased since, and the rest is not restored without it")]
    Erased,
    /// It removed a system prompt, and another one of the same name is present. No store returns it: only callers that keep
    /// one prompt of each name do.
    #[error(
        "it removed a system prompt, and another one of the same name is present; erase that one, undo, and set the prompt again"
    )]
    PromptPresent,
}
