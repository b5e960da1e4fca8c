//! Automatic flushes: started by an append, in a separate task or within the append.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use memory_core::store::Appended;

use super::options::Order;
use super::run::{carried, run};
use crate::inner::{ATTEMPTS, Inner};
use crate::lifecycle::{Activity, Underway};
use crate::rules::FlushMode;

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
        FlushMode::Inline => drop(carried(inner, Order::due(inner), underway).await),
    }
}

/// Starts a flush in a separate task, unless a flush of this instance is under way.
pub(super) fn spawn(inner: &Arc<Inner>, underway: Underway) {
    if inner.flushing.swap(true, Ordering::AcqRel) {
        underway.ended();
        return;
    }
    let flag = ClearOnDrop(Arc::clone(inner));
    let task = async move {
        let inner = &flag.0;
        let mut next = Some(underway);
        for _ in 0..ATTEMPTS {
            // Appends during the flush may make another one due. An error is stored for `health`, because
            // there is no caller to return it to.
            let Some(underway) = next.take() else { break };
            if matches!(run(inner, &Order::due(inner), underway).await, Ok(Some(_))) {
                next = inner.begin(Activity::Flush, "flush").ok();
            }
        }
        if let Some(unneeded) = next {
            unneeded.ended();
        }
        drop(flag);
    };
    tokio::spawn(tracing::Instrument::in_current_span(task));
}

/// Clears the flag of a running flush, also if the task panicked, was aborted, or never started.
struct ClearOnDrop(Arc<Inner>);

impl Drop for ClearOnDrop {
    fn drop(&mut self) {
        self.0.flushing.store(false, Ordering::Release);
    }
}
