//! The memory to which one command is applied: the checks and the changes that commands share.

use memory_core::lease::{FencingToken, LeaseProof};
use memory_core::store::{
    KEPT_SESSIONS, MessageId, Newest, SESSION_RETENTION, StoreErrorKind, WriteId, WriterId,
};
use memory_core::{MemoryKey, Sequence};
use memory_sqlite_file::LeaseObserver;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::index::drop_index;
use crate::codec::{HeadRow, LastWrite, int};
use crate::error::JobError;
use crate::schema::SEQUENCE_BITS;

const INSERT_HEAD: &str = "
INSERT INTO memory
    (key, generation, version, last, fence, flush_fence, messages, tokens, summaries, appended,
     summarised, evicted, cleared, classes, receipts, writers)
VALUES (?1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, '{}', 0, x'')";

const NEWEST: &str =
    "SELECT place, id FROM message WHERE place BETWEEN ?1 AND ?2 ORDER BY place DESC LIMIT 1";

/// The number of writers that a memory's row keeps.
const RECENT_WRITERS: usize = 16;

const UPSERT_WRITER: &str = "
INSERT INTO writer (memory, writer, number, first) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT DO UPDATE SET number = ?3, first = ?4";

/// A head within a transaction.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) row: HeadRow,
    /// The memory's TTL has run out, and its old rows still exist.
    pub(super) leftovers: bool,
    pub(super) changed: bool,
}

/// One command applied to its memory.
pub(super) struct Step<'a> {
    pub(super) connection: &'a Connection,
    pub(super) leases: &'a LeaseObserver,
    pub(super) now: u64,
    pub(super) key: &'a MemoryKey,
    pub(super) loaded: &'a mut Loaded,
}

impl Step<'_> {
    pub(super) const fn head(&self) -> &memory_core::store::Head {
        &self.loaded.row.head
    }

    /// Whether this memory has valid rows.
    pub(super) const fn has_rows(&self) -> bool {
        self.loaded.row.id != 0 && !self.loaded.leftovers
    }

    /// The newest present message.
    pub(super) fn newest(&self) -> Result<Option<Newest>, JobError> {
        if !self.has_rows() {
            return Ok(None);
        }
        let row = &self.loaded.row;
        let newest = self
            .connection
            .prepare_cached(NEWEST)?
            .query_row((row.first_place(), row.last_place()), |row| {
                let place = row.get::<_, i64>(0)? & ((1 << SEQUENCE_BITS) - 1);
                let id = MessageId::new(Uuid::from_bytes(row.get(1)?));
                Ok(Newest { sequence: Sequence::new(place.cast_unsigned()), id })
            })
            .optional()?;
        Ok(newest)
    }

    /// The place of an earlier write's first message, if this write is a retry.
    pub(super) fn earlier(&self, write: WriteId) -> Result<Option<Option<Sequence>>, JobError> {
        let row = &self.loaded.row;
        let recent = row.writers.iter().find(|last| last.writer == write.writer).copied();
        let last = match recent {
            None if self.has_rows() => self.older_writer(write.writer)?,
            recent => recent,
        };
        let newest_millis = row.forgotten;
        match last {
            Some(last) if write.number == last.number => Ok(Some(last.first)),
            Some(last) if write.number < last.number => Ok(Some(None)),
            None if write.writer.born_at().is_some_and(|born| born <= newest_millis) => {
                Err(JobError::Refused(StoreErrorKind::WriterForgotten { newest_millis }))
            }
            _ => Ok(None),
        }
    }

    fn older_writer(&self, writer: WriterId) -> Result<Option<LastWrite>, JobError> {
        let last = self
            .connection
            .prepare_cached("SELECT number, first FROM writer WHERE memory = ?1 AND writer = ?2")?
            .query_row(params![self.loaded.row.id, writer.bits().to_be_bytes()], |row| {
                let number = row.get::<_, i64>(0)?.cast_unsigned();
                let first = row.get::<_, Option<i64>>(1)?;
                let first = first.map(|first| Sequence::new(first.cast_unsigned()));
                Ok(LastWrite { writer, number, first })
            })
            .optional()?;
        Ok(last)
    }

    /// The newest token after a write with this lease, or the reason for a refusal.
    pub(super) fn check_writer_lease(
        &self,
        lease: Option<LeaseProof>,
    ) -> Result<FencingToken, JobError> {
        let newest = self.head().fence;
        if let Some(lease) = lease {
            return self.check_proof(self.key.lease_name(), lease, newest);
        }
        match self.leases.live_lease(self.connection, self.key.lease_name())? {
            Some(other) => {
                Err(JobError::Refused(StoreErrorKind::Locked { remaining: Some(other.remaining) }))
            }
            None => Ok(newest),
        }
    }

    /// The token of a lease that is the newest, live and its owner's.
    pub(super) fn check_proof(
        &self,
        name: &str,
        lease: LeaseProof,
        newest: FencingToken,
    ) -> Result<FencingToken, JobError> {
        let LeaseProof { owner, token } = lease;
        let fenced = |newest| JobError::Refused(StoreErrorKind::Fenced { token, newest });
        if token < newest {
            return Err(fenced(newest));
        }
        match self.leases.live_lease(self.connection, name)? {
            Some(live) if live.owner == owner && live.token == token => Ok(token),
            Some(live) => Err(fenced(newest.max(live.token))),
            None => Err(fenced(newest)),
        }
    }

    /// Call this once nothing can refuse the command any more. It creates the memory's row if there is none,
    /// and removes the remains of an expired memory.
    pub(super) fn begin(&mut self) -> Result<(), JobError> {
        if self.loaded.row.id == 0 {
            self.connection.prepare_cached(INSERT_HEAD)?.execute([self.key.as_str()])?;
            let id = self.connection.last_insert_rowid();
            if id >= MOST_MEMORIES {
                return Err(no_room());
            }
            self.loaded.row.id = id;
        }
        if self.loaded.leftovers {
            self.remove_rest()?;
            self.loaded.leftovers = false;
        }
        if !self.loaded.row.is_alive(self.now) {
            self.loaded.row.head.expires_at = None;
        }
        let head = &mut self.loaded.row.head;
        // A damaged row may hold any number.
        head.version = head.version.saturating_add(1);
        self.loaded.changed = true;
        Ok(())
    }

    /// Removes everything but the memory's row.
    pub(super) fn remove_rest(&self) -> Result<(), JobError> {
        self.remove_messages()?;
        self.remove_receipts()?;
        drop_index(self.connection, self.loaded.row.id)?;
        self.drop_archive()?;
        for rest in [
            "DELETE FROM writer WHERE memory = ?1",
            "DELETE FROM erasure WHERE memory = ?1",
            "DELETE FROM origin WHERE memory = ?1",
            "DELETE FROM metadata WHERE memory = ?1",
        ] {
            self.connection.prepare_cached(rest)?.execute([self.loaded.row.id])?;
        }
        Ok(())
    }

    /// Removes all messages.
    pub(super) fn remove_messages(&self) -> Result<(), JobError> {
        let row = &self.loaded.row;
        self.connection
            .prepare_cached("DELETE FROM message WHERE place BETWEEN ?1 AND ?2")?
            .execute([row.first_place(), row.last_place()])?;
        Ok(())
    }

    /// Removes all receipts.
    pub(super) fn remove_receipts(&self) -> Result<(), JobError> {
        self.connection
            .prepare_cached("DELETE FROM receipt WHERE memory = ?1")?
            .execute([self.loaded.row.id])?;
        Ok(())
    }

    /// Forgets at most this many of the oldest session writers, but neither the newest nor recent ones. The
    /// age is the creation time, because all processes that share a file share a clock.
    pub(super) fn forget_old_sessions(&mut self, most: i64) -> Result<(), JobError> {
        let row = &mut self.loaded.row;
        let kept = i64::try_from(KEPT_SESSIONS).unwrap_or(i64::MAX);
        let [lowest, highest] = [(0, 0), (u64::MAX, u64::MAX)]
            .map(|(born, random)| WriterId::session(born, random).bits().to_be_bytes());
        let count: i64 = self
            .connection
            .prepare_cached(COUNT_SESSIONS)?
            .query_row(params![row.id, lowest, highest, kept.saturating_add(most)], |row| {
                row.get(0)
            })?;
        let retention = u64::try_from(SESSION_RETENTION.as_millis()).unwrap_or(u64::MAX);
        let Some(cutoff) = (self.now / 1_000).checked_sub(retention).filter(|_| count > kept)
        else {
            return Ok(());
        };
        let cutoff = WriterId::session(cutoff, u64::MAX).bits().to_be_bytes();
        let oldest = self
            .connection
            .prepare_cached(OLDEST_SESSIONS)?
            .query_map(params![row.id, lowest, cutoff, count - kept], |row| {
                Ok(WriterId::new(u128::from_be_bytes(row.get(0)?)))
            })?
            .last()
            .transpose()?;
        if let Some(oldest) = oldest {
            self.connection
                .prepare_cached(
                    "DELETE FROM writer WHERE memory = ?1 AND writer BETWEEN ?2 AND ?3",
                )?
                .execute(params![row.id, lowest, oldest.bits().to_be_bytes()])?;
            row.forgotten = row.forgotten.max(oldest.born_at().unwrap_or_default());
        }
        Ok(())
    }

    /// Keeps the newest write of a writer in the memory's row, which is written anyway: a separate row would
    /// add one more page to each commit. With many writers, the oldest are dropped.
    pub(super) fn remember(
        &mut self,
        write: WriteId,
        first: Option<Sequence>,
    ) -> Result<(), JobError> {
        let WriteId { writer, number } = write;
        // A session begins with the first number; then there is room for its record.
        if number == 1 && writer.born_at().is_some() {
            self.forget_old_sessions(PRUNED_AT_ONCE)?;
        }
        let row = &mut self.loaded.row;
        row.writers.retain(|last| last.writer != writer);
        row.writers.push(LastWrite { writer, number, first });
        if row.writers.len() > RECENT_WRITERS {
            let LastWrite { writer, number, first } = row.writers.remove(0);
            self.connection.prepare_cached(UPSERT_WRITER)?.execute(params![
                row.id,
                writer.bits().to_be_bytes(),
                int(number),
                first.map(|first| int(first.number())),
            ])?;
        }
        Ok(())
    }
}

/// The number of old writers that one append forgets.
const PRUNED_AT_ONCE: i64 = 32;

/// Session writers are ordered by their time, so the oldest are found at once.
const COUNT_SESSIONS: &str = "
SELECT count(*) FROM
    (SELECT 1 FROM writer WHERE memory = ?1 AND writer BETWEEN ?2 AND ?3 LIMIT ?4)";

const OLDEST_SESSIONS: &str = "
SELECT writer FROM writer WHERE memory = ?1 AND writer BETWEEN ?2 AND ?3 ORDER BY writer LIMIT ?4";

/// The places of further memories would not fit the bits above [`SEQUENCE_BITS`].
pub(super) const MOST_MEMORIES: i64 = 1 << (63 - SEQUENCE_BITS);

pub(super) fn no_room() -> JobError {
    JobError::Refused(StoreErrorKind::Full(
        "the places of this file or this memory are used up; go on in another".into(),
    ))
}
