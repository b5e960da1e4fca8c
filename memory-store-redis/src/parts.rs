use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How many messages the next of several scripts takes care of.
///
/// A script holds up everybody else, so it takes few; but where a request takes long anyway, by the way
/// or by what it has to look at, few would take for ever. It may hold the others up for about as long as a
/// request takes. And where one request follows another without a gap, there is a pause for as long as they
/// took, or whoever appends meanwhile would find one of them before him each time.
#[derive(Debug)]
pub(crate) struct Parts {
    least: usize,
    size: usize,
    /// How long the server was kept busy since the last pause.
    busy: Duration,
}

impl Parts {
    const MOST: usize = 1_024;
    const LONG_PART: Duration = Duration::from_millis(1);
    const SHORT_PART: Duration = Duration::from_micros(500);

    /// Parts of at least so many.
    pub(crate) const fn of(least: usize) -> Self {
        Self { least, size: least, busy: Duration::ZERO }
    }

    pub(crate) const fn size(&self) -> usize {
        self.size
    }

    /// Learns from how long this one takes.
    pub(crate) async fn timed<T>(&mut self, part: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let answer = part.await;
        if let Some(pause) = self.took(begun.elapsed()) {
            sleep(pause).await;
        }
        answer
    }

    /// For how long to pause, if that is due.
    fn took(&mut self, time: Duration) -> Option<Duration> {
        if time > Self::LONG_PART {
            // Most of it went by on the way, where nobody is held up.
            self.size = (self.size * 2).min(Self::MOST);
            return None;
        }
        if time < Self::SHORT_PART {
            self.size = (self.size / 2).max(self.least);
        }
        self.busy += time;
        (self.busy >= Self::LONG_PART).then(|| std::mem::take(&mut self.busy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_where_requests_take_long_and_shrink_again() {
        let mut parts = Parts::of(32);
        parts.took(Duration::from_micros(100));
        assert_eq!(parts.size(), 32);
        for size in [64, 128, 256, 512, 1_024, 1_024] {
            parts.took(Duration::from_millis(10));
            assert_eq!(parts.size(), size);
        }
        parts.took(Duration::from_micros(700));
        assert_eq!(parts.size(), 1_024);
        for size in [512, 256, 128, 64, 32, 32] {
            parts.took(Duration::from_micros(100));
            assert_eq!(parts.size(), size);
        }
    }

    #[test]
    fn half_of_the_time_is_left_to_the_others() {
        let mut parts = Parts::of(32);
        let part = Duration::from_micros(300);
        for _ in 0..5 {
            assert_eq!([(); 3].map(|()| parts.took(part)), [None; 3]);
            assert_eq!(parts.took(part), Some(part * 4));
        }
        assert_eq!(parts.took(Duration::from_millis(5)), None);
    }
}
