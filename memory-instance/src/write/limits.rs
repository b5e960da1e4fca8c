//! The time limits of a write.

use std::time::Duration;

use memory_core::sibling::NEVER;
use tokio::time::Instant;

/// The minimum time to wait for the answer to a write.
pub(super) const MIN_ANSWER_WAIT: Duration = Duration::from_secs(1);

/// The additional time to wait for an answer that is expected before the timeout.
pub(super) const ANSWER_OVERRUN: Duration = Duration::from_secs(1);

/// Times of the requests of a write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) at: Instant,
    /// The first request since the last definite answer, while the store is failing.
    pub(super) failing: Option<Instant>,
}

/// The time limits of a write.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeLimits {
    pub(super) began: Instant,
    /// The end of the wait for other holders.
    pub(super) end: Instant,
    /// How long the store may fail or not answer. It applies also if the write does not wait for other holders.
    failures: Duration,
    pub(super) waits: bool,
}

impl TimeLimits {
    pub(super) fn new(began: Instant, waits: Duration, failures: Duration) -> Self {
        let end = after(began, waits);
        Self { began, end, failures, waits: !waits.is_zero() }
    }

    /// How long to wait for one answer.
    pub(super) fn answers_in(self) -> Duration {
        if self.failures.is_zero() { MIN_ANSWER_WAIT } else { self.failures }
    }

    /// The deadline of the answer to a request sent now, if the store has failed since `failing`.
    pub(super) fn answer_by(self, now: Instant, failing: Option<Instant>) -> Instant {
        let answer = after(failing.unwrap_or(now), self.answers_in());
        if self.waits { answer.min(self.end) } else { answer }
    }
}

/// The sum of both, within the clock's range.
pub(crate) fn after(moment: Instant, time: Duration) -> Instant {
    moment.checked_add(time.min(NEVER)).unwrap_or(moment)
}

/// The time until then; zero if it is past.
pub(super) fn until(moment: Instant) -> Duration {
    moment.saturating_duration_since(Instant::now())
}
