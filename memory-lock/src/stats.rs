//! The counters of a manager, and the figures that it reports.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::time::micros;

/// The activity of a [`LockManager`](crate::LockManager) since its creation, and the leases that it holds
/// now.
///
/// Each figure is read separately: under load they need not be consistent with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LockStats {
    /// Leases given to callers.
    pub acquired: u64,
    /// Acquisitions that found the lease held, and waited or gave up.
    pub contended: u64,
    /// Leases passed from task to task without a release in between.
    pub handed_over: u64,
    /// Refreshes that succeeded, counted per lease.
    pub refreshed: u64,
    /// Refreshes without a definite answer, counted per lease and attempt.
    pub refresh_failed: u64,
    /// Leases lost, for any [`LostReason`](crate::LostReason).
    pub lost: u64,
    /// Operations of `with_lock_refresh` that ended after their deadline while the lease was, as its
    /// release proved, still held. Many of these: raise the TTL.
    pub late_but_held: u64,
    /// Leases released by their holders: guards released or dropped.
    pub released: u64,
    /// Time that calls spent waiting for others, in total, whether they got the lease or not.
    pub waited: Duration,
    /// Time that leases were held until they were given up, in total.
    pub held_for: Duration,
    /// Tasks waiting for a lease now.
    pub waiting: usize,
    /// Live guards, including those of lost leases.
    pub held: usize,
    /// Releases in progress for callers that did not wait for them.
    pub releasing: usize,
}

/// The counters behind [`LockStats`].
#[derive(Debug, Default)]
pub(crate) struct LockCounters {
    pub(crate) acquired: Counter,
    pub(crate) contended: Counter,
    pub(crate) handed_over: Counter,
    pub(crate) refreshed: Counter,
    pub(crate) refresh_failed: Counter,
    pub(crate) lost: Counter,
    pub(crate) late_but_held: Counter,
    pub(crate) released: Counter,
    pub(crate) waited_micros: Counter,
    pub(crate) held_micros: Counter,
    pub(crate) waiting: Gauge,
    pub(crate) held: Gauge,
    pub(crate) releasing: Gauge,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicUsize);

impl Counter {
    pub(crate) fn one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, duration: Duration) {
        self.0.fetch_add(micros(duration), Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    pub(crate) fn up(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns whether this was the last one.
    pub(crate) fn down(&self) -> bool {
        self.0.fetch_sub(1, Ordering::SeqCst) == 1
    }

    pub(crate) fn read(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl LockCounters {
    pub(crate) fn snapshot(&self) -> LockStats {
        LockStats {
            acquired: self.acquired.read(),
            contended: self.contended.read(),
            handed_over: self.handed_over.read(),
            refreshed: self.refreshed.read(),
            refresh_failed: self.refresh_failed.read(),
            lost: self.lost.read(),
            late_but_held: self.late_but_held.read(),
            released: self.released.read(),
            waited: Duration::from_micros(self.waited_micros.read()),
            held_for: Duration::from_micros(self.held_micros.read()),
            waiting: self.waiting.read(),
            held: self.held.read(),
            releasing: self.releasing.read(),
        }
    }
}
