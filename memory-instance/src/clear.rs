//! Removal of all messages of a memory.

use memory_core::lease::LeaseProof;
use memory_core::store::{Clear, Counters};

use crate::erase::ForgetView;
use crate::error::MemoryError;
use crate::inner::{Inner, OnHeap};
use crate::instance::MemoryInstance;

impl MemoryInstance {
    /// Removes all messages and receipts. The counters report the removed messages as cleared. If the resource has an
    /// [archive](memory_core::MemoryResource::archive), the messages are kept there; [`purge`](Self::purge) keeps
    /// nothing. Views of this process are dropped at once, those of other processes at their next read.
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
    /// let counters = memory.clear().await?;
    /// assert_eq!(counters.cleared, 1);
    /// assert!(memory.is_empty().await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the memory cleared or not.
    #[tracing::instrument(level = "debug", skip_all, fields(memory = %self.resource().id))]
    pub async fn clear(&self) -> Result<Counters, MemoryError> {
        self.writable("clear")?;
        self.inner.clear(None).await
    }
}

impl Inner {
    pub(crate) async fn clear(&self, lease: Option<LeaseProof>) -> Result<Counters, MemoryError> {
        let cleared = self.clear_once(lease).await;
        if cleared.as_ref().is_err_and(|error| self.needs_newer_writer(error)) {
            return self.clear_again(lease).await;
        }
        cleared
    }

    fn clear_again(&self, lease: Option<LeaseProof>) -> OnHeap<'_, Result<Counters, MemoryError>> {
        Box::pin(self.clear_once(lease))
    }

    async fn clear_once(&self, lease: Option<LeaseProof>) -> Result<Counters, MemoryError> {
        let _forget = ForgetView(&self.backend.views, &self.key);
        let writer = self.take_writer();
        let archive = self.rules.archive;
        let clear = Clear { archive, ..Clear::new(writer.write) };
        let counters = self.write(&clear, lease, self.rules.lock.wait_timeout()).await?;
        self.writers.put_back(writer);
        Ok(counters)
    }
}
