//! The replacement of all messages by a batch.

use memory_core::MemoryKey;
use memory_core::store::{
    Access, AppendOutcome, Appended, ReplaceAll, ReplacedAll, StoreErrorKind, StoreOperation,
};

use super::append::expiry;
use super::batch::Batch;
use super::{Command, PAGES_OF_REMOVAL, bytes_of};
use crate::codec::Encoded;
use crate::error::JobError;

#[derive(Debug)]
pub(crate) struct ReplaceAllRows {
    pub(crate) access: Access,
    pub(crate) replace: ReplaceAll,
    pub(crate) encoded: Vec<Encoded>,
}

impl Command for ReplaceAllRows {
    type Answer = ReplacedAll;
    const OPERATION: StoreOperation = StoreOperation::ReplaceAll;

    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<ReplacedAll, JobError> {
        let mut step = batch.step(key)?;
        let mut receipt = None;
        let append = &self.replace.batch;
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
            receipt = Some(step.remove_all(self.replace.archive, self.replace.spread())?);
            step.add(append, &self.encoded)?;
            step.remember(append.write, Some(first))?;
            let end = append.ttl.and_then(|ttl| expiry(step.now, ttl));
            let head = &mut step.loaded.row.head;
            head.fence = fence;
            head.expires_at = end;
            AppendOutcome::Appended { first }
        };
        let head = &step.loaded.row.head;
        let appended = Appended::new(outcome, head.counters.clone(), head.next_flush_at);
        Ok(ReplacedAll::new(appended, receipt))
    }

    fn bytes(&self) -> usize {
        self.encoded.iter().map(bytes_of).sum()
    }

    fn pages(&self) -> usize {
        PAGES_OF_REMOVAL + self.bytes() / 4_096
    }

    fn is_light(&self) -> bool {
        false
    }
}
