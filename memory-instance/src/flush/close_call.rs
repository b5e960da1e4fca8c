//! Closing an open tool call without a result.

use memory_core::plan::{UnitState, Units};
use memory_core::store::{Counters, MessageMeta, Splice};
use memory_flush::flush_due;

use super::background::when_due;
use crate::audit::AuditOperation;
use crate::commit::Committed;
use crate::error::MemoryError;
use crate::inner::{ATTEMPTS, Inner};
use crate::instance::MemoryInstance;
use crate::rules::Rules;
use crate::telemetry::operation;

impl MemoryInstance {
    /// Closes an open tool call, by its id or, if it has none, by the name of the tool. The call can then be
    /// evicted, and context windows omit it together with its results.
    ///
    /// # Errors
    /// [`MemoryError::NoOpenCall`] if no open call has this id.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the call closed or not.
    pub async fn close_call(&self, call: &str) -> Result<(), MemoryError> {
        let work = async {
            self.writable("close a call of")?;
            let counters = self.inner.close_call(call).await?;
            // Messages that waited for the call can be evicted now, so the mark of the last flush is outdated.
            let Rules { policy, settings, .. } = &*self.inner.rules;
            if flush_due(&counters, None, policy, settings).is_due() {
                when_due(&self.inner).await;
            }
            Ok(())
        };
        operation!(&*self.inner, "close_call", work).await
    }
}

impl Inner {
    /// Marks the call as closed, and returns the counters after that.
    async fn close_call(&self, call: &str) -> Result<Counters, MemoryError> {
        let mut tried = false;
        for _ in 0..ATTEMPTS {
            let outline = self.outline().await?;
            let Some(meta) = self.open_call(&outline.metas, call) else {
                // An earlier attempt was applied, and only its answer was lost.
                if tried && outline.metas.iter().any(|meta| meta.closed && makes(meta, call)) {
                    return Ok(outline.head.counters);
                }
                return Err(MemoryError::NoOpenCall {
                    key: self.key.clone(),
                    call: call.to_owned(),
                });
            };
            let mut splice = Splice::of(&outline);
            splice.closed = vec![meta.sequence];
            tried = true;
            let waits = self.rules.lock.wait_timeout();
            match self.commit(AuditOperation::Close, &splice, waits).await? {
                Committed::Applied(counters) => return Ok(counters),
                Committed::Outdated => {}
            }
        }
        Err(self.contended("close a call of"))
    }

    /// The newest message that makes this call and still waits for a result.
    fn open_call<'m>(&self, metas: &'m [MessageMeta], call: &str) -> Option<&'m MessageMeta> {
        let now = self.backend.now();
        let units = Units::group(metas, now, self.rules.policy.open_call_timeout);
        let open = units
            .iter()
            .filter(|unit| unit.state() == UnitState::Open)
            .flat_map(|unit| units.members(unit))
            .filter(|meta| makes(meta, call));
        open.last()
    }
}

/// Whether the message makes the call with this id or, if its calls have no ids, calls the tool with this name.
fn makes(meta: &MessageMeta, call: &str) -> bool {
    meta.link.calls.iter().any(|made| made.label() == call)
}
