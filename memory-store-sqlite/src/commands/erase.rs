//! The erasure of messages, present and archived.

use memory_core::sibling::{Erasable, ErasableRemoval, ErasurePlan};
use memory_core::store::{
    Access, ArchivedRemoval, Erase, Erased, Erasure, FlushReceipt, KEPT_ERASURES, MessageId,
    MessageMeta, SequenceSet, StoreErrorKind, StoreOperation, WriteId,
};
use memory_core::{MemoryKey, Sequence};
use rusqlite::{Row, params};
use uuid::Uuid;

use super::archive::places_of;
use super::batch::Batch;
use super::restore::decoded;
use super::secure::SecureDelete;
use super::step::Step;
use super::{Command, PAGES_OF_REMOVAL};
use crate::codec::{self, META_COLUMNS, int};
use crate::error::JobError;
use crate::schema::SEQUENCE_BITS;

#[derive(Debug)]
pub(crate) struct EraseRows {
    pub(crate) access: Access,
    pub(crate) erase: Erase,
}

impl Command for EraseRows {
    type Answer = Erased;
    const OPERATION: StoreOperation = StoreOperation::Erase;

    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<Erased, JobError> {
        let mut step = batch.step(key)?;
        let erase = &self.erase;
        if step.earlier(erase.write)?.is_some() {
            return step.recorded(erase);
        }
        let fence = step.check_writer_lease(self.access.lease)?;
        let found = step.erasable(erase)?;

        step.begin()?;
        let connection = step.connection;
        let secure = SecureDelete::new(connection)?;
        step.drop_overdue()?;
        let plan = ErasurePlan::new(&erase.places, &found.state);
        step.delete_rows(&found, &plan, erase)?;
        drop(secure);
        step.remember(erase.write, None)?;
        let (now, time) = (step.now, step.time()?);
        let head = &mut step.loaded.row.head;
        plan.count(&mut head.counters);
        head.fence = fence;
        head.forget_flush_mark();
        head.generation = head.generation.after(now, erase.spread());
        let record = Erasure::new(erase.write, &*erase.reason, time, head.generation);
        let erasure = plan.record(&erase.places, record);
        step.keep_erasure(&erasure)?;
        Ok(Erased::new(erasure, step.head().counters.clone()))
    }

    fn pages(&self) -> usize {
        PAGES_OF_REMOVAL
    }

    fn is_light(&self) -> bool {
        false
    }
}

/// The rows that an erasure concerns.
struct Found {
    state: Erasable,
    /// The ids of the rows of `state.removals`.
    removals: Vec<i64>,
    /// The numbers of the rows of `state.receipts`.
    receipts: Vec<i64>,
}

impl Step<'_> {
    /// The record of an earlier application; one that found nothing if it is no longer kept.
    fn recorded(&self, erase: &Erase) -> Result<Erased, JobError> {
        let WriteId { writer, number } = erase.write;
        let mut select = self.connection.prepare_cached(RECORDED)?;
        let mut rows =
            select.query(params![self.loaded.row.id, writer.bits().to_be_bytes(), int(number)])?;
        let erasure = match rows.next()? {
            Some(row) => read_erasure(row)?,
            None => {
                let generation = self.head().generation;
                Erasure::new(erase.write, &*erase.reason, self.time()?, generation)
            }
        };
        Ok(Erased::new(erasure, self.head().counters.clone()))
    }

    fn erasable(&self, erase: &Erase) -> Result<Found, JobError> {
        let mut found = Found {
            state: Erasable { last: self.head().last, ..Erasable::default() },
            removals: Vec::new(),
            receipts: Vec::new(),
        };
        if !self.has_rows() {
            return Ok(found);
        }
        let row = &self.loaded.row;
        let first = row.first_place();
        found.state.present =
            self.metas_in("message", first, erase)?.into_iter().map(|(meta, _)| meta).collect();
        if row.head.counters.summaries > 0 {
            found.state.summaries = self.summaries_in("message", first, row.last_place())?;
        }
        let mut select = self.connection.prepare_cached(RECEIPTS)?;
        let mut rows = select.query([row.id])?;
        while let Some(row) = rows.next()? {
            // A receipt that cannot be read explains nothing; summaries are then listed as they are without it.
            let body = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            if let Ok(receipt) = serde_json::from_str::<FlushReceipt>(body) {
                found.receipts.push(row.get(0)?);
                found.state.receipts.push(receipt);
            }
        }
        let mut select = self.connection.prepare_cached(REMOVALS)?;
        let mut rows = select.query(params![row.id, int(self.now)])?;
        while let Some(row) = rows.next()? {
            let (id, body) = (row.get::<_, i64>(0)?, row.get::<_, String>(1)?);
            found.removals.push(id);
            found.state.removals.push(self.erasable_removal(id, decoded(&body)?, erase)?);
        }
        Ok(found)
    }

    fn erasable_removal(
        &self,
        id: i64,
        removal: ArchivedRemoval,
        erase: &Erase,
    ) -> Result<ErasableRemoval, JobError> {
        let (first, last) = places_of(id);
        let found = if removal.places.meets(&erase.places) {
            self.metas_in("archive", first, erase)?
        } else {
            Vec::new()
        };
        let summaries = self.summaries_in("archive", first, last)?;
        Ok(ErasableRemoval { removal, found, summaries })
    }

    /// The messages to erase of a table, with the bytes of each.
    fn metas_in(
        &self,
        table: &str,
        first_place: i64,
        erase: &Erase,
    ) -> Result<Vec<(MessageMeta, u64)>, JobError> {
        let sql = format!(
            "SELECT {META_COLUMNS}, octet_length(body) FROM {table} WHERE place BETWEEN ?1 AND ?2"
        );
        let mut select = self.connection.prepare_cached(&sql)?;
        let mut metas = Vec::new();
        for (first, last) in ranges(first_place, &erase.places) {
            let mut rows = select.query([first, last])?;
            while let Some(row) = rows.next()? {
                let bytes = row.get::<_, i64>(9)?.unsigned_abs();
                metas.push((codec::named_meta(row)?, bytes));
            }
        }
        Ok(metas)
    }

    /// The summaries in this range of places of a table.
    fn summaries_in(
        &self,
        table: &str,
        first: i64,
        last: i64,
    ) -> Result<Vec<(Sequence, MessageId)>, JobError> {
        let sql =
            format!("SELECT place, id FROM {table} WHERE place BETWEEN ?1 AND ?2 AND summary = 1");
        let mut select = self.connection.prepare_cached(&sql)?;
        let rows = select.query_map([first, last], |row| {
            let id = MessageId::new(Uuid::from_bytes(row.get(1)?));
            Ok((codec::sequence(row)?, id))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn delete_rows(
        &self,
        found: &Found,
        plan: &ErasurePlan,
        erase: &Erase,
    ) -> Result<(), JobError> {
        let in_ranges = |sql: &str, first: i64| -> Result<(), JobError> {
            let mut delete = self.connection.prepare_cached(sql)?;
            for (from, to) in ranges(first, &erase.places) {
                delete.execute([from, to])?;
            }
            Ok(())
        };
        self.unindex(ranges(self.loaded.row.first_place(), &erase.places))?;
        in_ranges(
            "DELETE FROM message WHERE place BETWEEN ?1 AND ?2",
            self.loaded.row.first_place(),
        )?;
        for (index, removal) in &plan.removals {
            let Some(id) = found.removals.get(*index) else { continue };
            in_ranges("DELETE FROM archive WHERE place BETWEEN ?1 AND ?2", places_of(*id).0)?;
            self.connection.prepare_cached(UPDATE_REMOVAL)?.execute(params![
                id,
                int(removal.bytes),
                int(removal.messages),
                written(serde_json::to_string(removal))?,
            ])?;
        }
        for (index, receipt) in &plan.receipts {
            let Some(number) = found.receipts.get(*index) else { continue };
            self.connection.prepare_cached(UPDATE_RECEIPT)?.execute(params![
                self.loaded.row.id,
                number,
                written(serde_json::to_string(receipt))?
            ])?;
        }
        Ok(())
    }

    /// Records an erasure, and drops the oldest record beyond those that are kept.
    fn keep_erasure(&self, erasure: &Erasure) -> Result<(), JobError> {
        let (memory, number) = (self.loaded.row.id, int(self.head().version));
        let WriteId { writer, number: write } = erasure.write;
        self.connection.prepare_cached(INSERT_ERASURE)?.execute(params![
            memory,
            number,
            writer.bits().to_be_bytes(),
            int(write),
            written(serde_json::to_string(erasure))?,
        ])?;
        let kept = i64::try_from(KEPT_ERASURES).unwrap_or(i64::MAX);
        self.connection.prepare_cached(DROP_ERASURES)?.execute(params![memory, kept])?;
        Ok(())
    }
}

/// The ranges of these places in a table, in which the messages have places from this one on.
fn ranges(first_place: i64, places: &SequenceSet) -> impl Iterator<Item = (i64, i64)> {
    const LAST: u64 = (1 << SEQUENCE_BITS) - 1;
    // Greater numbers would be places of another memory.
    let possible = places.ranges().iter().filter(|(first, _)| first.number() <= LAST);
    possible.map(move |(first, last)| {
        (first_place | int(first.number()), first_place | int(last.number().min(LAST)))
    })
}

pub(crate) fn read_erasure(row: &Row<'_>) -> Result<Erasure, JobError> {
    let body = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
    serde_json::from_str(body).map_err(|_| {
        let problem = "the record of an erasure cannot be read; restore a backup";
        JobError::Refused(StoreErrorKind::Corrupt(problem.into()))
    })
}

fn written(json: serde_json::Result<String>) -> Result<String, JobError> {
    json.map_err(|error| {
        let problem = format!("the record of the erasure cannot be written: {error}");
        JobError::Refused(StoreErrorKind::Invalid(problem))
    })
}

const RECEIPTS: &str = "SELECT number, body FROM receipt WHERE memory = ?1 ORDER BY number DESC";

const REMOVALS: &str = "
SELECT id, body FROM removal
WHERE memory = ?1 AND (keep_until IS NULL OR keep_until > ?2) ORDER BY number, id";

const UPDATE_REMOVAL: &str =
    "UPDATE removal SET bytes = ?2, messages = ?3, body = ?4 WHERE id = ?1";

const UPDATE_RECEIPT: &str = "UPDATE receipt SET body = ?3 WHERE memory = ?1 AND number = ?2";

const RECORDED: &str = "SELECT body FROM erasure WHERE memory = ?1 AND writer = ?2 AND write = ?3";

const INSERT_ERASURE: &str =
    "INSERT INTO erasure (memory, number, writer, write, body) VALUES (?1, ?2, ?3, ?4, ?5)";

const DROP_ERASURES: &str = "
DELETE FROM erasure WHERE memory = ?1 AND number NOT IN
    (SELECT number FROM erasure WHERE memory = ?1 ORDER BY number DESC LIMIT ?2)";
