//! The insertion of messages.

use std::time::Duration;

use jiff::Timestamp;
use memory_core::MemoryKey;
use memory_core::store::{
    Access, Append, AppendOutcome, Appended, StoreErrorKind, StoreOperation, Version,
};

use super::batch::Batch;
use super::step::{Step, no_room};
use super::{Command, LIGHT_BYTES, bytes_of};
use crate::codec::{Encoded, INSERT_MESSAGE, RowKind, insert_message};
use crate::error::JobError;

#[derive(Debug)]
pub(crate) struct AppendRows {
    pub(crate) access: Access,
    pub(crate) append: Append,
    pub(crate) encoded: Vec<Encoded>,
}

impl Command for AppendRows {
    type Answer = Appended;
    const OPERATION: StoreOperation = StoreOperation::Append;

    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<Appended, JobError> {
        let mut step = batch.step(key)?;
        let append = &self.append;
        let outcome = if let Some(first) = step.earlier(append.write)? {
            AppendOutcome::Duplicate { first }
        } else {
            let fence = step.check_writer_lease(self.access.lease)?;
            if let Some(expected) = append.expected
                && !step.is_at(expected)?
            {
                return Err(JobError::Refused(StoreErrorKind::Conflict));
            }
            let first = step.head().last.plus(1);
            step.ensure_room(self.encoded.len())?;
            step.begin()?;
            step.add(append, &self.encoded)?;
            step.remember(append.write, Some(first))?;
            let end = append.ttl.and_then(|ttl| expiry(step.now, ttl));
            let head = &mut step.loaded.row.head;
            head.fence = fence;
            head.expires_at = end;
            AppendOutcome::Appended { first }
        };
        let head = &step.loaded.row.head;
        let (counters, next_flush_at) = (head.counters.clone(), head.next_flush_at);
        Ok(Appended::new(outcome, counters, next_flush_at))
    }

    fn bytes(&self) -> usize {
        self.encoded.iter().map(bytes_of).sum()
    }

    fn pages(&self) -> usize {
        self.bytes() / 4_096
    }

    fn is_light(&self) -> bool {
        self.bytes() <= LIGHT_BYTES
    }
}

impl Step<'_> {
    /// Adds the messages of a batch at the end.
    pub(super) fn add(&mut self, batch: &Append, encoded: &[Encoded]) -> Result<(), JobError> {
        let mut insert = self.connection.prepare_cached(INSERT_MESSAGE)?;
        for (message, encoded) in batch.messages.iter().zip(encoded) {
            let row = &mut self.loaded.row;
            row.head.last = row.head.last.plus(1);
            row.head.counters.append(message);
            let place = row.place(row.head.last).ok_or_else(no_room)?;
            insert_message(&mut insert, place, message, encoded, RowKind::Message)?;
        }
        Ok(())
    }

    /// Whether the memory is still at this version.
    pub(super) fn is_at(&self, expected: Version) -> Result<bool, JobError> {
        if !self.has_rows() {
            return Ok(expected == Version::default());
        }
        Ok(expected.is_current(self.head(), self.newest()?))
    }

    pub(super) fn ensure_room(&self, messages: usize) -> Result<(), JobError> {
        let last = self.head().last.plus(u64::try_from(messages).unwrap_or(u64::MAX));
        self.loaded.row.place(last).map(drop).ok_or_else(no_room)
    }
}

/// The expiry of a TTL that starts now. A TTL past the end of time never expires.
pub(super) fn expiry(now_micros: u64, ttl: Duration) -> Option<Timestamp> {
    let ttl = i64::try_from(ttl.as_micros()).ok()?;
    Timestamp::from_microsecond(i64::try_from(now_micros).ok()?.checked_add(ttl)?).ok()
}
