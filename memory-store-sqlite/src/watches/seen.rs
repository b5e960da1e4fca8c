//! The state of a memory by which a change is recognized.

use memory_core::MemoryKey;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::codec::{ENDED, int};
use crate::error::JobError;
use crate::schema::SEQUENCE_BITS;

/// Generation and version; none of a memory without rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Version {
    generation: Option<i64>,
    version: Option<i64>,
}

impl Version {
    pub(crate) const fn new(generation: u64, version: u64) -> Self {
        Self { generation: Some(int(generation)), version: Some(int(version)) }
    }
}

/// The state of a memory. All fields are compared for equality only: a file that was rolled back has lower numbers,
/// and reuses numbers for other messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(super) version: Version,
    last: Option<i64>,
    newest: Option<[u8; 16]>,
}

impl Seen {
    /// The present state. A memory that a removal has ended is one without rows. A damaged column counts as empty: it
    /// concerns the readers of that memory, not the watches of others.
    pub(super) fn read(connection: &Connection, key: &MemoryKey) -> Result<Self, JobError> {
        let state = connection
            .prepare_cached(SELECT_STATE)?
            .query_row(params![key.as_str(), SEQUENCE_BITS, ENDED], |row| {
                let version = Version { generation: number(row, 0), version: number(row, 1) };
                let newest = row.get(3).ok();
                Ok(Self { version, last: number(row, 2), newest })
            })
            .optional()?;
        Ok(state.unwrap_or_default())
    }
}

fn number(row: &Row<'_>, column: usize) -> Option<i64> {
    row.get(column).ok()
}

const SELECT_STATE: &str = "
SELECT generation, version, last,
    (SELECT message.id FROM message WHERE place = memory.id << ?2 | memory.last)
FROM memory WHERE key = ?1 AND expires_at IS NOT ?3";
