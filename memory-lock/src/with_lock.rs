//! Work that runs under a lease, and its error when the lease was lost.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use memory_core::lease::FencingToken;
use thiserror::Error;

use crate::error::LockError;
use crate::give_up::ReleaseOutcome;
use crate::guard::LockGuard;
use crate::hold::Hold;
use crate::key::LockKey;
use crate::lost::LostReason;
use crate::scope::LeaseScope;
use crate::shared::Shared;

/// The reason why [`LockManager::with_lock_refresh`](crate::LockManager::with_lock_refresh) cannot
/// guarantee that its operation was protected. It is an error regardless of the operation's output; `Debug`
/// shows whether there is an output, not the output.
///
/// `?` into `anyhow::Error` or `Box<dyn Error + Send + Sync>` requires `T: Send + Sync + 'static`, as those
/// types do; [`without_output`](Self::without_output) helps if `T` is not.
///
/// The enum is exhaustive on purpose: a caller decides for each of the two outcomes, without a wildcard arm that
/// would give a later one a wrong meaning.
#[derive(Error)]
pub enum WithLockError<T> {
    /// The lease was not acquired; the operation was never started.
    #[error("the protected operation was not begun")]
    Acquire(#[source] LockError),
    /// The lease was lost before the operation ended: others may have worked at the same time. A store that
    /// checks tokens refuses its writes in flight.
    #[error("the lease of `{key}` was lost: {reason}; check what was done, then start over")]
    Lost {
        /// The key of the lease.
        key: LockKey,
        /// The reason of the loss.
        reason: LostReason,
        /// The token under which the operation worked.
        fence: FencingToken,
        /// The time for which the lease was held, or believed to be held.
        held_for: Duration,
        /// The operation's output, if it completed: its side effects did happen. `None`: it was dropped at
        /// an await point.
        output: Option<T>,
    },
}

impl<T> WithLockError<T> {
    /// The same error without the operation's output.
    #[must_use]
    pub fn without_output(self) -> WithLockError<()> {
        match self {
            Self::Acquire(error) => WithLockError::Acquire(error),
            Self::Lost { key, reason, fence, held_for, output } => {
                let output = output.map(|_| ());
                WithLockError::Lost { key, reason, fence, held_for, output }
            }
        }
    }
}

impl<T> fmt::Debug for WithLockError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acquire(error) => f.debug_tuple("Acquire").field(error).finish(),
            Self::Lost { key, reason, fence, held_for, output } => f
                .debug_struct("Lost")
                .field("key", key)
                .field("reason", reason)
                .field("fence", fence)
                .field("held_for", held_for)
                .field("has_output", &output.is_some())
                .finish(),
        }
    }
}

tokio::task_local! {
    /// The leases under which the code that is being polled runs, the newest first.
    static RUNS_UNDER: Arc<Frame>;
}

struct Frame {
    hold: Arc<Hold>,
    outer: Option<Arc<Self>>,
}

/// Returns whether the caller runs in an operation under the lease of this key, which is still held: it
/// would wait for itself. A task that the operation has spawned does not run in it.
pub(crate) fn runs_under(shared: &Shared, key: &LockKey) -> bool {
    let domain = shared.client.backend.domain();
    let innermost = RUNS_UNDER.try_with(Arc::clone).ok();
    let mut frames = std::iter::successors(innermost.as_deref(), |frame| frame.outer.as_deref());
    frames.any(|Frame { hold, .. }| {
        hold.key() == key
            && hold.shared().client.backend.domain() == domain
            && hold.ensure_held().is_ok()
    })
}

impl<T> WithLockError<T> {
    /// Returns whether the same call may succeed when it is made again unchanged. It may not once a lease
    /// was lost: first check the effects of the operation.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Acquire(error) => error.is_retryable(),
            Self::Lost { .. } => false,
        }
    }
}

/// Runs `operation` under the lease.
pub(crate) async fn run<T, F, Fut>(guard: LockGuard, operation: F) -> Result<T, WithLockError<T>>
where
    F: FnOnce(LeaseScope) -> Fut,
    Fut: Future<Output = T>,
{
    let ended = {
        let outer = RUNS_UNDER.try_with(Arc::clone).ok();
        let frame = Arc::new(Frame { hold: Arc::clone(guard.hold()), outer });
        // The code before the first await of the operation also runs under the lease.
        let operation = RUNS_UNDER.sync_scope(Arc::clone(&frame), || operation(guard.scope()));
        let mut operation = pin!(RUNS_UNDER.scope(frame, operation));
        let mut lost = pin!(guard.lost());
        tokio::select! {
            biased;
            reason = &mut lost => Err(reason),
            output = &mut operation => Ok(output),
        }
    };
    let key = guard.key().clone();
    let fence = guard.fence();
    let held_for = guard.hold().held_for();
    let lost = |reason, output| WithLockError::Lost { key, reason, fence, held_for, output };
    let output = match ended {
        Ok(output) => output,
        Err(reason) => {
            // The caller gets the loss at once; the release is sent nevertheless.
            drop(guard);
            return Err(lost(reason, None));
        }
    };
    let late = guard.ensure_held().err().map(|lost| lost.reason);
    let shared = Arc::clone(guard.hold().shared());
    match (guard.release().await, late) {
        (ReleaseOutcome::Released, late) => {
            if late.is_some() {
                shared.client.counters.late_but_held.one();
            }
            Ok(output)
        }
        // It ended inside its lease, regardless of whether the release arrived.
        (ReleaseOutcome::Unknown, None) => Ok(output),
        (ReleaseOutcome::NotOwner, None) => Err(lost(LostReason::Stolen, Some(output))),
        (_, Some(reason)) => Err(lost(reason, Some(output))),
    }
}
