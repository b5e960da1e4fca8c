//! Readings of clocks, as values.

use std::fmt;

/// A source of time. Whatever needs the time takes one of these when it is made and reads nothing else, so that tests
/// control it. Waiting and deadlines are not its business.
///
/// It has two faces: the time of day, which an operator or NTP may step, and a monotonic count, which never steps.
pub trait TimeSource: fmt::Debug + Send + Sync + 'static {
    /// Microseconds since the Unix epoch; 0 for a time of day before it.
    fn now_micros(&self) -> u64;

    /// The monotonic count.
    fn ticks(&self) -> Ticks;
}

/// A reading of a clock that never steps. Two of them can be compared only if they are of one source: a
/// machine from boot to boot, or else a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticks {
    /// The source, by a number that no other source has.
    pub source: u128,
    /// The count, in microseconds.
    pub micros: u64,
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
}
