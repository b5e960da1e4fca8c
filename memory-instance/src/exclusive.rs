//! Exclusive turns: read, decide and write without writes of others in between.

mod error;
mod session;
mod turn;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use memory_core::ErrorCode;
use memory_lock::{LeaseScope, LostReason, WithLockError};
use tokio::time::Instant;

pub use self::error::ExclusiveError;
pub use self::session::Session;
use self::turn::{EndOnDrop, HeldSince, Turn};
use crate::error::MemoryError;
use crate::flush;
use crate::instance::MemoryInstance;
use crate::lifecycle::Activity;
use crate::telemetry::{Operation, WaitSpan, operation};
use crate::write::ClaimFence;

impl MemoryInstance {
    /// Runs a read-modify-write turn under the lease on the memory. The lease is refreshed until the turn ends.
    /// Appends of others wait in line meanwhile.
    ///
    /// Turns are not reentrant: within the turn write through the session. A write through another handle to the
    /// same memory would wait for the turn to end, and is refused with [`MemoryError::OwnTurn`]. A task that the
    /// turn has spawned may wait for the turn's end, and a turn on another memory may be nested in it.
    ///
    /// A turn that lasts longer than the resource's `lock.max_turn` (default: 60 s) loses its lease with
    /// [`LostReason::MaxHold`]. The turn is dropped at its next await point, and waiting writers continue.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource, Message};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// let grant_once = || {
    ///     memory.exclusive(|session| async move {
    ///         let window = session.context(4_000).await?;
    ///         if window.messages.iter().any(|message| message.text().contains("refund granted")) {
    ///             return Ok(false);
    ///         }
    ///         session.append(Message::assistant("refund granted")).await?;
    ///         Ok::<_, memory_instance::MemoryError>(true)
    ///     })
    /// };
    /// let (first, second) = tokio::join!(grant_once(), grant_once());
    /// assert!(first?? != second??, "exactly one of them grants it");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ExclusiveError::Begin`] if the turn did not start, for example because the manager
    /// [shut down](crate::MemoryManager::shutdown); [`ExclusiveError::Lost`] if the lease was lost before the
    /// turn ended.
    ///
    /// # Cancel safety
    /// Dropping the future drops the turn at its current await point and releases the lease at once. The turn's
    /// completed appends remain.
    pub async fn exclusive<T, F, Fut>(&self, turn: F) -> Result<T, ExclusiveError<T>>
    where
        F: FnOnce(Session) -> Fut,
        Fut: Future<Output = T>,
    {
        let work = async {
            let inner = &self.inner;
            self.writable("work on")
                .and_then(|()| inner.not_in_own_turn("work on").map_err(MemoryError::from))
                .map_err(|error| ExclusiveError::Begin(Box::new(error)))?;
            let (started, state) = (Instant::now(), Arc::<Turn>::default());
            let begin_failed = |error: MemoryError| ExclusiveError::Begin(Box::new(error));
            let underway = inner.begin(Activity::Turn, "work on").map_err(begin_failed)?;
            let wait = WaitSpan::begin();
            let begin = |scope: LeaseScope| async {
                drop(wait);
                inner.rules.telemetry.lock_acquired();
                let held = HeldSince { telemetry: &inner.rules.telemetry, since: Instant::now() };
                if !underway.holds(&scope) {
                    return Err(inner.abandoned("work on"));
                }
                // Raises the store's newest token before the turn reads. Otherwise a late write of the previous
                // holder could be applied between the turn's read and its write.
                let (claim, waits) = (ClaimFence(scope.proof()), inner.rules.lock.wait_timeout());
                inner.write(&claim, Some(scope.proof()), waits).await?;
                let end = EndOnDrop { turn: Arc::clone(&state), scope: scope.clone() };
                let session = Session { memory: self.clone(), scope, turn: Arc::clone(&state) };
                let output = turn(session).await;
                drop((end, held));
                Ok::<_, MemoryError>(output)
            };
            // Boxed: turns are rare, and the future of the caller should not grow by the size of this one.
            let locks = &inner.backend.locks;
            let done = Box::pin(locks.with_lock_refresh(&inner.lease, &inner.rules.turn, begin));
            let done = tokio::select! {
                biased;
                done = done => done,
                () = underway.abandoned_in_line() => {
                    return Err(begin_failed(inner.abandoned("work on")));
                }
            };
            if !matches!(&done, Err(WithLockError::Lost { reason: LostReason::ShutDown, .. })) {
                underway.ended();
            }
            inner.backend.publish_refreshes();
            let telemetry = &inner.rules.telemetry;
            match &done {
                Ok(Ok(_)) => telemetry.took(Operation::Exclusive, started.elapsed()),
                Ok(Err(error)) | Err(WithLockError::Lost { output: Some(Err(error)), .. }) => {
                    telemetry.failed(Operation::Exclusive, error.code());
                }
                Err(WithLockError::Acquire(error)) => {
                    telemetry.failed(Operation::Exclusive, error.kind().code());
                }
                Err(WithLockError::Lost { .. }) => {
                    telemetry.failed(Operation::Exclusive, ErrorCode::Conflict);
                }
            }
            match done {
                Ok(Ok(output)) => {
                    // A flush commits only while no other process holds the lease, so it waits for the turn's end.
                    if state.due.load(Ordering::Relaxed) {
                        Box::pin(flush::when_due(inner)).await;
                    }
                    Ok(output)
                }
                Ok(Err(error)) => Err(begin_failed(error)),
                Err(WithLockError::Acquire(source)) => {
                    Err(begin_failed(inner.lock_error(source).into()))
                }
                Err(WithLockError::Lost { reason, fence, output, .. }) => match output {
                    Some(Err(error)) => Err(begin_failed(error)),
                    Some(Ok(output)) => {
                        Err(ExclusiveError::Lost { reason, fence, output: Some(output) })
                    }
                    None => Err(ExclusiveError::Lost { reason, fence, output: None }),
                },
            }
        };
        operation!(&*self.inner, "exclusive", work).await
    }
}
