//! The fencing of earlier holders of a lease.

use memory_core::MemoryKey;
use memory_core::lease::LeaseProof;
use memory_core::store::StoreOperation;

use super::Command;
use super::batch::Batch;
use crate::error::JobError;

#[derive(Debug)]
pub(crate) struct ClaimToken(pub(crate) LeaseProof);

impl Command for ClaimToken {
    type Answer = ();
    const OPERATION: StoreOperation = StoreOperation::Claim;

    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<(), JobError> {
        let mut step = batch.step(key)?;
        let fence = step.check_writer_lease(Some(self.0))?;
        step.begin()?;
        step.loaded.row.head.fence = fence;
        Ok(())
    }

    fn pages(&self) -> usize {
        0
    }

    fn is_light(&self) -> bool {
        true
    }
}
