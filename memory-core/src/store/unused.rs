//! Memories that nobody uses, and their removal.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Access, Generation, Newest};
use crate::key::MemoryKey;
use crate::lease::LeaseProof;

/// Which memories to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedQuery {
    /// What their keys begin with; see [`MemoryKey::project_prefix`].
    pub prefix: String,
    /// The key after which to go on; `None` to begin.
    pub after: Option<MemoryKey>,
    /// Those whose TTL has run out and that still take up room.
    pub expired: bool,
    /// Those that were not written for this long by the store's clock, their TTL over or not.
    pub unwritten_for: Option<Duration>,
    /// How many memories to look at.
    pub limit: NonZeroUsize,
}

impl UnusedQuery {
    /// Whether a memory is looked for that has expired or not, and was last written then. Times are in
    /// microseconds since 1970.
    #[must_use]
    pub fn matches(&self, expired: bool, written_micros: u64, now_micros: u64) -> bool {
        let is_old = self.unwritten_for.is_some_and(|age| {
            let age = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
            written_micros.checked_add(age).is_some_and(|end| end <= now_micros)
        });
        self.expired && expired || is_old
    }
}

/// A memory that nobody uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedMemory {
    /// Its key.
    pub key: MemoryKey,
    /// Its generation when it was listed.
    pub generation: Generation,
    /// The number of its writes when it was listed.
    pub version: u64,
    /// The message at the place that was given last, when it was listed; `None` if that message is gone or
    /// its id cannot be read.
    pub newest: Option<Newest>,
    /// How many messages it holds, those of an expired memory counted.
    pub messages: u64,
    /// Its TTL has run out.
    pub expired: bool,
}

/// Some of the memories that nobody uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnusedPage {
    /// In ascending order of their keys.
    pub memories: Vec<UnusedMemory>,
    /// The last key that was looked at, if there are more to look at.
    pub next: Option<MemoryKey>,
}

/// The order to remove a memory, or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveUnused {
    /// As it was listed.
    pub generation: Generation,
    /// As it was listed.
    pub version: u64,
    /// As it was listed: if another message is at the place that was given last, or one is there where none
    /// was, the store went back and was written since. Default: none.
    #[serde(default)]
    pub newest: Option<Newest>,
    /// How many messages to remove in this step.
    pub limit: NonZeroUsize,
    /// By what right: the lease on the memory where the store does not look at leases itself.
    pub access: Access,
    /// The lease of flushers there.
    pub flusher: Option<LeaseProof>,
}

impl RemoveUnused {
    /// The order to remove a memory as it was listed.
    #[must_use]
    pub const fn new(memory: &UnusedMemory, limit: NonZeroUsize) -> Self {
        let UnusedMemory { generation, version, newest, .. } = *memory;
        Self { generation, version, newest, limit, access: Access::OPEN, flusher: None }
    }
}

/// What one step removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemovedUnused {
    /// How many messages.
    pub messages: u64,
    /// Something is left: the same order removes more.
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_means_expired_or_old() {
        let query = |expired, unwritten_for| UnusedQuery {
            prefix: String::new(),
            after: None,
            expired,
            unwritten_for,
            limit: NonZeroUsize::MIN,
        };
        let second = Some(Duration::from_secs(1));
        for (expired, unwritten_for, is_expired, written, expected) in [
            (true, None, true, 9_000_000, true),
            (true, None, false, 0, false),
            (false, None, true, 0, false),
            (false, second, false, 8_000_000, true),
            (false, second, true, 8_000_000, true),
            (false, second, true, 8_000_001, false),
            (true, second, true, 8_000_001, true),
            (false, Some(Duration::MAX), false, 0, false),
        ] {
            let found = query(expired, unwritten_for).matches(is_expired, written, 9_000_000);
            assert_eq!(found, expected, "{expired} {unwritten_for:?} {is_expired} {written}");
        }
    }
}
