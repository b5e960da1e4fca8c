//! The contract of a place where leases live.

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

/// A place where leases live. This is the part to implement for a new one; waiting, refreshing and
/// guards are the [`LockManager`](crate::LockManager)'s.
///
/// # To ensure correctness
///
/// - Each call takes effect in one atomic step, or not at all.
/// - A lease is *live* from its grant until its TTL has passed on the backend's clock, counted from
///   the step that granted or renewed it last. At most one lease of a key is live at any moment. A
///   lease that is not live is nobody's, even if nobody took it since: its old owner is told
///   [`Vanished`](Renewal::Vanished) and [`NotOwner`](Release::NotOwner).
/// - Of two grants of one key the later one has the greater token, over releases, expiries,
///   hand-overs and restarts: use [`FencingToken::next`](memory_core::lease::FencingToken::next).
/// - Every call is idempotent per (key, owner), so that a call whose answer was lost is sent again.
/// - Owner ids are fresh for each acquisition; the backend need not remember old ones.
/// - An `Ok` answer is definite. Whatever is in doubt is an error, whose
///   [`applied`](LockError::applied) says whether the call may have taken effect.
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
    /// **Correctness.** An owner that already holds it gets the same token, and `ttl` counts anew.
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

    /// Makes each of these leases last its `ttl` from now on, if it is still live and its owner's.
    ///
    /// **Correctness.** One answer for each lease, in their order. Atomic for each lease, not for all
    /// of them. Tokens do not change. A lease that ran out is not revived.
    ///
    /// # Errors
    ///
    /// An error leaves each of the leases renewed or not.
    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Renewal>, LockError>;

    /// Frees the lease of `key` if `owner` holds it.
    ///
    /// **Correctness.** [`Release::Released`] proves that the lease was live and the owner's until
    /// this step. Sent again it answers [`Release::NotOwner`].
    ///
    /// # Errors
    ///
    /// After an error with an unknown effect the lease may be free.
    async fn release(&self, key: &LockKey, owner: OwnerId) -> Result<Release, LockError>;

    /// Passes the lease of `key` from one owner to another in one step, with a new, greater token
    /// and a new `ttl`.
    ///
    /// **Correctness.** The key is free at no moment. Sent again, with the lease already the new
    /// owner's, it answers the same token, and `ttl` counts anew.
    ///
    /// # Errors
    ///
    /// After an error with an unknown effect the lease is the old owner's or the new one's.
    async fn hand_over(
        &self,
        key: &LockKey,
        from: OwnerId,
        to: OwnerId,
        ttl: Duration,
    ) -> Result<HandOver, LockError>;

    /// Who holds the lease of `key`, if it is live.
    ///
    /// # Errors
    ///
    /// If the backend cannot be asked.
    async fn inspect(&self, key: &LockKey) -> Result<Option<LeaseInfo>, LockError>;

    /// Whether the lease of `key` is live although, by what its holder wrote down, it should have ended or
    /// ends later than its TTL allows: the holder's clock was wrong, or something took the end from the lease.
    /// Such a lease is not renewed any more, or its holder should be looked at; health reports it.
    ///
    /// # Errors
    ///
    /// If the backend cannot be asked.
    async fn is_overdue(&self, key: &LockKey) -> Result<bool, LockError> {
        let _ = key;
        Ok(false)
    }

    /// A future that ends once a release of `key` was seen after this call.
    ///
    /// It may end without one, and it may never end: callers keep a timer below it. It does not
    /// borrow, and dropping it leaves nothing behind. The expiry of a lease need not end it.
    ///
    /// `waiter` is the owner that will ask for the lease again, if the caller waits in line for it: a
    /// backend may keep it a place while its watch lives.
    fn watch(&self, key: &LockKey, waiter: Option<OwnerId>) -> Watch;

    /// Whether a released lease goes to those of all processes in the order in which they began to
    /// watch it as [waiters](Self::watch). Where it does not, whoever has just had a row of turns
    /// holds back a little for the others.
    fn keeps_places(&self) -> bool;

    /// Frees the lease of `key` if `owner` holds it, at once, without waiting and without a runtime;
    /// for `Drop`.
    ///
    /// True: done, or certain to be done by a thread of the backend's own. False: the caller
    /// arranges for [`release`](Self::release). Must not block, wait for another process or panic.
    fn release_now(&self, key: &LockKey, owner: OwnerId) -> bool;

    /// Names the place where the leases live, for comparison with that of a store.
    fn domain(&self) -> &LeaseDomain;
}
