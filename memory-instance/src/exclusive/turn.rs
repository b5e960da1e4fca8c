//! State of a turn that is under way, and guards that run on every exit path of the turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use memory_lock::LeaseScope;
use tokio::time::Instant;

use crate::telemetry::Telemetry;

/// State that a turn and its session share.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// An append of the turn made a flush due.
    pub(super) due: AtomicBool,
    /// The turn has ended, so the session no longer has its lease.
    pub(super) ended: AtomicBool,
}

/// Ends the turn, also if it panics or its caller drops it. A turn that lost its lease is not ended here: the
/// store refuses its remaining writes.
pub(super) struct EndOnDrop {
    pub(super) turn: Arc<Turn>,
    pub(super) scope: LeaseScope,
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if self.scope.ensure_held().is_ok() {
            self.turn.ended.store(true, Ordering::Release);
        }
    }
}

/// Measures how long a lease is held, on every exit path of the turn.
pub(super) struct HeldSince<'a> {
    pub(super) telemetry: &'a Telemetry,
    pub(super) since: Instant,
}

impl Drop for HeldSince<'_> {
    fn drop(&mut self) {
        self.telemetry.lock_held(self.since.elapsed());
    }
}
