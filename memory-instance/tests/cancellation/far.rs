//! A store and a lease backend with simulated distance: each call yields before its effect and again before its
//! answer, so that a call can be dropped on either side of its effect.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use memory_core::health::ServerHealth;
use memory_core::lease::{LeaseDomain, LeaseProof, OwnerId};
use memory_core::store::{
    Append, Appended, Clear, Counters, Cursor, Durability, FlushReceipt, Head, Outline, Page, Read,
    Replace, Splice, StoreError,
};
use memory_core::{MemoryKey, MemoryStore, Sequence, StoredMessage};
use memory_lock::{
    Acquired, HandOver, Lease, LeaseInfo, LockBackend, LockError, LockKey, Release, Renewal, Watch,
};
use tokio::task::yield_now;

/// Yields before and after the call.
async fn far<T>(call: impl Future<Output = T>) -> T {
    yield_now().await;
    let answer = call.await;
    yield_now().await;
    answer
}

#[derive(Debug)]
pub(crate) struct FarStore(pub(crate) Arc<dyn MemoryStore>);

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl MemoryStore for FarStore {
    async fn append(&self, key: &MemoryKey, append: Append) -> Result<Appended, StoreError> {
        far(self.0.append(key, append)).await
    }

    async fn replace(&self, key: &MemoryKey, replace: Replace) -> Result<Counters, StoreError> {
        far(self.0.replace(key, replace)).await
    }

    async fn splice(&self, key: &MemoryKey, splice: Splice) -> Result<Counters, StoreError> {
        far(self.0.splice(key, splice)).await
    }

    async fn clear(&self, key: &MemoryKey, clear: Clear) -> Result<Counters, StoreError> {
        far(self.0.clear(key, clear)).await
    }

    async fn claim(&self, key: &MemoryKey, lease: LeaseProof) -> Result<(), StoreError> {
        far(self.0.claim(key, lease)).await
    }

    async fn head(&self, key: &MemoryKey) -> Result<Head, StoreError> {
        far(self.0.head(key)).await
    }

    async fn read(&self, key: &MemoryKey, read: Read) -> Result<Page, StoreError> {
        far(self.0.read(key, read)).await
    }

    async fn outline(&self, key: &MemoryKey) -> Result<Outline, StoreError> {
        far(self.0.outline(key)).await
    }

    async fn fetch(
        &self,
        key: &MemoryKey,
        snapshot: Cursor,
        places: &[Sequence],
    ) -> Result<Vec<StoredMessage>, StoreError> {
        far(self.0.fetch(key, snapshot, places)).await
    }

    async fn receipts(&self, key: &MemoryKey) -> Result<Vec<FlushReceipt>, StoreError> {
        far(self.0.receipts(key)).await
    }

    async fn keys(
        &self,
        after: Option<&MemoryKey>,
        limit: NonZeroUsize,
    ) -> Result<Vec<MemoryKey>, StoreError> {
        far(self.0.keys(after, limit)).await
    }

    async fn unused(
        &self,
        query: &memory_core::store::UnusedQuery,
    ) -> Result<memory_core::store::UnusedPage, StoreError> {
        far(self.0.unused(query)).await
    }

    async fn remove(
        &self,
        key: &MemoryKey,
        remove: memory_core::store::RemoveUnused,
    ) -> Result<memory_core::store::RemovedUnused, StoreError> {
        far(self.0.remove(key, remove)).await
    }

    async fn server(&self) -> Result<Option<ServerHealth>, StoreError> {
        far(self.0.server()).await
    }

    fn lease_domain(&self) -> Option<&LeaseDomain> {
        self.0.lease_domain()
    }

    fn durability(&self) -> Durability {
        self.0.durability()
    }
}

#[derive(Debug)]
pub(crate) struct FarLock(pub(crate) Arc<dyn LockBackend>);

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl LockBackend for FarLock {
    async fn try_acquire(
        &self,
        key: &LockKey,
        owner: OwnerId,
        ttl: Duration,
    ) -> Result<Acquired, LockError> {
        far(self.0.try_acquire(key, owner, ttl)).await
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Renewal>, LockError> {
        far(self.0.renew(leases)).await
    }

    async fn release(&self, key: &LockKey, owner: OwnerId) -> Result<Release, LockError> {
        far(self.0.release(key, owner)).await
    }

    async fn hand_over(
        &self,
        key: &LockKey,
        from: OwnerId,
        to: OwnerId,
        ttl: Duration,
    ) -> Result<HandOver, LockError> {
        far(self.0.hand_over(key, from, to, ttl)).await
    }

    async fn inspect(&self, key: &LockKey) -> Result<Option<LeaseInfo>, LockError> {
        far(self.0.inspect(key)).await
    }

    async fn is_overdue(&self, key: &LockKey) -> Result<bool, LockError> {
        far(self.0.is_overdue(key)).await
    }

    fn watch(&self, key: &LockKey, waiter: Option<OwnerId>) -> Watch {
        self.0.watch(key, waiter)
    }

    fn keeps_places(&self) -> bool {
        self.0.keeps_places()
    }

    /// Never, because of the simulated distance.
    fn release_now(&self, _key: &LockKey, _owner: OwnerId) -> bool {
        false
    }

    fn domain(&self) -> &LeaseDomain {
        self.0.domain()
    }
}
