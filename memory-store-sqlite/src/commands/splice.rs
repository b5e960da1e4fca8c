//! The commit of a flush.

use memory_core::store::{
    Access, Counters, KEPT_RECEIPTS, MessageMeta, SequenceSet, Splice, StoreErrorKind,
    StoreOperation,
};
use memory_core::{MemoryKey, Sequence};
use rusqlite::params;

use super::archive::{DROPPED_AT_ONCE, Removal, ranges};
use super::batch::Batch;
use super::step::Step;
use super::{Command, LIGHT_BYTES, bytes_of};
use crate::codec::{Encoded, HeadRow, INSERT_MESSAGE, RowKind, holds, insert_message, int};
use crate::error::JobError;

/// The typical length of a token's text.
const BYTES_OF_TOKEN: usize = 4;

/// The typical size of a message's row without its text.
const BYTES_OF_ROW: usize = 128;

#[derive(Debug)]
pub(crate) struct SpliceRows {
    pub(crate) access: Access,
    pub(crate) splice: Splice,
    pub(crate) summary: Option<Encoded>,
    /// The replacements of the splice, in their order.
    pub(crate) replaced: Vec<Encoded>,
}

impl SpliceRows {
    const fn places(&self) -> usize {
        let Splice { summarized, evicted, withdrawn, closed, replaced, .. } = &self.splice;
        summarized.len() + evicted.len() + withdrawn.len() + closed.len() + replaced.len()
    }

    /// The bytes of the replacements.
    fn replaced_bytes(&self) -> usize {
        self.replaced.iter().map(bytes_of).fold(0, usize::saturating_add)
    }

    /// The approximate size of the messages that move to the archive.
    fn archived_bytes(&self) -> usize {
        let Splice { archive: Some(_), removed, receipt, .. } = &self.splice else { return 0 };
        let removed = removed.iter().flat_map(|removed| removed.classes.values());
        let replaced = receipt.iter().flat_map(|receipt| &receipt.replaced);
        let tokens = removed
            .map(|tally| tally.tokens)
            .chain(replaced.map(|one| one.tokens_before.into()))
            .fold(0, u64::saturating_add);
        let text = usize::try_from(tokens).unwrap_or(usize::MAX).saturating_mul(BYTES_OF_TOKEN);
        self.places().saturating_mul(BYTES_OF_ROW).saturating_add(text)
    }
}

impl Command for SpliceRows {
    type Answer = Counters;
    const OPERATION: StoreOperation = StoreOperation::Splice;

    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<Counters, JobError> {
        let mut step = batch.step(key)?;
        let splice = &self.splice;
        let receipt = splice.receipt.as_ref();
        let HeadRow { receipt: newest, head, .. } = &step.loaded.row;
        if receipt.is_some_and(|receipt| Some(receipt.id) == *newest) {
            return Ok(head.counters.clone());
        }
        let flush_fence = match splice.flusher {
            Some(lease) => {
                step.check_proof(&step.key.flush_lease_name(), lease, head.flush_fence)?
            }
            None => head.flush_fence,
        };
        let fence = step.check_writer_lease(self.access.lease)?;
        // Leftovers have no generation to splice: the next generation is a different one.
        if !holds(step.connection, &step.loaded.row, splice.cursor())? {
            return Err(JobError::Refused(StoreErrorKind::Conflict));
        }
        if !splice.withdrawn.is_empty() {
            let newest = step.newest()?.map(|newest| newest.sequence);
            if newest > splice.newest.map(|newest| newest.sequence) {
                return Err(JobError::Refused(StoreErrorKind::Conflict));
            }
        }
        let Planned { summarized, evicted, withdrawn, closed, replaced } =
            step.check_places(splice)?;
        splice.check_receipt().map_err(JobError::Refused)?;
        let body = receipt.map(serde_json::to_string).transpose().map_err(|error| {
            StoreErrorKind::Invalid(format!("the receipt cannot be written: {error}"))
        })?;

        step.begin()?;
        let first = summarized.first().map(|(place, _)| *place);
        let counters = &mut step.loaded.row.head.counters;
        // Before the removals: a message may be closed and removed at once.
        let mut close =
            step.connection.prepare_cached("UPDATE message SET closed = 1 WHERE place = ?1")?;
        for place in closed {
            close.execute([place])?;
        }
        for (_, meta) in &summarized {
            counters.summarize(meta);
        }
        for (_, meta) in &evicted {
            counters.evict(meta);
        }
        for (_, meta) in &withdrawn {
            counters.withdraw(meta);
        }
        let places: SequenceSet = splice.removed_places().collect();
        let ranges = ranges(step.loaded.row.first_place(), places.ranges());
        let taken = replaced.iter().map(|(place, _)| *place).chain(first);
        step.reindex(taken.clone())?;
        if splice.archive.is_none() {
            step.unindex(ranges.clone().chain(taken.map(|place| (place, place))))?;
        }
        if let Some(retention) = splice.archive {
            let removal = Removal { cause: splice.cause(), receipt, retention };
            let replaced: Vec<_> = replaced.iter().map(|(place, _)| *place).collect();
            step.archive(&removal, ranges, &replaced)?;
        } else {
            let mut delete = step
                .connection
                .prepare_cached("DELETE FROM message WHERE place BETWEEN ?1 AND ?2")?;
            for (first, last) in ranges {
                delete.execute([first, last])?;
            }
            step.drop_old_removals(u64::MAX, DROPPED_AT_ONCE)?;
        }
        for ((one, encoded), (place, old)) in
            splice.replaced.iter().zip(&self.replaced).zip(&replaced)
        {
            step.loaded.row.head.counters.replace(old, &one.message);
            step.replace_row(*place, &one.message, encoded)?;
        }
        if let (Some(new), Some(encoded), Some(place)) = (&splice.summary, &self.summary, first) {
            step.loaded.row.head.counters.insert_summary(new);
            let mut insert = step.connection.prepare_cached(INSERT_MESSAGE)?;
            insert_message(&mut insert, place, new, encoded, RowKind::Summary)?;
        }
        let (now, row) = (step.now, &mut step.loaded.row);
        if splice.frees() {
            row.head.forget_flush_mark();
        }
        (row.head.fence, row.head.flush_fence) = (fence, flush_fence);
        if splice.changes() {
            row.head.generation = row.head.generation.after(now, splice.spread());
        }
        if let (Some(receipt), Some(body)) = (receipt, body) {
            row.receipts = row.receipts.saturating_add(1);
            row.receipt = Some(receipt.id);
            row.head.next_flush_at = splice.next_flush_at;
            step.connection
                .prepare_cached("INSERT INTO receipt (memory, number, body) VALUES (?1, ?2, ?3)")?
                .execute(params![row.id, int(row.receipts), body])?;
            let kept = u64::try_from(KEPT_RECEIPTS).unwrap_or(u64::MAX);
            step.connection
                .prepare_cached("DELETE FROM receipt WHERE memory = ?1 AND number <= ?2")?
                .execute(params![row.id, int(row.receipts.saturating_sub(kept))])?;
        }
        Ok(step.head().counters.clone())
    }

    fn bytes(&self) -> usize {
        let bytes = (64 * self.places()).saturating_add(self.archived_bytes());
        bytes.saturating_add(self.replaced_bytes())
    }

    fn pages(&self) -> usize {
        self.places() + self.archived_bytes() / 4_096
    }

    fn is_light(&self) -> bool {
        let bytes = self.archived_bytes().saturating_add(self.replaced_bytes());
        self.places() <= 64 && bytes <= LIGHT_BYTES
    }
}

impl Step<'_> {
    /// Every place must exist, and must be removed only once.
    fn check_places(&self, splice: &Splice) -> Result<Planned, JobError> {
        if splice.summary.is_some() && splice.summarized.is_empty() {
            return Err(invalid("a summary needs the places that it replaces"));
        }
        let mut removed: Vec<_> = splice.removed_places().collect();
        removed.sort_unstable();
        let planned = Planned {
            summarized: self.metas(&splice.summarized)?,
            evicted: self.metas(&splice.evicted)?,
            withdrawn: self.metas(&splice.withdrawn)?,
            closed: self.metas(&splice.closed)?.into_iter().map(|(place, _)| place).collect(),
            replaced: self.metas(splice.replaced.iter().map(|one| &one.sequence))?,
        };
        if removed.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(invalid("a place is removed twice"));
        }
        splice.check_replaced().map_err(JobError::Refused)?;
        for (one, (_, found)) in splice.replaced.iter().zip(&planned.replaced) {
            one.check_against(found).map_err(JobError::Refused)?;
        }
        Ok(planned)
    }

    fn metas<'s>(
        &self,
        sequences: impl IntoIterator<Item = &'s Sequence>,
    ) -> Result<Vec<(i64, MessageMeta)>, JobError> {
        let mut metas = Vec::new();
        for sequence in sequences {
            let Some(found) = self.meta(*sequence)? else {
                return Err(invalid(format!("there is no message at place {sequence}")));
            };
            metas.push(found);
        }
        Ok(metas)
    }
}

struct Planned {
    summarized: Vec<(i64, MessageMeta)>,
    evicted: Vec<(i64, MessageMeta)>,
    withdrawn: Vec<(i64, MessageMeta)>,
    closed: Vec<i64>,
    replaced: Vec<(i64, MessageMeta)>,
}

fn invalid(text: impl Into<String>) -> JobError {
    JobError::Refused(StoreErrorKind::Invalid(text.into()))
}
