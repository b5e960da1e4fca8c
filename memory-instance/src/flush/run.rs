//! Runs one flush under the flushers' lease, and reports its result.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use memory_core::lease::FencingToken;
use memory_core::store::FlushReceipt;
use memory_lock::{LeaseScope, LockErrorKind, WithLockError};
use tokio::time::Instant;

use super::algorithm::Trigger;
use super::options::Order;
use crate::carried::Carried;
use crate::error::MemoryError;
use crate::inner::Inner;
use crate::lifecycle::Underway;
use crate::panics::caught_in;
use crate::telemetry::{Operation, WaitSpan, continued, note};

/// A flush that its caller waits for. It continues if the caller keeps the future without polling it.
pub(super) fn carried(
    inner: &Arc<Inner>,
    order: Order,
    underway: Underway,
) -> Carried<Result<Option<FlushReceipt>, MemoryError>> {
    let inner = Arc::clone(inner);
    Carried::new(continued(async move { run(&inner, &order, underway).await }))
}

/// Flushes under the flushers' lease, which is refreshed meanwhile.
pub(super) async fn run(
    inner: &Arc<Inner>,
    order: &Order,
    underway: Underway,
) -> Result<Option<FlushReceipt>, MemoryError> {
    let started = Instant::now();
    let token = OnceLock::new();
    let work = caught_in(inner.run_locked(order, &token, &underway));
    let done = tokio::select! {
        biased;
        done = work => done.unwrap_or_else(|| Err(inner.panicked("the lease backend".into()))),
        () = underway.abandoned_in_line() => Err(inner.abandoned("flush")),
    };
    let telemetry = &inner.rules.telemetry;
    match &done {
        Ok(receipt) => {
            // Without a receipt another flusher may hold the lease, so the past failure still counts.
            if receipt.is_some() || order.trigger == Trigger::Explicit {
                inner.flush_failures.clear();
            }
            if let Some(receipt) = receipt {
                telemetry.flushed(receipt);
                note(|totals| totals.set_flush(receipt));
                inner.log_removed(receipt);
            }
        }
        // Not a failure: the shutdown abandoned this flush, and the next one starts over.
        Err(error) if underway.is_abandoned() || error.is_shut_down() => {
            tracing::info!(key = %inner.key, "flush abandoned by a shutdown; no message is lost");
            return Err(inner.abandoned("flush"));
        }
        Err(error) => {
            inner.flush_failures.record(error.chain(), token.get().copied());
            tracing::warn!(
                operation = "flush",
                project = %telemetry.project,
                memory_id = %inner.rules.resource.id,
                key = %inner.key,
                code = error.code().as_str(),
                error = %error,
                "flush failed"
            );
        }
    }
    telemetry.ended(Operation::Flush, started, &done);
    inner.backend.publish_refreshes();
    underway.ended();
    done
}

impl Inner {
    /// Records the token of the flush's lease.
    async fn run_locked(
        &self,
        order: &Order,
        token: &OnceLock<FencingToken>,
        underway: &Underway,
    ) -> Result<Option<FlushReceipt>, MemoryError> {
        let options = match order.trigger {
            Trigger::Explicit => self.rules.lock,
            // If another process flushes this memory already, this flush is not needed.
            Trigger::Due => self.rules.lock.with_wait_timeout(Duration::ZERO),
        };
        let wait = WaitSpan::begin();
        let flush = |scope: LeaseScope| async move {
            drop(wait);
            token.get_or_init(|| scope.fence());
            if !underway.holds(&scope) {
                return Err(self.abandoned("flush"));
            }
            // Caught here, a panic ends the flush like any other error: its lease is released first.
            let work = caught_in(self.flush_under_lease(scope.proof(), order));
            work.await.unwrap_or_else(|| Err(self.panicked("the store".into())))
        };
        match self.backend.locks.with_lock_refresh(&self.flush_lease, &options, flush).await {
            Ok(done) => done,
            Err(WithLockError::Acquire(error)) => match error.kind() {
                LockErrorKind::WaitTimeout { .. } if order.trigger == Trigger::Due => Ok(None),
                _ => Err(self.lock_error(error).into()),
            },
            // The flush completed, and the store decided whether its token was still valid.
            Err(WithLockError::Lost { output: Some(done), .. }) => done,
            Err(WithLockError::Lost { reason, .. }) => {
                Err(MemoryError::LeaseLost { key: self.key.clone(), reason })
            }
        }
    }

    /// Logs one line for each flush that removes messages or clears tool results: only counts.
    fn log_removed(&self, receipt: &FlushReceipt) {
        let (evicted, summarized) = (receipt.evicted.len(), receipt.summarized.len());
        let cleared = receipt.replaced.len();
        if evicted + summarized == 0 && cleared == 0 {
            return;
        }
        tracing::info!(
            operation = "flush",
            project = %self.rules.telemetry.project,
            memory_id = %self.rules.resource.id,
            flush_id = %receipt.id,
            key = %self.key,
            strategy = %receipt.strategy,
            removed = evicted + summarized,
            evicted,
            summarized,
            messages_before = receipt.messages_before,
            messages_after = receipt.messages_after,
            tokens_before = receipt.tokens_before,
            tokens_after = receipt.tokens_after,
            cleared_results = cleared,
            duration_ms = u64::try_from(receipt.duration.as_millis()).unwrap_or(u64::MAX),
            "flush removed messages"
        );
    }
}
