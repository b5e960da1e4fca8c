//! The store, the leases, the clock and the ids, which all instances of one store share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use memory_core::MemoryStore;
use memory_lock::{Clock, LockManager};

use crate::audit::Sink;
use crate::ids::Ids;
use crate::lifecycle::Lifecycle;
use crate::prefixes::Prefixes;
use crate::views::Views;

/// State that all instances of one store share.
pub(crate) struct Backend {
    pub(crate) store: Arc<dyn MemoryStore>,
    pub(crate) locks: LockManager,
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) audit: Sink,
    /// The decoded messages of memories that were read.
    pub(crate) views: Views,
    /// The prefixes of the newest windows.
    pub(crate) prefixes: Prefixes,
    /// The number of lease refreshes that were published as a metric.
    pub(crate) refreshes: AtomicU64,
    pub(crate) refreshed: metrics::Counter,
}

impl Backend {
    /// Publishes the number of lease refreshes since the last call.
    pub(crate) fn publish_refreshes(&self) {
        let total = self.locks.stats().refreshed;
        let seen = self.refreshes.fetch_max(total, Ordering::Relaxed);
        self.refreshed.increment(total.saturating_sub(seen));
    }

    /// Whether the store checks leases within its atomic step, so that a write needs no lease.
    pub(crate) fn is_fused(&self) -> bool {
        self.store.lease_domain() == Some(self.locks.domain())
    }

    /// Milliseconds since 1970.
    pub(crate) fn now_millis(&self) -> u64 {
        self.clock.now_millis()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
