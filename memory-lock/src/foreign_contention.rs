//! Whether other processes have used the same keys lately.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Remembers whether other processes were seen to hold the same keys lately.
///
/// After a run of local hand-overs the lease is released so that other processes get a turn. Their polls
/// would miss a gap of microseconds, so the next local waiter holds back for a moment. That costs
/// throughput, so it is done only while another process was seen.
#[derive(Debug, Default)]
pub(crate) struct ForeignContention {
    last_seen: Mutex<Option<Instant>>,
}

/// How long a sighting counts.
const CONTENTION_MEMORY: Duration = Duration::from_secs(10);

impl ForeignContention {
    /// Another process holds a lease that this one asked for.
    pub(crate) fn record(&self) {
        *self.last_seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub(crate) fn is_recent(&self) -> bool {
        let last_seen = *self.last_seen.lock().unwrap_or_else(PoisonError::into_inner);
        last_seen.is_some_and(|seen| seen.elapsed() < CONTENTION_MEMORY)
    }
}
