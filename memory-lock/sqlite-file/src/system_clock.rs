//! The clocks of the machine, which all its processes share.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use memory_core::clock::{Ticks, TimeSource};

use crate::busy::real_now;
use crate::table::micros;

/// The clocks of the machine. An operator or NTP can step the time of day. On Linux all processes of a
/// machine share the monotonic count (`CLOCK_MONOTONIC`, which stops while the machine is suspended);
/// elsewhere each process has a separate one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SystemClock;

impl TimeSource for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the clock that is read where no other is given")]
    fn now_micros(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, micros)
    }

    #[cfg(target_os = "linux")]
    fn ticks(&self) -> Ticks {
        use rustix::time::{ClockId, clock_gettime};

        let Some(source) = machine_source() else { return process_ticks() };
        let now = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        let micros = u64::try_from(now.tv_nsec).unwrap_or_default() / 1_000;
        Ticks { source, micros: seconds.saturating_mul(1_000_000).saturating_add(micros) }
    }

    #[cfg(not(target_os = "linux"))]
    fn ticks(&self) -> Ticks {
        process_ticks()
    }
}

/// The machine's monotonic clock, where its readings cannot be compared with those of other processes.
fn process_ticks() -> Ticks {
    static SOURCE: OnceLock<u128> = OnceLock::new();
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let source = *SOURCE.get_or_init(|| {
        let half = || u128::from(RandomState::new().hash_one(std::process::id()));
        half() << 64 | half()
    });
    let now = real_now();
    let first = *FIRST.get_or_init(|| now);
    Ticks { source, micros: micros(now.saturating_duration_since(first)) }
}

/// The origin of this process's `CLOCK_MONOTONIC`: the boot of the machine, and the time namespace, which
/// moves the count for a container. None if either is unknown.
#[cfg(target_os = "linux")]
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
            // The kernel has no time namespaces.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(_) => return None,
        };
        Some(boot ^ u128::from(namespace))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_moves_forward() {
        let (first, second) = (SystemClock.ticks(), SystemClock.ticks());
        assert!(second.since(first).is_some());
        let (first, second) = (process_ticks(), process_ticks());
        assert!(second.since(first).is_some());
        assert!(SystemClock.now_micros() > 1_735_689_600_000_000);
    }
}
