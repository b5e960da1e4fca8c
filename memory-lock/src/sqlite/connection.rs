//! Opening a file in WAL mode, and naming it so that a store and its leases know each other.

use std::path::Path;
use std::time::Duration;

use memory_core::LeaseDomain;
use rusqlite::{Connection, OpenFlags};

use super::busy::{self, nap, real_now};
use super::failure::{SqliteFailure, classify, lock_error};
use super::library;
use crate::error::{LockError, LockErrorKind, LockOperation};

/// How a connection is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOptions {
    synchronous: Synchronous,
    busy_timeout: Duration,
    create: bool,
}

/// When SQLite waits for the disk (`PRAGMA synchronous`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Synchronous {
    /// At checkpoints only: a power failure may undo the last commits, but never damages the file.
    Normal,
    /// At each commit: what was committed stays.
    Full,
}

impl OpenOptions {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { synchronous: Synchronous::Full, busy_timeout: Duration::from_secs(5), create: true }
    }

    /// When SQLite waits for the disk. Default: at each commit.
    #[must_use]
    pub const fn with_synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// How long one statement blocks its thread while other connections hold the lock. Default: 5 s.
    #[must_use]
    pub const fn with_busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Whether a missing file is made. Default: yes.
    #[must_use]
    pub const fn with_create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Opens a connection to the file with WAL, and with a busy handler whose sleeps are short and
/// jittered (20 µs to 1 ms). Several processes may do so at once, also when the file is new. Blocks.
///
/// # Errors
///
/// If the file cannot be opened, is no database, or does not allow WAL (as in memory, or on a network
/// file system), and if the SQLite library is older than 3.51.3.
pub fn open_connection(path: &Path, options: &OpenOptions) -> Result<Connection, LockError> {
    library::check(rusqlite::version_number())?;
    let (connection, is_wal) =
        open(path, options).map_err(|error| lock_error(error, LockOperation::Open))?;
    if is_wal {
        return Ok(connection);
    }
    Err(LockError::new(LockErrorKind::Refused, LockOperation::Open)
        .not_applied()
        .with_detail("SQLite refuses its write-ahead log; use a file on a local disk"))
}

fn open(path: &Path, options: &OpenOptions) -> rusqlite::Result<(Connection, bool)> {
    // Without `SQLITE_OPEN_URI`: a path is a path, even if it begins with `file:`.
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if options.create {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let mut connection = Connection::open_with_flags(path, flags)?;
    busy::install(&mut connection, options.busy_timeout)?;
    let is_wal = switch_to_wal(&connection, options.busy_timeout)?;
    let synchronous = match options.synchronous {
        Synchronous::Normal => "NORMAL",
        Synchronous::Full => "FULL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok((connection, is_wal))
}

/// Switching a new file to WAL needs it for oneself, and SQLite does not call the busy handler for
/// that: two processes that both begin would wait for each other.
fn switch_to_wal(connection: &Connection, timeout: Duration) -> rusqlite::Result<bool> {
    let since = real_now();
    for looks in 0.. {
        let mode =
            connection.query_row("PRAGMA journal_mode = WAL", (), |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) => return Ok(mode.eq_ignore_ascii_case("wal")),
            Err(error) if classify(&error) == SqliteFailure::Busy => {
                let left = timeout.saturating_sub(since.elapsed());
                if left.is_zero() {
                    return Err(error);
                }
                nap(looks, left);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// The domain of the leases in this file: its canonical path, so that two ways to name one file are
/// one domain. The file must exist.
///
/// # Errors
///
/// If the path cannot be resolved.
pub fn sqlite_domain(path: &Path) -> Result<LeaseDomain, LockError> {
    match path.canonicalize() {
        Ok(path) => Ok(LeaseDomain::new(format!("sqlite:{}", path.display()))),
        Err(error) => Err(LockError::new(LockErrorKind::Unavailable, LockOperation::Open)
            .not_applied()
            .with_detail("the path of the SQLite file cannot be resolved; check that it exists")
            .with_source(error)),
    }
}
