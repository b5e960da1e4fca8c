//! The removal of an unused memory, one part at a time.

use memory_core::MemoryKey;
use memory_core::lease::LeaseProof;
use memory_core::store::{Newest, RemoveUnused, RemovedUnused, StoreErrorKind, StoreOperation};
use rusqlite::{OptionalExtension, params};

use super::archive::drop_rows;
use super::batch::Batch;
use super::index::drop_documents;
use super::secure::SecureDelete;
use super::{Command, PAGES_OF_REMOVAL};
use crate::codec::{ENDED, HeadRow, int, newest};
use crate::error::JobError;
use crate::schema::SEQUENCE_BITS;

#[derive(Debug)]
pub(crate) struct RemoveRows(pub(crate) RemoveUnused);

impl Command for RemoveRows {
    type Answer = RemovedUnused;
    const OPERATION: StoreOperation = StoreOperation::Remove;

    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<RemovedUnused, JobError> {
        batch.remove(key, &self.0)
    }

    fn pages(&self) -> usize {
        PAGES_OF_REMOVAL
    }

    fn is_light(&self) -> bool {
        false
    }
}

/// The columns of a memory's row that are compared and changed. The rest of a damaged row is not read, so
/// that it can be removed too.
struct Listed {
    id: i64,
    generation: i64,
    version: i64,
    /// An earlier part has ended it.
    is_ended: bool,
    newest: Option<Newest>,
}

impl Batch<'_> {
    /// Removes the memory if it has not changed since it was listed. The first part ends the memory, and each
    /// part removes at most as many rows as the limit.
    ///
    /// The row itself is removed last. Fencing tokens need not be kept: a write under a lease that is not
    /// live in this file is refused regardless of its token.
    pub(super) fn remove(
        &mut self,
        key: &MemoryKey,
        remove: &RemoveUnused,
    ) -> Result<RemovedUnused, JobError> {
        let conflict = || JobError::Refused(StoreErrorKind::Conflict);
        if self.heads.get(key).is_some_and(|loaded| loaded.changed) {
            // A write of this same transaction.
            return Err(conflict());
        }
        let listed = self
            .connection
            .prepare_cached(LISTED)?
            .query_row(params![key.as_str(), SEQUENCE_BITS], |row| {
                Ok(Listed {
                    id: row.get(0)?,
                    generation: row.get(1)?,
                    version: row.get(2)?,
                    is_ended: row.get::<_, Option<i64>>(3)? == Some(ENDED),
                    newest: newest(row, 4)?,
                })
            })
            .optional()?;
        let Some(Listed { id, generation, version, is_ended, newest }) = listed else {
            return Ok(RemovedUnused::default());
        };
        if (generation, version) != (int(remove.generation.number()), int(remove.version)) {
            return Err(conflict());
        }
        // The previous parts may have removed the newest message.
        if newest != remove.newest && !is_ended {
            return Err(conflict());
        }
        self.check_lease(key.lease_name(), remove.access.lease)?;
        self.check_lease(&key.flush_lease_name(), remove.flusher)?;
        // A write of this transaction that follows reads the row again.
        self.heads.remove(key);
        self.removed.push(key.clone());

        let _secure = SecureDelete::new(self.connection)?;
        let limit = i64::try_from(remove.limit.get()).unwrap_or(i64::MAX);
        let row = HeadRow { id, ..HeadRow::default() };
        let messages = self.connection.prepare_cached(DELETE_MESSAGES)?.execute(params![
            row.first_place(),
            row.last_place(),
            limit
        ])?;
        let messages = i64::try_from(messages).unwrap_or(i64::MAX);
        let mut rows = messages;
        if rows < limit {
            let writers = self
                .connection
                .prepare_cached(DELETE_WRITERS)?
                .execute(params![id, limit - rows])?;
            rows = rows.saturating_add(i64::try_from(writers).unwrap_or(i64::MAX));
        }
        if rows < limit {
            rows = limit - drop_rows(self.connection, id, limit - rows)?;
        }
        if rows < limit {
            rows = limit - drop_documents(self.connection, id, limit - rows)?;
        }
        if rows >= limit {
            // As if its TTL had run out: readers no longer see the rest.
            self.connection.prepare_cached(END)?.execute(params![id, messages, ENDED])?;
            return Ok(RemovedUnused::partial(messages.unsigned_abs()));
        }
        self.connection.prepare_cached("DELETE FROM receipt WHERE memory = ?1")?.execute([id])?;
        self.connection.prepare_cached("DELETE FROM erasure WHERE memory = ?1")?.execute([id])?;
        self.connection.prepare_cached("DELETE FROM origin WHERE memory = ?1")?.execute([id])?;
        self.connection.prepare_cached("DELETE FROM metadata WHERE memory = ?1")?.execute([id])?;
        self.connection.prepare_cached("DELETE FROM memory WHERE id = ?1")?.execute([id])?;
        self.connection
            .prepare_cached("UPDATE swept SET generation = max(generation, ?1)")?
            .execute([generation])?;
        Ok(RemovedUnused::complete(messages.unsigned_abs()))
    }

    /// A caller that presents a lease must hold it. Without one, the memory must not be leased.
    fn check_lease(&self, name: &str, shown: Option<LeaseProof>) -> Result<(), JobError> {
        let live = self.leases.live_lease(self.connection, name)?;
        Err(JobError::Refused(match (shown, live) {
            (None, None) => return Ok(()),
            (Some(shown), Some(live)) if (shown.owner, shown.token) == (live.owner, live.token) => {
                return Ok(());
            }
            (None, Some(live)) => StoreErrorKind::Locked { remaining: Some(live.remaining) },
            (Some(LeaseProof { token, .. }), live) => {
                StoreErrorKind::Fenced { token, newest: live.map_or(token, |live| live.token) }
            }
        }))
    }
}

const LISTED: &str = "
SELECT id, generation, version, expires_at, last,
    (SELECT message.id FROM message WHERE place = memory.id << ?2 | memory.last)
FROM memory WHERE key = ?1";

const DELETE_MESSAGES: &str = "
DELETE FROM message WHERE place IN
    (SELECT place FROM message WHERE place BETWEEN ?1 AND ?2 ORDER BY place LIMIT ?3)";

const DELETE_WRITERS: &str = "
DELETE FROM writer WHERE memory = ?1 AND writer IN
    (SELECT writer FROM writer WHERE memory = ?1 LIMIT ?2)";

const END: &str = "
UPDATE memory SET expires_at = ?3, messages = max(messages - ?2, 0) WHERE id = ?1";
