//! Connections, and what each is for.

use std::time::Duration;

use memory_core::Durability;
use memory_lock::sqlite::{OpenOptions, Synchronous, open_connection};
use rusqlite::Connection;

use crate::config::SqliteConfig;
use crate::error::Fault;
use crate::schema;

/// How long a statement blocks its thread while another process holds the lock. Longer waits are
/// made of such rounds, on a thread that may block, and end with the operation timeout.
const ROUND: Duration = Duration::from_millis(1);

/// The log is cut back to this size after a checkpoint, in bytes. It is folded into the file every
/// 1,000 pages, SQLite's default: a longer log would be folded more rarely, but a log that grows is
/// slower to sync than one that is written again from its beginning.
const LOG_LIMIT: i64 = 16 << 20;

/// Opens the file, which is made if it is missing and brought to the newest schema if it is ours.
pub(crate) fn open_file(config: &SqliteConfig) -> Result<Connection, Fault> {
    let path = config.path();
    schema::inspect(path)?;
    let options = OpenOptions::new().with_busy_timeout(config.operation_timeout());
    let mut connection = open_connection(path, &options)?;
    if connection.is_readonly("main")? {
        return Err(schema::read_only(path));
    }
    schema::migrate(&mut connection, path)?;
    // Before the first connection is closed, for the last one to close removes the log.
    let writer = open_writer(config)?;
    drop(connection);
    Ok(writer)
}

/// The connection that writes.
pub(crate) fn open_writer(config: &SqliteConfig) -> Result<Connection, Fault> {
    let connection = open(config, config.synchronous())?;
    connection.pragma_update(None, "journal_size_limit", LOG_LIMIT)?;
    if config.durability() == Durability::Disk {
        // Where a plain sync stops at the drive's cache (macOS); nothing elsewhere.
        connection.pragma_update(None, "fullfsync", true)?;
        connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    }
    Ok(connection)
}

/// A connection that only reads. Opened for writing all the same: a reader that may not write to the
/// log's index could not recover the log of a process that was killed.
pub(crate) fn open_reader(config: &SqliteConfig) -> Result<Connection, Fault> {
    let connection = open(config, Synchronous::Normal)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn open(config: &SqliteConfig, synchronous: Synchronous) -> Result<Connection, Fault> {
    let options = OpenOptions::new()
        .with_synchronous(synchronous)
        .with_busy_timeout(ROUND)
        .with_create(false);
    Ok(open_connection(config.path(), &options)?)
}
