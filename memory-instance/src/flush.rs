//! Flushes: bringing a memory back under its budget while others append.

mod algorithm;
mod background;
mod close_call;
mod due;
pub(crate) mod failures;
mod options;
mod run;
mod timer;

use memory_core::store::FlushReceipt;

use self::background::spawn;
pub(crate) use self::background::{after, when_due};
pub use self::options::FlushOptions;
use self::options::Order;
use self::run::carried;
use crate::error::MemoryError;
use crate::instance::MemoryInstance;
use crate::lifecycle::Activity;
use crate::telemetry::operation;

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
    pub async fn perform_flush(&self) -> Result<Option<FlushReceipt>, MemoryError> {
        let work = async { self.flush_with(&FlushOptions::default()).await };
        operation!(&*self.inner, "perform_flush", work).await
    }

    /// Flushes now as [`perform_flush`](Self::perform_flush) does, with other options. Returns `None` also if the options'
    /// condition does not hold.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use memory_instance::{FlushMode, MemoryManager, MemoryResource, Message};
    /// use memory_instance::FlushOptions;
    ///
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let builder = MemoryManager::builder().with_flush_mode(FlushMode::Manual);
    /// # let manager = builder.with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// # memory.append_all((0..100).map(|at| Message::user(format!("Question {at}")))).await?;
    /// let options = FlushOptions::new().with_strategy("fifo").with_freed_percent(25);
    /// let planned = memory.plan_flush(&options).await?.ok_or("nothing to flush")?;
    /// println!("would evict {} messages", planned.evicted.len());
    /// let receipt = memory.flush(&options).await?.ok_or("nothing to flush")?;
    /// assert_eq!(receipt.evicted, planned.evicted);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`perform_flush`](Self::perform_flush); [`MemoryError::Options`] for an unknown strategy, or a share or percentage
    /// that is out of range.
    ///
    /// # Cancel safety
    /// As [`perform_flush`](Self::perform_flush).
    pub async fn flush(&self, options: &FlushOptions) -> Result<Option<FlushReceipt>, MemoryError> {
        let work = async { self.flush_with(options).await };
        operation!(&*self.inner, "flush", work).await
    }

    async fn flush_with(
        &self,
        options: &FlushOptions,
    ) -> Result<Option<FlushReceipt>, MemoryError> {
        self.writable("flush")?;
        self.inner.not_in_own_turn("flush")?;
        let order = Order::explicit(&self.inner, options)?;
        let underway = self.inner.begin(Activity::Flush, "flush")?;
        carried(&self.inner, order, underway).await
    }

    /// Plans a flush without executing it (a dry run): takes no lease, writes nothing and calls no summarizer. Read-only
    /// handles can do it too.
    ///
    /// The receipt has [`dry_run`](FlushReceipt::dry_run): it names the messages that a flush with these options would
    /// remove and clear, if nothing is written meanwhile. `tokens_after` is an upper bound, with a summary of the maximum
    /// size. If no summary shorter than the messages can be written, a flush evicts the messages to summarize. `None` if
    /// there is nothing to do.
    ///
    /// # Errors
    /// [`MemoryError`]; as [`flush`](Self::flush).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    #[doc(alias = "dry_run")]
    pub async fn plan_flush(
        &self,
        options: &FlushOptions,
    ) -> Result<Option<FlushReceipt>, MemoryError> {
        let work = async {
            let order = Order::explicit(&self.inner, options)?;
            self.inner.dry_run(&order).await
        };
        operation!(&*self.inner, "plan_flush", work).await
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
        let work = async {
            self.writable("flush")?;
            // Before the request to the store: a call that came before a shutdown counts as under way.
            let underway = self.inner.begin(Activity::Flush, "flush")?;
            if self.inner.is_due(&self.inner.head().await?) {
                spawn(&self.inner, underway);
            } else {
                underway.ended();
            }
            Ok(())
        };
        operation!(&*self.inner, "flush_in_background", work).await
    }
}
