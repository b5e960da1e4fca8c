//! The changes of a memory between two reads of a watcher.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::stored::{Sequence, StoredMessage};

/// A change of a memory, as a watcher sees it.
///
/// A copy of the memory that applies all changes in order equals the memory whenever the watcher has caught up. Each
/// message that is present then was delivered once since its last removal. A message that was added and removed in
/// between is never delivered; its place is reported as removed. The mark [`closed`](crate::store::MessageMeta::closed), which only
/// planners use, may change without a report.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// Messages were added at the end.
    Appended(Vec<StoredMessage>),
    /// Messages were removed by flushes, taken back, or erased. Several removals may be reported as one.
    Removed(Removal),
    /// The message at this message's place was replaced by it.
    Replaced(Arc<StoredMessage>),
    /// Removed messages returned to their places, in ascending order, because their removal was
    /// [undone](crate::MemoryStore::restore). The summary of the flush is reported as removed before, with
    /// [`RemovalReason::Undone`]. A summary that was written over returned messages between two reads of the watcher
    /// may be among them.
    Restored(Vec<StoredMessage>),
    /// All messages up to this place were cleared.
    Cleared {
        /// The last cleared place.
        last: Sequence,
    },
    /// Discard the copy: the changes since the watcher's cursor are not known, and the changes that follow lead from an
    /// empty copy to the memory, as if the watcher began at the start. The memory began anew (its TTL ended, or it was
    /// removed as unused), the store returned to an earlier state, or the watcher was resumed from a cursor after which
    /// messages were removed or replaced. A memory that began anew and grew past the watcher's last place between two of its reads is reported
    /// as replaced messages instead.
    Lagged,
}

impl Change {
    /// Applies the change to a copy of the memory's messages.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    ///
    /// use memory_core::changes::Change;
    /// use memory_core::{Sequence, StoredMessage};
    ///
    /// let mut copy: BTreeMap<Sequence, StoredMessage> = BTreeMap::new();
    /// for change in [Change::Lagged, Change::Cleared { last: Sequence::new(7) }] {
    ///     change.apply(&mut copy);
    /// }
    /// assert!(copy.is_empty());
    /// ```
    pub fn apply(self, copy: &mut BTreeMap<Sequence, StoredMessage>) {
        match self {
            Self::Appended(messages) | Self::Restored(messages) => {
                copy.extend(messages.into_iter().map(|message| (message.meta.sequence, message)));
            }
            Self::Removed(Removal { first, last, summary, .. }) => {
                copy.extract_if(first..=last, |_, _| true).for_each(drop);
                if let Some(summary) = summary {
                    copy.insert(first, Arc::unwrap_or_clone(summary));
                }
            }
            Self::Replaced(message) => {
                copy.insert(message.meta.sequence, Arc::unwrap_or_clone(message));
            }
            Self::Cleared { last } => copy.extract_if(..=last, |_, _| true).for_each(drop),
            Self::Lagged => copy.clear(),
        }
    }
}

/// Places whose messages were removed. Apart from the summary, no present message is between the first and the last.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Removal {
    /// The first removed place.
    pub first: Sequence,
    /// The last removed place.
    pub last: Sequence,
    /// Why they were removed.
    pub reason: RemovalReason,
    /// The summary that now has the first place. `None` if there is none, or if it has an earlier place, because the
    /// flush kept messages between the summarized ones.
    pub summary: Option<Arc<StoredMessage>>,
}

/// Why a message was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RemovalReason {
    /// A summary replaced it.
    Summarized,
    /// A flush evicted it without a summary.
    Evicted,
    /// It was taken back, to return to an earlier state.
    Withdrawn,
    /// It was the summary of a flush that was undone.
    Undone,
    /// It was [erased](crate::MemoryStore::erase). Copies of its text should be erased too.
    Erased,
    /// The receipt of its flush is no longer kept, or a clear removed it while only summaries were present.
    Unknown,
}

impl RemovalReason {
    /// The reason as one word: `summarized`, `evicted`, `withdrawn`, `undone`, `erased` or `unknown`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Summarized => "summarized",
            Self::Evicted => "evicted",
            Self::Withdrawn => "withdrawn",
            Self::Undone => "undone",
            Self::Erased => "erased",
            Self::Unknown => "unknown",
        }
    }
}
