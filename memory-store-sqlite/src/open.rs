//! Connections, and the purpose of each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use memory_core::store::{Durability, StoreErrorKind};
use memory_sqlite_file::{
    FileIdentity, OpenOptions, PathRefused, Synchronous, literal_path, open_database, reconnect,
    refuse_by_neighbors,
};
use rusqlite::Connection;

use crate::config::SqliteConfig;
use crate::error::JobError;
use crate::real_time::real_now;
use crate::schema;

/// How long a statement blocks its thread while another process holds the lock. Longer waits consist of
/// several such rounds, on a thread that may block, and end with the operation timeout.
const BUSY_ROUND: Duration = Duration::from_millis(1);

/// The file of the log is cut back to this size when the log starts over, in bytes. Checkpoints come every
/// 1,000 pages, SQLite's default: a longer log would need fewer, but a log that grows is slower to sync
/// than one that is written again from its beginning.
const LOG_LIMIT: i64 = 16 << 20;

/// The file of a store, as it was when the store was opened.
#[derive(Debug)]
pub(crate) struct OpenFile {
    identity: FileIdentity,
    /// Open as long as the store is open: SQLite keeps the log while any connection is open, so a missing log
    /// was removed by another program. Checkpoints need this connection too.
    anchor: Mutex<Option<Connection>>,
    opened: Instant,
    /// The time of the last check of the names, in microseconds after `opened`.
    checked: AtomicU64,
}

/// If the file has not been written for this long, it is also checked before a write. It is more likely that
/// it was replaced in this time than during the write, and a log without new writes is not folded into a file
/// that may by now belong to another process.
const IDLE_BEFORE_CHECK: Duration = Duration::from_millis(10);

impl OpenFile {
    fn new(identity: FileIdentity, anchor: Connection) -> Self {
        let anchor = Mutex::new(Some(anchor));
        Self { identity, anchor, opened: real_now(), checked: AtomicU64::new(0) }
    }

    /// Whether the path still names the file and its log. Check this before acknowledging a write or using
    /// the result of a read.
    pub(crate) fn check(&self) -> Result<(), JobError> {
        self.identity.check()?;
        self.checked.store(self.age(), Ordering::Relaxed);
        Ok(())
    }

    /// The check before a write.
    pub(crate) fn check_before_write(&self) -> Result<(), JobError> {
        self.check_found()?;
        let idle = self.age().saturating_sub(self.checked.load(Ordering::Relaxed));
        if Duration::from_micros(idle) > IDLE_BEFORE_CHECK { self.check() } else { Ok(()) }
    }

    fn age(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Whether a check has already found that it does not.
    pub(crate) fn check_found(&self) -> Result<(), JobError> {
        Ok(self.identity.check_found()?)
    }

    /// Runs `work` with the connection that is kept open, unless the file is closed.
    pub(crate) fn with_anchor(&self, work: impl FnOnce(&Connection)) {
        let anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = &*anchor {
            work(connection);
        }
    }

    /// Closes the connection that this struct holds. Call it after the others are closed: the last one folds
    /// the log into the file.
    pub(crate) fn close(&self) {
        let anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(connection) = anchor {
            self.identity.fold_log_on_close(&connection);
        }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.close();
    }
}

/// Opens the file, which is made if it is missing and brought to the newest schema if it is ours.
pub(crate) fn open_file(config: &SqliteConfig) -> Result<(Connection, Arc<OpenFile>), JobError> {
    let path = config.path();
    let literal = literal_path(path).map_err(|reason| refused(&reason))?;
    refuse_by_neighbors(&literal)?;
    schema::inspect(&literal, path)?;
    let options =
        OpenOptions::new().with_busy_timeout(config.operation_timeout()).with_links(config.links());
    let (anchor, identity) = open_database(path, &options, |connection| {
        if connection.is_readonly("main")? {
            return Err(schema::read_only(path));
        }
        // Before the journal mode is changed: of several programs that find an empty file, one is the
        // first to write to it.
        schema::migrate(connection, path)
    })?;
    sync_to_the_disk(&anchor, config)?;
    let file = Arc::new(OpenFile::new(identity, anchor));
    let writer = open_writer(&file, config)?;
    Ok((writer, file))
}

fn refused(reason: &PathRefused) -> JobError {
    JobError::Refused(StoreErrorKind::Invalid(reason.to_string()))
}

/// The connection that writes.
pub(crate) fn open_writer(file: &OpenFile, config: &SqliteConfig) -> Result<Connection, JobError> {
    let connection = open(file, config.synchronous())?;
    connection.pragma_update(None, "journal_size_limit", LOG_LIMIT)?;
    // The writer makes its own.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    sync_to_the_disk(&connection, config)?;
    Ok(connection)
}

/// Where a plain sync stops at the drive's cache (macOS); nothing elsewhere.
fn sync_to_the_disk(connection: &Connection, config: &SqliteConfig) -> Result<(), JobError> {
    if config.durability() == Durability::Disk {
        connection.pragma_update(None, "fullfsync", true)?;
        connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    }
    Ok(())
}

/// A connection that only reads. It is opened for writing nevertheless: a reader that may not write to the
/// log's index could not recover the log of a process that was killed.
pub(crate) fn open_reader(file: &OpenFile) -> Result<Connection, JobError> {
    let connection = open(file, Synchronous::Normal)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn open(file: &OpenFile, synchronous: Synchronous) -> Result<Connection, JobError> {
    let options = OpenOptions::new().with_synchronous(synchronous).with_busy_timeout(BUSY_ROUND);
    Ok(reconnect(&file.identity, &options)?)
}
