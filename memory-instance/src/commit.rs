//! The commit of a splice: its record in the audit log, and the search for it after a lost answer.

use std::time::Duration;

use memory_core::lease::LeaseProof;
use memory_core::store::{
    Access, Applied, Counters, FlushReceipt, Splice, StoreError, StoreErrorKind, StoreOperation,
};

use crate::asking::Answering;
use crate::audit::{Audit, AuditOperation, Audited};
use crate::error::WriteError;
use crate::inner::{Inner, OnHeap};
use crate::write::WriteRequest;

/// The outcome of a commit that was answered.
pub(crate) enum Committed {
    /// It was applied. These are the counters after it, or after later writes if its answer was lost.
    Applied(Counters),
    /// The memory has changed since the snapshot. Nothing was written, or a later clear removed the receipt.
    Outdated,
}

/// A splice as it is sent. [`Inner::commit`] records it in the audit log, because it knows the final outcome.
struct Sent<'a>(&'a Splice);

impl WriteRequest for Sent<'_> {
    type Answer = Counters;
    const OPERATION: StoreOperation = StoreOperation::Splice;

    fn audited(&self) -> Option<Audited> {
        None
    }

    fn counters(answer: &Self::Answer) -> Option<&Counters> {
        Some(answer)
    }

    fn send<'a>(&'a self, inner: &'a Inner, lease: Option<LeaseProof>) -> Answering<'a, Counters> {
        inner.store().splice(&inner.key, Access { lease }, self.0)
    }
}

impl Inner {
    /// Sends a splice until it is answered. It waits for the turns of others for at most `waits`. `None` as the
    /// operation is for a splice that changes no message and is not in the audit log.
    pub(crate) async fn commit(
        &self,
        operation: impl Into<Option<AuditOperation>>,
        splice: &Splice,
        waits: Duration,
    ) -> Result<Committed, WriteError> {
        let operation = operation.into();
        let audit = Audit::begin(self, || Some(Audited::splice(operation?, splice)));
        let mut done = self.write(&Sent(splice), None, waits).await;
        if let (Err(error), Some(receipt)) = (&done, &splice.receipt)
            && is_conflict(error)
            && error.applied() == Applied::Unknown
        {
            match self.counters_if_applied(receipt).await {
                Ok(Some(counters)) => done = Ok(counters),
                Ok(None) => {}
                Err(error) => done = Err(error),
            }
        }
        audit.end(&done);
        match done {
            Ok(counters) => Ok(Committed::Applied(counters)),
            Err(error) if is_conflict(&error) => Ok(Committed::Outdated),
            Err(error) => Err(error),
        }
    }

    /// The counters of the memory if it keeps this receipt. A store recognizes a splice that is sent again only while
    /// its receipt is the newest one. After a later splice of another process it reports a conflict instead.
    fn counters_if_applied<'a>(
        &'a self,
        receipt: &'a FlushReceipt,
    ) -> OnHeap<'a, Result<Option<Counters>, WriteError>> {
        Box::pin(async move {
            let receipts = self.store().receipts(&self.key).await;
            let receipts = receipts.map_err(StoreError::possibly_applied)?;
            if receipts.iter().all(|kept| kept.id != receipt.id) {
                return Ok(None);
            }
            let head = self.head().await.map_err(StoreError::possibly_applied)?;
            Ok(Some(head.counters))
        })
    }
}

fn is_conflict(error: &WriteError) -> bool {
    matches!(error, WriteError::Store(error) if error.kind() == &StoreErrorKind::Conflict)
}
