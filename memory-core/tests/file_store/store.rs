//! A store on a plain file, as a third party would write it: it uses only public items of `memory-core`. Copy it and
//! replace [`Log`] by a custom medium.
//!
//! The file is a log of the accepted writes, each with its time. [`MemoryState`] executes the writes and depends only
//! on its arguments, so opening the log restores the memories by replaying its writes in order.
//!
//! Limits of this store: it blocks the calling thread while it syncs, never compacts its file, and needs exclusive
//! use of the file, so only one process at a time may open it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, io};

use async_trait::async_trait;
use jiff::Timestamp;
use memory_core::health::ServerHealth;
use memory_core::lease::{LeaseDomain, LeaseProof};
use memory_core::store::{
    Access, Append, Appended, ArchivedRemoval, CaughtUp, Clear, Cleared, Counters, Cursor,
    Durability, Erase, Erased, Erasure, FlushReceipt, Head, KnownBatch, LocalWatchers, MemoryState,
    Metadata, Outline, Page, PageLimit, Read, RemainingCopy, RemoveUnused, RemovedUnused, Replace,
    ReplaceAll, ReplacedAll, Restore, Scrubbed, SearchQuery, SearchResults, Splice, StoreError,
    StoreErrorKind, StoreOperation, StoreWatch, UnusedPage, UnusedQuery, UpdateMetadata,
};
use memory_core::{Clock, MemoryKey, MemoryStore, Sequence, StoredMessage};
use serde::{Deserialize, Serialize};

use super::log::Log;

/// An accepted write, as stored in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    at: Timestamp,
    key: MemoryKey,
    write: Write,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Write {
    Append(Access, Append),
    Replace(Access, Box<Replace>),
    Splice(Access, Box<Splice>),
    Clear(Access, Clear),
    ReplaceAll(Access, Box<ReplaceAll>),
    Restore(Access, Restore),
    Erase(Access, Box<Erase>),
    UpdateMetadata(Access, Box<UpdateMetadata>),
    Claim(LeaseProof),
    Remove(RemoveUnused),
}

/// The outcome of a write.
enum Written {
    Appended(Appended),
    Counters(Counters),
    Cleared(Cleared),
    ReplacedAll(ReplacedAll),
    Metadata(Metadata),
    Claimed,
    Removed(RemovedUnused),
    Erased(Box<Erased>),
}

/// The memories of one file.
pub(crate) struct FileStore {
    open: Mutex<Open>,
    watchers: LocalWatchers,
    clock: Clock,
}

struct Open {
    log: Log,
    memories: BTreeMap<MemoryKey, MemoryState>,
    /// Why the memories may differ from the file. After a failed write or sync the content of the disk is unknown,
    /// and a second sync may succeed although data was lost (P. Hillaker et al., "Can Applications Recover from fsync
    /// Failures?", 2020). Only reopening the file resolves this.
    broken: Option<String>,
}

impl Open {
    fn read(path: &Path) -> Result<Self, StoreError> {
        let failed = |kind| StoreError::new(StoreOperation::Open, kind).not_applied();
        let (log, records) = Log::open(path).map_err(|error| failed(kind_of(&error)))?;
        let mut memories = BTreeMap::new();
        for (index, record) in records.iter().enumerate() {
            let corrupt = |problem: &dyn fmt::Display| {
                let place = format!("record {} of {}", index + 1, path.display());
                failed(StoreErrorKind::Corrupt(format!(
                    "{place} {problem}; restore a backup, or cut the file before it"
                )))
            };
            // The reason is left out, because `serde_json` quotes unexpected content.
            let record: Record =
                serde_json::from_slice(record).map_err(|_| corrupt(&"is of an unknown form"))?;
            let Record { at, key, write } = record;
            make(memories.entry(key).or_default(), write, at)
                .map_err(|refused| corrupt(&format_args!("was never accepted ({refused})")))?;
        }
        Ok(Self { log, memories, broken: None })
    }
}

impl FileStore {
    /// Opens or creates the log and replays its writes. A last record that was cut off by a crash was never
    /// acknowledged, and is truncated.
    pub(crate) fn open(path: &Path, clock: Clock) -> Result<Self, StoreError> {
        Ok(Self { open: Mutex::new(Open::read(path)?), watchers: LocalWatchers::default(), clock })
    }

    /// Reloads the file. This clears the error of a failed write, and drops the writes that a restored copy lacks.
    #[allow(dead_code, reason = "random programs use the store without it")]
    pub(crate) fn open_anew(&self, path: &Path) -> Result<(), StoreError> {
        let mut open = self.lock();
        *open = Open::read(path)?;
        drop(open);
        self.watchers.notify_all();
        Ok(())
    }
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a write to the memory first, where it may be refused, and then appends it to the file. No reader sees
    /// the state in between, because the mutex is held; no caller can be canceled in between, because there is no
    /// await.
    fn write(
        &self,
        operation: StoreOperation,
        key: &MemoryKey,
        write: Write,
    ) -> Result<Written, StoreError> {
        let failed = |kind| StoreError::new(operation, kind).not_applied().at(key);
        let record = Record { at: self.clock.now(), key: key.clone(), write };
        let line = encode(&record).map_err(failed)?;
        let Record { at, write, .. } = record;
        let mut open = self.lock();
        let Open { log, memories, broken } = &mut *open;
        intact(broken).map_err(failed)?;
        // Only an accepted write inserts a new memory into the map.
        let mut unwritten = MemoryState::default();
        let memory = memories.get_mut(key).unwrap_or(&mut unwritten);
        let before = memory.head(at);
        let written = make(memory, write, at).map_err(failed)?;
        // The head of an expired memory does not change when parts of it are removed.
        let removes = matches!(written, Written::Removed(_)) && memory != &MemoryState::default();
        if memory.head(at) == before && !removes {
            // A retry, which is in the file already.
            return Ok(written);
        }
        if unwritten != MemoryState::default() {
            memories.insert(key.clone(), unwritten);
        }
        if let Err(error) = log.append(&line) {
            *broken = Some(error.to_string());
            return Err(failed(kind_of(&error)).caused_by(error).possibly_applied());
        }
        drop(open);
        self.watchers.notify(key);
        Ok(written)
    }

    fn read<T>(
        &self,
        key: &MemoryKey,
        read: impl FnOnce(&MemoryState, Timestamp) -> T,
    ) -> Result<T, StoreError> {
        let open = self.lock();
        intact(&open.broken)
            .map_err(|kind| StoreError::new(StoreOperation::Read, kind).not_applied().at(key))?;
        let unwritten = MemoryState::default();
        Ok(read(open.memories.get(key).unwrap_or(&unwritten), self.clock.now()))
    }
}

/// Applies a write to a memory, both for new writes and for replay.
fn make(memory: &mut MemoryState, write: Write, at: Timestamp) -> Result<Written, StoreErrorKind> {
    match write {
        Write::Append(access, append) => memory.append(access, &append, at).map(Written::Appended),
        Write::Replace(access, replace) => {
            memory.replace(access, &replace, at).map(Written::Counters)
        }
        Write::Splice(access, splice) => memory.splice(access, &splice, at).map(Written::Counters),
        Write::Clear(access, clear) => memory.clear(access, &clear, at).map(Written::Cleared),
        Write::ReplaceAll(access, replace) => {
            memory.replace_all(access, &replace, at).map(Written::ReplacedAll)
        }
        Write::Restore(access, restore) => {
            memory.restore(access, &restore, at).map(Written::Counters)
        }
        Write::Erase(access, erase) => {
            memory.erase(access, &erase, at).map(|erased| Written::Erased(Box::new(erased)))
        }
        Write::UpdateMetadata(access, update) => {
            memory.update_metadata(access, &update, at).map(Written::Metadata)
        }
        Write::Claim(lease) => memory.claim(lease, at).map(|()| Written::Claimed),
        Write::Remove(remove) => memory.remove(remove).map(Written::Removed),
    }
}

/// Refuses records that could not be read back, such as a message with an empty role. The writer gets the error now;
/// a stored record would make the file unreadable.
fn encode(record: &Record) -> Result<Vec<u8>, StoreErrorKind> {
    let unreadable = || StoreErrorKind::Invalid("a message of the batch is malformed".into());
    let messages = match &record.write {
        Write::Append(_, append) => &*append.messages,
        Write::ReplaceAll(_, replace) => &*replace.batch.messages,
        Write::Replace(_, replace) => std::slice::from_ref(&replace.message),
        Write::Splice(_, splice) => splice.summary.as_slice(),
        Write::Clear(..)
        | Write::Restore(..)
        | Write::Erase(..)
        | Write::UpdateMetadata(..)
        | Write::Claim(_)
        | Write::Remove(_) => &[],
    };
    if messages.iter().any(|new| new.message.to_json().is_err()) {
        return Err(unreadable());
    }
    let line = serde_json::to_vec(record).map_err(|_| unreadable())?;
    match serde_json::from_slice::<Record>(&line) {
        Ok(read) if read.key == record.key => Ok(line),
        _ => Err(unreadable()),
    }
}

fn intact(broken: &Option<String>) -> Result<(), StoreErrorKind> {
    match broken {
        None => Ok(()),
        Some(reason) => Err(StoreErrorKind::Unavailable(format!(
            "a write to its file failed before ({reason}); open it anew"
        ))),
    }
}

fn kind_of(error: &io::Error) -> StoreErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StoreErrorKind::Full("the disk of the file; free some of it".into())
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            StoreErrorKind::ReadOnly("the file may not be written; check its permissions".into())
        }
        io::ErrorKind::InvalidData => StoreErrorKind::Corrupt(error.to_string()),
        _ => StoreErrorKind::Unavailable(format!("its file failed ({error}); check the disk")),
    }
}

#[async_trait]
impl MemoryStore for FileStore {
    async fn append(
        &self,
        key: &MemoryKey,
        access: Access,
        append: &Append,
    ) -> Result<Appended, StoreError> {
        match self.write(StoreOperation::Append, key, Write::Append(access, append.clone()))? {
            Written::Appended(appended) => Ok(appended),
            _ => Err(confused(StoreOperation::Append, key)),
        }
    }

    async fn replace(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &Replace,
    ) -> Result<Counters, StoreError> {
        match self.write(
            StoreOperation::Replace,
            key,
            Write::Replace(access, Box::new(replace.clone())),
        )? {
            Written::Counters(counters) => Ok(counters),
            _ => Err(confused(StoreOperation::Replace, key)),
        }
    }

    async fn splice(
        &self,
        key: &MemoryKey,
        access: Access,
        splice: &Splice,
    ) -> Result<Counters, StoreError> {
        match self.write(
            StoreOperation::Splice,
            key,
            Write::Splice(access, Box::new(splice.clone())),
        )? {
            Written::Counters(counters) => Ok(counters),
            _ => Err(confused(StoreOperation::Splice, key)),
        }
    }

    async fn clear(
        &self,
        key: &MemoryKey,
        access: Access,
        clear: &Clear,
    ) -> Result<Cleared, StoreError> {
        match self.write(StoreOperation::Clear, key, Write::Clear(access, *clear))? {
            Written::Cleared(cleared) => Ok(cleared),
            _ => Err(confused(StoreOperation::Clear, key)),
        }
    }

    async fn replace_all(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &ReplaceAll,
    ) -> Result<ReplacedAll, StoreError> {
        let write = Write::ReplaceAll(access, Box::new(replace.clone()));
        match self.write(StoreOperation::ReplaceAll, key, write)? {
            Written::ReplacedAll(replaced) => Ok(replaced),
            _ => Err(confused(StoreOperation::ReplaceAll, key)),
        }
    }

    async fn restore(
        &self,
        key: &MemoryKey,
        access: Access,
        restore: &Restore,
    ) -> Result<Counters, StoreError> {
        match self.write(StoreOperation::Restore, key, Write::Restore(access, *restore))? {
            Written::Counters(counters) => Ok(counters),
            _ => Err(confused(StoreOperation::Restore, key)),
        }
    }

    async fn removals(
        &self,
        key: &MemoryKey,
        before: Option<u64>,
        limit: NonZeroUsize,
    ) -> Result<Vec<ArchivedRemoval>, StoreError> {
        self.read(key, |memory, now| memory.removals(before, limit, now))
    }

    async fn archived(
        &self,
        key: &MemoryKey,
        removal: u64,
        after: Sequence,
        limit: PageLimit,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        self.read(key, |memory, now| memory.archived(removal, after, limit, now))
    }

    /// The log keeps the texts of all writes.
    async fn erase(
        &self,
        key: &MemoryKey,
        access: Access,
        erase: &Erase,
    ) -> Result<Erased, StoreError> {
        let write = Write::Erase(access, Box::new(erase.clone()));
        match self.write(StoreOperation::Erase, key, write)? {
            Written::Erased(erased) => Ok(*erased),
            _ => Err(confused(StoreOperation::Erase, key)),
        }
    }

    async fn search(
        &self,
        key: &MemoryKey,
        query: &SearchQuery,
    ) -> Result<SearchResults, StoreError> {
        self.read(key, |memory, now| memory.search(query, now))?
            .map_err(|kind| StoreError::new(StoreOperation::Search, kind).not_applied().at(key))
    }

    async fn erasures(&self, key: &MemoryKey) -> Result<Vec<Erasure>, StoreError> {
        self.read(key, MemoryState::erasures)
    }

    async fn scrub(&self) -> Result<Scrubbed, StoreError> {
        Ok(Scrubbed::Unsupported)
    }

    fn remaining_copies(&self) -> &'static [RemainingCopy] {
        &[RemainingCopy::WriteLog, RemainingCopy::Backups]
    }

    async fn metadata(&self, key: &MemoryKey) -> Result<Metadata, StoreError> {
        self.read(key, MemoryState::metadata)
    }

    async fn update_metadata(
        &self,
        key: &MemoryKey,
        access: Access,
        update: &UpdateMetadata,
    ) -> Result<Metadata, StoreError> {
        const OPERATION: StoreOperation = StoreOperation::UpdateMetadata;
        match self.write(OPERATION, key, Write::UpdateMetadata(access, Box::new(update.clone())))? {
            Written::Metadata(metadata) => Ok(metadata),
            _ => Err(confused(OPERATION, key)),
        }
    }

    async fn claim(&self, key: &MemoryKey, lease: LeaseProof) -> Result<(), StoreError> {
        self.write(StoreOperation::Claim, key, Write::Claim(lease)).map(drop)
    }

    async fn head(&self, key: &MemoryKey) -> Result<Head, StoreError> {
        self.read(key, MemoryState::head)
    }

    async fn read(&self, key: &MemoryKey, read: Read) -> Result<Page, StoreError> {
        self.read(key, |memory, now| memory.read(read, now))
    }

    async fn catch_up(
        &self,
        key: &MemoryKey,
        after: Cursor,
        known: &[KnownBatch],
    ) -> Result<CaughtUp, StoreError> {
        self.read(key, |memory, now| memory.catch_up(after, known, now))
    }

    async fn read_before(
        &self,
        key: &MemoryKey,
        before: Option<Cursor>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        self.read(key, |memory, now| memory.read_before(before, limit, now))
    }

    async fn outline(&self, key: &MemoryKey) -> Result<Outline, StoreError> {
        self.read(key, MemoryState::outline)
    }

    async fn fetch(
        &self,
        key: &MemoryKey,
        snapshot: Cursor,
        places: &[Sequence],
    ) -> Result<Vec<StoredMessage>, StoreError> {
        self.read(key, |memory, now| memory.fetch(snapshot, places, now))?
            .map_err(|kind| StoreError::new(StoreOperation::Read, kind).not_applied().at(key))
    }

    async fn receipts(&self, key: &MemoryKey) -> Result<Vec<FlushReceipt>, StoreError> {
        self.read(key, MemoryState::receipts)
    }

    async fn keys(
        &self,
        after: Option<&MemoryKey>,
        limit: NonZeroUsize,
    ) -> Result<Vec<MemoryKey>, StoreError> {
        let (now, open) = (self.clock.now(), self.lock());
        intact(&open.broken)
            .map_err(|kind| StoreError::new(StoreOperation::ListKeys, kind).not_applied())?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let memories = open.memories.range::<MemoryKey, _>((from, Bound::Unbounded));
        let listed = memories.filter(|(_, memory)| memory.has_messages(now));
        Ok(listed.take(limit.get()).map(|(key, _)| key.clone()).collect())
    }

    async fn unused(&self, query: &UnusedQuery) -> Result<UnusedPage, StoreError> {
        let (now, open) = (self.clock.now(), self.lock());
        intact(&open.broken)
            .map_err(|kind| StoreError::new(StoreOperation::ListUnused, kind).not_applied())?;
        let mut rest = open
            .memories
            .iter()
            .filter(|(key, _)| key.as_str().starts_with(&query.prefix))
            .filter(|(key, _)| query.after.as_ref().is_none_or(|after| *key > after));
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
        match self.write(StoreOperation::Remove, key, Write::Remove(remove))? {
            Written::Removed(removed) => Ok(removed),
            _ => Err(confused(StoreOperation::Remove, key)),
        }
    }

    async fn watch(&self, key: &MemoryKey) -> Result<Box<dyn StoreWatch>, StoreError> {
        Ok(Box::new(self.watchers.watch(key)))
    }

    async fn server(&self) -> Result<Option<ServerHealth>, StoreError> {
        Ok(None)
    }

    /// Leases are kept elsewhere: callers take them before they write, and present their tokens.
    fn lease_domain(&self) -> Option<&LeaseDomain> {
        None
    }

    fn durability(&self) -> Durability {
        Durability::Disk
    }
}

fn confused(operation: StoreOperation, key: &MemoryKey) -> StoreError {
    StoreError::new(operation, StoreErrorKind::Other("a write of another kind answered".into()))
        .not_applied()
        .at(key)
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("memories", &self.lock().memories.len()).finish()
    }
}

/// As a shared trait object.
pub(crate) fn shared(store: FileStore) -> Arc<dyn MemoryStore> {
    Arc::new(store)
}
