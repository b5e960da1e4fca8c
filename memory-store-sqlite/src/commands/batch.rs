//! The writes of one transaction.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use jiff::Timestamp;
use memory_core::MemoryKey;
use memory_core::store::{Generation, StoreErrorKind};
use memory_sqlite_file::LeaseObserver;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::step::{Loaded, Step};
use crate::codec::{HeadRow, SELECT_HEAD, int};
use crate::error::JobError;
use crate::watches::Version;

/// The writes of one transaction. Each command checks everything before its first change, so that
/// one that is refused leaves the transaction as it was; heads are read once and written once.
#[derive(Debug)]
pub(crate) struct Batch<'c> {
    pub(super) connection: &'c Connection,
    pub(super) leases: &'c LeaseObserver,
    pub(super) now: u64,
    pub(super) heads: HashMap<MemoryKey, Loaded>,
    /// Memories of which a part was removed.
    pub(super) removed: Vec<MemoryKey>,
}

/// The memories that a transaction has changed.
#[derive(Debug)]
pub(crate) struct Changes {
    heads: HashMap<MemoryKey, Loaded>,
    removed: Vec<MemoryKey>,
}

impl Changes {
    /// Calls `visit` with each memory that has changed, and its new version. Of a memory that was removed and
    /// written again, the version of the write comes last.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&MemoryKey, Version)) {
        for key in &self.removed {
            visit(key, Version::default());
        }
        for (key, loaded) in self.heads.iter().filter(|(_, loaded)| loaded.changed) {
            let head = &loaded.row.head;
            visit(key, Version::new(head.generation.number(), head.version));
        }
    }
}

impl<'c> Batch<'c> {
    /// The transaction has begun, and `now_micros` was read after that. A lease that is found live in it
    /// cannot pass to another owner before the commit.
    pub(crate) fn new(
        connection: &'c Connection,
        leases: &'c LeaseObserver,
        now_micros: u64,
    ) -> Self {
        Self { connection, leases, now: now_micros, heads: HashMap::new(), removed: Vec::new() }
    }

    /// The memory of this key, to apply one command to it.
    pub(super) fn step<'a>(&'a mut self, key: &'a MemoryKey) -> Result<Step<'a>, JobError> {
        let step = self.copy_step(key)?;
        match step.loaded.row.unfinished {
            Some(_) => Err(JobError::Refused(StoreErrorKind::Unfinished)),
            None => Ok(step),
        }
    }

    /// The same for a step of a copy, which may be unfinished.
    pub(super) fn copy_step<'a>(&'a mut self, key: &'a MemoryKey) -> Result<Step<'a>, JobError> {
        let Self { connection, leases, now, .. } = *self;
        let loaded = match self.heads.entry(key.clone()) {
            Entry::Occupied(loaded) => loaded.into_mut(),
            Entry::Vacant(place) => place.insert(load(connection, key, now)?),
        };
        Ok(Step { connection, leases, now, key, loaded })
    }

    /// Writes the heads that changed.
    pub(crate) fn finish(self) -> Result<Changes, JobError> {
        for loaded in self.heads.values().filter(|loaded| loaded.changed) {
            let HeadRow { id, head, receipts, receipt, forgotten, .. } = &loaded.row;
            let counters = &head.counters;
            self.connection.prepare_cached(UPDATE_HEAD)?.execute(params![
                id,
                int(head.generation.number()),
                int(head.version),
                int(head.last.number()),
                int(head.fence.number()),
                int(head.flush_fence.number()),
                head.next_flush_at.map(int),
                head.expires_at.map(Timestamp::as_microsecond),
                int(counters.present.messages),
                int(counters.present.tokens),
                int(counters.summaries),
                int(counters.appended),
                int(counters.summarized),
                int(counters.evicted),
                int(counters.cleared),
                loaded.row.classes()?,
                int(*receipts),
                receipt.map(Uuid::into_bytes),
                loaded.row.writers(),
                int(*forgotten),
                int(counters.withdrawn),
            ])?;
        }
        Ok(Changes { heads: self.heads, removed: self.removed })
    }
}

fn load(connection: &Connection, key: &MemoryKey, now: u64) -> Result<Loaded, JobError> {
    let row = connection
        .prepare_cached(SELECT_HEAD)?
        .query_row([key.as_str()], HeadRow::from_row)
        .optional();
    let row = match row {
        Ok(row) => row.unwrap_or_default(),
        Err(error @ rusqlite::Error::SqliteFailure(..)) => return Err(error.into()),
        // A row that does not decode concerns this memory only.
        Err(error) => return Err(JobError::Refused(bad_head(&error))),
    };
    if row.id != 0 && row.is_alive(now) {
        return Ok(Loaded { row, leftovers: false, changed: false });
    }
    // The fencing state outlives the data; generations never repeat.
    let mut new = HeadRow { id: row.id, receipts: row.receipts, ..HeadRow::default() };
    new.head.fence = row.head.fence;
    new.head.flush_fence = row.head.flush_fence;
    // The generation of a memory whose row was removed does not repeat either.
    let newest = if row.id == 0 { swept_generation(connection)? } else { row.head.generation };
    new.head.generation = newest.next(now);
    Ok(Loaded { leftovers: row.id != 0, row: new, changed: false })
}

/// The newest generation of a memory whose row was removed.
fn swept_generation(connection: &Connection) -> rusqlite::Result<Generation> {
    let newest = connection
        .prepare_cached("SELECT max(generation) FROM swept")?
        .query_row((), |row| row.get::<_, Option<i64>>(0))?;
    Ok(Generation::new(newest.map_or(0, i64::cast_unsigned)))
}

const UPDATE_HEAD: &str = "
UPDATE memory SET
    generation = ?2, version = ?3, last = ?4, fence = ?5, flush_fence = ?6, next_flush_at = ?7,
    expires_at = ?8, messages = ?9, tokens = ?10, summaries = ?11, appended = ?12,
    summarised = ?13, evicted = ?14, cleared = ?15, classes = ?16, receipts = ?17, receipt = ?18,
    writers = ?19, forgotten = ?20, withdrawn = ?21
WHERE id = ?1";

pub(crate) fn bad_head(error: &rusqlite::Error) -> StoreErrorKind {
    StoreErrorKind::Corrupt(format!("the memory's head cannot be read ({error}); restore a backup"))
}
