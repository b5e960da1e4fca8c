//! A store and a lease backend with simulated distance: each call yields before its effect and again before its
//! answer, so that a call can be dropped on either side of its effect.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use memory_core::lease::{LeaseDomain, OwnerId};
use memory_core::store::StoreError;
use memory_core_testkit::intercept::{Hook, Method};
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
pub(crate) struct Far;

impl Hook for Far {
    async fn around<T: Send>(
        &self,
        _: Method,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        far(call).await
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
