//! Marked points: wrappers of a store, a lease backend and a summarizer, in which a child stops to be killed.
//!
//! They are wrappers, so that the product contains no test code.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::lease::{LeaseDomain, OwnerId};
use memory_core::store::StoreError;
use memory_core_testkit::intercept::{Hook, Method};
use memory_flush::{RuleBasedSummarizer, Summarizer, from_fn};
use memory_lock::{
    Acquired, HandOver, Lease, LeaseInfo, LockBackend, LockError, LockKey, Release, Renewal, Watch,
};

use crate::child::say;

/// The marked points on every backend.
pub(crate) const EVERYWHERE: [&str; 15] = [
    "before an append",
    "after an append, untold",
    "after the outline of a flush",
    "after the fetch of a flush",
    "while the summary is written",
    "after the summary is written",
    "before a splice",
    "after a splice, untold",
    "after a claim, untold",
    "before a lease is taken",
    "after a lease is taken, untold",
    "before a lease is renewed",
    "after a lease is renewed, untold",
    "before a lease is released",
    "after a lease is released, untold",
];

/// The point at which a child stops, and the number of passes before it stops.
#[derive(Debug)]
pub(crate) struct Marks {
    wanted: String,
    left: AtomicU32,
}

impl Marks {
    pub(crate) fn new(wanted: &str, passes: u32) -> Arc<Self> {
        Arc::new(Self { wanted: wanted.to_owned(), left: AtomicU32::new(passes + 1) })
    }

    pub(crate) fn is_wanted(&self, point: &str) -> bool {
        self.wanted == point
    }

    /// Stops forever at the requested point: the process is killed here.
    async fn pass(&self, point: &str) {
        if self.is_wanted(point) && self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            say("here");
            std::future::pending::<()>().await;
        }
    }

    /// A summarizer that takes a few milliseconds, or longer than a refresh if the point needs it.
    pub(crate) fn summarizer(self: &Arc<Self>) -> Arc<dyn Summarizer> {
        let marks = Arc::clone(self);
        from_fn("marked", move |request| {
            let marks = Arc::clone(&marks);
            async move {
                marks.pass("while the summary is written").await;
                let long = marks.wanted.ends_with("is renewed")
                    || marks.wanted.ends_with("is renewed, untold");
                tokio::time::sleep(Duration::from_millis(if long { 400 } else { 3 })).await;
                let text = RuleBasedSummarizer::default().write(&request);
                marks.pass("after the summary is written").await;
                Ok(text)
            }
        })
    }
}

/// The marked points around the calls of a store.
#[derive(Debug)]
pub(crate) struct MarkedCalls(pub(crate) Arc<Marks>);

impl Hook for MarkedCalls {
    async fn around<T: Send>(
        &self,
        method: Method,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let (before, after) = match method {
            Method::Append => (Some("before an append"), Some("after an append, untold")),
            Method::Splice => (Some("before a splice"), Some("after a splice, untold")),
            Method::Claim => (None, Some("after a claim, untold")),
            Method::Outline => (None, Some("after the outline of a flush")),
            Method::Copy => {
                (Some("before a step of a copy"), Some("after a step of a copy, untold"))
            }
            Method::Fork => (Some("before a fork"), Some("after a fork, untold")),
            Method::Fetch => (None, Some("after the fetch of a flush")),
            _ => (None, None),
        };
        if let Some(point) = before {
            self.0.pass(point).await;
        }
        let done = call.await;
        if let Some(point) = after {
            self.0.pass(point).await;
        }
        done
    }
}

#[derive(Debug)]
pub(crate) struct MarkedLocks {
    pub(crate) locks: Arc<dyn LockBackend>,
    pub(crate) marks: Arc<Marks>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LockBackend for MarkedLocks {
    async fn try_acquire(
        &self,
        key: &LockKey,
        owner: OwnerId,
        ttl: Duration,
    ) -> Result<Acquired, LockError> {
        self.marks.pass("before a lease is taken").await;
        let done = self.locks.try_acquire(key, owner, ttl).await;
        self.marks.pass("after a lease is taken, untold").await;
        done
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Renewal>, LockError> {
        self.marks.pass("before a lease is renewed").await;
        let done = self.locks.renew(leases).await;
        self.marks.pass("after a lease is renewed, untold").await;
        done
    }

    async fn release(&self, key: &LockKey, owner: OwnerId) -> Result<Release, LockError> {
        self.marks.pass("before a lease is released").await;
        let done = self.locks.release(key, owner).await;
        self.marks.pass("after a lease is released, untold").await;
        done
    }

    async fn hand_over(
        &self,
        key: &LockKey,
        from: OwnerId,
        to: OwnerId,
        ttl: Duration,
    ) -> Result<HandOver, LockError> {
        self.locks.hand_over(key, from, to, ttl).await
    }

    async fn inspect(&self, key: &LockKey) -> Result<Option<LeaseInfo>, LockError> {
        self.locks.inspect(key).await
    }

    async fn is_overdue(&self, key: &LockKey) -> Result<bool, LockError> {
        self.locks.is_overdue(key).await
    }

    fn watch(&self, key: &LockKey, waiter: Option<OwnerId>) -> Watch {
        self.locks.watch(key, waiter)
    }

    fn keeps_places(&self) -> bool {
        self.locks.keeps_places()
    }

    fn release_now(&self, key: &LockKey, owner: OwnerId) -> bool {
        self.locks.release_now(key, owner)
    }

    fn domain(&self) -> &LeaseDomain {
        self.locks.domain()
    }
}
