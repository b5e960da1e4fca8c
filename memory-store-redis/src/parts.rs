use std::time::Duration;

use tokio::time::Instant;

/// How many messages the next of several scripts takes care of.
///
/// A script holds up everybody else, so it takes few; but where a request takes long anyway, by the way
/// or by what it has to look at, few would take for ever. It may hold the others up for about as long as a
/// request takes.
#[derive(Debug)]
pub(crate) struct Parts {
    least: usize,
    size: usize,
}

impl Parts {
    const MOST: usize = 1_024;
    const LONG: Duration = Duration::from_millis(1);
    const SHORT: Duration = Duration::from_micros(500);

    /// Parts of at least so many.
    pub(crate) const fn of(least: usize) -> Self {
        Self { least, size: least }
    }

    pub(crate) const fn size(&self) -> usize {
        self.size
    }

    /// Learns from how long this one takes.
    pub(crate) async fn timed<T>(&mut self, part: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let answer = part.await;
        self.took(begun.elapsed());
        answer
    }

    fn took(&mut self, time: Duration) {
        if time > Self::LONG {
            self.size = (self.size * 2).min(Self::MOST);
        } else if time < Self::SHORT {
            self.size = (self.size / 2).max(self.least);
        }
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
}
