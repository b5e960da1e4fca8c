//! The source of the time of day.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The one place where the time of day is read, so that tests can control it.
///
/// Lease backends and stores take a `Clock` when they are made and read nothing else. Waiting and
/// deadlines are not its business: those run on [`tokio::time`]. Cloning is cheap; clones of
/// [`Clock::manual`] share their time.
#[derive(Clone)]
pub struct Clock(Kind);

#[derive(Clone)]
enum Kind {
    System,
    Since { origin_micros: u64, start: Instant },
    Manual(Arc<AtomicU64>),
}

/// 2026-01-01T00:00:00Z, where [`Clock::tokio`] and [`Clock::manual`] begin.
const ORIGIN_MICROS: u64 = 1_767_225_600_000_000;

impl Clock {
    /// The wall clock. It can be stepped by an operator or NTP; use it where several processes of
    /// one machine must agree on the time (a lease in a SQLite file).
    #[must_use]
    pub const fn system() -> Self {
        Self(Kind::System)
    }

    /// The wall clock as it stood at this call, moved on by the monotonic clock of `tokio::time`:
    /// never steps, and follows a paused tokio clock. Use it within one process.
    #[must_use]
    pub fn anchored() -> Self {
        Self(Kind::Since { origin_micros: wall_micros(), start: Instant::now() })
    }

    /// A fixed origin (2026-01-01, UTC) moved on by `tokio::time`: with a paused tokio clock two
    /// runs of a test read the same times. Not for production: after a restart it begins again, and
    /// fencing tokens with it.
    #[must_use]
    pub fn tokio() -> Self {
        Self(Kind::Since { origin_micros: ORIGIN_MICROS, start: Instant::now() })
    }

    /// Stands still until [`advance`](Self::advance) is called; begins at 2026-01-01, UTC.
    #[must_use]
    pub fn manual() -> Self {
        Self(Kind::Manual(Arc::new(AtomicU64::new(ORIGIN_MICROS))))
    }

    /// Moves a [`manual`](Self::manual) clock on, for all its clones; no effect on the others.
    pub fn advance(&self, by: Duration) {
        if let Kind::Manual(micros) = &self.0 {
            micros.fetch_add(as_micros(by), Ordering::SeqCst);
        }
    }

    /// Microseconds since the Unix epoch; 0 for a wall clock before it.
    #[must_use]
    pub fn now_micros(&self) -> u64 {
        match &self.0 {
            Kind::System => wall_micros(),
            Kind::Since { origin_micros, start } => {
                origin_micros.saturating_add(as_micros(start.elapsed()))
            }
            Kind::Manual(micros) => micros.load(Ordering::SeqCst),
        }
    }

    /// Milliseconds since the Unix epoch; 0 for a wall clock before it.
    #[must_use]
    pub fn now_millis(&self) -> u64 {
        self.now_micros() / 1_000
    }
}

impl Default for Clock {
    /// [`Clock::system`].
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kind::System => "system",
            Kind::Since { origin_micros: ORIGIN_MICROS, .. } => "tokio",
            Kind::Since { .. } => "anchored",
            Kind::Manual(_) => "manual",
        };
        write!(f, "Clock({kind})")
    }
}

#[expect(clippy::disallowed_methods, reason = "the clock that every other place reads instead")]
fn wall_micros() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, as_micros)
}

fn as_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_tokio_clock_moves_with_a_paused_runtime_only() {
        for clock in [Clock::tokio(), Clock::anchored()] {
            let before = clock.now_micros();
            assert_eq!(clock.now_micros(), before);
            tokio::time::advance(Duration::from_millis(1_500)).await;
            assert_eq!(clock.now_micros() - before, 1_500_000);
        }
        assert_eq!(Clock::tokio().now_micros(), ORIGIN_MICROS);
    }

    #[test]
    fn clones_of_a_manual_clock_share_their_time() {
        let clock = Clock::manual();
        let clone = clock.clone();
        clock.advance(Duration::from_secs(2));
        assert_eq!(clone.now_millis(), ORIGIN_MICROS / 1_000 + 2_000);
    }

    #[test]
    fn the_system_clock_reads_a_year_after_this_was_written() {
        assert!(Clock::system().now_micros() > 1_735_689_600_000_000);
    }
}
