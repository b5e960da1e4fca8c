//! The contract of a backend, which stores leases.

use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use memory_core::lease::{LeaseDomain, OwnerId};

use crate::LeaseInfo;
use crate::answer::{Acquired, HandOver, Release, Renewal};
use crate::error::LockError;
use crate::key::LockKey;
use crate::lease::Lease;

/// Ends after a release was seen; see [`LockBackend::watch`].
pub type Watch = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A backend, which stores leases. Implement this trait for a new one; the
/// [`LockManager`](crate::LockManager) provides waiting, refreshing and guards.
///
/// # To ensure correctness
///
/// - Each call takes effect in one atomic step, or not at all.
/// - A lease is *live* from its grant until its TTL has passed on the backend's clock, counted from the
///   step that granted or renewed it last. At most one lease of a key is live at any moment. A lease that
///   is not live has no owner, even if no other owner has taken it since: its old owner gets
///   [`Vanished`](Renewal::Vanished) and [`NotOwner`](Release::NotOwner).
/// - Of two grants of one key the later one has the greater token, over releases, expiries, hand-overs and
///   restarts: use [`FencingToken::next`](memory_core::lease::FencingToken::next).
/// - Every call is idempotent per (key, owner), so that a call whose answer was lost can be sent again.
/// - Owner ids are fresh for each acquisition; the backend need not remember old ones.
/// - An `Ok` answer is definite. Any doubt is an error, whose [`applied`](LockError::applied) reports
///   whether the call may have taken effect.
///
/// Prove an implementation with the suite of the feature `conformance`.
///
/// # Cancel safety
///
/// A caller may drop the future of any call at any await point: the call then took effect or it did
/// not, and the next call of the same owner is ordered after it.
#[async_trait]
pub trait LockBackend: Debug + Send + Sync + 'static {
    /// Grants the lease of `key` to `owner` for `ttl` if no other owner holds it.
    ///
    /// **Correctness.** An owner that already holds it gets the same token, and `ttl` starts again.
    ///
    /// # Errors
    ///
    /// Never because the lease is held; that is [`Acquired::Held`].
    async fn try_acquire(
        &self,
        key: &LockKey,
        owner: OwnerId,
        ttl: Duration,
    ) -> Result<Acquired, LockError>;

    /// Extends each of these leases to its `ttl` from now, if it is still live and held by its owner.
    ///
    /// **Correctness.** One answer for each lease, in their order. Atomic for each lease, not for all of
    /// them together. Tokens do not change. An expired lease is not revived.
    ///
    /// # Errors
    ///
    /// After an error each of the leases may have been renewed or not.
    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Renewal>, LockError>;

    /// Frees the lease of `key` if `owner` holds it.
    ///
    /// **Correctness.** [`Release::Released`] proves that the lease was live and held by the owner until
    /// this step. If it is sent again, the answer is [`Release::NotOwner`].
    ///
    /// # Errors
    ///
    /// After an error with an unknown effect the lease may be free.
    async fn release(&self, key: &LockKey, owner: OwnerId) -> Result<Release, LockError>;

    /// Passes the lease of `key` from one owner to another in one step, with a new, greater token
    /// and a new `ttl`.
    ///
    /// **Correctness.** The key is free at no moment. If it is sent again, and the new owner already holds
    /// the lease, the answer is the same token, and `ttl` starts again.
    ///
    /// # Errors
    ///
    /// After an error with an unknown effect the old owner or the new one holds the lease.
    async fn hand_over(
        &self,
        key: &LockKey,
        from: OwnerId,
        to: OwnerId,
        ttl: Duration,
    ) -> Result<HandOver, LockError>;

    /// The holder of the lease of `key`, if it is live.
    ///
    /// # Errors
    ///
    /// If the backend cannot be reached.
    async fn inspect(&self, key: &LockKey) -> Result<Option<LeaseInfo>, LockError>;

    /// Returns whether the lease of `key` is live although it should have ended by the times that its
    /// holder stored, or ends later than its TTL allows: the holder's clock was wrong, or the lease lost
    /// its expiry. Such a lease is no longer renewed, or its holder should be examined; health reports it.
    ///
    /// # Errors
    ///
    /// If the backend cannot be reached.
    async fn is_overdue(&self, key: &LockKey) -> Result<bool, LockError> {
        let _ = key;
        Ok(false)
    }

    /// A future that ends once a release of `key` was seen after this call.
    ///
    /// It may end without a release, and it may never end, so callers use a timer as a fallback. It does
    /// not borrow, and dropping it leaves nothing behind. The expiry of a lease need not end it.
    ///
    /// `waiter` is the owner that will ask for the lease again, if the caller waits in line for it. A
    /// backend may keep a place for it while its watch lives.
    fn watch(&self, key: &LockKey, waiter: Option<OwnerId>) -> Watch;

    /// Returns whether a released lease is granted to waiters of all processes in the order in which they
    /// began to [watch](Self::watch) it. If it is not, a process that has had several consecutive turns
    /// holds back a little for the others.
    fn keeps_places(&self) -> bool;

    /// Frees the lease of `key` if `owner` holds it, at once, without waiting and without a runtime; for
    /// `Drop`.
    ///
    /// True: it is done, or a thread of the backend will certainly do it. False: the caller arranges for
    /// [`release`](Self::release). Must not block, wait for another process or panic.
    fn release_now(&self, key: &LockKey, owner: OwnerId) -> bool;

    /// Names the domain of the leases, for comparison with that of a store.
    fn domain(&self) -> &LeaseDomain;
}
