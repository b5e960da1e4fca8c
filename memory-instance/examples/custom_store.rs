//! A store of the application: a journal file, to which each accepted write is appended as a line of JSON. The facade
//! works on it as on any other store.
//!
//! `cargo run -p memory-instance --example custom_store`, any number of times. The test runs the conformance suite,
//! which proves that a store keeps the whole contract; run it on yours.
//!
//! Replace [`Journal`] by another medium: the rules of a memory (retries, fencing, counters, TTL) are
//! `MemoryState`. This store is short rather than quick: it copies a memory for each write, blocks its thread while
//! it syncs, never compacts its file, and one process opens it at a time. `memory-core/tests/file_store` has checksums.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::num::NonZeroUsize;
use std::ops::Bound;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use memory_core::health::ServerHealth;
use memory_core::lease::{LeaseDomain, LeaseProof};
use memory_core::store::{
    Access, Append, Appended, ArchivedRemoval, Clear, Cleared, Counters, Cursor, Durability, Erase,
    Erased, Erasure, FlushReceipt, Head, LocalWatchers, MemoryState, Metadata, Outline, Page,
    PageLimit, Read, RemainingCopy, RemoveUnused, RemovedUnused, Replace, ReplaceAll, ReplacedAll,
    Restore, SearchQuery, SearchResults, Splice, StoreError, StoreErrorKind, StoreOperation,
    StoreWatch, UnusedPage, UnusedQuery, UpdateMetadata,
};
use memory_core::{MemoryKey, MemoryStore, Sequence, StoredMessage};
use memory_instance::{Clock, ClockExt as _, LockManager, MemoryManager, MemoryResource, Message};
use memory_lock::InProcessLock;
use serde::{Deserialize, Serialize};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Path::new("custom_store.jsonl")).await {
        Ok(report) => println!("{report}"),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn run(path: &Path) -> Result<String, Box<dyn Error>> {
    let store = JournalStore::open(path, Clock::system())?;
    // This store does not look up leases, so any lock backend may keep them.
    let locks = LockManager::new(Arc::new(InProcessLock::default()));
    let manager = MemoryManager::builder()
        .with_resource(MemoryResource::new("support", 8_000))
        .build(Arc::new(store), locks)?;
    let memory = manager.memory("support", "case-4711")?;
    memory.ensure_system("agent", "You are a travel agent.").await?;
    memory.append(Message::user("My flight was canceled.")).await?;
    let counters = memory.counters().await?;
    let window = memory.context(4_000).await?;
    Ok(format!("{} messages appended so far; {}", counters.appended, window.request()))
}

/// Keeps memories in a journal.
struct JournalStore {
    journal: Mutex<Journal>,
    watchers: LocalWatchers,
    clock: Clock,
}

struct Journal {
    file: File,
    memories: BTreeMap<MemoryKey, MemoryState>,
    /// After an error of the file it is unknown which bytes are on the disk, until it is opened again.
    is_broken: bool,
}

/// A line of the journal.
#[derive(Serialize, Deserialize)]
struct Record {
    at: Timestamp,
    key: MemoryKey,
    write: Write,
}

#[derive(Serialize, Deserialize)]
enum Write {
    Append(Access, Append),
    Replace(Access, Box<Replace>),
    Splice(Access, Box<Splice>),
    Clear(Access, Clear),
    ReplaceAll(Access, Box<ReplaceAll>),
    Restore(Access, Restore),
    Erase(Access, Box<Erase>),
    Metadata(Access, Box<UpdateMetadata>),
    Claim(LeaseProof),
    Remove(RemoveUnused),
}

impl Journal {
    /// Opens the file, or makes it, and repeats its writes: the same writes at the same times make the same memories.
    fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        // A crash may leave a last line without its end. It was never acknowledged.
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        file.set_len(end as u64)?;
        file.sync_all()?;
        bytes.truncate(end);
        let mut memories: BTreeMap<MemoryKey, MemoryState> = BTreeMap::new();
        for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            // The reason is left out, because it may quote a message.
            let damaged = || {
                let text = format!("line {} is damaged; restore a backup", index + 1);
                io::Error::new(io::ErrorKind::InvalidData, text)
            };
            let Record { at, key, write } = serde_json::from_slice(line).map_err(|_| damaged())?;
            let memory = memories.entry(key).or_default();
            let done = match write {
                Write::Append(access, append) => memory.append(access, &append, at).map(drop),
                Write::Replace(access, replace) => memory.replace(access, &replace, at).map(drop),
                Write::Splice(access, splice) => memory.splice(access, &splice, at).map(drop),
                Write::Clear(access, clear) => memory.clear(access, &clear, at).map(drop),
                Write::ReplaceAll(access, replace) => {
                    memory.replace_all(access, &replace, at).map(drop)
                }
                Write::Restore(access, restore) => memory.restore(access, &restore, at).map(drop),
                Write::Erase(access, erase) => memory.erase(access, &erase, at).map(drop),
                Write::Metadata(access, update) => {
                    memory.update_metadata(access, &update, at).map(drop)
                }
                Write::Claim(lease) => memory.claim(lease, at),
                Write::Remove(remove) => memory.remove(remove).map(drop),
            };
            done.map_err(|_| damaged())?;
        }
        Ok(Self { file, memories, is_broken: false })
    }

    fn check(&self) -> Result<(), StoreErrorKind> {
        if self.is_broken {
            let text = "its file failed before; check the disk, and open the store again";
            return Err(StoreErrorKind::Unavailable(text.into()));
        }
        Ok(())
    }
}

impl JournalStore {
    fn open(path: &Path, clock: Clock) -> Result<Self, StoreError> {
        let journal = Journal::open(path).map_err(|error| {
            StoreError::new(StoreOperation::Open, kind_of(&error)).not_applied().caused_by(error)
        })?;
        Ok(Self { journal: Mutex::new(journal), watchers: LocalWatchers::default(), clock })
    }

    fn lock(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a write, which may be refused, and then stores it. Under the mutex, so no read sees a write that is
    /// not stored; and without an await, so that no caller is canceled half way.
    fn write<T>(
        &self,
        operation: StoreOperation,
        key: &MemoryKey,
        write: Write,
        apply: impl FnOnce(&mut MemoryState, Timestamp) -> Result<T, StoreErrorKind>,
    ) -> Result<T, StoreError> {
        let failed = |kind| StoreError::new(operation, kind).not_applied().at(key);
        let record = Record { at: self.clock.now(), key: key.clone(), write };
        let line = encode(&record).map_err(failed)?;
        let mut journal = self.lock();
        journal.check().map_err(failed)?;
        // A refused write changes nothing, and must not make an entry of a memory that was never written.
        let mut memory = journal.memories.get(key).cloned().unwrap_or_default();
        let done = apply(&mut memory, record.at).map_err(failed)?;
        let stored = journal.file.write_all(&line).and_then(|()| journal.file.sync_data());
        if let Err(error) = stored {
            journal.is_broken = true;
            // The caller may send the write again: it is recognized if it is in the file.
            return Err(failed(kind_of(&error)).caused_by(error).possibly_applied());
        }
        journal.memories.insert(key.clone(), memory);
        drop(journal);
        self.watchers.notify(key);
        Ok(done)
    }

    fn read<T>(
        &self,
        key: &MemoryKey,
        read: impl FnOnce(&MemoryState, Timestamp) -> T,
    ) -> Result<T, StoreError> {
        let journal = self.lock();
        journal
            .check()
            .map_err(|kind| StoreError::new(StoreOperation::Read, kind).not_applied().at(key))?;
        let unwritten = MemoryState::default();
        Ok(read(journal.memories.get(key).unwrap_or(&unwritten), self.clock.now()))
    }
}

/// A line that can be read back. Refuses what cannot, such as a message with an empty role.
fn encode(record: &Record) -> Result<Vec<u8>, StoreErrorKind> {
    let malformed = || StoreErrorKind::Invalid("a message of the batch is malformed".into());
    let mut line = serde_json::to_vec(record).map_err(|_| malformed())?;
    serde_json::from_slice::<Record>(&line).map_err(|_| malformed())?;
    line.push(b'\n');
    Ok(line)
}

fn kind_of(error: &io::Error) -> StoreErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull => StoreErrorKind::Full(error.to_string()),
        io::ErrorKind::InvalidData => StoreErrorKind::Corrupt(error.to_string()),
        _ => StoreErrorKind::Unavailable(format!("its file failed ({error}); check the disk")),
    }
}

#[async_trait]
impl MemoryStore for JournalStore {
    async fn append(
        &self,
        key: &MemoryKey,
        access: Access,
        append: &Append,
    ) -> Result<Appended, StoreError> {
        let record = Write::Append(access, append.clone());
        self.write(StoreOperation::Append, key, record, |memory, now| {
            memory.append(access, append, now)
        })
    }

    async fn replace(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &Replace,
    ) -> Result<Counters, StoreError> {
        let record = Write::Replace(access, Box::new(replace.clone()));
        self.write(StoreOperation::Replace, key, record, |memory, now| {
            memory.replace(access, replace, now)
        })
    }

    async fn splice(
        &self,
        key: &MemoryKey,
        access: Access,
        splice: &Splice,
    ) -> Result<Counters, StoreError> {
        let record = Write::Splice(access, Box::new(splice.clone()));
        self.write(StoreOperation::Splice, key, record, |memory, now| {
            memory.splice(access, splice, now)
        })
    }

    async fn clear(
        &self,
        key: &MemoryKey,
        access: Access,
        clear: &Clear,
    ) -> Result<Cleared, StoreError> {
        self.write(StoreOperation::Clear, key, Write::Clear(access, *clear), |memory, now| {
            memory.clear(access, clear, now)
        })
    }

    async fn replace_all(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &ReplaceAll,
    ) -> Result<ReplacedAll, StoreError> {
        let record = Write::ReplaceAll(access, Box::new(replace.clone()));
        self.write(StoreOperation::ReplaceAll, key, record, |memory, now| {
            memory.replace_all(access, replace, now)
        })
    }

    async fn restore(
        &self,
        key: &MemoryKey,
        access: Access,
        restore: &Restore,
    ) -> Result<Counters, StoreError> {
        let record = Write::Restore(access, *restore);
        self.write(StoreOperation::Restore, key, record, |memory, now| {
            memory.restore(access, restore, now)
        })
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
        let record = Write::Erase(access, Box::new(erase.clone()));
        self.write(StoreOperation::Erase, key, record, |memory, now| {
            memory.erase(access, erase, now)
        })
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
        let record = Write::Metadata(access, Box::new(update.clone()));
        self.write(StoreOperation::UpdateMetadata, key, record, |memory, now| {
            memory.update_metadata(access, update, now)
        })
    }

    async fn claim(&self, key: &MemoryKey, lease: LeaseProof) -> Result<(), StoreError> {
        self.write(StoreOperation::Claim, key, Write::Claim(lease), |memory, now| {
            memory.claim(lease, now)
        })
    }

    async fn head(&self, key: &MemoryKey) -> Result<Head, StoreError> {
        self.read(key, MemoryState::head)
    }

    async fn read(&self, key: &MemoryKey, read: Read) -> Result<Page, StoreError> {
        self.read(key, |memory, now| memory.read(read, now))
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
        let (now, journal) = (self.clock.now(), self.lock());
        journal
            .check()
            .map_err(|kind| StoreError::new(StoreOperation::ListKeys, kind).not_applied())?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let memories = journal.memories.range::<MemoryKey, _>((from, Bound::Unbounded));
        let listed = memories.filter(|(_, memory)| memory.has_messages(now));
        Ok(listed.take(limit.get()).map(|(key, _)| key.clone()).collect())
    }

    async fn unused(&self, query: &UnusedQuery) -> Result<UnusedPage, StoreError> {
        let (now, journal) = (self.clock.now(), self.lock());
        journal
            .check()
            .map_err(|kind| StoreError::new(StoreOperation::ListUnused, kind).not_applied())?;
        let mut rest = journal
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
        let record = Write::Remove(remove);
        self.write(StoreOperation::Remove, key, record, |memory, _| memory.remove(remove))
    }

    async fn watch(&self, key: &MemoryKey) -> Result<Box<dyn StoreWatch>, StoreError> {
        Ok(Box::new(self.watchers.watch(key)))
    }

    async fn server(&self) -> Result<Option<ServerHealth>, StoreError> {
        Ok(None)
    }

    /// Leases are kept elsewhere: callers take them before they write, and show their tokens.
    fn lease_domain(&self) -> Option<&LeaseDomain> {
        None
    }

    fn durability(&self) -> Durability {
        Durability::Disk
    }
}

impl fmt::Debug for JournalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalStore").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use memory_core::Clock;
    use memory_core::conformance::{StoreFixture, run_all};
    use tempfile::TempDir;

    use super::*;

    /// Makes a store for each case of the suite, and keeps their folders until the test is over.
    #[derive(Debug, Default)]
    struct Journals(Mutex<Vec<TempDir>>);

    #[async_trait]
    impl StoreFixture for Journals {
        async fn fresh(&self, clock: Clock) -> Arc<dyn MemoryStore> {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("journal");
            self.0.lock().unwrap().push(folder);
            Arc::new(JournalStore::open(&path, clock).unwrap())
        }

        fn copies(&self) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn journal_store_conforms() {
        run_all(&Journals::default()).await;
    }

    #[tokio::test]
    async fn runs_twice_and_survives_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let first = run(&path).await.unwrap();
        assert!(first.starts_with("2 messages appended so far"), "{first}");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"at\":").unwrap();
        let second = run(&path).await.unwrap();
        assert!(second.starts_with("3 messages appended so far"), "{second}");
    }
}
