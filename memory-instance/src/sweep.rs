//! Removal of expired and unused memories.

use std::num::NonZeroUsize;
use std::time::Duration;

use memory_core::MemoryKey;
use memory_core::store::{
    Access, Applied, ExpiredMemories, RemoveUnused, RemovedUnused, StoreErrorKind, UnusedMemory,
    UnusedPage, UnusedQuery,
};
use memory_lock::{LockGuard, LockKey, LockOptions};
use serde::Serialize;
use tokio::time::timeout;

use crate::backend::Backend;
use crate::error::{LeaseError, MemoryError};
use crate::manager::MemoryManager;
use crate::telemetry::operation;

/// Whether a sweep removes memories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SweepMode {
    /// It removes them. Default.
    #[default]
    Remove,
    /// It only reports which memories would be removed.
    DryRun,
}

/// Which memories [`MemoryManager::sweep`] removes. The default is: expired memories, at most 1,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SweepOptions {
    /// Memories whose TTL has expired and that still take up space. No process with a correct clock reads them any
    /// more. On SQLite, a sweep by a process whose clock is ahead removes memories that others still read. Redis
    /// removes expired memories by itself. Default: selected.
    pub expired: ExpiredMemories,
    /// Memories that were not written for this long, with all their messages, also critical ones. Reads do not
    /// count. Default: none.
    ///
    /// The time of the last write is the `created_at` of the newest message, by the writing process's clock, and
    /// the store's clock for all other writes. Choose a duration well above the difference between the clocks.
    pub unused_for: Option<Duration>,
    /// Whether to remove them or only to report which would be removed.
    pub mode: SweepMode,
    /// The maximum number of memories to remove or report in this call. Default: 1,000.
    pub max: NonZeroUsize,
}

impl SweepOptions {
    /// The default.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            expired: ExpiredMemories::Selected,
            unused_for: None,
            mode: SweepMode::Remove,
            max: MOST,
        }
    }

    /// Leaves memories whose TTL has expired.
    #[must_use]
    pub const fn without_expired(self) -> Self {
        Self { expired: ExpiredMemories::Ignored, ..self }
    }

    /// Removes memories that were not written for this long.
    #[must_use]
    pub const fn with_unused_for(self, time: Duration) -> Self {
        Self { unused_for: Some(time), ..self }
    }

    /// Only reports which memories would be removed.
    #[must_use]
    pub const fn with_dry_run(self) -> Self {
        Self { mode: SweepMode::DryRun, ..self }
    }

    /// Removes at most this number of memories.
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

/// The result of a sweep, or of a dry run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SweepReport {
    /// Whether this was a dry run, which removes nothing.
    pub dry_run: bool,
    /// The number of memories.
    pub memories: u64,
    /// The number of messages in them.
    pub messages: u64,
    /// The number of memories that were kept because they were written meanwhile or are under a lease.
    pub skipped: u64,
    /// Whether the limit was reached: there may be more memories for the next call.
    pub more: bool,
}

pub(crate) const fn non_zero(number: usize) -> NonZeroUsize {
    match NonZeroUsize::new(number) {
        Some(number) => number,
        None => NonZeroUsize::MIN,
    }
}

/// The default for the number of memories that one call removes.
const MOST: NonZeroUsize = non_zero(1_000);

/// The number of memories per request.
const PAGE: NonZeroUsize = non_zero(1_000);

/// The number of messages that one step of a store removes. Writers wait for a step.
const PART: NonZeroUsize = non_zero(256);

impl MemoryManager {
    /// Removes unused memories of this project: those whose TTL has expired, which a SQLite file otherwise keeps
    /// until their key is written again, and optionally those that were not written for a given time.
    ///
    /// A memory under a live lease is kept, and so is one that is written meanwhile. A memory is removed in steps of
    /// 256 messages, between which other writers run, so a call may be aborted at any time and the next one
    /// continues. A removed memory reads like one that was never written, and its key may be used again. SQLite
    /// reuses the freed pages for later writes; the file does not shrink.
    ///
    /// # Errors
    /// [`MemoryError::Store`], [`MemoryError::Lock`]; [`MemoryError::TimedOut`] if the store does not answer a removal within
    /// 10 s. Memories that were removed before the error stay removed.
    ///
    /// # Cancel safety
    /// Dropping the future leaves each memory unchanged or removed. The next sweep that removes expired memories
    /// frees the remaining space of a removed one.
    pub async fn sweep(&self, options: SweepOptions) -> Result<SweepReport, MemoryError> {
        let work = async {
            let SweepOptions { expired, unused_for, mode, max } = options;
            let dry_run = mode == SweepMode::DryRun;
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
                let UnusedPage { memories, next, .. } = self.store().unused(&query).await?;
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
        };
        operation!(self, "sweep", work).await
    }
}

/// The maximum time for which a sweep holds the leases of one memory.
const MAX_SWEEP_HOLD: Duration = Duration::from_secs(30);

/// How long a sweep waits for the answer to the removal of some messages.
const SWEEP_ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Leases that exclude writers and flushers if the store does not check leases itself.
struct SweepLeases {
    memory: LockGuard,
    flusher: LockGuard,
}

impl Backend {
    /// Removes a memory, unless it is in use.
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
            let answer = timeout(SWEEP_ANSWER_WAIT, self.store.remove(&memory.key, remove)).await;
            let answer = answer.map_err(|_| MemoryError::TimedOut {
                operation: "sweep",
                key: memory.key.clone(),
                waited: SWEEP_ANSWER_WAIT,
            })?;
            match answer {
                Ok(RemovedUnused { messages: some, more, .. }) => {
                    messages += some;
                    if !more {
                        return Ok(Some(messages));
                    }
                }
                Err(error) => match error.kind() {
                    // The memory was written after it was listed, or between two steps.
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

    async fn take_both(&self, key: &MemoryKey) -> Result<Option<SweepLeases>, MemoryError> {
        let Some(memory) = self.try_take(key, key.lease_name()).await? else { return Ok(None) };
        match self.try_take(key, &key.flush_lease_name()).await {
            Ok(Some(flusher)) => Ok(Some(SweepLeases { memory, flusher })),
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
        let failed =
            |reason| LeaseError { key: key.clone(), reason, applied: Applied::No, max_turn: None };
        let name = LockKey::new(name).map_err(failed)?;
        // Bounds the wait of others if the caller keeps the sweep without polling it.
        let options = LockOptions::default().with_max_hold(Some(MAX_SWEEP_HOLD));
        let taken = self.locks.try_lock(&name, &options).await;
        Ok(taken.map_err(failed)?)
    }

    /// Whether no process holds a lease on it. A store that checks leases itself lists only such memories.
    async fn is_idle(&self, memory: &UnusedMemory) -> Result<bool, MemoryError> {
        if self.is_fused() {
            return Ok(true);
        }
        let key = &memory.key;
        let failed =
            |reason| LeaseError { key: key.clone(), reason, applied: Applied::No, max_turn: None };
        for name in [key.lease_name(), &key.flush_lease_name()] {
            let name = LockKey::new(name).map_err(failed)?;
            if self.locks.inspect(&name).await.map_err(failed)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
