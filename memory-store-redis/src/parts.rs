use std::time::Duration;

use tokio::time::{Instant, sleep};

/// The number of messages that the next of several scripts processes.
///
/// A script blocks all other clients, so it processes few messages. If a request takes long anyway,
/// because of the network or the amount of data to check, few messages per script would make the whole
/// flush too slow. A script may block the others for about as long as a request takes. Where requests follow
/// each other without a gap, a pause of the same total length is inserted; otherwise each concurrent append
/// would wait behind one of them.
#[derive(Debug)]
pub(crate) struct Parts {
    least: usize,
    size: usize,
    /// How long the server was busy since the last pause.
    busy: Duration,
}

impl Parts {
    const MOST: usize = 1_024;
    const LONG_PART: Duration = Duration::from_millis(1);
    const SHORT_PART: Duration = Duration::from_micros(500);

    /// Parts of at least this many messages.
    pub(crate) const fn of(least: usize) -> Self {
        Self { least, size: least, busy: Duration::ZERO }
    }

    pub(crate) const fn size(&self) -> usize {
        self.size
    }

    /// Adjusts the size to the duration of this part.
    pub(crate) async fn timed<T>(&mut self, part: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let answer = part.await;
        if let Some(pause) = self.took(begun.elapsed()) {
            sleep(pause).await;
        }
        answer
    }

    /// The length of the pause, if one is due.
    fn took(&mut self, time: Duration) -> Option<Duration> {
        if time > Self::LONG_PART {
            // Most of the time was spent on the network, where no other client is blocked.
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
    fn parts_grow_with_latency_and_shrink_again() {
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
    fn half_of_the_time_remains_for_others() {
        let mut parts = Parts::of(32);
        let part = Duration::from_micros(300);
        for _ in 0..5 {
            assert_eq!([(); 3].map(|()| parts.took(part)), [None; 3]);
            assert_eq!(parts.took(part), Some(part * 4));
        }
        assert_eq!(parts.took(Duration::from_millis(5)), None);
    }
}
