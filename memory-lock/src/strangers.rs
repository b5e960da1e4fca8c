//! Whether other processes have used the same keys lately.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Remembers whether other processes were seen to use the same keys lately.
///
/// After a row of local hand-overs the lease is released so that they get a turn. Their polls would
/// miss a gap of microseconds, so the next local waiter holds back a little, but only where there
/// is somebody to hold back for.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    last_seen: Mutex<Option<Instant>>,
}

/// How long the memory lasts.
const CONTENTION_MEMORY: Duration = Duration::from_secs(10);

impl Strangers {
    pub(crate) fn seen(&self) {
        *self.last_seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub(crate) fn are_about(&self) -> bool {
        let last_seen = *self.last_seen.lock().unwrap_or_else(PoisonError::into_inner);
        last_seen.is_some_and(|seen| seen.elapsed() < CONTENTION_MEMORY)
    }
}
