//! The row of metadata.

use memory_core::store::{Metadata, StoreErrorKind};
use rusqlite::{Connection, OptionalExtension};

use super::{timestamp, unsigned};
use crate::error::JobError;

/// The metadata of the memory with this row.
pub(crate) fn select_metadata(connection: &Connection, memory: i64) -> Result<Metadata, JobError> {
    let row = connection
        .prepare_cached("SELECT revision, updated_at, body FROM metadata WHERE memory = ?1")?
        .query_row([memory], |row| {
            let updated_at = timestamp(1, row.get(1)?)?;
            Ok((unsigned(row, 0)?, updated_at, row.get::<_, String>(2)?))
        })
        .optional();
    let unreadable = || {
        let problem = "the metadata cannot be read; restore a backup, or delete the memory";
        JobError::Refused(StoreErrorKind::Corrupt(problem.into()))
    };
    match row {
        Ok(None) => Ok(Metadata::default()),
        Ok(Some((revision, updated_at, body))) => {
            let values = serde_json::from_str(&body).map_err(|_| unreadable())?;
            Ok(Metadata::new(revision, values, Some(updated_at)))
        }
        Err(error @ rusqlite::Error::SqliteFailure(..)) => Err(error.into()),
        Err(_) => Err(unreadable()),
    }
}
