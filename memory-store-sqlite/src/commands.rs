//! Each write as a function over a transaction.

mod splice;

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use memory_core::{
    Append, AppendOutcome, Appended, Clear, Counters, FencingToken, LeaseProof, MemoryKey,
    Sequence, Splice, StoreErrorKind, WriteId, WriterId,
};
use memory_lock::sqlite::LeaseTable;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::codec::{Encoded, HeadRow, INSERT_MESSAGE, LastWrite, SELECT_HEAD, insert_message, int};
use crate::error::Fault;

/// A write, ready to be applied.
#[derive(Debug)]
pub(crate) enum Command {
    Append {
        append: Append,
        encoded: Vec<Encoded>,
    },
    Splice {
        splice: Box<Splice>,
        summary: Option<Encoded>,
    },
    Clear(Clear),
    Claim(LeaseProof),
    /// Removes what is left of the memory if its TTL has run out.
    Expire,
}

/// What a write that was not refused answers.
#[derive(Debug)]
pub(crate) enum Answer {
    Appended(Appended),
    Counters(Counters),
    Done,
}

impl Command {
    pub(crate) const fn operation(&self) -> &'static str {
        match self {
            Self::Append { .. } => "append to",
            Self::Splice { .. } => "flush",
            Self::Clear(_) => "clear",
            Self::Claim(_) => "claim",
            Self::Expire => "remove expired",
        }
    }

    /// The bytes that it adds, roughly.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Append { encoded, .. } => encoded.iter().map(|m| m.body.len() + 64).sum(),
            Self::Splice { splice, .. } => 64 * places(splice),
            Self::Clear(_) | Self::Claim(_) | Self::Expire => 0,
        }
    }

    /// Whether it takes no longer than a commit takes anyway.
    pub(crate) fn is_light(&self) -> bool {
        match self {
            Self::Append { .. } => self.bytes() <= 256 << 10,
            Self::Splice { splice, .. } => places(splice) <= 64,
            Self::Claim(_) => true,
            Self::Clear(_) | Self::Expire => false,
        }
    }
}

const fn places(splice: &Splice) -> usize {
    splice.summarised.len() + splice.evicted.len() + splice.closed.len()
}

/// The writes of one transaction. Each command checks everything before its first change, so that
/// one that is refused leaves the transaction as it was; heads are read once and written once.
#[derive(Debug)]
pub(crate) struct Batch<'c> {
    connection: &'c Connection,
    now: u64,
    heads: HashMap<MemoryKey, Loaded>,
}

/// A head within a transaction.
#[derive(Debug, Default)]
struct Loaded {
    row: HeadRow,
    /// The memory's TTL has run out, and its old rows are still there.
    leftovers: bool,
    changed: bool,
}

impl<'c> Batch<'c> {
    /// The transaction has begun, and `now_micros` was read after that: a lease that is live then
    /// cannot pass to another owner before the commit.
    pub(crate) fn new(connection: &'c Connection, now_micros: u64) -> Self {
        Self { connection, now: now_micros, heads: HashMap::new() }
    }

    /// Applies one command, or refuses it.
    pub(crate) fn apply(&mut self, key: &MemoryKey, command: &Command) -> Result<Answer, Fault> {
        if !self.heads.contains_key(key) {
            let loaded = self.load(key)?;
            self.heads.insert(key.clone(), loaded);
        }
        let Some(loaded) = self.heads.get_mut(key) else {
            return Err(Fault::Refused(StoreErrorKind::Other("a head went missing".into())));
        };
        let mut step = Step { connection: self.connection, now: self.now, key, loaded };
        match command {
            Command::Append { append, encoded } => {
                step.append(append, encoded).map(Answer::Appended)
            }
            Command::Splice { splice, summary } => {
                step.splice(splice, summary.as_ref()).map(Answer::Counters)
            }
            Command::Clear(clear) => step.clear(clear).map(Answer::Counters),
            Command::Claim(lease) => step.claim(*lease).map(|()| Answer::Done),
            Command::Expire => step.expire().map(|()| Answer::Done),
        }
    }

    fn load(&self, key: &MemoryKey) -> Result<Loaded, Fault> {
        let row = self
            .connection
            .prepare_cached(SELECT_HEAD)?
            .query_row([key.as_str()], HeadRow::from_row)
            .optional();
        let row = match row {
            Ok(row) => row.unwrap_or_default(),
            Err(error @ rusqlite::Error::SqliteFailure(..)) => return Err(error.into()),
            // A row that does not decode concerns this memory only.
            Err(error) => return Err(Fault::Refused(bad_head(&error))),
        };
        if row.id != 0 && row.is_alive(self.now) {
            return Ok(Loaded { row, leftovers: false, changed: false });
        }
        // What fences stale writers off outlives the data; generations never repeat.
        let mut new = HeadRow { id: row.id, receipts: row.receipts, ..HeadRow::default() };
        new.head.fence = row.head.fence;
        new.head.flush_fence = row.head.flush_fence;
        new.head.generation = row.head.generation.next(self.now);
        Ok(Loaded { leftovers: row.id != 0, row: new, changed: false })
    }

    /// Writes the heads that changed.
    pub(crate) fn finish(self) -> Result<(), Fault> {
        for loaded in self.heads.values().filter(|loaded| loaded.changed) {
            let HeadRow { id, head, receipts, receipt, .. } = &loaded.row;
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
                int(counters.summarised),
                int(counters.evicted),
                int(counters.cleared),
                loaded.row.classes()?,
                int(*receipts),
                receipt.map(Uuid::into_bytes),
                loaded.row.writers(),
            ])?;
        }
        Ok(())
    }
}

const UPDATE_HEAD: &str = "
UPDATE memory SET
    generation = ?2, version = ?3, last = ?4, fence = ?5, flush_fence = ?6, next_flush_at = ?7,
    expires_at = ?8, messages = ?9, tokens = ?10, summaries = ?11, appended = ?12,
    summarised = ?13, evicted = ?14, cleared = ?15, classes = ?16, receipts = ?17, receipt = ?18,
    writers = ?19
WHERE id = ?1";

const INSERT_HEAD: &str = "
INSERT INTO memory
    (key, generation, version, last, fence, flush_fence, messages, tokens, summaries, appended,
     summarised, evicted, cleared, classes, receipts, writers)
VALUES (?1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, '{}', 0, x'')";

/// How many writers a memory's row keeps.
const RECENT_WRITERS: usize = 16;

const UPSERT_WRITER: &str = "
INSERT INTO writer (memory, writer, number, first) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT DO UPDATE SET number = ?3, first = ?4";

pub(crate) fn bad_head(error: &rusqlite::Error) -> StoreErrorKind {
    StoreErrorKind::Corrupt(format!("the memory's head cannot be read ({error}); restore a backup"))
}

/// One command at work on its memory.
struct Step<'a> {
    connection: &'a Connection,
    now: u64,
    key: &'a MemoryKey,
    loaded: &'a mut Loaded,
}

impl Step<'_> {
    fn append(&mut self, append: &Append, encoded: &[Encoded]) -> Result<Appended, Fault> {
        let outcome = if let Some(first) = self.earlier(append.write)? {
            AppendOutcome::Duplicate { first }
        } else {
            let fence = self.admit_writer(append.access.lease)?;
            let first = self.head().last.plus(1);
            self.ensure_room(encoded.len())?;
            self.begin()?;
            let mut insert = self.connection.prepare_cached(INSERT_MESSAGE)?;
            for (message, encoded) in append.messages.iter().zip(encoded) {
                let row = &mut self.loaded.row;
                row.head.last = row.head.last.plus(1);
                row.head.counters.append(message);
                let place = row.place(row.head.last).ok_or_else(no_room)?;
                insert_message(&mut insert, place, message, encoded, false)?;
            }
            self.remember(append.write, Some(first))?;
            let end = append.ttl.and_then(|ttl| expiry(self.now, ttl));
            let head = &mut self.loaded.row.head;
            head.fence = fence;
            head.expires_at = end;
            AppendOutcome::Appended { first }
        };
        let head = &self.loaded.row.head;
        let next_flush_at = head.next_flush_at;
        Ok(Appended { outcome, counters: head.counters.clone(), next_flush_at })
    }

    fn clear(&mut self, clear: &Clear) -> Result<Counters, Fault> {
        if self.earlier(clear.write)?.is_none() {
            let fence = self.admit_writer(clear.access.lease)?;
            self.begin()?;
            self.remove_messages()?;
            self.remember(clear.write, None)?;
            let now = self.now;
            let HeadRow { head, receipt, .. } = &mut self.loaded.row;
            head.fence = fence;
            head.counters.clear();
            head.next_flush_at = None;
            head.generation = head.generation.next(now);
            *receipt = None;
        }
        Ok(self.head().counters.clone())
    }

    fn claim(&mut self, lease: LeaseProof) -> Result<(), Fault> {
        let fence = self.admit_writer(Some(lease))?;
        self.begin()?;
        self.loaded.row.head.fence = fence;
        Ok(())
    }

    /// The memory still reads as one that was never written; its row stays for the fences.
    fn expire(&mut self) -> Result<(), Fault> {
        if self.loaded.leftovers {
            self.begin()?;
            self.loaded.row.head.expires_at = Some(Timestamp::UNIX_EPOCH);
        }
        Ok(())
    }

    const fn head(&self) -> &memory_core::Head {
        &self.loaded.row.head
    }

    /// Whether there are rows of this memory that count.
    const fn has_rows(&self) -> bool {
        self.loaded.row.id != 0 && !self.loaded.leftovers
    }

    /// The place of an earlier write's first message, if this write is a retry.
    fn earlier(&self, write: WriteId) -> Result<Option<Option<Sequence>>, Fault> {
        let row = &self.loaded.row;
        let recent = row.writers.iter().find(|last| last.writer == write.writer).copied();
        let last = match recent {
            None if self.has_rows() => self.older_writer(write.writer)?,
            recent => recent,
        };
        Ok(match last {
            Some(last) if write.number == last.number => Some(last.first),
            Some(last) if write.number < last.number => Some(None),
            _ => None,
        })
    }

    fn older_writer(&self, writer: WriterId) -> Result<Option<LastWrite>, Fault> {
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

    /// The newest token after a write by this right, or why it is refused.
    fn admit_writer(&self, lease: Option<LeaseProof>) -> Result<FencingToken, Fault> {
        let newest = self.head().fence;
        if let Some(lease) = lease {
            return self.admit(self.key.lease_name(), lease, newest);
        }
        match LeaseTable::live_lease(self.connection, self.key.lease_name(), self.now)? {
            Some(other) => {
                Err(Fault::Refused(StoreErrorKind::Locked { remaining: Some(other.remaining) }))
            }
            None => Ok(newest),
        }
    }

    /// The token of a lease that is the newest, live and its owner's.
    fn admit(
        &self,
        name: &str,
        lease: LeaseProof,
        newest: FencingToken,
    ) -> Result<FencingToken, Fault> {
        let LeaseProof { owner, token } = lease;
        let fenced = |newest| Fault::Refused(StoreErrorKind::Fenced { token, newest });
        if token < newest {
            return Err(fenced(newest));
        }
        match LeaseTable::live_lease(self.connection, name, self.now)? {
            Some(live) if live.owner == owner && live.token == token => Ok(token),
            Some(live) => Err(fenced(newest.max(live.token))),
            None => Err(fenced(newest)),
        }
    }

    fn ensure_room(&self, messages: usize) -> Result<(), Fault> {
        let last = self.head().last.plus(u64::try_from(messages).unwrap_or(u64::MAX));
        self.loaded.row.place(last).map(drop).ok_or_else(no_room)
    }

    /// To be called once nothing can refuse the command any more: makes the memory's row if it has
    /// none, and removes what an expired memory left.
    fn begin(&mut self) -> Result<(), Fault> {
        if self.loaded.row.id == 0 {
            self.connection.prepare_cached(INSERT_HEAD)?.execute([self.key.as_str()])?;
            self.loaded.row.id = self.connection.last_insert_rowid();
        }
        if self.loaded.leftovers {
            self.remove_messages()?;
            self.connection
                .prepare_cached("DELETE FROM writer WHERE memory = ?1")?
                .execute([self.loaded.row.id])?;
            self.loaded.leftovers = false;
        }
        if !self.loaded.row.is_alive(self.now) {
            self.loaded.row.head.expires_at = None;
        }
        self.loaded.row.head.version += 1;
        self.loaded.changed = true;
        Ok(())
    }

    /// Removes all messages and receipts.
    fn remove_messages(&self) -> Result<(), Fault> {
        let row = &self.loaded.row;
        self.connection
            .prepare_cached("DELETE FROM message WHERE place BETWEEN ?1 AND ?2")?
            .execute([row.first_place(), row.last_place()])?;
        self.connection
            .prepare_cached("DELETE FROM receipt WHERE memory = ?1")?
            .execute([row.id])?;
        Ok(())
    }

    /// Keeps the newest write of a writer in the memory's row, which is written anyway: a row of its
    /// own would be one more page in each commit. Where many write, the oldest make room.
    fn remember(&mut self, write: WriteId, first: Option<Sequence>) -> Result<(), Fault> {
        let WriteId { writer, number } = write;
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

fn no_room() -> Fault {
    Fault::Refused(StoreErrorKind::Full(
        "this memory has used up its places; go on under another key".into(),
    ))
}

/// When a TTL that begins now runs out; one past the end of time never does.
fn expiry(now_micros: u64, ttl: Duration) -> Option<Timestamp> {
    let ttl = i64::try_from(ttl.as_micros()).ok()?;
    Timestamp::from_microsecond(i64::try_from(now_micros).ok()?.checked_add(ttl)?).ok()
}
