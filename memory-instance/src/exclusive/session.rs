//! The session of an exclusive turn: reads and writes under its lease.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use memory_core::lease::FencingToken;
use memory_core::store::{Appended, Cleared, Counters, Cursor, Page};
use memory_core::{Entry, StoredMessage, WindowOptions};
use memory_lock::{LeaseScope, LostReason};

use super::turn::Turn;
use crate::error::MemoryError;
use crate::instance::MemoryInstance;
use crate::prepared::PreparedAppend;
use crate::telemetry::operation;
use crate::window::ContextWindow;

/// A memory under its lease. Other handles can read it; their writes wait in line.
///
/// The store checks the lease's fencing token at every write. If the lease expired meanwhile, because the process
/// was suspended or the turn took too long, the write is refused and changes nothing.
#[derive(Clone)]
pub struct Session {
    pub(crate) memory: MemoryInstance,
    pub(crate) scope: LeaseScope,
    pub(super) turn: Arc<Turn>,
}

impl Session {
    /// Appends a message under the lease.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use memory_instance::{MemoryError, Message};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// let turn = memory.exclusive(|session| async move {
    ///     session.append(Message::user("Is my refund granted?")).await?;
    ///     // No other writer can append between the question and the answer.
    ///     session.append(Message::assistant("It is.")).await?;
    ///     Ok::<_, MemoryError>(session.fence())
    /// });
    /// turn.await??;
    /// assert_eq!(memory.len().await?, 2);
    /// # Ok(()) }
    /// ```
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
        let work = async {
            self.still_on("append to")?;
            let batch = self.memory.inner.prepare_messages(entries)?;
            let appended =
                self.memory.append_prepared(batch, None, Some(self.scope.proof())).await?;
            self.note(&appended);
            Ok(appended)
        };
        operation!(&*self.memory.inner, "append_all", work).await
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
        let work = async {
            self.still_on("append to")?;
            let sent = self.memory.send_as_is(prepared, Some(self.scope.proof())).await;
            let appended = sent.map_err(MemoryError::with_earlier_sends)?;
            self.note(&appended);
            Ok(appended)
        };
        operation!(&*self.memory.inner, "send", work).await
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
    pub async fn clear(&self) -> Result<Cleared, MemoryError> {
        let work = async {
            self.still_on("clear")?;
            let inner = &self.memory.inner;
            inner.clear_measured(Some(self.scope.proof()), inner.rules.archive, None).await
        };
        operation!(&*self.memory.inner, "clear", work).await
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

    /// The newest `n` messages, as [`MemoryInstance::last`].
    ///
    /// # Errors
    /// As [`MemoryInstance::last`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn last(&self, n: usize) -> Result<Vec<StoredMessage>, MemoryError> {
        self.memory.last(n).await
    }

    /// A page backward, as [`MemoryInstance::page_before`].
    ///
    /// # Errors
    /// As [`MemoryInstance::page_before`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn page_before(
        &self,
        before: Option<Cursor>,
        limit: NonZeroUsize,
    ) -> Result<Page, MemoryError> {
        self.memory.page_before(before, limit).await
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
