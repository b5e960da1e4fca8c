//! The clock, as a value that is passed in.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

/// Represents "never": thirty years, which every platform's clock can add.
pub const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3_600);

/// The only source of the current time for stores, leases and memories. They take a `Clock` when they are created
/// and read no other, so that tests control the time.
///
/// A clock has two readings: the time of day, which an operator or NTP may step, and a monotonic count, which never
/// steps. Leases in a SQLite file and in the process last by the monotonic count. The time of day decides when a
/// memory's TTL has run out, and keeps fencing tokens from going back. Waits and timeouts do not use it; they run on
/// the runtime's timers.
///
/// This crate reads no clock of the machine. `memory-lock` has the constructors for those, in its trait `ClockExt`.
/// Cloning is cheap, and clones share their time.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use memory_core::Clock;
///
/// let clock = Clock::manual();
/// let start = clock.now();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().duration_since(start).as_secs(), 60);
/// ```
#[derive(Clone)]
pub struct Clock(Arc<Shared>);

struct Shared {
    source: Source,
    /// By how many microseconds a test has stepped the time of day.
    stepped: AtomicI64,
}

enum Source {
    Custom(Box<dyn TimeSource>),
    Manual { id: u128, passed_micros: AtomicU64 },
}

/// A source of time to create a [`Clock`] from.
///
/// **Correctness**: the monotonic count never decreases, and counts at the same rate as the time of day.
pub trait TimeSource: fmt::Debug + Send + Sync + 'static {
    /// Microseconds since the Unix epoch; 0 for a time of day before it.
    fn now_micros(&self) -> u64;

    /// The monotonic count.
    fn ticks(&self) -> Ticks;
}

/// A reading of a monotonic count. Two readings can be compared only if they are from the same source: a machine
/// until its next boot, or else a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticks {
    /// The source, by a number that no other source has.
    pub source: u128,
    /// The count, in microseconds.
    pub micros: u64,
}

/// 2026-01-01T00:00:00Z.
const MANUAL_START_MICROS: u64 = 1_767_225_600_000_000;

impl Clock {
    /// A clock with a custom source.
    #[must_use]
    pub fn new(source: impl TimeSource) -> Self {
        Self::with_source(Source::Custom(Box::new(source)))
    }

    /// A clock for tests that starts at 2026-01-01, UTC, and moves only by [`advance`](Self::advance).
    #[must_use]
    pub fn manual() -> Self {
        // Another process may compare the ticks in a shared file, so a counter would not do.
        let half = || u128::from(RandomState::new().hash_one(std::process::id()));
        let id = half() << 64 | half();
        Self::with_source(Source::Manual { id, passed_micros: AtomicU64::new(0) })
    }

    fn with_source(source: Source) -> Self {
        Self(Arc::new(Shared { source, stepped: AtomicI64::new(0) }))
    }

    /// The time of day; the epoch for a time before it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let micros = i64::try_from(self.now_micros()).unwrap_or(i64::MAX);
        Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
    }

    /// The time of day in microseconds since the Unix epoch; 0 for a time before it.
    #[must_use]
    pub fn now_micros(&self) -> u64 {
        let micros = match &self.0.source {
            Source::Custom(source) => source.now_micros(),
            Source::Manual { passed_micros, .. } => {
                MANUAL_START_MICROS.saturating_add(passed_micros.load(Ordering::SeqCst))
            }
        };
        micros.saturating_add_signed(self.0.stepped.load(Ordering::SeqCst))
    }

    /// The time of day in milliseconds since the Unix epoch; 0 for a time before it.
    #[must_use]
    pub fn now_millis(&self) -> u64 {
        self.now_micros() / 1_000
    }

    /// The monotonic count.
    #[must_use]
    pub fn ticks(&self) -> Ticks {
        match &self.0.source {
            Source::Custom(source) => source.ticks(),
            Source::Manual { id, passed_micros } => {
                Ticks { source: *id, micros: passed_micros.load(Ordering::SeqCst) }
            }
        }
    }

    /// Advances a [`manual`](Self::manual) clock and its clones. No effect on other clocks.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { passed_micros, .. } = &self.0.source {
            let by = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
            passed_micros.fetch_add(by, Ordering::SeqCst);
        }
    }

    /// Steps the time of day of this clock and its clones forward, as an operator or NTP may. The monotonic count
    /// does not change. For tests.
    pub fn step_forward(&self, by: Duration) {
        self.step(i64::try_from(by.as_micros()).unwrap_or(i64::MAX));
    }

    /// Steps the time of day back; see [`step_forward`](Self::step_forward).
    pub fn step_back(&self, by: Duration) {
        self.step(i64::try_from(by.as_micros()).map_or(i64::MIN, |by| -by));
    }

    fn step(&self, by: i64) {
        self.0.stepped.fetch_add(by, Ordering::SeqCst);
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.source {
            Source::Custom(source) => f.debug_tuple("Clock").field(source).finish(),
            Source::Manual { .. } => f.write_str("Clock(manual)"),
        }
    }
}

impl Ticks {
    /// How many microseconds passed since an earlier reading, if the two can be compared.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Option<u64> {
        if self.source != earlier.source {
            return None;
        }
        self.micros.checked_sub(earlier.micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_of_one_source_compare() {
        let at = |source, micros| Ticks { source, micros };
        assert_eq!(at(1, 9).since(at(1, 4)), Some(5));
        assert_eq!(at(1, 4).since(at(1, 9)), None);
        assert_eq!(at(2, 9).since(at(1, 4)), None);
    }

    #[test]
    fn clones_of_a_manual_clock_share_their_time() {
        let (clock, other) = (Clock::manual(), Clock::manual());
        let (clone, start) = (clock.clone(), clock.ticks());
        clock.advance(Duration::from_secs(2));
        assert_eq!(clone.now_millis(), MANUAL_START_MICROS / 1_000 + 2_000);
        assert_eq!(clone.ticks().since(start), Some(2_000_000));
        assert_eq!(clone.now(), "2026-01-01T00:00:02Z".parse().unwrap());
        assert_eq!(other.now_micros(), MANUAL_START_MICROS);
        assert_ne!(other.ticks().source, clock.ticks().source);
        assert_eq!(format!("{clock:?}"), "Clock(manual)");
    }

    #[derive(Debug)]
    struct Fixed(u64);

    impl TimeSource for Fixed {
        fn now_micros(&self) -> u64 {
            self.0
        }

        fn ticks(&self) -> Ticks {
            Ticks { source: 1, micros: self.0 }
        }
    }

    #[test]
    fn steps_change_only_the_time_of_day() {
        let hour = Duration::from_secs(3_600);
        for clock in [Clock::manual(), Clock::new(Fixed(1_767_225_600_000_000))] {
            let (day, ticks) = (clock.now_micros(), clock.ticks());
            clock.step_forward(hour);
            assert_eq!((clock.now_micros() - day, clock.ticks()), (3_600_000_000, ticks));
            clock.clone().step_back(2 * hour);
            assert_eq!((day - clock.now_micros(), clock.ticks()), (3_600_000_000, ticks));
        }
    }

    #[test]
    fn custom_source_cannot_be_advanced() {
        let clock = Clock::new(Fixed(7));
        clock.advance(Duration::from_secs(1));
        assert_eq!((clock.now_micros(), clock.ticks().micros), (7, 7));
        assert_eq!(format!("{clock:?}"), "Clock(Fixed(7))");
        clock.step_back(Duration::from_secs(1));
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH);
        assert_eq!(Clock::new(Fixed(u64::MAX)).now(), Timestamp::MAX);
    }
}
