//! The removal of all messages of a memory.

use memory_core::MemoryKey;
use memory_core::store::{Access, Clear, Counters, RemovalCause, StoreOperation};

use super::archive::Removal;
use super::batch::Batch;
use super::index::drop_index;
use super::{Command, PAGES_OF_REMOVAL};
use crate::codec::HeadRow;
use crate::error::JobError;

#[derive(Debug)]
pub(crate) struct ClearRows {
    pub(crate) access: Access,
    pub(crate) clear: Clear,
}

impl Command for ClearRows {
    type Answer = Counters;
    const OPERATION: StoreOperation = StoreOperation::Clear;

    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<Counters, JobError> {
        let mut step = batch.step(key)?;
        if step.earlier(self.clear.write)?.is_none() {
            let fence = step.check_writer_lease(self.access.lease)?;
            step.begin()?;
            if let Some(retention) = self.clear.archive {
                let removal = Removal { cause: RemovalCause::Clear, receipt: None, retention };
                let row = &step.loaded.row;
                let all = std::iter::once((row.first_place(), row.last_place()));
                step.archive(&removal, all, &[])?;
            } else {
                step.remove_messages()?;
                drop_index(step.connection, step.loaded.row.id)?;
                step.drop_archive()?;
            }
            step.remove_receipts()?;
            step.remember(self.clear.write, None)?;
            step.forget_old_sessions(i64::from(u32::MAX))?;
            let now = step.now;
            let HeadRow { head, receipt, .. } = &mut step.loaded.row;
            head.fence = fence;
            head.counters.clear();
            head.next_flush_at = None;
            head.generation = head.generation.after(now, self.clear.spread());
            *receipt = None;
        }
        Ok(step.head().counters.clone())
    }

    fn pages(&self) -> usize {
        PAGES_OF_REMOVAL
    }

    fn is_light(&self) -> bool {
        false
    }
}
