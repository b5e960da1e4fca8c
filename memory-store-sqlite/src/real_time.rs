//! Waits in real time.

use std::time::{Duration, Instant};

/// How long dropping a store waits for a transaction in progress: long enough for most, short enough for an
/// async thread.
pub(crate) const MAX_CLOSE_WAIT: Duration = Duration::from_millis(20);

/// The monotonic clock of the machine.
#[expect(
    clippy::disallowed_methods,
    reason = "other processes are waited for in real time, which a paused test clock does not show"
)]
pub(crate) fn real_now() -> Instant {
    Instant::now()
}
