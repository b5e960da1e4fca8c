//! The guard, which gives its lease up when it is dropped.

use std::sync::Arc;

use memory_core::lease::{FencingToken, LeaseProof};
use tokio::time::Instant;

use crate::finish::Finish;
use crate::give_up::{ReleaseOutcome, give_up};
use crate::hold::Hold;
use crate::key::LockKey;
use crate::lost::{Lost, LostReason};
use crate::revocable::Revocable;
use crate::scope::LeaseScope;

/// A lease that is held. It is refreshed in the background until it is released, dropped or lost.
///
/// Dropping it releases the lease without blocking and without panicking, with a runtime or without: at
/// once if the backend can (in process: always), else in a task. Only if no runtime is left does the lease
/// expire by its TTL. Not reentrant: a second acquisition of the same key waits for this one.
///
/// A lease is an optimization: a process that is stopped past its deadline does not know it. Pass
/// [`proof`](Self::proof) to the store with each write.
#[derive(Debug)]
#[must_use = "the lease is given up when its guard is dropped"]
pub struct LockGuard {
    hold: Arc<Hold>,
}

impl LockGuard {
    pub(crate) fn new(hold: Arc<Hold>) -> Self {
        Self { hold }
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

    /// The moment until which the lease is certain, unless it is refreshed before: counted from the moment
    /// before the request was sent, less 1 % of the TTL and 2 ms.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.hold.deadline()
    }

    /// Checks that the lease is still held, by the local clock and without a request.
    ///
    /// # Errors
    ///
    /// [`Lost`], with the reason.
    pub fn ensure_held(&self) -> Result<(), Lost> {
        self.hold.ensure_held()
    }

    /// Ends with the reason once the lease is lost. It does not borrow the guard, and never ends if
    /// the guard is released or dropped first.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only reads.
    pub fn lost(&self) -> impl Future<Output = LostReason> + Send + use<> {
        Arc::clone(&self.hold).lost()
    }

    /// A handle for the code under the lease, without the right to give the lease up.
    #[must_use]
    pub fn scope(&self) -> LeaseScope {
        LeaseScope::new(Arc::clone(&self.hold))
    }

    /// Releases the lease, to the next waiter of this process or to all, and returns whether it was held to
    /// the end. Refreshing stops before anything is sent. Waits for the backend's answer for at most 2 s.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, or kept without being polled, the release continues in the
    /// background. A future that is polled again after that returns `Unknown`.
    pub async fn release(self) -> ReleaseOutcome {
        let Some(claim) = self.hold.end() else { return ReleaseOutcome::NotOwner };
        let shared = self.hold.shared();
        let work = Finish::new(&shared.client, give_up(claim.into_give_up()));
        Revocable::new(&shared.attendance, self.hold.key(), work)
            .await
            .unwrap_or(ReleaseOutcome::Unknown)
    }

    pub(crate) fn hold(&self) -> &Arc<Hold> {
        &self.hold
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        drop(self.hold.end());
    }
}
