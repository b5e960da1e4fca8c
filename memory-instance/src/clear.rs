//! Removal of all messages of a memory.

use memory_core::lease::LeaseProof;
use memory_core::store::{Clear, Cleared, Retention, Version};
use tokio::time::Instant;

use crate::erase::ForgetView;
use crate::error::MemoryError;
use crate::inner::Inner;
use crate::instance::MemoryInstance;
use crate::telemetry::{Operation, operation};

impl MemoryInstance {
    /// Removes all messages and flush receipts. The counters report the removed messages as cleared. If the resource has an
    /// [archive](memory_core::MemoryResource::archive), the messages are kept there; [`purge`](Self::purge) keeps
    /// nothing. Views of this process are dropped at once, those of other processes at their next read.
    ///
    /// The [receipt](Cleared::receipt) has the time, the number of messages and tokens, and the number of the
    /// [removal](Self::removals) that keeps them. The caller has the only copy. There is none if the answer to a
    /// request was lost and the store recognized the retry.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use memory_instance::Message;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// memory.append(Message::user("Forget me")).await?;
    /// let cleared = memory.clear().await?;
    /// assert_eq!(cleared.counters.cleared, 1);
    /// assert_eq!(cleared.receipt.map(|receipt| receipt.messages), Some(1));
    /// assert!(memory.is_empty().await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the memory cleared or not.
    pub async fn clear(&self) -> Result<Cleared, MemoryError> {
        let work = async {
            self.writable("clear")?;
            self.inner.clear_measured(None, self.inner.rules.archive, None).await
        };
        operation!(&*self.inner, "clear", work).await
    }
}

impl Inner {
    /// [`clear`](Self::clear) as an operation of a caller.
    pub(crate) async fn clear_measured(
        &self,
        lease: Option<LeaseProof>,
        archive: Option<Retention>,
        expected: Option<Version>,
    ) -> Result<Cleared, MemoryError> {
        let started = Instant::now();
        let cleared = self.clear(lease, archive, expected).await;
        self.rules.telemetry.ended(Operation::Clear, started, &cleared);
        cleared
    }

    /// Removes all messages; without an archive, the archive too.
    pub(crate) async fn clear(
        &self,
        lease: Option<LeaseProof>,
        archive: Option<Retention>,
        expected: Option<Version>,
    ) -> Result<Cleared, MemoryError> {
        let _forget = ForgetView(&self.backend.views, &self.key);
        self.write_new(lease, |write| Clear { write, archive, expected }).await
    }
}
