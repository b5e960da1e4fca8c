//! The commit of a flush.

use memory_core::Sequence;
use memory_core::store::{Access, Counters, KEPT_RECEIPTS, MessageMeta, Splice, StoreErrorKind};
use rusqlite::params;

use super::step::Step;
use crate::codec::{Encoded, HeadRow, INSERT_MESSAGE, RowKind, holds, insert_message, int};
use crate::error::JobError;

impl Step<'_> {
    pub(super) fn splice(
        &mut self,
        access: Access,
        splice: &Splice,
        summary: Option<&Encoded>,
    ) -> Result<Counters, JobError> {
        let receipt = splice.receipt.as_ref();
        let HeadRow { receipt: newest, head, .. } = &self.loaded.row;
        if receipt.is_some_and(|receipt| Some(receipt.id) == *newest) {
            return Ok(head.counters.clone());
        }
        let flush_fence = match splice.flusher {
            Some(lease) => {
                self.check_proof(&self.key.flush_lease_name(), lease, head.flush_fence)?
            }
            None => head.flush_fence,
        };
        let fence = self.check_writer_lease(access.lease)?;
        // Leftovers have no generation to splice: the next generation is a different one.
        if !holds(self.connection, &self.loaded.row, splice.cursor())? {
            return Err(JobError::Refused(StoreErrorKind::Conflict));
        }
        let Planned { summarized, evicted, closed } = self.check_places(splice)?;
        let body = receipt.map(serde_json::to_string).transpose().map_err(|error| {
            StoreErrorKind::Invalid(format!("the receipt cannot be written: {error}"))
        })?;

        self.begin()?;
        let changes = !(summarized.is_empty() && evicted.is_empty() && closed.is_empty());
        let first = summarized.first().map(|(place, _)| *place);
        let counters = &mut self.loaded.row.head.counters;
        let mut delete = self.connection.prepare_cached("DELETE FROM message WHERE place = ?1")?;
        for (place, meta) in summarized {
            counters.summarize(&meta);
            delete.execute([place])?;
        }
        for (place, meta) in evicted {
            counters.evict(&meta);
            delete.execute([place])?;
        }
        let mut close =
            self.connection.prepare_cached("UPDATE message SET closed = 1 WHERE place = ?1")?;
        for place in closed {
            close.execute([place])?;
        }
        if let (Some(new), Some(encoded), Some(place)) = (&splice.summary, summary, first) {
            counters.insert_summary(new);
            let mut insert = self.connection.prepare_cached(INSERT_MESSAGE)?;
            insert_message(&mut insert, place, new, encoded, RowKind::Summary)?;
        }
        let (now, row) = (self.now, &mut self.loaded.row);
        if !splice.closed.is_empty() {
            row.head.next_flush_at = None;
        }
        (row.head.fence, row.head.flush_fence) = (fence, flush_fence);
        if changes {
            row.head.generation = row.head.generation.after(now, splice.spread());
        }
        if let (Some(receipt), Some(body)) = (receipt, body) {
            row.receipts = row.receipts.saturating_add(1);
            row.receipt = Some(receipt.id);
            row.head.next_flush_at = splice.next_flush_at;
            self.connection
                .prepare_cached("INSERT INTO receipt (memory, number, body) VALUES (?1, ?2, ?3)")?
                .execute(params![row.id, int(row.receipts), body])?;
            let kept = u64::try_from(KEPT_RECEIPTS).unwrap_or(u64::MAX);
            self.connection
                .prepare_cached("DELETE FROM receipt WHERE memory = ?1 AND number <= ?2")?
                .execute(params![row.id, int(row.receipts.saturating_sub(kept))])?;
        }
        Ok(self.head().counters.clone())
    }

    /// Every place must exist, and must be removed only once.
    fn check_places(&self, splice: &Splice) -> Result<Planned, JobError> {
        if splice.summary.is_some() && splice.summarized.is_empty() {
            return Err(invalid("a summary needs the places that it replaces"));
        }
        let mut removed: Vec<_> =
            splice.summarized.iter().chain(&splice.evicted).copied().collect();
        removed.sort_unstable();
        let planned = Planned {
            summarized: self.metas(&splice.summarized)?,
            evicted: self.metas(&splice.evicted)?,
            closed: self.metas(&splice.closed)?.into_iter().map(|(place, _)| place).collect(),
        };
        if removed.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(invalid("a place is removed twice"));
        }
        Ok(planned)
    }

    fn metas(&self, sequences: &[Sequence]) -> Result<Vec<(i64, MessageMeta)>, JobError> {
        let mut metas = Vec::with_capacity(sequences.len());
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
    closed: Vec<i64>,
}

fn invalid(text: impl Into<String>) -> JobError {
    JobError::Refused(StoreErrorKind::Invalid(text.into()))
}
