//! The record of failed flushes: the newest error, and the pause before the next automatic flush.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memory_core::lease::FencingToken;
use memory_core::store::Head;
use tokio::time::Instant;

/// The pause after the first failed flush. It doubles with each further failure.
const FIRST_FLUSH_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between failed flushes.
const MAX_FLUSH_PAUSE: Duration = Duration::from_secs(60);

/// The failure state of an instance's newest flushes.
#[derive(Debug, Default)]
pub(crate) struct FlushFailures(Mutex<Option<Box<Newest>>>);

/// The newest failure.
#[derive(Debug)]
struct Newest {
    error: String,
    /// The number of failures in a row.
    failures: u32,
    at: Instant,
    /// The token of the failed flush's lease, if it had one.
    token: Option<FencingToken>,
    /// Appends start no flush before this time, so that a flush that always fails does not run at each append.
    not_before: Instant,
}

impl FlushFailures {
    /// Records a failure, which delays the next automatic flush by a pause that grows with each failure.
    pub(super) fn record(&self, error: String, token: Option<FencingToken>) {
        let mut newest = self.newest();
        let failures = newest.as_ref().map_or(0, |newest| newest.failures);
        let pause = FIRST_FLUSH_PAUSE.saturating_mul(1 << failures.min(6)).min(MAX_FLUSH_PAUSE);
        let (at, failures) = (Instant::now(), failures.saturating_add(1));
        // Boxed, because most instances never have one.
        *newest = Some(Box::new(Newest { error, failures, at, token, not_before: at + pause }));
    }

    /// Forgets the failures after a successful flush.
    pub(super) fn clear(&self) {
        *self.newest() = None;
    }

    /// Whether automatic flushes wait after a failure.
    pub(super) fn is_paused(&self) -> bool {
        self.newest().as_ref().is_some_and(|newest| Instant::now() < newest.not_before)
    }

    /// The error of this instance's newest flush, if it failed and the failure is still relevant for this head,
    /// which was requested at `asked_at`.
    ///
    /// Another process may have flushed since. Its clock may differ, so the tokens of the flushers' leases decide
    /// which flush is newer. A failure before the flush had a lease is relevant as long as a flush is due.
    pub(crate) fn error(
        &self,
        head: &Head,
        asked_at: Instant,
        is_due: impl Fn() -> bool,
    ) -> Option<String> {
        let mut newest = self.newest();
        let _settled = newest.take_if(|newest| {
            let settled = newest.token.map_or_else(|| !is_due(), |token| token <= head.flush_fence);
            newest.at <= asked_at && settled
        });
        newest.as_ref().map(|newest| newest.error.clone())
    }

    fn newest(&self) -> MutexGuard<'_, Option<Box<Newest>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
