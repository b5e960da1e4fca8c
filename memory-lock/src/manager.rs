//! The face of the crate: a manager of the leases of one backend.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use memory_core::lease::LeaseDomain;
use tokio::time::{Instant, timeout_at};

use crate::LeaseInfo;
use crate::acquire;
use crate::backend::LockBackend;
use crate::break_lease::break_lease;
use crate::error::{LockError, LockOperation};
use crate::finish::Finish;
use crate::give_up::{ReleaseOutcome, give_up};
use crate::guard::LockGuard;
use crate::key::LockKey;
use crate::lost::LostReason;
use crate::manager_options::ManagerOptions;
use crate::options::LockOptions;
use crate::scope::LeaseScope;
use crate::shared::Shared;
use crate::stats::LockStats;
use crate::time::after;
use crate::with_lock::{self, WithLockError};

/// Takes leases for the tasks of one process: lets them wait in line, refreshes what they hold, and
/// notices what they lost. Clones are cheap and share everything.
///
/// Make one for each backend: tasks wait in line, and hand leases over, within one manager only.
/// Its methods that take leases must be called inside a tokio runtime with time enabled. Leases are
/// refreshed on the runtime that took the first of those held; when it shuts down, another one that took a
/// lease which is still held goes on with it.
///
/// A runtime that ends with leases held cannot send their releases any more, unless the backend needs no
/// runtime for that (in process, SQLite). The next in this process who asks for such a lease, on any runtime,
/// sends its release first; other processes wait until it has run out, for its TTL at the most. Call
/// [`shutdown`](Self::shutdown) before the runtime ends to release them.
#[derive(Clone)]
#[doc(alias = "DistributedLock")]
pub struct LockManager {
    shared: Arc<Shared>,
}

impl LockManager {
    /// A manager of the leases of `backend`, with the default options.
    #[must_use]
    pub fn new(backend: Arc<dyn LockBackend>) -> Self {
        Self { shared: Arc::new(Shared::new(backend, ManagerOptions::new())) }
    }

    /// A manager with options of its own.
    ///
    /// # Errors
    ///
    /// [`InvalidOptions`](crate::LockErrorKind::InvalidOptions).
    pub fn with_options(
        backend: Arc<dyn LockBackend>,
        options: ManagerOptions,
    ) -> Result<Self, LockError> {
        options.validate()?;
        Ok(Self { shared: Arc::new(Shared::new(backend, options)) })
    }

    /// Takes the lease of `key` if nobody holds it; `None` if somebody does. Asks the backend once,
    /// and waits for its answer only.
    ///
    /// # Errors
    ///
    /// Those of the backend and of the options; `ShutDown`; `NoRuntime`. Whatever the backend may
    /// have granted is released in the background.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, a request under way is completed in the background, and the lease
    /// released.
    pub async fn try_lock(
        &self,
        key: &LockKey,
        options: &LockOptions,
    ) -> Result<Option<LockGuard>, LockError> {
        acquire::try_lock(&self.shared, key, options).await
    }

    /// Takes the lease of `key`, waiting in line for [`wait_timeout`](LockOptions::wait_timeout) at
    /// the most. The tasks of this process are served first come, first served; other processes get
    /// a turn after [`max_hand_overs`](ManagerOptions::max_hand_overs) of them.
    ///
    /// # Errors
    ///
    /// [`WaitTimeout`](crate::LockErrorKind::WaitTimeout) if others held it all the time, with
    /// [who does](LockError::holder) where that can be had. Errors of the backend that are retryable are
    /// met by trying again, for [`failure_timeout`](LockOptions::failure_timeout) at the most, then
    /// returned; the others, those of the options, `ShutDown` and `NoRuntime` end the call at once, and
    /// so does [`OwnLease`](crate::LockErrorKind::OwnLease). It never answers without the lease.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, the call leaves the line. A request under way is completed in the
    /// background, and the lease passed on or released. The same happens to a call that is kept and not
    /// polled for half a second after it was woken, so that others need not wait for it; polled again
    /// after that, it goes to the end of the line.
    #[doc(alias = "acquire")]
    pub async fn lock(&self, key: &LockKey, options: &LockOptions) -> Result<LockGuard, LockError> {
        acquire::lock(&self.shared, key, options).await
    }

    /// Runs `operation` under the lease of `key`, which is refreshed until it ends, even with options
    /// [without refresh](LockOptions::without_refresh).
    ///
    /// | event | result |
    /// | --- | --- |
    /// | ends in time | `Ok`, after the release was answered (2 s at the most) |
    /// | a refresh fails | nothing; it is tried again, with jitter, until the deadline |
    /// | the lease is lost | the operation is dropped at its next await point; `Lost`, no output |
    /// | ends late, but the release proves that the lease was still held | `Ok` |
    /// | ends late otherwise, or another owner holds the lease by then | `Lost`, with the output |
    /// | panics | the panic, with the lease given up |
    ///
    /// Refreshing goes on in a task of its own: on a runtime with several threads an operation that
    /// blocks its thread does not stop it.
    ///
    /// # Errors
    ///
    /// [`WithLockError::Acquire`] like [`lock`](Self::lock); [`WithLockError::Lost`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, `operation` is dropped and the lease given up.
    #[doc(alias = "withLockRefresh")]
    pub async fn with_lock_refresh<T, F, Fut>(
        &self,
        key: &LockKey,
        options: &LockOptions,
        operation: F,
    ) -> Result<T, WithLockError<T>>
    where
        F: FnOnce(LeaseScope) -> Fut,
        Fut: Future<Output = T>,
    {
        let guard = self.lock(key, &options.refreshing()).await.map_err(WithLockError::Acquire)?;
        with_lock::run(guard, operation).await
    }

    /// Who holds the lease of `key`, in any process; `None` if nobody does.
    ///
    /// # Errors
    ///
    /// If the backend cannot be asked.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only looks.
    pub async fn inspect(&self, key: &LockKey) -> Result<Option<LeaseInfo>, LockError> {
        let call = self.shared.client.backend.inspect(key);
        let limit = self.shared.client.options.answer_timeout();
        self.shared
            .client
            .answer(LockOperation::Inspect, limit, call)
            .await
            .map_err(|error| error.with_key(key))
    }

    /// Whether the lease of `key` is held although it should have ended by itself; see
    /// [`LockBackend::is_overdue`].
    ///
    /// # Errors
    ///
    /// If the backend cannot be asked.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only looks.
    pub async fn is_overdue(&self, key: &LockKey) -> Result<bool, LockError> {
        let call = self.shared.client.backend.is_overdue(key);
        let limit = self.shared.client.options.answer_timeout();
        self.shared
            .client
            .answer(LockOperation::Inspect, limit, call)
            .await
            .map_err(|error| error.with_key(key))
    }

    /// Takes the lease of `key` away from whoever holds it, in any process, and frees it; returns who that
    /// was. For operators, when a holder is stuck. The fencing token rises: a store that checks tokens or
    /// leases refuses what the holder still writes, and its guard learns of the loss with its next refresh, in this manager at once.
    ///
    /// # Errors
    ///
    /// Those of the backend. [`Busy`](crate::LockErrorKind::Busy) if the lease changes hands too quickly.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, it either has done nothing or breaks the lease of the holder that it found,
    /// in the background; a holder that comes later keeps its lease.
    pub async fn break_lease(&self, key: &LockKey) -> Result<Option<LeaseInfo>, LockError> {
        break_lease(&self.shared, key).await
    }

    /// Whether the caller runs in an operation of [`with_lock_refresh`](Self::with_lock_refresh) under the
    /// lease of `key`, through any manager of the same place. It would wait for itself if it waited for
    /// the lease. A task that the operation has spawned does not run in it, and may wait for its end.
    #[must_use]
    pub fn runs_under(&self, key: &LockKey) -> bool {
        with_lock::runs_under(&self.shared, key)
    }

    /// How many tasks of this process wait for `key` now.
    #[must_use]
    pub fn waiting(&self, key: &LockKey) -> usize {
        self.shared.lines.waiting(key)
    }

    /// What was done so far, and what is held now.
    #[must_use]
    pub fn stats(&self) -> LockStats {
        self.shared.client.counters.snapshot()
    }

    /// The place where the leases live.
    #[must_use]
    pub fn domain(&self) -> &LeaseDomain {
        self.shared.client.backend.domain()
    }

    /// The backend itself.
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn LockBackend> {
        &self.shared.client.backend
    }

    /// Ends this manager and its clones: those who wait, and all later calls, get `ShutDown`; those
    /// who hold a lease have `grace` to give it up. Then what is left is lost with
    /// [`LostReason::ShutDown`](crate::LostReason::ShutDown). Returns how many leases that was, once
    /// releases under way are answered or another `grace` is over. Call it before the runtime ends,
    /// for without one a remote lease can only run out.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, the manager is closed, and nothing more happens to leases held.
    pub async fn shutdown(&self, grace: Duration) -> usize {
        self.shared.close();
        self.until_idle(after(Instant::now(), grace)).await;
        let lost = self.shared.refresher.lose_all();
        if lost > 0 {
            self.until_idle(after(Instant::now(), grace)).await;
        }
        lost
    }

    /// Ends one lease of this manager from outside of the code that holds it, which may block its thread or
    /// no longer be polled: that code finds the lease lost with
    /// [`LostReason::ShutDown`](crate::LostReason::ShutDown), and a store that checks tokens refuses what it
    /// still writes. Waits for the backend's answer for 2 s at the most; `NotOwner` where the lease was
    /// given up before.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, the release goes on in the background.
    pub async fn revoke(&self, scope: &LeaseScope) -> ReleaseOutcome {
        let hold = scope.hold();
        self.shared.refresher.unregister(hold.owner());
        hold.lose(LostReason::ShutDown);
        let Some(claim) = hold.end() else { return ReleaseOutcome::NotOwner };
        Finish::new(&self.shared.client, give_up(claim.into_give_up())).await
    }

    /// Waits until no release is under way for callers that did not wait for it, for this long at the most;
    /// whether that is so. Before a runtime ends, so that no lease is left to run out.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only looks.
    pub async fn until_released(&self, within: Duration) -> bool {
        let deadline = after(Instant::now(), within);
        loop {
            let idle = self.shared.client.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.shared.client.counters.releasing.read() == 0 {
                return true;
            }
            if timeout_at(deadline, idle).await.is_err() {
                return false;
            }
        }
    }

    /// Until nothing is held and no release is under way.
    async fn until_idle(&self, deadline: Instant) {
        loop {
            let idle = self.shared.client.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            let counters = &self.shared.client.counters;
            let busy = counters.held.read() + counters.releasing.read();
            if busy == 0 || timeout_at(deadline, idle).await.is_err() {
                return;
            }
        }
    }
}

impl fmt::Debug for LockManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockManager")
            .field("backend", &self.shared.client.backend)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
