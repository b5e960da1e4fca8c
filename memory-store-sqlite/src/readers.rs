//! Connections that read, and the thread on which a read runs.
//!
//! A read of a few rows takes some microseconds and never waits for the writer, so it runs on the
//! calling thread: a hand-off would cost several times as much. A read that would take longer than a
//! commit takes (many rows, or much text) runs on a thread of the store, a few at once. The others wait in
//! line as work, not as tasks, so a caller that does not poll its future delays no other.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use memory_core::MemoryKey;
use memory_core::store::{StoreError, StoreErrorKind, StoreOperation};
use memory_sqlite_file::{LeaseObserver, PausedRuntime, WorkerThreads, answer};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::config::SqliteConfig;
use crate::error::{JobError, no_thread};
use crate::open::{OpenFile, open_reader};
use crate::real_time::real_now;

#[derive(Debug)]
pub(crate) struct Readers {
    config: SqliteConfig,
    leases: LeaseObserver,
    idle: Mutex<Vec<Connection>>,
    /// The number of reads that have a connection.
    active: AtomicUsize,
    /// For long reads, of which this many run at once.
    threads: WorkerThreads,
    /// Dropped after the connections.
    file: Arc<OpenFile>,
}

/// The most bytes of texts that are read on the calling thread.
const BRIEF_BYTES: u64 = 128 << 10;

/// One snapshot of the file.
pub(crate) struct FileSnapshot<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) leases: &'a LeaseObserver,
    pub(crate) now: u64,
    /// A read that turns out to be long must report so instead of running.
    pub(crate) brief: bool,
}

/// Counts a read until it is dropped.
struct Active<'a>(&'a AtomicUsize);

impl<'a> Active<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl FileSnapshot<'_> {
    /// Whether this many rows with this many tokens are too much for the calling thread.
    pub(crate) const fn is_too_long(&self, rows: u64, tokens: u64) -> bool {
        self.brief && (rows > 128 || tokens > 1 << 15)
    }

    /// Whether texts of this many bytes are too much for the calling thread: their tokens did not show it, as those of
    /// media do not.
    pub(crate) const fn has_too_long_texts(&self, bytes: u64) -> bool {
        self.brief && bytes > BRIEF_BYTES
    }

    /// Whether a task holds a lease on the memory or on its flush.
    pub(crate) fn is_leased(&self, key: &MemoryKey) -> rusqlite::Result<bool> {
        for lease in [key.lease_name(), &key.flush_lease_name()] {
            if self.leases.look(self.connection, lease)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// How long an attempt to read may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// It runs on the calling thread, and stops if the read is too long for that.
    Brief,
    Full,
}

/// The reads of a store that closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    Ended,
    Running,
}

impl Readers {
    pub(crate) fn new(config: SqliteConfig, file: Arc<OpenFile>) -> Self {
        let most = NonZeroUsize::new(config.readers()).unwrap_or(NonZeroUsize::MIN);
        let threads = WorkerThreads::new("sqlite-reader", most);
        let leases = LeaseObserver::new(config.clock().clone());
        let (idle, active) = (Mutex::default(), AtomicUsize::new(0));
        Self { config, leases, idle, active, threads, file }
    }

    /// Runs a read on one snapshot; `None` from it means that it is too long for the calling thread.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        operation: StoreOperation,
        read: impl Fn(&FileSnapshot<'_>) -> Result<Option<T>, JobError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match self.attempt(Effort::Brief, &read) {
            Ok(None) => {}
            Err(error) if error.is_busy() => {}
            Ok(Some(done)) => return Ok(done),
            Err(error) => return Err(error.to_error(operation, self.config.path())),
        }
        let (reply, mut receiver) = oneshot::channel();
        let paused = PausedRuntime::current();
        let (this, runtime) = (Arc::clone(self), paused.clone());
        let queued = self.threads.run((this, read), move |(this, read)| {
            let _clock = runtime.as_ref().map(PausedRuntime::enter);
            if !reply.is_closed() {
                // The caller may have dropped its future; then the result is not needed.
                let _ = reply.send(this.attempt_patiently(&read));
            }
        });
        let done = match queued {
            Ok(()) => answer(&mut receiver, paused.as_ref()).await.unwrap_or_else(|_| {
                // Only a panic drops the reply of a waiting caller.
                Err(JobError::Refused(StoreErrorKind::Other(
                    "the read ended early; read again".into(),
                )))
            }),
            Err(refused) => return Err(no_thread(operation, &Arc::new(refused.source))),
        };
        done.map_err(|error| error.to_error(operation, self.config.path()))
    }

    /// Closes the idle connections; returns whether others are in use.
    pub(crate) fn close(&self) -> Reads {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
        if self.active.load(Ordering::SeqCst) == 0 { Reads::Ended } else { Reads::Running }
    }

    /// Retries while another process prevents any read of the file, such as while it recovers the log of a
    /// killed process.
    fn attempt_patiently<T>(
        &self,
        read: &impl Fn(&FileSnapshot<'_>) -> Result<Option<T>, JobError>,
    ) -> Result<T, JobError> {
        let since = real_now();
        loop {
            match self.attempt(Effort::Full, read) {
                Err(error)
                    if error.is_busy() && since.elapsed() < self.config.operation_timeout() => {}
                Ok(None) => {
                    return Err(JobError::Refused(StoreErrorKind::Other(
                        "read ended early".into(),
                    )));
                }
                Ok(Some(done)) => return Ok(done),
                Err(error) => return Err(error),
            }
        }
    }

    fn attempt<T>(
        &self,
        effort: Effort,
        read: &impl Fn(&FileSnapshot<'_>) -> Result<Option<T>, JobError>,
    ) -> Result<Option<T>, JobError> {
        self.file.check_found()?;
        let _active = Active::new(&self.active);
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open_reader(&self.file)?,
        };
        connection.prepare_cached("BEGIN")?.execute(())?;
        let now = self.config.now_micros();
        let brief = effort == Effort::Brief;
        let done =
            read(&FileSnapshot { connection: &connection, leases: &self.leases, now, brief });
        // A connection that is not returned is closed; the next read opens another.
        let sound = !matches!(done, Err(JobError::Sqlite(_)));
        if sound && connection.prepare_cached("COMMIT")?.execute(()).is_ok() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < self.config.kept_readers() {
                idle.push(connection);
            }
        }
        // Checked after the snapshot was taken: if the path still names the file, it is not a snapshot of the
        // past.
        self.file.check()?;
        done
    }
}

#[cfg(test)]
mod tests {
    use memory_core::store::{
        Access, Append, Cursor, KnownBatch, MessageId, NewMessage, Read, WriterId,
    };
    use memory_core::{ContentType, MemoryStore as _, Message, Sequence};
    use uuid::Uuid;

    use super::*;
    use crate::open::open_file;
    use crate::{SqliteStore, reads};

    /// One long read at a time must not close the connections of short reads beside it.
    #[tokio::test]
    async fn short_reads_keep_their_connections() {
        let folder = tempfile::tempdir().unwrap();
        let config = SqliteConfig::new(folder.path().join("memory.db")).with_readers(1);
        let _store = SqliteStore::open(config.clone()).await.unwrap();
        let (_connection, file) = open_file(&config).unwrap();
        let readers = Readers::new(config, file);
        let inner = |_: &FileSnapshot<'_>| Ok(Some(()));
        let outer = |_: &FileSnapshot<'_>| readers.attempt(Effort::Brief, &inner);
        readers.attempt(Effort::Brief, &outer).unwrap().unwrap();
        assert_eq!(readers.idle.lock().unwrap().len(), 2);
    }

    /// An image has many bytes and few tokens.
    #[tokio::test]
    async fn long_texts_of_few_tokens_leave_the_caller() {
        let folder = tempfile::tempdir().unwrap();
        let config = SqliteConfig::new(folder.path().join("memory.db"));
        let store = SqliteStore::open(config.clone()).await.unwrap();
        let (_connection, file) = open_file(&config).unwrap();
        let readers = Readers::new(config, file);
        for (name, bytes) in [("short", 1 << 10), ("long", 64 << 10)] {
            let key = MemoryKey::new("tests", "sqlite", name).unwrap();
            let image = |number: u128| NewMessage {
                id: MessageId::new(Uuid::from_u128(number)),
                message: Message::user("x".repeat(bytes)),
                tokens: 10,
                priority: None,
                content_type: ContentType::Conversation,
                created_at: jiff::Timestamp::UNIX_EPOCH,
            };
            let messages = (1..=20).map(image).collect();
            let write = WriterId::new(1).write(1);
            let append = Append { write, messages, ttl: None, expected: None };
            store.append(&key, Access::OPEN, &append).await.unwrap();
            let generation = store.head(&key).await.unwrap().generation;
            let places: Vec<_> = (1..=20).map(Sequence::new).collect();
            let [first, last] = [2, 3].map(Sequence::new);
            let known = KnownBatch { first: last, last, id: MessageId::new(Uuid::from_u128(3)) };
            let after = Cursor::unidentified(generation, first);
            let all = NonZeroUsize::new(20).unwrap();
            let one = NonZeroUsize::MIN;
            let before = |limit| {
                move |db: &FileSnapshot<'_>, key: &MemoryKey| {
                    Ok(reads::read_before(db, key, None, limit)?.map(drop))
                }
            };
            let is_brief = |read: &dyn Fn(&FileSnapshot<'_>) -> Result<Option<()>, JobError>| {
                readers.attempt(Effort::Brief, &read).unwrap().is_some()
            };
            let whole = Read { after: None, limit: None };
            let are_brief = [
                is_brief(&|db| Ok(reads::read(db, &key, whole)?.map(drop))),
                is_brief(&|db| before(all)(db, &key)),
                is_brief(&|db| Ok(reads::catch_up(db, &key, after, &[known])?.map(drop))),
                is_brief(&|db| Ok(reads::fetch(db, &key, after, &places)?.map(drop))),
            ];
            assert_eq!(are_brief, [name == "short"; 4], "{name}");
            assert!(is_brief(&|db| before(one)(db, &key)), "one message");
        }
    }
}
