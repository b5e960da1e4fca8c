//! Opening a file in WAL mode, and its domain, by which a store and its leases recognize each other.

use std::path::Path;
use std::time::Duration;

use memory_core::lease::LeaseDomain;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::busy::{self, nap, real_now};
use crate::error::{SqliteError, SqliteErrorKind, cannot_open, classify, replaced};
use crate::file_identity::{FileIdentity, PinnedDatabase};
use crate::file_path::{DatabasePath, Links, PathError};
use crate::library;
use crate::stale_log::{foreign, is_ours, mark_log, refuse_by_neighbors, refuse_replaced_log};
use crate::table::LeaseTable;

/// The default of the time for which a call waits while other connections keep the file locked.
pub const DEFAULT_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The options of opening a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOptions {
    synchronous: Synchronous,
    busy_timeout: Duration,
    links: Links,
}

/// When SQLite waits for the disk (`PRAGMA synchronous`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Synchronous {
    /// At checkpoints only: a power failure may undo the last commits, but never damages the file.
    Normal,
    /// At each commit: committed data stays.
    Full,
}

impl OpenOptions {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            synchronous: Synchronous::Full,
            busy_timeout: DEFAULT_BUSY_TIMEOUT,
            links: Links::Refuse,
        }
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

    /// Whether a file that has more than one name is opened. Default: [`Links::Refuse`].
    #[must_use]
    pub const fn with_links(mut self, links: Links) -> Self {
        self.links = links;
        self
    }
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Opens a connection to the file with WAL, and with a busy handler whose sleeps are short and jittered (20
/// µs to 1 ms). Several processes may do so at once, even when the file is new. Blocks. The path is always
/// a path, even if it begins with `file:`.
///
/// # Errors
///
/// If the file cannot be opened, is not a database, or does not allow WAL (as on a network file system); if
/// another program has stored something in it without WAL, because the journal mode is that program's
/// setting; if the file has [more than one name](Links); if the SQLite library is older than 3.51.3.
pub fn open_connection(path: &Path, options: &OpenOptions) -> Result<Connection, SqliteError> {
    let (connection, _) = open_database(path, options, leave_others_alone)?;
    let folds = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
    folds?;
    Ok(connection)
}

/// Like [`open_connection`], and also detects that the file is removed or replaced.
///
/// `prepare` decides whether the file may be used, and creates missing tables. It gets the connection
/// before anything in the file is changed, including its journal mode. It is called again if the file was
/// replaced meanwhile.
///
/// The connection does not remove the log when it is closed; see
/// [`fold_log_on_close`](FileIdentity::fold_log_on_close).
///
/// # Errors
///
/// Those of [`open_connection`] and those of `prepare`.
pub fn open_database<E: From<SqliteError>>(
    path: &Path,
    options: &OpenOptions,
    mut prepare: impl FnMut(&mut Connection) -> Result<(), E>,
) -> Result<(Connection, FileIdentity), E> {
    library::check(rusqlite::version_number())?;
    // A copy-up, or another process that is restoring a backup.
    const ATTEMPTS: usize = 5;
    for _ in 0..ATTEMPTS {
        if let Some(opened) = attempt(path, options, &mut prepare)? {
            return Ok(opened);
        }
    }
    let text = format!(
        "{} was replaced while it was opened, or this process has it open without the -wal and -shm \
         that it had",
        path.display()
    );
    Err(SqliteError::from(replaced(&text)).not_applied().into())
}

/// Another connection to a file that is open, under the same path.
///
/// # Errors
///
/// Those of [`open_connection`], and [`SqliteErrorKind::Replaced`] if the path names another file now.
pub fn reconnect(
    identity: &FileIdentity,
    options: &OpenOptions,
) -> Result<Connection, SqliteError> {
    // Checked before, so that no statement runs on another file, and after, because the errors of a file
    // that was replaced meanwhile would be misleading.
    identity.check()?;
    let opened = connect(identity.path(), options.busy_timeout)
        .map_err(SqliteError::from)
        .and_then(|connection| finish(&connection, options).map(|()| connection));
    identity.check()?;
    opened
}

/// `None` if another file has replaced the one that was opened.
fn attempt<E: From<SqliteError>>(
    path: &Path,
    options: &OpenOptions,
    prepare: &mut impl FnMut(&mut Connection) -> Result<(), E>,
) -> Result<Option<(Connection, FileIdentity)>, E> {
    let path = DatabasePath::resolve(path).map_err(path_error)?;
    refuse_by_neighbors(&path.real)?;
    let pinned = PinnedDatabase::new(&path).map_err(|error| path_error(error.into()))?;
    let mut connection = connect(&path.real, options.busy_timeout).map_err(SqliteError::from)?;
    if options.links == Links::Refuse {
        path.refuse_other_names().map_err(path_error)?;
    }
    prepare(&mut connection)?;
    finish(&connection, options)?;
    refuse_replaced_log(&connection, &path.real)?;
    let captured = FileIdentity::capture(path, &pinned);
    let Some(identity) = captured.map_err(|error| path_error(error.into()))? else {
        return Ok(None);
    };
    mark_log(identity.path());
    Ok(Some((connection, identity)))
}

/// Opens the file without changing anything in it.
fn connect(path: &Path, timeout: Duration) -> rusqlite::Result<Connection> {
    // The path is absolute, which prevents SQLite from reading `file:` as a URI: the bundled SQLite is
    // compiled to do that, regardless of the flags.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    busy::install(&mut connection, timeout)?;
    Ok(connection)
}

/// Applies the settings of a connection to a file that may be used, and opens the log.
fn finish(connection: &Connection, options: &OpenOptions) -> Result<(), SqliteError> {
    if !switch_to_wal(connection, options.busy_timeout)? {
        let detail = "SQLite refuses its write-ahead log; use a file on a local disk";
        return Err(SqliteError::refused(SqliteErrorKind::Refused, detail));
    }
    let synchronous = match options.synchronous {
        Synchronous::Normal => "NORMAL",
        Synchronous::Full => "FULL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.set_prepared_statement_cache_capacity(64);
    // SQLite opens the log when it first reads from the file.
    let read = connection.pragma_query_value(None, "schema_version", |row| row.get::<_, i64>(0));
    read.map(drop).map_err(SqliteError::from)
}

/// Refuses a file that does not use WAL and in which another program has stored something: the journal
/// mode is that program's setting.
fn leave_others_alone(connection: &mut Connection) -> Result<(), SqliteError> {
    if uses_wal(connection)? || is_ours(connection)? {
        return Ok(());
    }
    Err(foreign())
}

/// Creates the lease table, and refuses a file of another program, as [`open_connection`] does.
///
/// # Errors
///
/// Those of SQLite, and [`SqliteErrorKind::Corrupt`] for a file of another program.
pub fn make_lease_table(connection: &mut Connection) -> Result<(), SqliteError> {
    if uses_wal(connection)? {
        return Ok(LeaseTable::create(connection)?);
    }
    // If several programs find an empty file, one of them writes to it first.
    let immediate = TransactionBehavior::Immediate;
    let transaction = Transaction::new(connection, immediate)?;
    if !is_ours(&transaction)? {
        return Err(foreign());
    }
    LeaseTable::create(&transaction)?;
    transaction.commit().map_err(SqliteError::from)
}

fn uses_wal(connection: &Connection) -> rusqlite::Result<bool> {
    let mode =
        connection.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0))?;
    Ok(mode.eq_ignore_ascii_case("wal"))
}

fn path_error(error: PathError) -> SqliteError {
    match error {
        PathError::Io(error) => cannot_open(error.to_string()).into(),
        PathError::Refused(refused) => {
            SqliteError::refused(SqliteErrorKind::Refused, refused.to_string())
        }
    }
}

/// Switching a new file to WAL needs an exclusive lock, for which SQLite does not call the busy handler:
/// two processes that both begin would wait for each other.
fn switch_to_wal(connection: &Connection, timeout: Duration) -> rusqlite::Result<bool> {
    let since = real_now();
    for looks in 0.. {
        let mode =
            connection.query_row("PRAGMA journal_mode = WAL", (), |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) => return Ok(mode.eq_ignore_ascii_case("wal")),
            Err(error) if classify(&error) == SqliteErrorKind::Busy => {
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

/// The domain of the leases in this file: its canonical path, so that two names of one file are one domain.
/// The file must exist.
///
/// # Errors
///
/// If the path cannot be resolved.
pub fn sqlite_domain(path: &Path) -> Result<LeaseDomain, SqliteError> {
    match path.canonicalize() {
        Ok(path) => Ok(LeaseDomain::new(format!("sqlite:{}", path.display()))),
        Err(error) => {
            let detail = "the path of the SQLite file cannot be resolved; check that it exists";
            let refused = SqliteError::refused(SqliteErrorKind::Unavailable, detail);
            Err(refused.caused_by(error))
        }
    }
}
