//! Arithmetic on instants that cannot overflow, and the one rule for a lease's deadline.

use std::time::Duration;

use memory_core::sibling::NEVER;
use tokio::time::Instant;

/// The resolution of the ticks of two clocks.
const CLOCK_TICKS: Duration = Duration::from_millis(2);

/// `instant + duration`, or about thirty years later if that overflows.
pub(crate) fn after(instant: Instant, duration: Duration) -> Instant {
    instant.checked_add(duration.min(NEVER)).unwrap_or(instant)
}

/// Time left until `deadline`.
pub(crate) fn until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// The moment at which the holder must consider a lease lost that was requested at `sent_at`: its TTL less
/// the possible drift of two clocks in that time (1 %) and the resolution of their ticks, as in Redlock.
pub(crate) fn deadline(sent_at: Instant, ttl: Duration) -> Instant {
    let drift = ttl / 100 + CLOCK_TICKS;
    after(sent_at, ttl.saturating_sub(drift))
}

/// Whole microseconds, saturating.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn deadline_counts_from_the_request_with_a_margin() {
        let now = Instant::now();
        assert_eq!(deadline(now, Duration::from_secs(30)) - now, Duration::from_millis(29_698));
        assert_eq!(deadline(now, Duration::from_millis(1)), now);
    }

    #[tokio::test]
    async fn maximum_duration_does_not_overflow() {
        let now = Instant::now();
        let years = (after(now, Duration::MAX) - now).as_secs() / (365 * 86_400);
        assert_eq!(years, 30);
        assert_eq!(micros(Duration::from_millis(2)), 2_000);
        assert_eq!(micros(Duration::MAX), u64::MAX);
    }
}
