//! Marked points: wrappers of a store, a lease backend and a summarizer, in which a child stops to be killed.
//!
//! They are wrappers, so that the product contains no test code.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::health::ServerHealth;
use memory_core::lease::{LeaseDomain, LeaseProof, OwnerId};
use memory_core::store::{
    Append, Appended, Clear, Counters, Cursor, Durability, FlushReceipt, Head, Outline, Page, Read,
    Replace, Splice, StoreError,
};
use memory_core::{MemoryKey, MemoryStore, Sequence, StoredMessage};
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

#[derive(Debug)]
pub(crate) struct MarkedStore {
    pub(crate) store: Arc<dyn MemoryStore>,
    pub(crate) marks: Arc<Marks>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl MemoryStore for MarkedStore {
    async fn append(&self, key: &MemoryKey, append: Append) -> Result<Appended, StoreError> {
        self.marks.pass("before an append").await;
        let done = self.store.append(key, append).await;
        self.marks.pass("after an append, untold").await;
        done
    }

    async fn replace(&self, key: &MemoryKey, replace: Replace) -> Result<Counters, StoreError> {
        self.store.replace(key, replace).await
    }

    async fn splice(&self, key: &MemoryKey, splice: Splice) -> Result<Counters, StoreError> {
        self.marks.pass("before a splice").await;
        let done = self.store.splice(key, splice).await;
        self.marks.pass("after a splice, untold").await;
        done
    }

    async fn clear(&self, key: &MemoryKey, clear: Clear) -> Result<Counters, StoreError> {
        self.store.clear(key, clear).await
    }

    async fn claim(&self, key: &MemoryKey, lease: LeaseProof) -> Result<(), StoreError> {
        let done = self.store.claim(key, lease).await;
        self.marks.pass("after a claim, untold").await;
        done
    }

    async fn head(&self, key: &MemoryKey) -> Result<Head, StoreError> {
        self.store.head(key).await
    }

    async fn read(&self, key: &MemoryKey, read: Read) -> Result<Page, StoreError> {
        self.store.read(key, read).await
    }

    async fn outline(&self, key: &MemoryKey) -> Result<Outline, StoreError> {
        let outline = self.store.outline(key).await;
        self.marks.pass("after the outline of a flush").await;
        outline
    }

    async fn fetch(
        &self,
        key: &MemoryKey,
        snapshot: Cursor,
        places: &[Sequence],
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let fetched = self.store.fetch(key, snapshot, places).await;
        self.marks.pass("after the fetch of a flush").await;
        fetched
    }

    async fn receipts(&self, key: &MemoryKey) -> Result<Vec<FlushReceipt>, StoreError> {
        self.store.receipts(key).await
    }

    async fn keys(
        &self,
        after: Option<&MemoryKey>,
        limit: std::num::NonZeroUsize,
    ) -> Result<Vec<MemoryKey>, StoreError> {
        self.store.keys(after, limit).await
    }

    async fn unused(
        &self,
        query: &memory_core::store::UnusedQuery,
    ) -> Result<memory_core::store::UnusedPage, StoreError> {
        self.store.unused(query).await
    }

    async fn remove(
        &self,
        key: &MemoryKey,
        remove: memory_core::store::RemoveUnused,
    ) -> Result<memory_core::store::RemovedUnused, StoreError> {
        self.store.remove(key, remove).await
    }

    async fn server(&self) -> Result<Option<ServerHealth>, StoreError> {
        self.store.server().await
    }

    fn lease_domain(&self) -> Option<&LeaseDomain> {
        self.store.lease_domain()
    }

    fn durability(&self) -> Durability {
        self.store.durability()
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
