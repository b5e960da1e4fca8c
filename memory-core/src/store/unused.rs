//! Unused memories, and their removal.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Access, Generation, Newest};
use crate::key::MemoryKey;
use crate::lease::LeaseProof;

/// Whether memories are selected because their TTL has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ExpiredMemories {
    /// Those that still occupy storage are selected. Default.
    #[default]
    Selected,
    /// Expiry is no reason to select a memory.
    Ignored,
}

/// The selection of [`MemoryStore::unused`](crate::MemoryStore::unused).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedQuery {
    /// The prefix of the keys; see [`MemoryKey::project_prefix`].
    pub prefix: String,
    /// The key to continue after; `None` to start at the beginning.
    pub after: Option<MemoryKey>,
    /// Whether to select memories whose TTL has expired.
    pub expired: ExpiredMemories,
    /// Select memories that were not written for this long by the store's clock, expired or not.
    pub unwritten_for: Option<Duration>,
    /// The most memories to examine.
    pub limit: NonZeroUsize,
}

impl UnusedQuery {
    /// Whether a memory that was last written at this time is selected. Times are in microseconds since 1970.
    #[must_use]
    pub fn matches(&self, memory: &UnusedMemory, written_micros: u64, now_micros: u64) -> bool {
        let is_old = self.unwritten_for.is_some_and(|age| {
            let age = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
            written_micros.checked_add(age).is_some_and(|end| end <= now_micros)
        });
        self.expired == ExpiredMemories::Selected && memory.expired || is_old
    }
}

/// An unused memory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnusedMemory {
    /// Its key.
    pub key: MemoryKey,
    /// Its generation when it was listed.
    pub generation: Generation,
    /// The number of its writes when it was listed.
    pub version: u64,
    /// The newest message when it was listed; `None` if that message was removed or its id cannot be decoded.
    pub newest: Option<Newest>,
    /// The number of its messages, also if it has expired.
    pub messages: u64,
    /// Its TTL has expired.
    pub expired: bool,
}

impl UnusedMemory {
    /// A memory without messages that has not expired. The caller sets the other fields.
    #[must_use]
    pub const fn new(key: MemoryKey, generation: Generation, version: u64) -> Self {
        Self { key, generation, version, newest: None, messages: 0, expired: false }
    }
}

/// A page of unused memories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnusedPage {
    /// In ascending order of their keys.
    pub memories: Vec<UnusedMemory>,
    /// The last key that was examined, if there are more.
    pub next: Option<MemoryKey>,
}

impl UnusedPage {
    /// A page; the next page begins after `next`, if there is one.
    #[must_use]
    pub const fn new(memories: Vec<UnusedMemory>, next: Option<MemoryKey>) -> Self {
        Self { memories, next }
    }
}

/// A request to remove a memory, or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveUnused {
    /// The listed generation.
    pub generation: Generation,
    /// The listed version.
    pub version: u64,
    /// The listed newest message. If its place now holds another message, or holds one where none was listed, the
    /// store rolled back and was written since. Default: `None`.
    #[serde(default)]
    pub newest: Option<Newest>,
    /// How many messages to remove in this step.
    pub limit: NonZeroUsize,
    /// The writer's permission; needs the memory's lease if the store does not check leases itself.
    pub access: Access,
    /// The flushers' lease, likewise.
    pub flusher: Option<LeaseProof>,
}

impl RemoveUnused {
    /// A request to remove a memory as it was listed.
    #[must_use]
    pub const fn new(memory: &UnusedMemory, limit: NonZeroUsize) -> Self {
        let UnusedMemory { generation, version, newest, .. } = *memory;
        Self { generation, version, newest, limit, access: Access::OPEN, flusher: None }
    }
}

/// The result of one removal step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemovedUnused {
    /// The number of removed messages.
    pub messages: u64,
    /// Something is left: send the same request again.
    pub more: bool,
}

impl RemovedUnused {
    /// This many messages were removed, and something is left.
    #[must_use]
    pub const fn partial(messages: u64) -> Self {
        Self { messages, more: true }
    }

    /// This many messages were removed, and nothing is left.
    #[must_use]
    pub const fn complete(messages: u64) -> Self {
        Self { messages, more: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_means_expired_or_old() {
        use ExpiredMemories::{Ignored, Selected};

        let query = |expired, unwritten_for| UnusedQuery {
            prefix: String::new(),
            after: None,
            expired,
            unwritten_for,
            limit: NonZeroUsize::MIN,
        };
        let second = Some(Duration::from_secs(1));
        for (expired, unwritten_for, is_expired, written, expected) in [
            (Selected, None, true, 9_000_000, true),
            (Selected, None, false, 0, false),
            (Ignored, None, true, 0, false),
            (Ignored, second, false, 8_000_000, true),
            (Ignored, second, true, 8_000_000, true),
            (Ignored, second, true, 8_000_001, false),
            (Selected, second, true, 8_000_001, true),
            (Ignored, Some(Duration::MAX), false, 0, false),
        ] {
            let key = MemoryKey::new("project", "memory", "k").unwrap();
            let mut memory = UnusedMemory::new(key, Generation::new(1), 1);
            memory.expired = is_expired;
            let found = query(expired, unwritten_for).matches(&memory, written, 9_000_000);
            assert_eq!(found, expected, "{expired:?} {unwritten_for:?} {is_expired} {written}");
        }
    }
}
