//! The source of the time of day.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use memory_core::store::{Ticks, TimeSource};
use tokio::time::Instant;

use crate::time::micros;

/// The one place where the time of day is read, so that tests can control it.
///
/// Lease backends and stores take a `Clock` when they are made and read nothing else. Waiting and
/// deadlines are not its business: those run on [`tokio::time`]. Cloning is cheap; clones share their
/// time.
///
/// A clock has two faces: the time of day, which an operator or NTP may step, and a monotonic count, which
/// never steps. Leases in a SQLite file and in the process last by the monotonic count; the time of day
/// only keeps fencing tokens from going back, and decides when a memory's TTL is over.
#[derive(Clone)]
pub struct Clock(Kind);

#[derive(Clone)]
enum Kind {
    System,
    /// `stepped`: by how many microseconds the time of day was moved.
    Since {
        origin_micros: u64,
        start: Instant,
        stepped: Arc<AtomicI64>,
    },
    Manual(Arc<Manual>),
}

struct Manual {
    /// No other clock counts from the same moment.
    source: u128,
    passed_micros: AtomicU64,
    stepped: AtomicI64,
}

/// 2026-01-01T00:00:00Z, where [`Clock::tokio`] and [`Clock::manual`] begin.
const ORIGIN_MICROS: u64 = 1_767_225_600_000_000;

impl Clock {
    /// The clocks of the machine. The time of day can be stepped by an operator or NTP; the monotonic
    /// count is one for all processes of a machine on Linux (`CLOCK_MONOTONIC`, which stands still while
    /// the machine is suspended), and elsewhere one for each process.
    #[must_use]
    pub const fn system() -> Self {
        Self(Kind::System)
    }

    /// The wall clock as it stood at this call, moved on by the monotonic clock of `tokio::time`:
    /// never steps, and follows a paused tokio clock. Use it within one process.
    #[must_use]
    pub fn anchored() -> Self {
        Self::since(wall_micros())
    }

    /// A fixed origin (2026-01-01, UTC) moved on by `tokio::time`: with a paused tokio clock two
    /// runs of a test read the same times. Not for production: after a restart it begins again, and
    /// fencing tokens with it.
    #[must_use]
    pub fn tokio() -> Self {
        Self::since(ORIGIN_MICROS)
    }

    /// Stands still until [`advance`](Self::advance) is called; begins at 2026-01-01, UTC.
    #[must_use]
    pub fn manual() -> Self {
        let passed_micros = AtomicU64::new(0);
        let stepped = AtomicI64::new(0);
        Self(Kind::Manual(Arc::new(Manual { source: random_source(), passed_micros, stepped })))
    }

    fn since(origin_micros: u64) -> Self {
        Self(Kind::Since { origin_micros, start: Instant::now(), stepped: Arc::default() })
    }

    /// Lets time pass on a [`manual`](Self::manual) clock, for all its clones; no effect on the others.
    pub fn advance(&self, by: Duration) {
        if let Kind::Manual(manual) = &self.0 {
            manual.passed_micros.fetch_add(micros(by), Ordering::SeqCst);
        }
    }

    /// Steps the time of day forward, as an operator or NTP may, for all clones: no time passes. For tests;
    /// no effect on [`system`](Self::system).
    pub fn step_forward(&self, by: Duration) {
        self.step(i64::try_from(by.as_micros()).unwrap_or(i64::MAX));
    }

    /// Steps the time of day back; see [`step_forward`](Self::step_forward).
    pub fn step_back(&self, by: Duration) {
        self.step(i64::try_from(by.as_micros()).map_or(i64::MIN, |by| -by));
    }

    fn step(&self, by: i64) {
        match &self.0 {
            Kind::System => {}
            Kind::Since { stepped, .. } => {
                stepped.fetch_add(by, Ordering::SeqCst);
            }
            Kind::Manual(manual) => {
                manual.stepped.fetch_add(by, Ordering::SeqCst);
            }
        }
    }

    /// Microseconds since the Unix epoch; 0 for a wall clock before it.
    #[must_use]
    pub fn now_micros(&self) -> u64 {
        match &self.0 {
            Kind::System => wall_micros(),
            Kind::Since { origin_micros, start, stepped } => origin_micros
                .saturating_add(micros(start.elapsed()))
                .saturating_add_signed(stepped.load(Ordering::SeqCst)),
            Kind::Manual(manual) => ORIGIN_MICROS
                .saturating_add(manual.passed_micros.load(Ordering::SeqCst))
                .saturating_add_signed(manual.stepped.load(Ordering::SeqCst)),
        }
    }

    /// The monotonic count.
    pub(crate) fn ticks(&self) -> Ticks {
        match &self.0 {
            Kind::System => machine_ticks(),
            Kind::Since { .. } => tokio_ticks(),
            Kind::Manual(manual) => {
                Ticks { source: manual.source, micros: manual.passed_micros.load(Ordering::SeqCst) }
            }
        }
    }

    /// Milliseconds since the Unix epoch; 0 for a wall clock before it.
    #[must_use]
    pub fn now_millis(&self) -> u64 {
        self.now_micros() / 1_000
    }
}

impl TimeSource for Clock {
    fn now_micros(&self) -> u64 {
        Self::now_micros(self)
    }

    fn ticks(&self) -> Ticks {
        Self::ticks(self)
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
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, micros)
}

/// The ticks of `tokio::time`, paused or not; of this process alone.
fn tokio_ticks() -> Ticks {
    Ticks { source: process_source(), micros: instant_micros(Instant::now()) }
}

/// The ticks of all processes of the machine, where they can be had.
#[cfg(feature = "sqlite")]
fn machine_ticks() -> Ticks {
    memory_sqlite_file::SystemClock.ticks()
}

/// The ticks of the machine's clock for this process alone: only files are shared by several.
#[cfg(not(feature = "sqlite"))]
#[expect(clippy::disallowed_methods, reason = "goes with the system's time of day")]
fn machine_ticks() -> Ticks {
    // Not the source of `tokio::time`, which a test may pause.
    let now = Instant::from_std(std::time::Instant::now());
    Ticks { source: !process_source(), micros: instant_micros(now) }
}

/// A number that no other process draws.
fn random_source() -> u128 {
    let half = || u128::from(RandomState::new().hash_one(std::process::id()));
    half() << 64 | half()
}

/// The source of the ticks of `tokio::time` in this process, paused or not.
fn process_source() -> u128 {
    static SOURCE: OnceLock<u128> = OnceLock::new();
    *SOURCE.get_or_init(random_source)
}

/// An instant as a number. Those of a paused runtime may be before the first that was ever asked for.
fn instant_micros(now: Instant) -> u64 {
    const MIDDLE: u64 = 1 << 60;
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let first = *FIRST.get_or_init(|| now);
    match now.checked_duration_since(first) {
        Some(after) => MIDDLE.saturating_add(micros(after)),
        None => MIDDLE.saturating_sub(micros(first.saturating_duration_since(now))),
    }
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

    #[tokio::test(start_paused = true)]
    async fn steps_move_the_time_of_day_alone() {
        for clock in [Clock::manual(), Clock::tokio()] {
            let (day, ticks) = (clock.now_micros(), clock.ticks());
            clock.step_forward(Duration::from_secs(3_600));
            assert_eq!((clock.now_micros() - day, clock.ticks()), (3_600_000_000, ticks));
            clock.clone().step_back(Duration::from_secs(7_200));
            assert_eq!((day - clock.now_micros(), clock.ticks()), (3_600_000_000, ticks));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_count_what_passes() {
        let (manual, tokio, system) = (Clock::manual(), Clock::tokio(), Clock::system());
        let before = [&manual, &tokio].map(Clock::ticks);
        let real = system.ticks();
        let second = Duration::from_secs(1);
        tokio::time::advance(second).await;
        manual.advance(second);
        for (clock, before) in [&manual, &tokio].into_iter().zip(before) {
            let after = clock.ticks();
            assert_eq!((after.source, after.micros), (before.source, before.micros + 1_000_000));
        }
        assert_eq!(system.ticks().source, real.source);
        assert!(system.ticks().micros >= real.micros);
        let sources = [manual.ticks(), Clock::manual().ticks(), tokio.ticks(), real];
        for (index, one) in sources.iter().enumerate() {
            assert!(sources.iter().skip(index + 1).all(|other| other.source != one.source));
        }
        assert_eq!(Clock::anchored().ticks().source, tokio.ticks().source);
    }

    #[test]
    fn the_system_clock_reads_a_year_after_this_was_written() {
        assert!(Clock::system().now_micros() > 1_735_689_600_000_000);
    }
}
