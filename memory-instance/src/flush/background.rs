//! Automatic flushes: started by an append, in a separate task or within the append.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use memory_core::store::Appended;

use super::options::Order;
use super::run::{carried, run};
use crate::inner::{ATTEMPTS, Inner};
use crate::lifecycle::{Activity, Underway};
use crate::rules::FlushMode;
use crate::telemetry::{OperationSpan, operation, operation_span};

/// Flushes after an append, if a flush is due.
pub(crate) async fn after(inner: &Arc<Inner>, appended: &Appended) {
    if inner.finds_due(appended) {
        Box::pin(when_due(inner)).await;
    }
}

/// Flushes according to the memory's flush mode.
pub(crate) async fn when_due(inner: &Arc<Inner>) {
    if inner.rules.flush_mode == FlushMode::Manual || inner.flush_failures.is_paused() {
        return;
    }
    // A manager that is shutting down starts no flush.
    let Ok(underway) = inner.begin(Activity::Flush, "flush") else { return };
    match inner.rules.flush_mode {
        FlushMode::Manual => {}
        FlushMode::Background => spawn(inner, underway),
        // The append was applied; `health` reports a failed flush.
        FlushMode::Inline => {
            let flush = async { carried(inner, Order::due(inner), underway).await };
            drop(operation!(&**inner, "flush", flush).await);
        }
    }
}

/// Starts a flush in a separate task, unless a flush of this instance is under way.
pub(super) fn spawn(inner: &Arc<Inner>, underway: Underway) {
    if inner.flushing.swap(true, Ordering::AcqRel) {
        underway.ended();
        return;
    }
    let flag = ClearOnDrop(Arc::clone(inner));
    // It is no part of the append, which may have ended long before.
    let mut operation = Some(flush_span(inner).following());
    let task = async move {
        let inner = &flag.0;
        let mut next = Some(underway);
        for _ in 0..ATTEMPTS {
            // Appends during the flush may make another one due. An error is stored for `health`, because
            // there is no caller to return it to.
            let Some(underway) = next.take() else { break };
            let operation = operation.take().unwrap_or_else(|| flush_span(inner));
            let order = Order::due(inner);
            let flushed = operation.run(run(inner, &order, underway)).await;
            if matches!(flushed, Ok(Some(_))) {
                next = inner.begin(Activity::Flush, "flush").ok();
            }
        }
        if let Some(unneeded) = next {
            unneeded.ended();
        }
        drop(flag);
    };
    tokio::spawn(task);
}

/// The span of a flush that no caller waits for: a root.
fn flush_span(inner: &Inner) -> OperationSpan {
    OperationSpan::of(inner, "flush", || operation_span!(parent: None, "flush"))
}

/// Clears the flag of a running flush, also if the task panicked, was aborted, or never started.
struct ClearOnDrop(Arc<Inner>);

impl Drop for ClearOnDrop {
    fn drop(&mut self) {
        self.0.flushing.store(false, Ordering::Release);
    }
}
