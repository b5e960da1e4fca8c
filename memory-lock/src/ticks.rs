//! Readings of clocks that never step, and which of them can be compared.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use tokio::time::Instant;

use crate::time::micros;

/// A reading of a clock that never steps. Two of them can be compared only if they are of one source: a
/// machine from boot to boot, or else a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticks {
    #[cfg_attr(not(feature = "sqlite"), allow(dead_code, reason = "only files are shared"))]
    pub(crate) source: u128,
    pub(crate) micros: u64,
}

impl Ticks {
    /// Those of `tokio::time`, paused or not; of this process alone.
    pub(crate) fn of_tokio() -> Self {
        Self { source: process_source(), micros: instant_micros(Instant::now()) }
    }

    /// Those of all processes of the machine, where they can be had.
    #[cfg(all(feature = "sqlite", target_os = "linux"))]
    pub(crate) fn of_machine() -> Self {
        use rustix::time::{ClockId, clock_gettime};

        let Some(source) = machine_source() else { return Self::of_process() };
        let now = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        let micros = u64::try_from(now.tv_nsec).unwrap_or_default() / 1_000;
        Self { source, micros: seconds.saturating_mul(1_000_000).saturating_add(micros) }
    }

    /// Those of all processes of the machine, where they can be had.
    #[cfg(not(all(feature = "sqlite", target_os = "linux")))]
    pub(crate) fn of_machine() -> Self {
        Self::of_process()
    }

    /// The machine's monotonic clock, where its readings cannot be compared with those of other processes.
    #[expect(clippy::disallowed_methods, reason = "goes with the system's time of day")]
    fn of_process() -> Self {
        let now = Instant::from_std(std::time::Instant::now());
        // Not the source of `tokio::time`, which a test may pause.
        Self { source: !process_source(), micros: instant_micros(now) }
    }

    /// How many microseconds passed since an earlier reading, if the two can be compared.
    #[cfg(feature = "sqlite")]
    pub(crate) fn since(self, earlier: Self) -> Option<u64> {
        if self.source != earlier.source {
            return None;
        }
        self.micros.checked_sub(earlier.micros)
    }
}

/// A number that no other process draws.
pub(crate) fn random_source() -> u128 {
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

/// Where `CLOCK_MONOTONIC` of this process counts from: the boot of the machine, and the time namespace,
/// which moves the count for a container. None if either cannot be told.
#[cfg(all(feature = "sqlite", target_os = "linux"))]
fn machine_source() -> Option<u128> {
    static SOURCE: OnceLock<Option<u128>> = OnceLock::new();
    *SOURCE.get_or_init(|| {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let boot = u128::from_str_radix(&boot.trim().replace('-', ""), 16).ok()?;
        let namespace = match std::fs::read_link("/proc/self/ns/time") {
            Ok(link) => {
                let link = link.to_string_lossy().into_owned();
                link.trim_start_matches("time:[").trim_end_matches(']').parse::<u64>().ok()?
            }
            // A kernel without time namespaces.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(_) => return None,
        };
        Some(boot ^ u128::from(namespace))
    })
}
