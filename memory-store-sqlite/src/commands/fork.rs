//! Forks within one file.

use jiff::Timestamp;
use memory_core::plan::Class;
use memory_core::store::{
    Access, ArchivedRemoval, CopiedRemovals, Counters, Erasure, FlushReceipt, Fork, Forked, Frame,
    MessageId, MessageMeta, StoreErrorKind, StoreOperation,
};
use memory_core::{ContentType, MemoryKey, Priority};
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::archive::{next_removal, places_of};
use super::batch::Batch;
use super::copy::MadeBy;
use super::erase::read_erasure;
use super::{Command, PAGES_OF_REMOVAL};
use crate::codec::{HeadRow, Unfinished, int, select_metadata};
use crate::error::JobError;
use crate::schema::SEQUENCE_BITS;

/// Copies the rows of a memory to another one.
#[derive(Debug)]
pub(crate) struct ForkRows {
    pub(crate) access: Access,
    pub(crate) fork: Fork,
}

/// The part of its origin that a fork takes.
struct Taken {
    frame: Frame,
    /// The range of the keys of its messages.
    messages: (i64, i64),
    removals: Vec<TakenRemoval>,
}

struct TakenRemoval {
    id: i64,
    removal: ArchivedRemoval,
    body: String,
}

impl Command for ForkRows {
    type Answer = Forked;
    const OPERATION: StoreOperation = StoreOperation::Copy;

    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<Forked, JobError> {
        let Self { access, fork } = self;
        let step = batch.copy_step(key)?;
        if step.is_made_by(fork.copy)? == MadeBy::This {
            return Ok(Forked::Complete);
        }
        let fence = step.check_writer_lease(access.lease)?;
        let now = batch.now;
        let origin = batch.copy_step(&fork.from)?;
        let is_unfinished = origin.loaded.row.unfinished.is_some();
        if is_unfinished || !origin.has_rows() || origin.head().generation != fork.generation {
            return Err(JobError::Refused(StoreErrorKind::Conflict));
        }
        let taken = taken(origin.connection, &origin.loaded.row, fork, now)?;
        let Taken { frame, messages, removals } = taken;

        let mut step = batch.copy_step(key)?;
        step.begin_copy(Some(Unfinished { copy: fork.copy, attempt: 0 }))?;
        let connection = step.connection;
        let first = step.loaded.row.first_place();
        connection.prepare_cached(COPY_MESSAGES)?.execute(params![
            first,
            SEQUENCE_MASK,
            messages.0,
            messages.1
        ])?;
        for TakenRemoval { id, removal, body } in &removals {
            let ((from, to), new) = (places_of(*id), next_removal(connection)?);
            let first = places_of(new).0;
            connection.prepare_cached(COPY_ARCHIVED)?.execute(params![
                first,
                SEQUENCE_MASK,
                from,
                to
            ])?;
            connection.prepare_cached(INSERT_REMOVAL)?.execute(params![
                new,
                step.loaded.row.id,
                int(removal.number),
                removal.keep_until.map(Timestamp::as_microsecond),
                removal.receipt.as_ref().map(|receipt| receipt.id.into_bytes()),
                int(removal.bytes),
                int(removal.messages),
                body,
            ])?;
        }
        step.finish_copy(&frame, fork.copy)?;
        step.loaded.row.head.fence = fence;
        Ok(Forked::Complete)
    }

    fn pages(&self) -> usize {
        PAGES_OF_REMOVAL
    }

    fn is_light(&self) -> bool {
        false
    }
}

/// Reads what a fork takes of a memory, and checks it.
fn taken(connection: &Connection, row: &HeadRow, fork: &Fork, now: u64) -> Result<Taken, JobError> {
    let at = fork.origin.at;
    let messages = (row.first_place(), row.place(at).unwrap_or(row.last_place()));
    let mut counters = present(connection, messages)?;
    let removals = removals(connection, row, fork, now)?;
    for taken in &removals {
        add_archived(connection, taken, &mut counters)?;
    }
    let mut frame = Frame::new(row.head.clone());
    frame.receipts = receipts(connection, row.id)?;
    frame.erasures = erasures(connection, row.id)?;
    frame.metadata = select_metadata(connection, row.id)?;
    let frame = frame.into_fork(at, counters, fork.origin.clone());
    frame.check_copied(
        frame.counters.present.messages,
        at.min(frame.last),
        CopiedRemovals::Complete,
    )?;
    Ok(Taken { frame, messages, removals })
}

/// The counters of present messages, which have been counted by their class.
fn present(connection: &Connection, (first, last): (i64, i64)) -> Result<Counters, JobError> {
    let mut counters = Counters::default();
    let mut select = connection.prepare_cached(COUNT)?;
    let mut rows = select.query([first, last])?;
    while let Some(row) = rows.next()? {
        let priority = row.get::<_, Option<u8>>(0)?.map(Priority::new);
        let content_type = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?.into();
        let class = Class { priority, content_type };
        let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
        let (messages, tokens, summaries) = (number(2)?, number(3)?, number(4)?);
        let tally = counters.classes.entry(class).or_default();
        for tally in [tally, &mut counters.present] {
            tally.messages = tally.messages.saturating_add(messages);
            tally.tokens = tally.tokens.saturating_add(tokens);
        }
        counters.summaries = counters.summaries.saturating_add(summaries);
        let appended = messages.saturating_sub(summaries);
        counters.appended = counters.appended.saturating_add(appended);
    }
    Ok(counters)
}

/// The removals of which the fork takes all messages, oldest first.
fn removals(
    connection: &Connection,
    row: &HeadRow,
    fork: &Fork,
    now: u64,
) -> Result<Vec<TakenRemoval>, JobError> {
    let mut taken = Vec::new();
    let mut select = connection.prepare_cached(REMOVALS)?;
    let mut rows = select.query(params![row.id, int(now)])?;
    while let Some(row) = rows.next()? {
        let (id, body) = (row.get(0)?, row.get::<_, String>(1)?);
        let removal: ArchivedRemoval = serde_json::from_str(&body).map_err(|_| unreadable())?;
        if removal.places.ranges().iter().all(|(_, last)| *last <= fork.origin.at) {
            taken.push(TakenRemoval { id, removal, body });
        }
    }
    Ok(taken)
}

fn add_archived(
    connection: &Connection,
    TakenRemoval { id, removal, .. }: &TakenRemoval,
    counters: &mut Counters,
) -> Result<(), JobError> {
    let mut found = 0_u64;
    let mut select = connection.prepare_cached(ARCHIVED)?;
    let (first, last) = places_of(*id);
    let mut rows = select.query([first, last])?;
    while let Some(row) = rows.next()? {
        let place = crate::codec::sequence(row)?;
        // Nothing else of it is counted.
        let mut meta =
            MessageMeta::new(place, NO_ID, ContentType::Conversation, Timestamp::UNIX_EPOCH);
        meta.summary = row.get(1)?;
        counters.hold_archived(removal, &meta);
        found = found.saturating_add(1);
    }
    if found == removal.messages { Ok(()) } else { Err(unreadable().into()) }
}

fn receipts(connection: &Connection, memory: i64) -> Result<Vec<FlushReceipt>, JobError> {
    let mut receipts = Vec::new();
    let mut select = connection
        .prepare_cached("SELECT body FROM receipt WHERE memory = ?1 ORDER BY number DESC")?;
    let mut rows = select.query([memory])?;
    while let Some(row) = rows.next()? {
        let body = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        receipts.push(serde_json::from_str(body).map_err(|_| {
            StoreErrorKind::Corrupt("a receipt cannot be read; clear the memory".into())
        })?);
    }
    Ok(receipts)
}

fn erasures(connection: &Connection, memory: i64) -> Result<Vec<Erasure>, JobError> {
    let mut erasures = Vec::new();
    let mut select = connection
        .prepare_cached("SELECT body FROM erasure WHERE memory = ?1 ORDER BY number DESC")?;
    let mut rows = select.query([memory])?;
    while let Some(row) = rows.next()? {
        erasures.push(read_erasure(row)?);
    }
    Ok(erasures)
}

fn unreadable() -> StoreErrorKind {
    let problem = "a removal in the archive cannot be read, or lacks messages; clear the memory";
    StoreErrorKind::Corrupt(problem.into())
}

const NO_ID: MessageId = MessageId::new(Uuid::nil());

const SEQUENCE_MASK: i64 = (1 << SEQUENCE_BITS) - 1;

const COUNT: &str = "
SELECT priority, content_type, count(*), sum(tokens), sum(summary) FROM message
WHERE place BETWEEN ?1 AND ?2 GROUP BY priority, content_type";

const COPY_MESSAGES: &str = "
INSERT INTO message
    (place, id, tokens, priority, content_type, created_at, link, closed, summary, body)
SELECT ?1 | (place & ?2), id, tokens, priority, content_type, created_at, link, closed, summary, body
FROM message WHERE place BETWEEN ?3 AND ?4 ORDER BY place";

const COPY_ARCHIVED: &str = "
INSERT INTO archive
    (place, id, tokens, priority, content_type, created_at, link, closed, summary, body)
SELECT ?1 | (place & ?2), id, tokens, priority, content_type, created_at, link, closed, summary, body
FROM archive WHERE place BETWEEN ?3 AND ?4 ORDER BY place";

const REMOVALS: &str = "
SELECT id, body FROM removal
WHERE memory = ?1 AND (keep_until IS NULL OR keep_until > ?2) ORDER BY number";

const ARCHIVED: &str = "SELECT place, summary FROM archive WHERE place BETWEEN ?1 AND ?2";

const INSERT_REMOVAL: &str = "
INSERT INTO removal (id, memory, number, keep_until, receipt, bytes, messages, body)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
