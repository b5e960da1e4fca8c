//! The reference store, for tests and for memories that need not outlive their process.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    Access, Append, Appended, ArchivedRemoval, CaughtUp, Clear, Cleared, CopyProgress, CopyWrite,
    Cursor, Durability, Erase, Erased, Erasure, Fork, ForkOrigin, Forked, Frame, FrameWriters,
    Head, KnownBatch, LocalWatchers, MemoryState, MemoryStore, Metadata, Outline, Page, PageLimit,
    Read, RemainingCopy, RemoveUnused, RemovedUnused, Replace, ReplaceAll, ReplacedAll, Restore,
    Scrubbed, SearchQuery, SearchResults, Splice, StoreError, StoreErrorKind, StoreOperation,
    StoreWatch, UnusedPage, UnusedQuery, UpdateMetadata,
};
use crate::clock::Clock;
use crate::counters::Counters;
use crate::health::ServerHealth;
use crate::key::MemoryKey;
use crate::lease::{LeaseDomain, LeaseProof};
use crate::receipt::FlushReceipt;
use crate::stored::{Sequence, StoredMessage};

/// Stores memories in this process, under one mutex that is never held across an await.
///
/// It shares no lease domain: callers must take the lease on a memory before they write.
#[derive(Clone)]
pub struct InMemoryStore {
    memories: Arc<Mutex<BTreeMap<MemoryKey, MemoryState>>>,
    watchers: LocalWatchers,
    clock: Clock,
}

/// A snapshot of the memories of an [`InMemoryStore`].
#[derive(Debug, Clone, Default)]
pub struct SavedMemories(BTreeMap<MemoryKey, MemoryState>);

impl InMemoryStore {
    /// An empty store. TTLs run on this clock's time of day.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { memories: Arc::default(), watchers: LocalWatchers::default(), clock }
    }

    /// A snapshot of the current memories for [`go_back`](Self::go_back).
    #[must_use]
    pub fn saved(&self) -> SavedMemories {
        SavedMemories(self.lock().clone())
    }

    /// Replaces all memories by this snapshot, like a server that restarts without its newest writes. For tests of
    /// programs that must survive a rollback.
    pub fn go_back(&self, saved: &SavedMemories) {
        *self.lock() = saved.0.clone();
        self.watchers.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<MemoryKey, MemoryState>> {
        // Each write checks everything before its first change, so a panic cannot leave half a write.
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a read; a missing memory reads as never written.
    fn read_memory<T>(
        &self,
        key: &MemoryKey,
        read: impl FnOnce(&MemoryState, Timestamp) -> T,
    ) -> Result<T, StoreError> {
        let now = self.clock.now();
        match self.lock().get(key) {
            Some(memory) if memory.is_unfinished(now) => {
                let kind = StoreErrorKind::Unfinished;
                Err(StoreError::new(StoreOperation::Read, kind).not_applied().at(key))
            }
            Some(memory) => Ok(read(memory, now)),
            None => Ok(read(&MemoryState::default(), now)),
        }
    }

    /// Runs a write; a new memory is kept only if the write was not refused.
    fn write_memory<T>(
        &self,
        operation: StoreOperation,
        key: &MemoryKey,
        write: impl FnOnce(&mut MemoryState, Timestamp) -> Result<T, StoreErrorKind>,
    ) -> Result<T, StoreError> {
        let now = self.clock.now();
        let mut memories = self.lock();
        let done = if let Some(memory) = memories.get_mut(key) {
            write(memory, now)
        } else {
            let mut memory = MemoryState::default();
            let done = write(&mut memory, now);
            if done.is_ok() {
                memories.insert(key.clone(), memory);
            }
            done
        };
        drop(memories);
        if done.is_ok() {
            self.watchers.notify(key);
        }
        done.map_err(|kind| StoreError::new(operation, kind).not_applied().at(key))
    }
}

#[async_trait]
impl MemoryStore for InMemoryStore {
    async fn append(
        &self,
        key: &MemoryKey,
        access: Access,
        append: &Append,
    ) -> Result<Appended, StoreError> {
        self.write_memory(StoreOperation::Append, key, |memory, now| {
            memory.append(access, append, now)
        })
    }

    async fn replace(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &Replace,
    ) -> Result<Counters, StoreError> {
        self.write_memory(StoreOperation::Replace, key, |memory, now| {
            memory.replace(access, replace, now)
        })
    }

    async fn splice(
        &self,
        key: &MemoryKey,
        access: Access,
        splice: &Splice,
    ) -> Result<Counters, StoreError> {
        self.write_memory(StoreOperation::Splice, key, |memory, now| {
            memory.splice(access, splice, now)
        })
    }

    async fn clear(
        &self,
        key: &MemoryKey,
        access: Access,
        clear: &Clear,
    ) -> Result<Cleared, StoreError> {
        self.write_memory(StoreOperation::Clear, key, |memory, now| {
            memory.clear(access, clear, now)
        })
    }

    async fn replace_all(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &ReplaceAll,
    ) -> Result<ReplacedAll, StoreError> {
        self.write_memory(StoreOperation::ReplaceAll, key, |memory, now| {
            memory.replace_all(access, replace, now)
        })
    }

    async fn restore(
        &self,
        key: &MemoryKey,
        access: Access,
        restore: &Restore,
    ) -> Result<Counters, StoreError> {
        self.write_memory(StoreOperation::Restore, key, |memory, now| {
            memory.restore(access, restore, now)
        })
    }

    async fn removals(
        &self,
        key: &MemoryKey,
        before: Option<u64>,
        limit: NonZeroUsize,
    ) -> Result<Vec<ArchivedRemoval>, StoreError> {
        self.read_memory(key, |memory, now| memory.removals(before, limit, now))
    }

    async fn archived(
        &self,
        key: &MemoryKey,
        removal: u64,
        after: Sequence,
        limit: PageLimit,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        self.read_memory(key, |memory, now| memory.archived(removal, after, limit, now))
    }

    async fn search(
        &self,
        key: &MemoryKey,
        query: &SearchQuery,
    ) -> Result<SearchResults, StoreError> {
        self.read_memory(key, |memory, now| memory.search(query, now))?
            .map_err(|kind| StoreError::new(StoreOperation::Search, kind).not_applied().at(key))
    }

    async fn rebuild_index(&self, _key: &MemoryKey) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    async fn erase(
        &self,
        key: &MemoryKey,
        access: Access,
        erase: &Erase,
    ) -> Result<Erased, StoreError> {
        self.write_memory(StoreOperation::Erase, key, |memory, now| {
            memory.erase(access, erase, now)
        })
    }

    async fn erasures(&self, key: &MemoryKey) -> Result<Vec<Erasure>, StoreError> {
        self.read_memory(key, MemoryState::erasures)
    }

    async fn scrub(&self) -> Result<Scrubbed, StoreError> {
        Ok(Scrubbed::Unsupported)
    }

    fn remaining_copies(&self) -> &'static [RemainingCopy] {
        &[]
    }

    async fn frame(&self, key: &MemoryKey, writers: FrameWriters) -> Result<Frame, StoreError> {
        self.read_memory(key, |memory, now| memory.frame(now, writers))
    }

    async fn write_copy(
        &self,
        key: &MemoryKey,
        access: Access,
        write: &CopyWrite,
    ) -> Result<CopyProgress, StoreError> {
        self.write_memory(StoreOperation::Copy, key, |memory, now| {
            memory.write_copy(access, write, now)
        })
    }

    async fn fork(
        &self,
        key: &MemoryKey,
        access: Access,
        fork: &Fork,
    ) -> Result<Forked, StoreError> {
        let now = self.clock.now();
        let mut memories = self.lock();
        let existing = memories.remove(key);
        let is_new = existing.is_none();
        let mut memory = existing.unwrap_or_default();
        let done = match memories.get(&fork.from) {
            Some(from) => memory.fork(access, fork, from, now),
            None => memory.fork(access, fork, &MemoryState::default(), now),
        };
        if done.is_ok() || !is_new {
            memories.insert(key.clone(), memory);
        }
        drop(memories);
        if done.is_ok() {
            self.watchers.notify(key);
        }
        done.map_err(|kind| StoreError::new(StoreOperation::Copy, kind).not_applied().at(key))
    }

    async fn origin(&self, key: &MemoryKey) -> Result<Option<ForkOrigin>, StoreError> {
        self.read_memory(key, MemoryState::origin)
    }

    async fn metadata(&self, key: &MemoryKey) -> Result<Metadata, StoreError> {
        self.read_memory(key, MemoryState::metadata)
    }

    async fn update_metadata(
        &self,
        key: &MemoryKey,
        access: Access,
        update: &UpdateMetadata,
    ) -> Result<Metadata, StoreError> {
        self.write_memory(StoreOperation::UpdateMetadata, key, |memory, now| {
            memory.update_metadata(access, update, now)
        })
    }

    async fn claim(&self, key: &MemoryKey, lease: LeaseProof) -> Result<(), StoreError> {
        self.write_memory(StoreOperation::Claim, key, |memory, now| memory.claim(lease, now))
    }

    async fn head(&self, key: &MemoryKey) -> Result<Head, StoreError> {
        self.read_memory(key, MemoryState::head)
    }

    async fn read(&self, key: &MemoryKey, read: Read) -> Result<Page, StoreError> {
        self.read_memory(key, |memory, now| memory.read(read, now))
    }

    async fn catch_up(
        &self,
        key: &MemoryKey,
        after: Cursor,
        known: &[KnownBatch],
    ) -> Result<CaughtUp, StoreError> {
        self.read_memory(key, |memory, now| memory.catch_up(after, known, now))
    }

    async fn read_before(
        &self,
        key: &MemoryKey,
        before: Option<Cursor>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        self.read_memory(key, |memory, now| memory.read_before(before, limit, now))
    }

    async fn outline(&self, key: &MemoryKey) -> Result<Outline, StoreError> {
        self.read_memory(key, MemoryState::outline)
    }

    async fn fetch(
        &self,
        key: &MemoryKey,
        snapshot: Cursor,
        places: &[Sequence],
    ) -> Result<Vec<StoredMessage>, StoreError> {
        self.read_memory(key, |memory, now| memory.fetch(snapshot, places, now))?
            .map_err(|kind| StoreError::new(StoreOperation::Read, kind).not_applied().at(key))
    }

    async fn receipts(&self, key: &MemoryKey) -> Result<Vec<FlushReceipt>, StoreError> {
        self.read_memory(key, MemoryState::receipts)
    }

    async fn keys(
        &self,
        after: Option<&MemoryKey>,
        limit: NonZeroUsize,
    ) -> Result<Vec<MemoryKey>, StoreError> {
        let now = self.clock.now();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let memories = self.lock();
        let live = memories
            .range::<MemoryKey, _>((from, Bound::Unbounded))
            .filter(|(_, memory)| memory.has_messages(now));
        Ok(live.take(limit.get()).map(|(key, _)| key.clone()).collect())
    }

    async fn unused(&self, query: &UnusedQuery) -> Result<UnusedPage, StoreError> {
        let now = self.clock.now();
        let from = match &query.after {
            Some(after) => Bound::Excluded(after.as_str()),
            None => Bound::Included(query.prefix.as_str()),
        };
        let memories = self.lock();
        let mut rest = memories
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.as_str().starts_with(&query.prefix));
        let mut page = UnusedPage::default();
        let mut last = None;
        for (key, memory) in rest.by_ref().take(query.limit.get()) {
            last = Some(key);
            page.memories.extend(memory.unused(key, query, now));
        }
        page.next = last.cloned().filter(|_| rest.next().is_some());
        Ok(page)
    }

    async fn remove(
        &self,
        key: &MemoryKey,
        remove: RemoveUnused,
    ) -> Result<RemovedUnused, StoreError> {
        let mut memories = self.lock();
        let Some(memory) = memories.get_mut(key) else { return Ok(RemovedUnused::default()) };
        let removed = memory.remove(remove);
        drop(memories);
        self.watchers.notify(key);
        removed.map_err(|kind| StoreError::new(StoreOperation::Remove, kind).not_applied().at(key))
    }

    async fn watch(&self, key: &MemoryKey) -> Result<Box<dyn StoreWatch>, StoreError> {
        Ok(Box::new(self.watchers.watch(key)))
    }

    async fn server(&self) -> Result<Option<ServerHealth>, StoreError> {
        Ok(None)
    }

    fn lease_domain(&self) -> Option<&LeaseDomain> {
        None
    }

    fn durability(&self) -> Durability {
        Durability::Memory
    }
}

impl fmt::Debug for InMemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InMemoryStore").field("memories", &self.lock().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_is_memory_and_debug_hides_contents() {
        let store = InMemoryStore::new(Clock::manual());
        assert_eq!((store.durability(), store.lease_domain()), (Durability::Memory, None));
        store.lock().insert(MemoryKey::new("p", "m", "k").unwrap(), MemoryState::default());
        assert_eq!(format!("{store:?}"), "InMemoryStore { memories: 1 }");
    }
}
