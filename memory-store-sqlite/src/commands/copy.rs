//! Copies: a memory that is written in parts under an absent key, and cannot be used until it is complete.

use std::time::Duration;

use jiff::Timestamp;
use memory_core::store::{
    Access, ArchivedRemoval, COPY_LIFETIME, CopiedRemovals, CopyProgress, CopyStep, CopyWrite,
    Frame, Generation, SequenceSet, StoreErrorKind, StoreOperation, WriterRecord,
};
use memory_core::{MemoryKey, Priority, Sequence, StoredMessage};
use rusqlite::{CachedStatement, OptionalExtension, ToSql, params};
use uuid::Uuid;

use super::archive::{next_removal, places_of};
use super::batch::Batch;
use super::step::Step;
use super::{Command, PAGES_OF_REMOVAL, bytes_of};
use crate::codec::{ENDED, Encoded, HeadRow, Unfinished, int};
use crate::error::JobError;
use crate::schema::SEQUENCE_BITS;

#[derive(Debug)]
pub(crate) struct CopyRows {
    access: Access,
    write: CopyWrite,
    /// The texts of the messages of the step.
    encoded: Vec<Encoded>,
}

impl CopyRows {
    pub(crate) fn new(access: Access, write: &CopyWrite) -> Result<Self, StoreErrorKind> {
        let messages = match &write.step {
            CopyStep::Messages(messages) | CopyStep::Archived { messages, .. } => messages,
            _ => &Vec::new(),
        };
        // Checked before any change, because a refused command leaves its transaction to others.
        let places = messages.iter().map(|stored| stored.meta.sequence);
        if let Some(place) = places.max().filter(|place| place.number() >> SEQUENCE_BITS != 0) {
            let problem = format!("a SQLite file cannot hold a message at place {place}");
            return Err(StoreErrorKind::Invalid(problem));
        }
        let encoded = messages.iter().map(|stored| Encoded::new(&stored.message));
        Ok(Self { access, encoded: encoded.collect::<Result<_, _>>()?, write: write.clone() })
    }
}

impl Command for CopyRows {
    type Answer = CopyProgress;
    const OPERATION: StoreOperation = StoreOperation::Copy;

    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<CopyProgress, JobError> {
        let mut step = batch.copy_step(key)?;
        let CopyWrite { copy, attempt, step: write } = &self.write;
        if step.is_made_by(*copy)? == MadeBy::This {
            return Ok(CopyProgress::complete());
        }
        let this = Unfinished { copy: *copy, attempt: *attempt };
        let unfinished = step.loaded.row.unfinished;
        let fence = step.check_writer_lease(self.access.lease)?;
        match write {
            CopyStep::Begin if unfinished.is_some_and(|one| one.copy == *copy) => {
                step.begin()?;
                step.loaded.row.unfinished = Some(this);
            }
            CopyStep::Begin => step.begin_copy(Some(this))?,
            CopyStep::Discard => {
                if unfinished.is_some() {
                    step.begin_copy(None)?;
                }
                return Ok(CopyProgress::default());
            }
            _ if unfinished != Some(this) => {
                return Err(JobError::Refused(StoreErrorKind::Conflict));
            }
            CopyStep::Messages(messages) => {
                let (first, last) = (step.newest()?, step.loaded.row.first_place());
                step.begin()?;
                let after = first.map_or(Sequence::ZERO, |newest| newest.sequence);
                step.insert(INSERT_MESSAGE, last, messages, &self.encoded, after)?;
            }
            CopyStep::Archived { removal, messages, end } => {
                let end = end.as_ref().map(|_| End::Complete).unwrap_or_default();
                step.add_archived(removal, messages, &self.encoded, end)?;
            }
            CopyStep::Finish { frame, removals } => {
                step.check_copied(frame, *removals)?;
                step.begin()?;
                step.finish_copy(frame, *copy)?;
                step.loaded.row.head.fence = fence;
                return Ok(CopyProgress::complete());
            }
        }
        let expires_at = step.expires_at();
        let now = step.now;
        let head = &mut step.loaded.row.head;
        head.fence = fence;
        head.expires_at = expires_at;
        head.generation = head.generation.next(now);
        step.copy_progress()
    }

    fn bytes(&self) -> usize {
        self.encoded.iter().map(bytes_of).sum()
    }

    fn pages(&self) -> usize {
        self.bytes() / 4_096 + PAGES_OF_REMOVAL
    }

    fn is_light(&self) -> bool {
        false
    }
}

/// Whether the last messages of a removal come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum End {
    #[default]
    More,
    Complete,
}

/// The removal of a copy that is not complete.
struct Open {
    id: i64,
    number: u64,
}

/// Whether a copy has made a memory. One that something else has made is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MadeBy {
    This,
    /// There is no memory.
    Nothing,
}

impl Step<'_> {
    /// Refuses a memory that another copy, or a write, has made.
    pub(super) fn is_made_by(&self, copy: Uuid) -> Result<MadeBy, JobError> {
        let is_unfinished = self.loaded.row.unfinished.is_some();
        let is_absent = is_unfinished || !self.has_rows();
        if is_absent || self.head().last == Sequence::ZERO && self.metadata()?.is_unset() {
            return Ok(MadeBy::Nothing);
        }
        match self.copied()? {
            Some(made_by) if made_by == copy => Ok(MadeBy::This),
            _ => Err(JobError::Refused(StoreErrorKind::Exists)),
        }
    }

    /// The copy that made this memory.
    fn copied(&self) -> Result<Option<Uuid>, JobError> {
        let found = self
            .connection
            .prepare_cached("SELECT copy FROM origin WHERE memory = ?1")?
            .query_row([self.loaded.row.id], |row| row.get(0).map(Uuid::from_bytes))
            .optional()?;
        Ok(found)
    }

    /// Empties the memory for a copy; without one, ends it.
    pub(super) fn begin_copy(&mut self, copy: Option<Unfinished>) -> Result<(), JobError> {
        self.begin()?;
        self.remove_rest()?;
        let HeadRow { id, receipts, head, .. } = &self.loaded.row;
        let mut row =
            HeadRow { id: *id, receipts: *receipts, unfinished: copy, ..HeadRow::default() };
        row.head.generation = head.generation.next(self.now);
        (row.head.fence, row.head.flush_fence) = (head.fence, head.flush_fence);
        row.head.version = head.version;
        if copy.is_none() {
            row.head.expires_at = Timestamp::from_microsecond(ENDED).ok();
        }
        self.loaded.row = row;
        Ok(())
    }

    fn expires_at(&self) -> Option<Timestamp> {
        let now = Duration::from_micros(self.now);
        let end = now.saturating_add(COPY_LIFETIME).as_micros();
        Timestamp::from_microsecond(i64::try_from(end).ok()?).ok()
    }

    fn copy_progress(&self) -> Result<CopyProgress, JobError> {
        let last = self.newest()?.map(|newest| newest.sequence);
        let removal = self
            .connection
            .prepare_cached(LAST_REMOVAL)?
            .query_row([self.loaded.row.id], |row| row.get::<_, Option<i64>>(0))?;
        Ok(CopyProgress::reached(last.unwrap_or_default(), removal.map_or(0, i64::cast_unsigned)))
    }

    /// Inserts the messages after a place, under keys from this one on.
    fn insert(
        &self,
        sql: &str,
        first: i64,
        messages: &[StoredMessage],
        encoded: &[Encoded],
        after: Sequence,
    ) -> Result<(), JobError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut reached = after;
        for (StoredMessage { meta, .. }, text) in messages.iter().zip(encoded) {
            if meta.sequence <= reached {
                continue;
            }
            reached = meta.sequence;
            insert_row(&mut statement, first | int(reached.number()), meta, text)?;
        }
        Ok(())
    }

    fn open_removal(&self) -> Result<Option<Open>, JobError> {
        let open = self
            .connection
            .prepare_cached("SELECT id, number FROM removal WHERE memory = ?1 AND messages < 0")?
            .query_row([self.loaded.row.id], |row| {
                Ok(Open { id: row.get(0)?, number: row.get::<_, i64>(1)?.cast_unsigned() })
            })
            .optional()?;
        Ok(open)
    }

    fn add_archived(
        &mut self,
        removal: &ArchivedRemoval,
        messages: &[StoredMessage],
        encoded: &[Encoded],
        end: End,
    ) -> Result<(), JobError> {
        if removal.number <= self.copy_progress()?.removal {
            return self.begin();
        }
        let open = self.open_removal()?;
        if open.as_ref().is_some_and(|open| open.number != removal.number) {
            return Err(JobError::Refused(StoreErrorKind::Conflict));
        }
        let mut places = match &open {
            Some(open) => self.archived_places(open.id)?,
            None => Vec::new(),
        };
        let after = places.last().copied().unwrap_or_default();
        if end == End::Complete {
            let new = messages.iter().map(|stored| stored.meta.sequence);
            places.extend(new.filter(|place| *place > after));
            removal.check_copied(&places.into_iter().collect::<SequenceSet>())?;
        }
        self.begin()?;
        let id = match open {
            Some(open) => open.id,
            None => self.open_new(removal)?,
        };
        self.insert(INSERT_ARCHIVED, places_of(id).0, messages, encoded, after)?;
        if end == End::Complete {
            self.connection
                .prepare_cached("UPDATE removal SET messages = ?2 WHERE id = ?1")?
                .execute([id, int(removal.messages)])?;
        }
        Ok(())
    }

    fn open_new(&self, removal: &ArchivedRemoval) -> Result<i64, JobError> {
        let id = next_removal(self.connection)?;
        let body = written(serde_json::to_string(removal))?;
        self.connection.prepare_cached(INSERT_REMOVAL)?.execute(params![
            id,
            self.loaded.row.id,
            int(removal.number),
            removal.keep_until.map(Timestamp::as_microsecond),
            removal.receipt.as_ref().map(|receipt| receipt.id.into_bytes()),
            int(removal.bytes),
            body,
        ])?;
        Ok(id)
    }

    fn archived_places(&self, removal: i64) -> Result<Vec<Sequence>, JobError> {
        let (first, last) = places_of(removal);
        let mut select = self
            .connection
            .prepare_cached("SELECT place FROM archive WHERE place BETWEEN ?1 AND ?2")?;
        let rows = select.query_map([first, last], crate::codec::sequence)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn check_copied(&self, frame: &Frame, removals: u64) -> Result<(), JobError> {
        let row = &self.loaded.row;
        let messages: i64 = self
            .connection
            .prepare_cached("SELECT count(*) FROM message WHERE place BETWEEN ?1 AND ?2")?
            .query_row([row.first_place(), row.last_place()], |row| row.get(0))?;
        let archived: i64 = self
            .connection
            .prepare_cached("SELECT count(*) FROM removal WHERE memory = ?1 AND messages >= 0")?
            .query_row([row.id], |row| row.get(0))?;
        let is_complete = archived.cast_unsigned() == removals && self.open_removal()?.is_none();
        let removals =
            if is_complete { CopiedRemovals::Complete } else { CopiedRemovals::Incomplete };
        let last = self.newest()?.map_or(Sequence::ZERO, |newest| newest.sequence);
        Ok(frame.check_copied(messages.cast_unsigned(), last, removals)?)
    }

    pub(super) fn finish_copy(&mut self, frame: &Frame, copy: Uuid) -> Result<(), JobError> {
        let memory = self.loaded.row.id;
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO receipt (memory, number, body) VALUES (?1, ?2, ?3)")?;
        let before = self.loaded.row.receipts;
        let mut receipts = before;
        for receipt in frame.receipts.iter().rev() {
            receipts = receipts.saturating_add(1);
            let body = written(serde_json::to_string(receipt))?;
            insert.execute(params![memory, int(receipts), body])?;
        }
        let mut insert = self.connection.prepare_cached(INSERT_ERASURE)?;
        for (number, erasure) in (1_i64..).zip(frame.erasures.iter().rev()) {
            let (writer, write) = (erasure.write.writer, erasure.write.number);
            let body = written(serde_json::to_string(erasure))?;
            let writer = writer.bits().to_be_bytes();
            insert.execute(params![memory, number, writer, int(write), body])?;
        }
        let mut insert = self.connection.prepare_cached(INSERT_WRITER)?;
        for WriterRecord { writer, number, first } in &frame.writers {
            let first = first.map(|first| int(first.number()));
            let writer = writer.bits().to_be_bytes();
            insert.execute(params![memory, writer, int(*number), first])?;
        }
        let origin = frame.origin.as_ref().map(serde_json::to_string).transpose();
        self.connection
            .prepare_cached("INSERT INTO origin (memory, copy, body) VALUES (?1, ?2, ?3)")?
            .execute(params![memory, copy.into_bytes(), written(origin)?])?;
        if !frame.metadata.is_unset() {
            self.set_metadata(&frame.metadata)?;
        }
        let now = self.now;
        let row = &mut self.loaded.row;
        row.unfinished = None;
        row.receipts = receipts;
        row.receipt = frame.receipts.first().map(|receipt| receipt.id);
        row.forgotten = frame.forgotten_millis;
        let head = &mut row.head;
        head.counters = frame.counters.clone();
        head.generation = Generation::next(head.generation, now);
        head.version = frame.version.max(1);
        head.last = frame.last;
        head.next_flush_at = frame.next_flush_at;
        head.expires_at = frame.expires_at;
        Ok(())
    }
}

fn insert_row(
    statement: &mut CachedStatement<'_>,
    place: i64,
    meta: &memory_core::store::MessageMeta,
    Encoded { body, link }: &Encoded,
) -> rusqlite::Result<()> {
    let id = meta.id.uuid().into_bytes();
    let parameters: [&dyn ToSql; 10] = [
        &place,
        &id,
        &meta.tokens,
        &meta.priority.map(Priority::number),
        &meta.content_type.as_str(),
        &meta.created_at.as_microsecond(),
        link,
        &meta.closed,
        &meta.summary,
        body,
    ];
    statement.execute(parameters).map(drop)
}

fn written<T>(json: serde_json::Result<T>) -> Result<T, JobError> {
    json.map_err(|error| {
        let problem = format!("a record of the copy cannot be written: {error}");
        JobError::Refused(StoreErrorKind::Invalid(problem))
    })
}

const INSERT_MESSAGE: &str = "
INSERT INTO message
    (place, id, tokens, priority, content_type, created_at, link, closed, summary, body)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

const INSERT_ARCHIVED: &str = "
INSERT INTO archive
    (place, id, tokens, priority, content_type, created_at, link, closed, summary, body)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

/// The number of messages is negative until the removal is complete.
const INSERT_REMOVAL: &str = "
INSERT INTO removal (id, memory, number, keep_until, receipt, bytes, messages, body)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, -1, ?7)";

const LAST_REMOVAL: &str = "SELECT max(number) FROM removal WHERE memory = ?1 AND messages >= 0";

const INSERT_ERASURE: &str =
    "INSERT INTO erasure (memory, number, writer, write, body) VALUES (?1, ?2, ?3, ?4, ?5)";

const INSERT_WRITER: &str =
    "INSERT INTO writer (memory, writer, number, first) VALUES (?1, ?2, ?3, ?4)";
