//! The clocks of the machine and of the tokio runtime.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use memory_core::Clock;
use memory_core::clock::{Ticks, TimeSource};
use tokio::time::Instant;

use crate::time::micros;

/// The clocks of the machine and of the tokio runtime, as constructors of [`Clock`].
///
/// # Examples
///
/// ```
/// use memory_lock::{Clock, ClockExt as _};
///
/// // 2025-01-01, UTC.
/// assert!(Clock::system().now_millis() > 1_735_689_600_000);
/// ```
pub trait ClockExt {
    /// The clocks of the machine. An operator or NTP can step the time of day. With the feature `sqlite`, all processes
    /// of a machine share the monotonic count on Linux (`CLOCK_MONOTONIC`, which stops while the machine is
    /// suspended). Otherwise it belongs to this process.
    fn system() -> Clock;

    /// The time of day at this call, advanced by the monotonic clock of `tokio::time`. It never steps, and follows a
    /// paused tokio clock. Use it within one process.
    fn anchored() -> Clock;

    /// A fixed start (2026-01-01, UTC), advanced by `tokio::time`: with a paused tokio clock, two runs of a test read
    /// the same times. Not for production, because the times and fencing tokens of a restarted process start over.
    fn tokio() -> Clock;
}

impl ClockExt for Clock {
    fn system() -> Clock {
        Self::new(System)
    }

    fn anchored() -> Clock {
        Self::new(Anchored { origin_micros: wall_micros(), start: Instant::now() })
    }

    fn tokio() -> Clock {
        Self::new(Anchored { origin_micros: ORIGIN_MICROS, start: Instant::now() })
    }
}

/// 2026-01-01T00:00:00Z, the start of [`ClockExt::tokio`].
const ORIGIN_MICROS: u64 = 1_767_225_600_000_000;

#[derive(Debug)]
struct System;

impl TimeSource for System {
    fn now_micros(&self) -> u64 {
        wall_micros()
    }

    fn ticks(&self) -> Ticks {
        machine_ticks()
    }
}

/// A time of day, advanced by the clock of `tokio::time`.
#[derive(Debug)]
struct Anchored {
    origin_micros: u64,
    start: Instant,
}

impl TimeSource for Anchored {
    fn now_micros(&self) -> u64 {
        self.origin_micros.saturating_add(micros(self.start.elapsed()))
    }

    fn ticks(&self) -> Ticks {
        tokio_ticks()
    }
}

#[expect(clippy::disallowed_methods, reason = "the clock that all other places read instead")]
fn wall_micros() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, micros)
}

/// The ticks of `tokio::time`, paused or not. They belong to this process.
fn tokio_ticks() -> Ticks {
    Ticks { source: process_source(), micros: instant_micros(Instant::now()) }
}

/// The ticks that all processes of the machine share, if the platform has them.
#[cfg(feature = "sqlite")]
fn machine_ticks() -> Ticks {
    memory_sqlite_file::SystemClock.ticks()
}

/// The ticks of the machine's clock for this process alone. Only files are shared by several processes.
#[cfg(not(feature = "sqlite"))]
#[expect(
    clippy::disallowed_methods,
    reason = "the monotonic clock beside the system's time of day"
)]
fn machine_ticks() -> Ticks {
    // Not the source of `tokio::time`, because a test may pause that.
    let now = Instant::from_std(std::time::Instant::now());
    Ticks { source: !process_source(), micros: instant_micros(now) }
}

/// The source of the ticks of `tokio::time` in this process: a number that no other process draws.
fn process_source() -> u128 {
    static SOURCE: OnceLock<u128> = OnceLock::new();
    *SOURCE.get_or_init(|| {
        let half = || u128::from(RandomState::new().hash_one(std::process::id()));
        half() << 64 | half()
    })
}

/// An instant as a number. Instants of a paused runtime may be earlier than the first one that was converted, so the
/// numbers start in the middle of the range.
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
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tokio_clock_follows_a_paused_runtime() {
        for clock in [Clock::tokio(), Clock::anchored()] {
            let before = clock.now_micros();
            assert_eq!(clock.now_micros(), before);
            tokio::time::advance(Duration::from_millis(1_500)).await;
            assert_eq!(clock.now_micros() - before, 1_500_000);
        }
        assert_eq!(Clock::tokio().now_micros(), ORIGIN_MICROS);
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_count_elapsed_time() {
        let (manual, tokio, system) = (Clock::manual(), Clock::tokio(), Clock::system());
        let before = [&manual, &tokio].map(Clock::ticks);
        let real = system.ticks();
        let second = Duration::from_secs(1);
        tokio::time::advance(second).await;
        manual.advance(second);
        for (clock, before) in [&manual, &tokio].into_iter().zip(before) {
            assert_eq!(clock.ticks().since(before), Some(1_000_000));
        }
        assert!(system.ticks().since(real).is_some());
        let sources = [manual.ticks(), tokio.ticks(), real];
        for (index, one) in sources.iter().enumerate() {
            assert!(sources.iter().skip(index + 1).all(|other| other.source != one.source));
        }
        assert_eq!(Clock::anchored().ticks().source, tokio.ticks().source);
    }

    #[test]
    fn system_clock_reads_a_recent_year() {
        assert!(Clock::system().now_micros() > 1_735_689_600_000_000);
    }
}
