//! The removal of the remains of deleted rows from the file and its log.

use memory_core::store::Scrubbed;
use memory_sqlite_file::{SqliteErrorKind, classify, with_busy_timeout};

use crate::commands::merge_index;
use crate::config::SqliteConfig;
use crate::error::JobError;
use crate::open::{OpenFile, open_writer};

/// Rewrites the file without free space, and truncates its log.
///
/// `secure_delete` is not enough: it overwrites a row where it is now, but earlier writes that moved the row, to the
/// archive or between pages of the tree, left copies in free space.
pub(crate) fn scrub(file: &OpenFile, config: &SqliteConfig) -> Result<Scrubbed, JobError> {
    file.check_before_write()?;
    let connection = open_writer(file, config)?;
    let wait = config.operation_timeout();
    // The index has the words of removed messages until its parts are merged.
    match with_busy_timeout(wait, || merge_index(&connection)) {
        Ok(()) => {}
        Err(error) if classify(&error) == SqliteErrorKind::Busy => return Ok(Scrubbed::Busy),
        Err(error) => return Err(error.into()),
    }
    match with_busy_timeout(wait, || connection.execute_batch("VACUUM")) {
        Ok(()) => {}
        Err(error) if classify(&error) == SqliteErrorKind::Busy => return Ok(Scrubbed::Busy),
        Err(error) => return Err(error.into()),
    }
    let checkpoint = || {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        connection.query_row(sql, (), |row| row.get::<_, i64>(0))
    };
    let busy = match with_busy_timeout(wait, checkpoint) {
        Ok(busy) => busy != 0,
        Err(error) if classify(&error) == SqliteErrorKind::Busy => true,
        Err(error) => return Err(error.into()),
    };
    file.check()?;
    Ok(if busy { Scrubbed::Busy } else { Scrubbed::Done })
}
