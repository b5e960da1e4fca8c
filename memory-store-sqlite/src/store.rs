use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use memory_core::health::ServerHealth;
use memory_core::lease::{LeaseDomain, LeaseProof};
use memory_core::store::{
    Access, Append, Appended, ArchivedRemoval, CaughtUp, Clear, Cleared, CopyProgress, CopyWrite,
    Counters, Cursor, Durability, Erase, Erased, Erasure, ExpiredMemories, FlushReceipt, Fork,
    ForkOrigin, Forked, Frame, FrameWriters, Head, KnownBatch, Metadata, NewMessage, Outline, Page,
    PageLimit, Read, RemainingCopy, RemoveUnused, RemovedUnused, Replace, ReplaceAll, ReplacedAll,
    Restore, Scrubbed, SearchQuery, SearchResults, Splice, StoreError, StoreErrorKind,
    StoreOperation, StoreWatch, UnusedMemory, UnusedPage, UnusedQuery, UpdateMetadata,
};
use memory_core::{MemoryKey, MemoryStore, Sequence, StoredMessage};
use memory_sqlite_file::{PausedRuntime, WorkerThreads, answer, sqlite_domain};
use tokio::sync::oneshot;

use crate::codec::Encoded;
use crate::commands::{
    AppendRows, ClaimToken, ClearRows, EraseRows, ForkRows, RemoveRows, ReplaceAllRows, ReplaceRow,
    RestoreRows, SpliceRows,
};
use crate::config::SqliteConfig;
use crate::error::{JobError, no_thread};
use crate::open::open_file;
use crate::readers::{FileSnapshot, Readers, Reads};
use crate::reads;
use crate::scrub::scrub;
use crate::watches::{Registry, Watches};
use crate::writer::Writer;

/// The rows of a batch.
fn encoded(batch: &Append) -> Result<Vec<Encoded>, StoreErrorKind> {
    batch.messages.iter().map(|new| Encoded::new(&new.message)).collect()
}

/// The number of memories that are checked for expiry together.
const LOOKED_AT: NonZeroUsize = match NonZeroUsize::new(1_000) {
    Some(number) => number,
    None => NonZeroUsize::MIN,
};

/// The number of rows that one transaction removes: other writers wait for it.
const REMOVED_AT_ONCE: NonZeroUsize = match NonZeroUsize::new(256) {
    Some(number) => number,
    None => NonZeroUsize::MIN,
};

/// Memories in a SQLite file, shared by all processes of one machine that open it.
///
/// Leases of `SqliteLock` of `memory-lock` on the same file are checked within each write.
pub struct SqliteStore {
    config: SqliteConfig,
    readers: Arc<Readers>,
    writer: Arc<Writer>,
    watches: Watches,
    scrubber: WorkerThreads,
    domain: LeaseDomain,
}

impl SqliteStore {
    /// Opens the file, and creates it and its tables where they are missing. Any number of processes may do
    /// so at once.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use memory_core::{MemoryKey, MemoryStore};
    /// use memory_store_sqlite::SqliteStore;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let store = SqliteStore::open(folder.path().join("memory.db")).await?;
    /// let key = MemoryKey::new("acme", "support", "case-4711")?;
    /// assert_eq!(store.head(&key).await?.counters.present.messages, 0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A file that is not ours, damaged, read-only or written by a newer version is refused and left
    /// as it is ([`StoreErrorKind::Corrupt`], [`ReadOnly`](StoreErrorKind::ReadOnly),
    /// [`Newer`](StoreErrorKind::Newer)); so is a path that cannot be a file, and a file that has more
    /// than one name ([`Invalid`](StoreErrorKind::Invalid), see [`SqliteConfig::with_links`]).
    ///
    /// When the file is removed, replaced or renamed while it is open, every later call fails permanently
    /// with [`StoreErrorKind::Replaced`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the file opened and closed again, or untouched.
    pub async fn open(config: impl Into<SqliteConfig> + Send) -> Result<Self, StoreError> {
        let config = config.into();
        let thread = WorkerThreads::new("sqlite-writer", NonZeroUsize::MIN);
        let (reply, mut receiver) = oneshot::channel();
        let paused = PausedRuntime::current();
        let queued = thread.run(config.clone(), move |config| {
            // Closed again if the caller dropped its future.
            let _ = reply.send(open_file(&config));
        });
        if let Err(refused) = queued {
            return Err(no_thread(StoreOperation::Open, &Arc::new(refused.source)));
        }
        let opened = answer(&mut receiver, paused.as_ref()).await.unwrap_or_else(|_| {
            Err(JobError::Refused(StoreErrorKind::Other(
                "opening was interrupted; try again".into(),
            )))
        });
        let (connection, file) =
            opened.map_err(|error| error.to_error(StoreOperation::Open, config.path()))?;
        let domain = sqlite_domain(config.path())
            .map_err(|error| JobError::from(error).to_error(StoreOperation::Open, config.path()))?;
        let registry = Arc::new(Registry::new(config.clone()));
        let writer = Writer::new(
            config.clone(),
            Arc::clone(&file),
            connection,
            thread,
            Arc::clone(&registry),
        );
        Ok(Self {
            readers: Arc::new(Readers::new(config.clone(), Arc::clone(&file))),
            writer: Arc::new(writer),
            watches: Watches::new(registry, file),
            scrubber: WorkerThreads::new("sqlite-scrub", NonZeroUsize::MIN),
            config,
            domain,
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.config.path()
    }

    pub(crate) const fn readers(&self) -> &Arc<Readers> {
        &self.readers
    }

    pub(crate) const fn writer(&self) -> &Arc<Writer> {
        &self.writer
    }

    pub(crate) const fn unindexed_limit(&self) -> u64 {
        self.config.unindexed_limit()
    }

    /// The bytes that the file and its log use on the disk.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`] if the file was removed.
    pub fn size_bytes(&self) -> Result<u64, StoreError> {
        let file = self.path().metadata().map_err(|error| {
            let reason = format!("{} cannot be accessed; check the path", self.path().display());
            StoreError::new(StoreOperation::Measure, StoreErrorKind::Unavailable(reason))
                .not_applied()
                .caused_by(error)
        })?;
        let mut log = self.path().as_os_str().to_owned();
        log.push("-wal");
        // The log does not exist after the last process has closed the file.
        let log = Path::new(&log).metadata().map_or(0, |log| log.len());
        Ok(file.len() + log)
    }

    /// Frees the space of memories whose TTL has run out, of all projects, at most this many. Returns how
    /// many were freed. A memory that is written again does not need it, so this is for those that are never
    /// written again. Later writes reuse the pages; the file does not shrink.
    ///
    /// # Errors
    /// As an append.
    ///
    /// # Cancel safety
    /// The next call removes the rest of a partly removed memory.
    pub async fn remove_expired(&self, most: NonZeroUsize) -> Result<usize, StoreError> {
        let mut query = UnusedQuery {
            prefix: String::new(),
            after: None,
            expired: ExpiredMemories::Selected,
            unwritten_for: None,
            limit: LOOKED_AT,
        };
        let mut removed = 0;
        loop {
            let page = self.unused(&query).await?;
            for memory in &page.memories {
                if removed == most.get() {
                    return Ok(removed);
                }
                removed += usize::from(self.remove_whole(memory).await?);
            }
            if page.next.is_none() {
                return Ok(removed);
            }
            query.after = page.next;
        }
    }

    /// Whether it was removed. False if it was written or leased meanwhile.
    async fn remove_whole(&self, memory: &UnusedMemory) -> Result<bool, StoreError> {
        let remove = RemoveUnused::new(memory, REMOVED_AT_ONCE);
        loop {
            match self.remove(&memory.key, remove).await {
                Ok(RemovedUnused { more: true, .. }) => {}
                Ok(_) => return Ok(true),
                Err(error) => match error.kind() {
                    StoreErrorKind::Conflict | StoreErrorKind::Locked { .. } => return Ok(false),
                    _ => return Err(error),
                },
            }
        }
    }
}

impl Drop for SqliteStore {
    /// Closes the file; the last process to do so folds the log into it. If a caller dropped its future
    /// during a write, waits up to 20 ms for that write; if it takes longer, a thread of the store closes the
    /// file after it. Watches end with an error.
    fn drop(&mut self) {
        let watches = self.watches.close();
        let reads = self.readers.close();
        self.writer.close(if watches == Reads::Ended { reads } else { Reads::Running });
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("config", &self.config).finish_non_exhaustive()
    }
}

#[async_trait]
impl MemoryStore for SqliteStore {
    async fn append(
        &self,
        key: &MemoryKey,
        access: Access,
        append: &Append,
    ) -> Result<Appended, StoreError> {
        let refuse = |kind| StoreError::new(StoreOperation::Append, kind).not_applied().at(key);
        if append.messages.is_empty() {
            return Err(refuse(StoreErrorKind::Invalid(
                "a batch must hold at least one message".into(),
            )));
        }
        let encoded = encoded(append).map_err(refuse)?;
        self.writer.submit(key, AppendRows { access, append: append.clone(), encoded }).await
    }

    async fn replace(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &Replace,
    ) -> Result<Counters, StoreError> {
        let checked = replace.check().and_then(|()| Encoded::new(&replace.message.message));
        let encoded = checked
            .map_err(|kind| StoreError::new(StoreOperation::Replace, kind).not_applied().at(key))?;
        self.writer.submit(key, ReplaceRow { access, replace: replace.clone(), encoded }).await
    }

    async fn splice(
        &self,
        key: &MemoryKey,
        access: Access,
        splice: &Splice,
    ) -> Result<Counters, StoreError> {
        let refused = |kind| StoreError::new(StoreOperation::Splice, kind).not_applied().at(key);
        let encoded = |new: &NewMessage| Encoded::new(&new.message).map_err(refused);
        let summary = splice.summary.as_ref().map(encoded).transpose()?;
        let replaced = splice.replaced.iter().map(|one| encoded(&one.message));
        let replaced = replaced.collect::<Result<_, _>>()?;
        let rows = SpliceRows { access, splice: splice.clone(), summary, replaced };
        self.writer.submit(key, rows).await
    }

    async fn clear(
        &self,
        key: &MemoryKey,
        access: Access,
        clear: &Clear,
    ) -> Result<Cleared, StoreError> {
        self.writer.submit(key, ClearRows { access, clear: *clear }).await
    }

    async fn replace_all(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &ReplaceAll,
    ) -> Result<ReplacedAll, StoreError> {
        let refuse = |kind| StoreError::new(StoreOperation::ReplaceAll, kind).not_applied().at(key);
        replace.check().map_err(refuse)?;
        let encoded = encoded(&replace.batch).map_err(refuse)?;
        self.writer.submit(key, ReplaceAllRows { access, replace: replace.clone(), encoded }).await
    }

    async fn restore(
        &self,
        key: &MemoryKey,
        access: Access,
        restore: &Restore,
    ) -> Result<Counters, StoreError> {
        self.writer.submit(key, RestoreRows { access, restore: *restore }).await
    }

    async fn removals(
        &self,
        key: &MemoryKey,
        before: Option<u64>,
        limit: NonZeroUsize,
    ) -> Result<Vec<ArchivedRemoval>, StoreError> {
        let name = key.clone();
        let read = move |db: &FileSnapshot<'_>| reads::removals(db, &name, before, limit);
        self.readers.run(StoreOperation::Read, read).await.map_err(|error| error.at(key))
    }

    async fn archived(
        &self,
        key: &MemoryKey,
        removal: u64,
        after: Sequence,
        limit: PageLimit,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let name = key.clone();
        let read = move |db: &FileSnapshot<'_>| reads::archived(db, &name, removal, after, limit);
        self.readers.run(StoreOperation::Read, read).await.map_err(|error| error.at(key))
    }

    /// The first search of a memory builds its index, in transactions of about 1,000 places; later ones add what came
    /// since. Up to [128](SqliteConfig::with_unindexed_limit) new messages are scanned instead.
    async fn search(
        &self,
        key: &MemoryKey,
        query: &SearchQuery,
    ) -> Result<SearchResults, StoreError> {
        self.search_index(key, query).await
    }

    async fn rebuild_index(&self, key: &MemoryKey) -> Result<Option<u64>, StoreError> {
        self.build_index(key).await.map(Some)
    }

    async fn erase(
        &self,
        key: &MemoryKey,
        access: Access,
        erase: &Erase,
    ) -> Result<Erased, StoreError> {
        erase
            .check()
            .map_err(|kind| StoreError::new(StoreOperation::Erase, kind).not_applied().at(key))?;
        self.writer.submit(key, EraseRows { access, erase: erase.clone() }).await
    }

    async fn erasures(&self, key: &MemoryKey) -> Result<Vec<Erasure>, StoreError> {
        self.kept_erasures(key).await
    }

    /// Rewrites the file (`VACUUM`) and truncates its log. Other writers wait meanwhile, up to their timeouts, about a
    /// second for each 100 MB; readers do not. [`Scrubbed::Busy`] if a reader kept the log, or a writer the lock, for
    /// the [operation timeout](SqliteConfig::with_operation_timeout).
    async fn scrub(&self) -> Result<Scrubbed, StoreError> {
        const OPERATION: StoreOperation = StoreOperation::Scrub;
        let (reply, mut receiver) = oneshot::channel();
        let (paused, file, config) =
            (PausedRuntime::current(), self.writer.file(), self.config.clone());
        let queued = self.scrubber.run((file, config), move |(file, config)| {
            // The caller may have dropped its future.
            let _ = reply.send(scrub(&file, &config));
        });
        if let Err(refused) = queued {
            return Err(no_thread(OPERATION, &Arc::new(refused.source)));
        }
        let scrubbed = answer(&mut receiver, paused.as_ref()).await.unwrap_or_else(|_| {
            let problem = "the scrub ended early; try again";
            Err(JobError::Refused(StoreErrorKind::Other(problem.into())))
        });
        scrubbed.map_err(|error| error.to_error(OPERATION, self.config.path()))
    }

    /// A scrub reaches the first three.
    fn remaining_copies(&self) -> &'static [RemainingCopy] {
        use RemainingCopy::{Backups, FreeSpace, SearchIndex, WriteAheadLog};
        &[WriteAheadLog, FreeSpace, SearchIndex, Backups]
    }

    async fn frame(&self, key: &MemoryKey, writers: FrameWriters) -> Result<Frame, StoreError> {
        self.whole_frame(key, writers).await
    }

    async fn write_copy(
        &self,
        key: &MemoryKey,
        access: Access,
        write: &CopyWrite,
    ) -> Result<CopyProgress, StoreError> {
        self.copy_step(key, access, write).await
    }

    async fn fork(
        &self,
        key: &MemoryKey,
        access: Access,
        fork: &Fork,
    ) -> Result<Forked, StoreError> {
        self.writer.submit(key, ForkRows { access, fork: fork.clone() }).await
    }

    async fn origin(&self, key: &MemoryKey) -> Result<Option<ForkOrigin>, StoreError> {
        self.fork_origin(key).await
    }

    async fn metadata(&self, key: &MemoryKey) -> Result<Metadata, StoreError> {
        self.read_metadata(key).await
    }

    async fn update_metadata(
        &self,
        key: &MemoryKey,
        access: Access,
        update: &UpdateMetadata,
    ) -> Result<Metadata, StoreError> {
        self.merge_metadata(key, access, update).await
    }

    async fn claim(&self, key: &MemoryKey, lease: LeaseProof) -> Result<(), StoreError> {
        self.writer.submit(key, ClaimToken(lease)).await
    }

    async fn head(&self, key: &MemoryKey) -> Result<Head, StoreError> {
        let name = key.clone();
        let done = self.readers.run(StoreOperation::Read, move |db| reads::head(db, &name)).await;
        done.map_err(|error| error.at(key))
    }

    async fn read(&self, key: &MemoryKey, read: Read) -> Result<Page, StoreError> {
        let name = key.clone();
        let done =
            self.readers.run(StoreOperation::Read, move |db| reads::read(db, &name, read)).await;
        done.map_err(|error| error.at(key))
    }

    async fn catch_up(
        &self,
        key: &MemoryKey,
        after: Cursor,
        known: &[KnownBatch],
    ) -> Result<CaughtUp, StoreError> {
        let (name, known) = (key.clone(), known.to_vec());
        let read = move |db: &FileSnapshot<'_>| reads::catch_up(db, &name, after, &known);
        self.readers.run(StoreOperation::Read, read).await.map_err(|error| error.at(key))
    }

    async fn read_before(
        &self,
        key: &MemoryKey,
        before: Option<Cursor>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        let name = key.clone();
        let read = move |db: &FileSnapshot<'_>| reads::read_before(db, &name, before, limit);
        self.readers.run(StoreOperation::Read, read).await.map_err(|error| error.at(key))
    }

    async fn outline(&self, key: &MemoryKey) -> Result<Outline, StoreError> {
        let name = key.clone();
        let done =
            self.readers.run(StoreOperation::Read, move |db| reads::outline(db, &name)).await;
        done.map_err(|error| error.at(key))
    }

    async fn fetch(
        &self,
        key: &MemoryKey,
        snapshot: Cursor,
        places: &[Sequence],
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let (name, places) = (key.clone(), places.to_vec());
        let fetch = move |db: &FileSnapshot<'_>| reads::fetch(db, &name, snapshot, &places);
        self.readers.run(StoreOperation::Read, fetch).await.map_err(|error| error.at(key))
    }

    async fn receipts(&self, key: &MemoryKey) -> Result<Vec<FlushReceipt>, StoreError> {
        let name = key.clone();
        let done =
            self.readers.run(StoreOperation::Read, move |db| reads::receipts(db, &name)).await;
        done.map_err(|error| error.at(key))
    }

    async fn keys(
        &self,
        after: Option<&MemoryKey>,
        limit: NonZeroUsize,
    ) -> Result<Vec<MemoryKey>, StoreError> {
        let after = after.cloned();
        self.readers
            .run(StoreOperation::ListKeys, move |db| reads::keys(db, after.as_ref(), limit))
            .await
    }

    async fn unused(&self, query: &UnusedQuery) -> Result<UnusedPage, StoreError> {
        let query = query.clone();
        self.readers.run(StoreOperation::ListUnused, move |db| reads::unused(db, &query)).await
    }

    async fn remove(
        &self,
        key: &MemoryKey,
        remove: RemoveUnused,
    ) -> Result<RemovedUnused, StoreError> {
        self.writer.submit(key, RemoveRows(remove)).await
    }

    /// Writes through other stores and other processes are signaled within 50 ms, and within 2 ms while the memory is
    /// written often. A thread of the store polls the file while there are watches. If the file was replaced, or the
    /// store was dropped, [`changed`](StoreWatch::changed) returns an error.
    async fn watch(&self, key: &MemoryKey) -> Result<Box<dyn StoreWatch>, StoreError> {
        Ok(Box::new(self.watches.watch(key, &self.readers).await?))
    }

    async fn server(&self) -> Result<Option<ServerHealth>, StoreError> {
        Ok(None)
    }

    fn lease_domain(&self) -> Option<&LeaseDomain> {
        Some(&self.domain)
    }

    fn durability(&self) -> Durability {
        self.config.durability()
    }
}
