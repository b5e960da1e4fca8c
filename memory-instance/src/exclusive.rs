//! Exclusive turns: read, decide and write without writes of others in between.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use memory_core::lease::FencingToken;
use memory_core::store::{Appended, Counters, Cursor, Page};
use memory_core::{Entry, StoredMessage, WindowOptions};
use memory_lock::{LeaseScope, LostReason, WithLockError};
use tokio::time::Instant;

use crate::error::MemoryError;
use crate::flush;
use crate::instance::MemoryInstance;
use crate::lifecycle::Activity;
use crate::prepared::PreparedAppend;
use crate::telemetry::Telemetry;
use crate::window::ContextWindow;
use crate::write::Write;

/// A memory under its lease. Other handles can read it; their writes wait in line.
///
/// The store checks the lease's fencing token at every write. If the lease expired meanwhile, because the process
/// was suspended or the turn took too long, the write is refused and changes nothing.
#[derive(Clone)]
pub struct Session {
    pub(crate) memory: MemoryInstance,
    pub(crate) scope: LeaseScope,
    turn: Arc<Turn>,
}

/// State that a turn and its session share.
#[derive(Debug, Default)]
struct Turn {
    /// An append of the turn made a flush due.
    due: AtomicBool,
    /// The turn has ended, so the session no longer has its lease.
    ended: AtomicBool,
}

/// Ends the turn, also if it panics or its caller drops it. A turn that lost its lease is not ended here: the
/// store refuses its remaining writes.
struct EndOnDrop {
    turn: Arc<Turn>,
    scope: LeaseScope,
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if self.scope.ensure_held().is_ok() {
            self.turn.ended.store(true, Ordering::Release);
        }
    }
}

/// Measures how long a lease is held, on every exit path of the turn.
struct HeldSince<'a> {
    telemetry: &'a Telemetry,
    since: Instant,
}

impl Drop for HeldSince<'_> {
    fn drop(&mut self) {
        self.telemetry.lock_held(self.since.elapsed());
    }
}

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
    /// ```no_run
    /// # async fn example(memory: memory_instance::MemoryInstance) -> Result<(), Box<dyn std::error::Error>> {
    /// use memory_core::Message;
    ///
    /// let answered = memory
    ///     .exclusive(|session| async move {
    ///         let window = session.context(4_000).await?;
    ///         if window.messages.iter().any(|message| message.text().contains("refund granted")) {
    ///             return Ok(false);
    ///         }
    ///         session.append(Message::assistant("refund granted")).await?;
    ///         Ok::<_, memory_instance::MemoryError>(true)
    ///     })
    ///     .await??;
    /// # let _ = answered; Ok(()) }
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
    #[tracing::instrument(level = "debug", skip_all, fields(memory = %self.resource().id))]
    pub async fn exclusive<T, F, Fut>(&self, turn: F) -> Result<T, ExclusiveError<T>>
    where
        F: FnOnce(Session) -> Fut,
        Fut: Future<Output = T>,
    {
        let inner = &self.inner;
        self.writable("work on")
            .and_then(|()| inner.not_in_own_turn("work on"))
            .map_err(|error| ExclusiveError::Begin(Box::new(error)))?;
        let state = Arc::<Turn>::default();
        let begin_failed = |error: MemoryError| ExclusiveError::Begin(Box::new(error));
        let underway = inner.begin(Activity::Turn, "work on").map_err(begin_failed)?;
        let begin = |scope: LeaseScope| async {
            inner.rules.telemetry.lock_acquired();
            let held = HeldSince { telemetry: &inner.rules.telemetry, since: Instant::now() };
            if !underway.holds(&scope) {
                return Err(inner.abandoned("work on"));
            }
            // Raises the store's newest token before the turn reads. Otherwise a late write of the previous
            // holder could be applied between the turn's read and its write.
            inner.write(Write::Claim, Some(scope.proof())).await?;
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
        match done {
            Ok(Ok(output)) => {
                // A flush commits only while no other process holds the lease, so it waits for the turn's end.
                if state.due.load(Ordering::Relaxed) {
                    Box::pin(flush::when_due(inner)).await;
                }
                Ok(output)
            }
            Ok(Err(error)) => Err(begin_failed(error)),
            Err(WithLockError::Acquire(source)) => Err(begin_failed(inner.lock_error(source))),
            Err(WithLockError::Lost { reason, fence, output, .. }) => match output {
                Some(Err(error)) => Err(begin_failed(error)),
                Some(Ok(output)) => {
                    Err(ExclusiveError::Lost { reason, fence, output: Some(output) })
                }
                None => Err(ExclusiveError::Lost { reason, fence, output: None }),
            },
            Err(_) => Err(begin_failed(inner.contended("work on"))),
        }
    }
}

impl Session {
    /// Appends a message under the lease.
    ///
    /// # Errors
    /// As [`MemoryInstance::append`]; [`MemoryError::is_fenced`] if the lease is lost. Use [`send`](Self::send) to
    /// send a batch again.
    ///
    /// # Cancel safety
    /// As [`MemoryInstance::append`].
    pub async fn append(&self, entry: impl Into<Entry>) -> Result<Appended, MemoryError> {
        self.append_all([entry.into()]).await
    }

    /// Appends a batch under the lease.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    ///
    /// # Cancel safety
    /// As [`append`](Self::append).
    pub async fn append_all<E: Into<Entry>>(
        &self,
        entries: impl IntoIterator<Item = E>,
    ) -> Result<Appended, MemoryError> {
        self.still_on("append to")?;
        let appended = self.memory.append_under(entries, Some(self.scope.proof())).await?;
        self.note(&appended);
        Ok(appended)
    }

    /// Sends a batch under the lease, or sends it again. Within a turn [`MemoryInstance::send`] would wait for the
    /// turn to end.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    ///
    /// # Cancel safety
    /// As [`MemoryInstance::send`].
    pub async fn send(&self, prepared: &PreparedAppend) -> Result<Appended, MemoryError> {
        self.still_on("append to")?;
        let sent = self.memory.send_as_is(prepared, Some(self.scope.proof())).await;
        let appended = sent.map_err(MemoryError::with_earlier_sends)?;
        self.note(&appended);
        Ok(appended)
    }

    /// Notes a flush that an append made due. It starts when the turn has ended.
    pub(crate) fn note(&self, appended: &Appended) {
        if self.memory.inner.finds_due(appended) {
            self.turn.due.store(true, Ordering::Relaxed);
        }
    }

    /// Notes a due flush after a message was replaced, which removes the mark of the last flush.
    pub(crate) fn note_counters(&self, counters: &Counters) {
        if self.memory.inner.are_due(counters, None) {
            self.turn.due.store(true, Ordering::Relaxed);
        }
    }

    /// Clears the memory under the lease.
    ///
    /// # Errors
    /// As [`MemoryInstance::clear`]; [`MemoryError::is_fenced`] if the lease is lost.
    ///
    /// # Cancel safety
    /// As [`MemoryInstance::clear`].
    pub async fn clear(&self) -> Result<Counters, MemoryError> {
        self.still_on("clear")?;
        self.memory.inner.clear(Some(self.scope.proof())).await
    }

    /// As [`MemoryInstance::messages`].
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn messages(&self) -> Result<Vec<StoredMessage>, MemoryError> {
        self.memory.messages().await
    }

    /// As [`MemoryInstance::page`].
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn page(
        &self,
        after: Option<Cursor>,
        limit: Option<NonZeroUsize>,
    ) -> Result<Page, MemoryError> {
        self.memory.page(after, limit).await
    }

    /// The messages to send to a model, as [`MemoryInstance::context`].
    ///
    /// # Errors
    /// As [`MemoryInstance::context`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn context(&self, budget: u64) -> Result<ContextWindow, MemoryError> {
        self.memory.context(budget).await
    }

    /// The request to send to a model, as [`MemoryInstance::window`].
    ///
    /// # Errors
    /// As [`MemoryInstance::window`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn window(&self, options: &WindowOptions) -> Result<ContextWindow, MemoryError> {
        self.memory.window(options).await
    }

    /// The fencing token of the lease. Pass it to other systems that check fencing tokens.
    #[must_use]
    pub fn fence(&self) -> FencingToken {
        self.scope.fence()
    }

    /// Checks locally, without a request, whether the lease is still held.
    ///
    /// # Errors
    /// [`MemoryError::LeaseLost`]; [`MemoryError::TurnEnded`].
    pub fn ensure_held(&self) -> Result<(), MemoryError> {
        self.still_on("work on")?;
        self.scope.ensure_held().map_err(|lost| MemoryError::LeaseLost {
            key: self.memory.inner.key.clone(),
            reason: lost.reason,
        })
    }

    /// Completes with the reason once the lease is lost.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub fn lost(&self) -> impl Future<Output = LostReason> + Send + use<> {
        self.scope.lost()
    }

    /// Refuses a session that is used after its turn.
    pub(crate) fn still_on(&self, operation: &'static str) -> Result<(), MemoryError> {
        if self.turn.ended.load(Ordering::Acquire) {
            return Err(MemoryError::TurnEnded { operation, key: self.memory.key().clone() });
        }
        // A store whose leases are elsewhere does not know that the shutdown revoked the lease.
        if self.memory.inner.backend.lifecycle.is_abandoning() {
            let (key, reason) = (self.memory.key().clone(), LostReason::ShutDown);
            return Err(MemoryError::LeaseLost { key, reason });
        }
        Ok(())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("key", self.memory.key())
            .field("fence", &self.fence())
            .finish_non_exhaustive()
    }
}

/// A turn that did not start, or that lost its lease. It is an error whatever the turn returned. `Debug` shows
/// only whether there is an output.
///
/// `?` into `anyhow::Error` or `Box<dyn Error + Send + Sync>` needs `T: Send + Sync + 'static`; otherwise use
/// [`without_output`](Self::without_output).
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ExclusiveError<T> {
    /// The turn did not start.
    #[error(transparent)]
    Begin(Box<MemoryError>),
    /// The lease was lost before the turn ended. Other writers may have written meanwhile, and the store refused
    /// the turn's later writes.
    #[error("the lease was lost during the turn ({reason}); read again and start over")]
    Lost {
        /// How the lease was lost.
        reason: LostReason,
        /// The fencing token of the lease.
        fence: FencingToken,
        /// The output of the turn, if it completed. Its side effects did happen.
        output: Option<T>,
    },
}

impl<T> ExclusiveError<T> {
    /// The same error without the output of the turn.
    #[must_use]
    pub fn without_output(self) -> ExclusiveError<()> {
        match self {
            Self::Begin(error) => ExclusiveError::Begin(error),
            Self::Lost { reason, fence, output } => {
                ExclusiveError::Lost { reason, fence, output: output.map(|_| ()) }
            }
        }
    }
}

impl<T> fmt::Debug for ExclusiveError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(error) => f.debug_tuple("Begin").field(error).finish(),
            Self::Lost { reason, fence, output } => f
                .debug_struct("Lost")
                .field("reason", reason)
                .field("fence", fence)
                .field("has_output", &output.is_some())
                .finish(),
        }
    }
}

impl<T> ExclusiveError<T> {
    /// Whether the same turn may succeed when it is repeated unchanged. This is false once the lease was lost:
    /// check first which of the turn's effects were applied.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Begin(error) => error.is_retryable(),
            Self::Lost { .. } => false,
        }
    }
}
