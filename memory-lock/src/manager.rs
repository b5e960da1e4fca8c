//! The main type of the crate: a manager of the leases of one backend.

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

/// Acquires leases for the tasks of one process: queues the tasks, refreshes their leases, and detects lost
/// leases. Clones are cheap and share everything.
///
/// Create one for each backend: tasks wait in line, and hand leases over, within one manager only. Its
/// methods that acquire leases must be called inside a tokio runtime with time enabled. Leases are
/// refreshed on the runtime that acquired the first of the held leases. When it shuts down, another one
/// that acquired a lease that is still held continues.
///
/// A runtime that ends with leases held can no longer send their releases, unless the backend needs no
/// runtime for that (in process, SQLite). The next caller in this process that asks for such a lease, on
/// any runtime, sends its release first; other processes wait until it has expired, at most for its TTL.
/// Call [`shutdown`](Self::shutdown) before the runtime ends to release them.
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

    /// A manager with custom options.
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

    /// Acquires the lease of `key` if it is free; `None` if another owner holds it. Sends one request to
    /// the backend, and waits only for its answer.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use memory_lock::{InProcessLock, LockManager};
    /// use memory_lock::{LockKey, LockOptions};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let locks = LockManager::new(Arc::new(InProcessLock::default()));
    /// let (key, options) = (LockKey::new("nightly-report")?, LockOptions::default());
    /// let first = locks.try_lock(&key, &options).await?;
    /// assert!(first.is_some());
    /// assert!(locks.try_lock(&key, &options).await?.is_none(), "another task works on it");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of the backend and of the options; `ShutDown`; `NoRuntime`. A lease that the backend may have
    /// granted is released in the background.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, a request in progress is completed in the background, and
    /// the lease is released.
    pub async fn try_lock(
        &self,
        key: &LockKey,
        options: &LockOptions,
    ) -> Result<Option<LockGuard>, LockError> {
        acquire::try_lock(&self.shared, key, options).await
    }

    /// Acquires the lease of `key`, waiting in line for at most
    /// [`wait_timeout`](LockOptions::wait_timeout). The tasks of this process are served first come, first
    /// served; other processes get a turn after [`max_hand_overs`](ManagerOptions::max_hand_overs) of them.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use memory_lock::{InProcessLock, LockManager};
    /// use memory_lock::{LockKey, LockOptions};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let locks = LockManager::new(Arc::new(InProcessLock::default()));
    /// let key = LockKey::new("case-17")?;
    /// let guard = locks.lock(&key, &LockOptions::default()).await?;
    /// // Pass `guard.proof()` with each write, and stop when the lease is lost.
    /// guard.ensure_held()?;
    /// let first = guard.fence();
    /// guard.release().await;
    ///
    /// let guard = locks.lock(&key, &LockOptions::default()).await?;
    /// assert!(guard.fence() > first);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`WaitTimeout`](crate::LockErrorKind::WaitTimeout) if others held it all the time, with [the
    /// holder](LockError::holder) if it is known. Retryable errors of the backend are retried, at most for
    /// [`failure_timeout`](LockOptions::failure_timeout), then returned. The other errors, those of the
    /// options, `ShutDown`, `NoRuntime` and [`OwnLease`](crate::LockErrorKind::OwnLease) end the call at
    /// once. It never returns without the lease or an error.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, the call leaves the line. A request in progress is
    /// completed in the background, and the lease is passed on or released. The same happens to a call that
    /// is kept and not polled for half a second after it was woken, so that others need not wait for it. If
    /// it is polled again after that, it continues at the end of the line.
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
    /// Refreshing runs in a separate task: on a runtime with several threads an operation that blocks its
    /// thread does not stop it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use memory_lock::{InProcessLock, LockManager};
    /// use memory_lock::{LockKey, LockOptions};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let locks = LockManager::new(Arc::new(InProcessLock::default()));
    /// let key = LockKey::new("case-17")?;
    /// let answer = locks
    ///     .with_lock_refresh(&key, &LockOptions::default(), |lease| async move {
    ///         // Long work: the lease is refreshed meanwhile.
    ///         format!("written under token {}", lease.fence())
    ///     })
    ///     .await?;
    /// assert!(answer.starts_with("written under token "));
    /// assert!(locks.inspect(&key).await?.is_none(), "it was released");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`WithLockError::Acquire`] like [`lock`](Self::lock); [`WithLockError::Lost`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, `operation` is dropped and the lease is released.
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

    /// The holder of the lease of `key`, in any process; `None` if it is free.
    ///
    /// # Errors
    ///
    /// If the backend cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only reads.
    pub async fn inspect(&self, key: &LockKey) -> Result<Option<LeaseInfo>, LockError> {
        let call = self.shared.client.backend.inspect(key);
        let limit = self.shared.client.options.answer_timeout();
        self.shared
            .client
            .answer(LockOperation::Inspect, limit, call)
            .await
            .map_err(|error| error.with_key(key))
    }

    /// Returns whether the lease of `key` is held although it should have ended; see
    /// [`LockBackend::is_overdue`].
    ///
    /// # Errors
    ///
    /// If the backend cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only reads.
    pub async fn is_overdue(&self, key: &LockKey) -> Result<bool, LockError> {
        let call = self.shared.client.backend.is_overdue(key);
        let limit = self.shared.client.options.answer_timeout();
        self.shared
            .client
            .answer(LockOperation::Inspect, limit, call)
            .await
            .map_err(|error| error.with_key(key))
    }

    /// Takes the lease of `key` away from its holder, in any process, and frees it; returns the former
    /// holder. For operators, when a holder is stuck. The fencing token rises: a store that checks tokens
    /// or leases refuses later writes of the holder, and the holder's guard notices the loss with its next
    /// refresh, or at once in this manager.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use memory_lock::{InProcessLock, LockManager};
    /// use memory_lock::{LockKey, LockOptions};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let locks = LockManager::new(Arc::new(InProcessLock::default()));
    /// let key = LockKey::new("case-17")?;
    /// let guard = locks.lock(&key, &LockOptions::default()).await?;
    /// let former = locks.break_lease(&key).await?.ok_or("the lease is free")?;
    /// assert_eq!(former.token, guard.fence());
    /// assert!(guard.ensure_held().is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of the backend. [`Busy`](crate::LockErrorKind::Busy) if the lease changes hands too quickly.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, either nothing was done, or the lease of the holder that
    /// was found is broken in the background. A later holder keeps its lease.
    pub async fn break_lease(&self, key: &LockKey) -> Result<Option<LeaseInfo>, LockError> {
        break_lease(&self.shared, key).await
    }

    /// Returns whether the caller runs in an operation of [`with_lock_refresh`](Self::with_lock_refresh)
    /// under the lease of `key`, through any manager of the same domain. It would wait for itself if it
    /// waited for the lease. A task that the operation has spawned does not run in it, and may wait for its
    /// end.
    #[must_use]
    pub fn runs_under(&self, key: &LockKey) -> bool {
        with_lock::runs_under(&self.shared, key)
    }

    /// The number of tasks of this process that wait for `key` now.
    #[must_use]
    pub fn waiting(&self, key: &LockKey) -> usize {
        self.shared.lines.waiting(key)
    }

    /// The counters of this manager, and the number of leases held now.
    #[must_use]
    pub fn stats(&self) -> LockStats {
        self.shared.client.counters.snapshot()
    }

    /// The domain of the leases.
    #[must_use]
    pub fn domain(&self) -> &LeaseDomain {
        self.shared.client.backend.domain()
    }

    /// The backend itself.
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn LockBackend> {
        &self.shared.client.backend
    }

    /// Ends this manager and its clones: waiters, and all later calls, get `ShutDown`; holders of a lease
    /// have `grace` to release it. The leases that are left then are lost with
    /// [`LostReason::ShutDown`](crate::LostReason::ShutDown). Returns their number, once releases in
    /// progress are answered or another `grace` is over. Call it before the runtime ends, because without
    /// one a remote lease can only expire.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use memory_lock::{InProcessLock, LockManager};
    /// use std::time::Duration;
    ///
    /// use memory_lock::{LockErrorKind, LockKey, LockOptions};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let locks = LockManager::new(Arc::new(InProcessLock::default()));
    /// let (key, options) = (LockKey::new("case-17")?, LockOptions::default());
    /// locks.lock(&key, &options).await?.release().await;
    /// assert_eq!(locks.shutdown(Duration::from_secs(5)).await, 0, "leases were lost");
    /// let refused = locks.lock(&key, &options).await.unwrap_err();
    /// assert!(matches!(refused.kind(), LockErrorKind::ShutDown));
    /// # Ok(()) }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, the manager is closed, and held leases are left alone.
    pub async fn shutdown(&self, grace: Duration) -> usize {
        self.shared.close();
        self.until_idle(after(Instant::now(), grace)).await;
        let lost = self.shared.refresher.lose_all();
        if lost > 0 {
            self.until_idle(after(Instant::now(), grace)).await;
        }
        lost
    }

    /// Ends one lease of this manager from outside the code that holds it, which may block its thread or no
    /// longer be polled: that code finds the lease lost with
    /// [`LostReason::ShutDown`](crate::LostReason::ShutDown), and a store that checks tokens refuses its
    /// later writes. Waits for the backend's answer for at most 2 s; `NotOwner` if the lease was released
    /// before.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, the release continues in the background.
    pub async fn revoke(&self, scope: &LeaseScope) -> ReleaseOutcome {
        let hold = scope.hold();
        self.shared.refresher.unregister(hold.owner());
        hold.lose(LostReason::ShutDown);
        let Some(claim) = hold.end() else { return ReleaseOutcome::NotOwner };
        Finish::new(&self.shared.client, give_up(claim.into_give_up())).await
    }

    /// Waits until no release is in progress for callers that did not wait for it, at most for this time;
    /// returns whether none is left. Call it before a runtime ends, so that no lease has to expire.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only reads.
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

    /// Waits until nothing is held and no release is in progress.
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
