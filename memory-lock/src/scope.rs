//! The view of a lease for the code under it.

use std::sync::Arc;
use std::time::Duration;

use memory_core::lease::{FencingToken, LeaseProof};
use tokio::time::Instant;

use crate::hold::Hold;
use crate::key::LockKey;
use crate::lost::{Lost, LostReason};

/// The view of a lease for the code under it: the proof for the store, and whether the lease is still held.
/// It cannot release the lease, and does not keep it.
#[derive(Debug, Clone)]
pub struct LeaseScope {
    hold: Arc<Hold>,
}

impl LeaseScope {
    pub(crate) fn new(hold: Arc<Hold>) -> Self {
        Self { hold }
    }

    pub(crate) fn hold(&self) -> &Arc<Hold> {
        &self.hold
    }

    /// The key of the lease.
    #[must_use]
    pub fn key(&self) -> &LockKey {
        self.hold.key()
    }

    /// The proof to pass to a store with each write.
    #[must_use]
    pub fn proof(&self) -> LeaseProof {
        self.hold.proof()
    }

    /// The fencing token of this grant.
    #[must_use]
    pub fn fence(&self) -> FencingToken {
        self.hold.proof().token
    }

    /// The moment until which the lease is certain, unless it is refreshed before.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.hold.deadline()
    }

    /// The time since the lease was granted.
    #[must_use]
    pub fn held_for(&self) -> Duration {
        self.hold.held_for()
    }

    /// Checks that the lease is still held, by the local clock and without a request. Meaningful while the
    /// guard lives.
    ///
    /// # Errors
    ///
    /// [`Lost`], with the reason.
    pub fn ensure_held(&self) -> Result<(), Lost> {
        self.hold.ensure_held()
    }

    /// Returns the reason once the lease is lost; never, if it is released first.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only reads.
    pub fn lost(&self) -> impl Future<Output = LostReason> + Send + use<> {
        Arc::clone(&self.hold).lost()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Clock, ClockExt as _, InProcessLock, LockManager, LockOptions};

    #[tokio::test(start_paused = true)]
    async fn scope_reports_the_same_as_its_guard() {
        let locks = LockManager::new(Arc::new(InProcessLock::new(Clock::tokio())));
        let key = LockKey::new("k").unwrap();
        let options = LockOptions::new().with_ttl(Duration::from_secs(10)).without_refresh();
        let guard = locks.lock(&key, &options).await.unwrap();
        let scope = guard.scope();
        assert_eq!((scope.key(), scope.proof()), (&key, guard.proof()));
        assert_eq!((scope.fence(), scope.deadline()), (guard.fence(), guard.deadline()));
        assert!(scope.fence() > FencingToken::ZERO);

        assert_eq!((scope.held_for(), scope.ensure_held()), (Duration::ZERO, Ok(())));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(scope.held_for(), Duration::from_secs(10));
        let lost = scope.ensure_held().unwrap_err();
        assert_eq!(lost, Lost { key, reason: LostReason::Expired });
        assert_eq!(scope.lost().await, LostReason::Expired);
    }
}
