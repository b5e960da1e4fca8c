//! Flushes: bringing a memory back under its budget while others append.

mod algorithm;
mod background;
mod close_call;
mod due;
pub(crate) mod failures;
mod run;
mod timer;

use memory_core::store::FlushReceipt;

use self::algorithm::Trigger;
use self::background::spawn;
pub(crate) use self::background::{after, when_due};
use self::run::carried;
use crate::error::MemoryError;
use crate::instance::MemoryInstance;
use crate::lifecycle::Activity;

impl MemoryInstance {
    /// Flushes now, down to the target, whatever the threshold is, and returns when the flush is done.
    ///
    /// One flush of a memory runs at a time, in all processes. A second one waits in line for at most the
    /// resource's `lock.wait_timeout`. Appends continue meanwhile, and their messages are kept.
    ///
    /// Returns the receipt: which messages were evicted, summarized and kept, and the reason if the flush missed
    /// its target. Returns `None` if there was nothing to do. After an [`undo_flush`](Self::undo_flush) it also allows
    /// automatic flushes again; that is recorded by a receipt even if no message had to be removed.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use memory_instance::{FlushMode, MemoryManager, MemoryResource, Message};
    ///
    /// let manager = MemoryManager::builder()
    ///     .with_resource(MemoryResource::new("support", 500))
    ///     .with_flush_mode(FlushMode::Manual)
    ///     .open("memory://")
    ///     .await?;
    /// let memory = manager.memory("support", "case-4711")?;
    /// for number in 0..100 {
    ///     memory.append(Message::user(format!("Question {number} about the parcel"))).await?;
    /// }
    /// let receipt = memory.perform_flush().await?.ok_or("nothing to flush")?;
    /// assert!(receipt.tokens_after < receipt.tokens_before);
    /// assert_eq!(memory.receipts().await?, [receipt]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError`]. A failing summarizer is no error: the rule-based one takes its place, and the receipt
    /// reports that. [`MemoryError::Panicked`] if a strategy, token counter or store panics;
    /// [`MemoryError::ShutDown`] after [`shutdown`](crate::MemoryManager::shutdown).
    ///
    /// # Cancel safety
    /// Dropping the future leaves the memory flushed or not, and releases the lease at once. A future that is kept
    /// without being polled blocks no other flush: after half a second a task continues its flush.
    #[doc(alias = "performFlushAsync")]
    #[tracing::instrument(level = "debug", skip_all, fields(memory = %self.resource().id))]
    pub async fn perform_flush(&self) -> Result<Option<FlushReceipt>, MemoryError> {
        self.writable("flush")?;
        self.inner.not_in_own_turn("flush")?;
        let underway = self.inner.begin(Activity::Flush, "flush")?;
        carried(&self.inner, Trigger::Explicit, underway).await
    }

    /// Starts a flush in a separate task if one is due and none runs in this instance. See
    /// [`receipts`](Self::receipts) and [`health`](Self::health) for its result.
    ///
    /// # Errors
    /// [`MemoryError::ReadOnly`]; [`MemoryError::Store`]; [`MemoryError::ShutDown`].
    ///
    /// # Cancel safety
    /// Dropping the future before it completes starts no flush.
    pub async fn flush_in_background(&self) -> Result<(), MemoryError> {
        self.writable("flush")?;
        // Before the request to the store: a call that came before a shutdown counts as under way.
        let underway = self.inner.begin(Activity::Flush, "flush")?;
        if self.inner.is_due(&self.inner.head().await?) {
            spawn(&self.inner, underway);
        } else {
            underway.ended();
        }
        Ok(())
    }
}
