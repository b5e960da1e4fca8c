//! The removal of all messages of a memory.

use memory_core::MemoryKey;
use memory_core::store::{
    Access, Clear, ClearReceipt, Cleared, RemovalCause, Retention, StoreErrorKind, StoreOperation,
    Version,
};

use super::archive::Removal;
use super::batch::Batch;
use super::index::drop_index;
use super::secure::SecureDelete;
use super::step::Step;
use super::{Command, PAGES_OF_REMOVAL};
use crate::codec::HeadRow;
use crate::error::JobError;

#[derive(Debug)]
pub(crate) struct ClearRows {
    pub(crate) access: Access,
    pub(crate) clear: Clear,
}

impl Command for ClearRows {
    type Answer = Cleared;
    const OPERATION: StoreOperation = StoreOperation::Clear;

    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<Cleared, JobError> {
        let mut step = batch.step(key)?;
        let mut receipt = None;
        if step.earlier(self.clear.write)?.is_none() {
            let fence = step.check_writer_lease(self.access.lease)?;
            if !step.is_as_expected(&self.clear)? {
                return Err(JobError::Refused(StoreErrorKind::Conflict));
            }
            step.begin()?;
            receipt = Some(step.remove_all(self.clear.archive, self.clear.spread())?);
            step.remember(self.clear.write, None)?;
            step.forget_old_sessions(i64::from(u32::MAX))?;
            step.loaded.row.head.fence = fence;
        }
        Ok(Cleared::new(receipt, step.head().counters.clone()))
    }

    fn pages(&self) -> usize {
        PAGES_OF_REMOVAL
    }

    fn is_light(&self) -> bool {
        false
    }
}

impl Step<'_> {
    /// Whether the memory is in the state that the clear expects.
    fn is_as_expected(&self, clear: &Clear) -> Result<bool, JobError> {
        let Some(expected) = clear.expected else { return Ok(true) };
        if !self.has_rows() {
            return Ok(expected == Version::default());
        }
        Ok(clear.is_expected(self.head(), self.newest()?))
    }

    /// Removes all messages and receipts.
    pub(super) fn remove_all(
        &mut self,
        archive: Option<Retention>,
        spread: u16,
    ) -> Result<ClearReceipt, JobError> {
        let removed = self.head().counters.present;
        let number = if let Some(retention) = archive {
            let removal = Removal { cause: RemovalCause::Clear, receipt: None, retention };
            let row = &self.loaded.row;
            let all = std::iter::once((row.first_place(), row.last_place()));
            self.archive(&removal, all, &[])?
        } else {
            // No later operation restores them.
            let _secure = SecureDelete::new(self.connection)?;
            self.remove_messages()?;
            drop_index(self.connection, self.loaded.row.id)?;
            self.drop_archive()?;
            None
        };
        self.remove_receipts()?;
        let now = self.now;
        let HeadRow { head, receipt, .. } = &mut self.loaded.row;
        head.counters.clear();
        head.next_flush_at = None;
        head.generation = head.generation.after(now, spread);
        *receipt = None;
        Ok(ClearReceipt::new(self.time()?, removed, number))
    }
}
