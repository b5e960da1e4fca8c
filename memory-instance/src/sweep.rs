//! The removal of memories that nobody uses.

use std::num::NonZeroUsize;
use std::time::Duration;

use memory_core::{
    Access, Applied, MemoryKey, RemoveUnused, RemovedUnused, StoreErrorKind, UnusedMemory,
    UnusedPage, UnusedQuery,
};
use memory_lock::{LockGuard, LockKey, LockOptions};
use serde::Serialize;

use crate::error::{LeaseFailure, MemoryError};
use crate::instance::Backend;
use crate::manager::MemoryManager;

/// What [`MemoryManager::sweep`] removes. The default removes what has expired, at most 1,000 memories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SweepOptions {
    /// Memories whose TTL has run out and that still take up room. No process whose clock is right sees them
    /// any more; on SQLite, a sweep by a process whose clock is ahead removes memories that others still
    /// read. Redis removes them by itself. Default: true.
    pub expired: bool,
    /// Memories that were not written for this long, with all they hold, critical messages too. Reads do
    /// not count. Default: none.
    ///
    /// The last write is known by the `created_at` of the newest message, which the writing process's clock
    /// gave, and by the store's clock for all writes but appends: choose a time well above the difference
    /// between the clocks.
    pub unused_for: Option<Duration>,
    /// Report only what would be removed. Default: false.
    pub dry_run: bool,
    /// The most memories to remove, or to report, in this call. Default: 1,000.
    pub max: NonZeroUsize,
}

impl SweepOptions {
    /// The default.
    #[must_use]
    pub const fn new() -> Self {
        Self { expired: true, unused_for: None, dry_run: false, max: MOST }
    }

    /// Whether to remove memories whose TTL has run out.
    #[must_use]
    pub const fn with_expired(self, expired: bool) -> Self {
        Self { expired, ..self }
    }

    /// Removes memories that were not written for this long.
    #[must_use]
    pub const fn with_unused_for(self, time: Duration) -> Self {
        Self { unused_for: Some(time), ..self }
    }

    /// Whether only to report what would be removed.
    #[must_use]
    pub const fn with_dry_run(self, dry_run: bool) -> Self {
        Self { dry_run, ..self }
    }

    /// Removes at most so many memories.
    #[must_use]
    pub const fn with_max(self, max: NonZeroUsize) -> Self {
        Self { max, ..self }
    }
}

impl Default for SweepOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// What a sweep removed, or would remove.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SweepReport {
    /// Whether nothing was removed, for that was asked for.
    pub dry_run: bool,
    /// How many memories.
    pub memories: u64,
    /// How many messages they held.
    pub messages: u64,
    /// How many were left alone because they were written meanwhile, or are under a lease.
    pub skipped: u64,
    /// The limit was reached: there may be more, which the next call removes.
    pub more: bool,
}

const fn non_zero(number: usize) -> NonZeroUsize {
    match NonZeroUsize::new(number) {
        Some(number) => number,
        None => NonZeroUsize::MIN,
    }
}

/// How many memories one call removes unless it is told otherwise.
const MOST: NonZeroUsize = non_zero(1_000);

/// How many memories are looked at together.
const PAGE: NonZeroUsize = non_zero(1_000);

/// How many messages one step of a store removes: writers wait for it.
const PART: NonZeroUsize = non_zero(256);

impl MemoryManager {
    /// Removes memories of this project that nobody uses: those whose TTL has run out, which a SQLite file
    /// otherwise keeps until their key is written again, and on demand those that were not written for
    /// a time.
    ///
    /// A memory under a live lease stays, and so does one that is written meanwhile. It is removed in steps
    /// of 256 messages, between which others write, so a call may be ended at any time: the next one
    /// goes on. A memory that was removed reads as one that was never written; the same key may be
    /// used again. SQLite uses the freed pages for later writes, and the file does not shrink.
    ///
    /// # Errors
    /// [`MemoryError::Store`], [`MemoryError::Lock`]. What was removed until then stays removed.
    ///
    /// # Cancel safety
    /// Dropping the future leaves each memory as it was, or ended. What is left of the room of one that was
    /// ended is freed by the next sweep that removes expired memories.
    pub async fn sweep(&self, options: SweepOptions) -> Result<SweepReport, MemoryError> {
        let SweepOptions { expired, unused_for, dry_run, max } = options;
        let most = u64::try_from(max.get()).unwrap_or(u64::MAX);
        let mut report = SweepReport { dry_run, ..SweepReport::default() };
        let mut query = UnusedQuery {
            prefix: MemoryKey::project_prefix(self.project()),
            after: None,
            expired,
            unwritten_for: unused_for,
            limit: PAGE,
        };
        let backend = self.backend();
        loop {
            let UnusedPage { memories, next } = self.store().unused(&query).await?;
            for memory in &memories {
                if report.memories == most {
                    report.more = true;
                    return Ok(report);
                }
                let removed = if dry_run {
                    backend.is_idle(memory).await?.then_some(memory.messages)
                } else {
                    backend.remove(memory).await?
                };
                match removed {
                    Some(messages) => {
                        report.memories += 1;
                        report.messages += messages;
                    }
                    None => report.skipped += 1,
                }
            }
            if next.is_none() {
                break;
            }
            query.after = next;
        }
        let SweepReport { memories, messages, skipped, .. } = report;
        tracing::info!(memories, messages, skipped, dry_run, "swept unused memories");
        Ok(report)
    }
}

/// How long a sweep holds the leases of one memory at most.
const LONGEST_HOLD: Duration = Duration::from_secs(30);

/// The leases that keep writers and flushers out where the store does not look at leases itself.
struct Leases {
    memory: LockGuard,
    flusher: LockGuard,
}

impl Backend {
    /// Removes a memory; none if somebody uses it after all.
    async fn remove(&self, memory: &UnusedMemory) -> Result<Option<u64>, MemoryError> {
        if self.is_fused() {
            return self.remove_parts(memory, RemoveUnused::new(memory, PART)).await;
        }
        let Some(leases) = self.take_both(&memory.key).await? else { return Ok(None) };
        let remove = RemoveUnused {
            access: Access::with_lease(leases.memory.proof()),
            flusher: Some(leases.flusher.proof()),
            ..RemoveUnused::new(memory, PART)
        };
        let removed = self.remove_parts(memory, remove).await;
        leases.flusher.release().await;
        leases.memory.release().await;
        removed
    }

    async fn remove_parts(
        &self,
        memory: &UnusedMemory,
        remove: RemoveUnused,
    ) -> Result<Option<u64>, MemoryError> {
        let mut messages = 0;
        loop {
            match self.store.remove(&memory.key, remove).await {
                Ok(RemovedUnused { messages: some, more }) => {
                    messages += some;
                    if !more {
                        return Ok(Some(messages));
                    }
                }
                Err(error) => match error.kind() {
                    // Written since it was listed, or between two parts.
                    StoreErrorKind::Conflict
                    | StoreErrorKind::Locked { .. }
                    | StoreErrorKind::Fenced { .. } => {
                        return Ok((messages > 0).then_some(messages));
                    }
                    _ => return Err(error.into()),
                },
            }
        }
    }

    async fn take_both(&self, key: &MemoryKey) -> Result<Option<Leases>, MemoryError> {
        let Some(memory) = self.try_take(key, key.lease_name()).await? else { return Ok(None) };
        match self.try_take(key, &key.flush_lease_name()).await {
            Ok(Some(flusher)) => Ok(Some(Leases { memory, flusher })),
            Ok(None) => {
                memory.release().await;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn try_take(
        &self,
        key: &MemoryKey,
        name: &str,
    ) -> Result<Option<LockGuard>, MemoryError> {
        let failed = |reason| LeaseFailure {
            key: key.clone(),
            reason,
            applied: Applied::No,
            max_turn: None,
        };
        let name = LockKey::new(name).map_err(failed)?;
        // Others need not wait for longer if the caller keeps the sweep and does not go on with it.
        let options = LockOptions::default().with_max_hold(Some(LONGEST_HOLD));
        let taken = self.locks.try_lock(&name, &options).await;
        Ok(taken.map_err(failed)?)
    }

    /// Whether nobody holds a lease on it. A store that looks at leases itself has left out the others.
    async fn is_idle(&self, memory: &UnusedMemory) -> Result<bool, MemoryError> {
        if self.is_fused() {
            return Ok(true);
        }
        let key = &memory.key;
        let failed = |reason| LeaseFailure {
            key: key.clone(),
            reason,
            applied: Applied::No,
            max_turn: None,
        };
        for name in [key.lease_name(), &key.flush_lease_name()] {
            let name = LockKey::new(name).map_err(failed)?;
            if self.locks.inspect(&name).await.map_err(failed)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
