//! The source of owner ids and jitter.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use memory_core::lease::OwnerId;

/// Owner ids and jitter, from the operating system's randomness or from a test's seed.
#[derive(Debug)]
pub(crate) struct Random {
    /// Distinguishes managers, in this process and others.
    high: u64,
    /// Counts acquisitions; the first value is random.
    low: AtomicU64,
    jitter: Mutex<fastrand::Rng>,
}

impl Random {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        let mut source = seed.map_or_else(
            // A `RandomState` is keyed by the operating system; `fastrand`'s own seed is not.
            || fastrand::Rng::with_seed(RandomState::new().hash_one(0)),
            fastrand::Rng::with_seed,
        );
        let high = match seed {
            Some(_) => source.u64(..),
            None => RandomState::new().hash_one(1),
        };
        Self { high, low: AtomicU64::new(source.u64(..)), jitter: Mutex::new(source) }
    }

    /// A new, unique owner id: within a manager by counting, among managers by 64 random bits.
    pub(crate) fn owner(&self) -> OwnerId {
        let low = self.low.fetch_add(1, Ordering::Relaxed);
        OwnerId::new(u128::from(self.high) << 64 | u128::from(low))
    }

    /// A duration between half of `most` and `most`.
    pub(crate) fn jittered(&self, most: Duration) -> Duration {
        let mut jitter = self.jitter.lock().unwrap_or_else(PoisonError::into_inner);
        most.mul_f64(0.5 + jitter.f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_differ_and_a_seed_replays_them() {
        let (one, two) = (Random::new(None), Random::new(None));
        assert_ne!(one.owner(), one.owner());
        assert_ne!(one.owner().bits() >> 64, two.owner().bits() >> 64);
        assert_eq!(Random::new(Some(7)).owner(), Random::new(Some(7)).owner());
    }

    #[test]
    fn jitter_is_between_half_and_whole() {
        let random = Random::new(Some(1));
        for _ in 0..1_000 {
            let wait = random.jittered(Duration::from_millis(100));
            assert!((Duration::from_millis(50)..=Duration::from_millis(100)).contains(&wait));
        }
    }

    #[test]
    fn owner_ids_are_random_prefix_and_counter() {
        let random = Random::new(Some(7));
        let (one, two) = (random.owner().bits(), random.owner().bits());
        assert_eq!(one >> 64, u128::from(random.high));
        assert_eq!(two - one, 1);
        assert_ne!(Random::new(Some(8)).owner().bits() >> 64, one >> 64);
    }
}
