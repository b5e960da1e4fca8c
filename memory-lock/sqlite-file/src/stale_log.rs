//! Logs that do not belong to the file beside them, and journals of other programs, which must not be
//! undone.
//!
//! A log does not record the database that it belongs to: SQLite recovers from any intact log with the
//! right name. If a backup is put beside the log of the previous file, the newer pages of that log
//! therefore overwrite it, page by page.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::busy::{MAX_BUSY_SLEEP, nap};
use crate::error::{SqliteError, SqliteErrorKind, replaced};
use crate::file_identity::with_suffix;

/// Refuses a file because of a file beside it. To be called before SQLite opens the file, which may change
/// it.
///
/// - The log of another file, as far as that can be detected: where the file system keeps extended
///   attributes, a log is marked with the inodes of the database and of itself when it is opened. If the
///   log is still the marked one and the file is not, the file has replaced another. (If both are other
///   files, both were copied.)
/// - The journal of an unfinished transaction of another program: SQLite would undo it.
///
/// # Errors
///
/// [`SqliteErrorKind::Corrupt`], with the remedy.
pub fn refuse_by_neighbors(path: &Path) -> Result<(), SqliteError> {
    let Ok(real) = path.canonicalize() else { return Ok(()) };
    let log = with_suffix(&real, "-wal");
    if with_suffix(&real, "-journal").exists()
        && platform::uri(&real).is_some_and(|uri| matches!(peek(&uri, is_ours), Ok(false)))
    {
        return Err(foreign());
    }
    if !platform::belongs_to_another(&real, &log) {
        return Ok(());
    }
    let (shown, log) = (real.display(), log.display());
    Err(SqliteError::refused(
        SqliteErrorKind::Corrupt,
        format!(
            "{shown} was put beside {log}, which is the log of an earlier file; to use {shown} as it is, \
         end all processes that have it open and remove {log} and {shown}-shm; to continue with the \
         earlier data, put the old file back"
        ),
    ))
}

/// Reads the file alone, as it is on the disk: without locks, and without its log or journal.
fn peek<T>(
    uri: &str,
    look: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(uri, flags).and_then(|connection| look(&connection))
}

/// Returns whether the file has a lease table, or no table at all.
pub(crate) fn is_ours(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'memory_leases') OR
             (NOT EXISTS (SELECT 1 FROM sqlite_schema) AND
              (SELECT application_id FROM pragma_application_id) = 0 AND
              (SELECT user_version FROM pragma_user_version) = 0)",
        (),
        |row| row.get(0),
    )
}

pub(crate) fn foreign() -> SqliteError {
    SqliteError::refused(
        SqliteErrorKind::Corrupt,
        "the SQLite file is a database of another program; choose another path, or let that program \
         set `PRAGMA journal_mode = WAL`",
    )
}

/// Marks the log as the one of this file.
pub(crate) fn mark_log(real: &Path) {
    platform::mark(real, &with_suffix(real, "-wal"));
}

/// Refuses a log that is shorter than its index says: another program has removed the log while other
/// connections, which keep its index, continue to write to the old one. Writes to the new log are lost when
/// those connections end.
pub(crate) fn refuse_replaced_log(connection: &Connection, real: &Path) -> Result<(), SqliteError> {
    const LOG_HEADER: u64 = 32;
    const FRAME_HEADER: u64 = 24;
    const LOOKS: u32 = 5;
    let page = connection.pragma_query_value(None, "page_size", |row| row.get::<_, i64>(0));
    let page = u64::try_from(page?).unwrap_or_default();
    let log = with_suffix(real, "-wal");
    for looks in 0..LOOKS {
        let frames =
            connection.query_row("PRAGMA wal_checkpoint(NOOP)", (), |row| row.get::<_, i64>(1))?;
        let frames = u64::try_from(frames).unwrap_or_default();
        let length = log.metadata().map_or(0, |log| log.len());
        if frames == 0
            || length >= LOG_HEADER.saturating_add(frames.saturating_mul(FRAME_HEADER + page))
        {
            return Ok(());
        }
        // Between the two reads the log may have been restarted and cut to its limit.
        nap(looks, MAX_BUSY_SLEEP);
    }
    let text =
        format!("{} was removed or replaced while another process has it open", log.display());
    Err(SqliteError::from(replaced(&text)).not_applied())
}

#[cfg(target_os = "linux")]
mod platform {
    use std::fs::Metadata;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use rustix::fs::{XattrFlags, getxattr, setxattr};

    const NAME: &str = "user.memory_database";

    /// Without the device, because its number changes when a file system is mounted again.
    fn mark_of(database: &Metadata, log: &Metadata) -> String {
        format!("{} {}", database.ino(), log.ino())
    }

    fn read_mark(log: &Path) -> Option<String> {
        let mut buffer = [0; 64];
        let length = getxattr(log, NAME, &mut buffer[..]).ok()?;
        String::from_utf8(buffer.get(..length)?.to_vec()).ok()
    }

    /// The file as a URI that prevents SQLite from using a journal.
    pub(crate) fn uri(path: &Path) -> Option<String> {
        use std::fmt::Write as _;
        use std::os::unix::ffi::OsStrExt;
        let mut uri = "file:".to_owned();
        for byte in path.as_os_str().as_bytes() {
            if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
                uri.push(char::from(*byte));
            } else {
                write!(uri, "%{byte:02X}").ok()?;
            }
        }
        uri.push_str("?immutable=1");
        Some(uri)
    }

    pub(crate) fn belongs_to_another(database: &Path, log: &Path) -> bool {
        let Some(mark) = read_mark(log) else { return false };
        let (Ok(database), Ok(log)) = (database.metadata(), log.metadata()) else { return false };
        let same_log = mark.split_once(' ').is_some_and(|(_, ino)| ino == log.ino().to_string());
        log.len() > 0 && same_log && mark != mark_of(&database, &log)
    }

    pub(crate) fn mark(database: &Path, log: &Path) {
        let (Ok(database), Ok(found)) = (database.metadata(), log.metadata()) else { return };
        let mark = mark_of(&database, &found);
        if read_mark(log).as_ref() != Some(&mark) {
            // Not every file system supports such attributes.
            let _ = setxattr(log, NAME, mark.as_bytes(), XattrFlags::empty());
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::path::Path;

    pub(crate) const fn uri(_: &Path) -> Option<String> {
        None
    }

    pub(crate) const fn belongs_to_another(_: &Path, _: &Path) -> bool {
        false
    }

    pub(crate) const fn mark(_: &Path, _: &Path) {}
}
