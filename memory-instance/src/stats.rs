//! Statistics of a memory.

use memory_core::stats::{GroupBy, MessageStats, StatsCount};
use memory_core::store::{PageLimit, Read};
use tokio::time::Instant;

use crate::error::MemoryError;
use crate::inner::{ATTEMPTS, Inner};
use crate::instance::MemoryInstance;
use crate::sweep::non_zero;
use crate::telemetry::{Operation, operation};

/// The messages that are read at once. A page also ends with the message by which it has this many bytes.
const PAGE: PageLimit = PageLimit { messages: non_zero(1_000), bytes: 512 << 10 };

impl MemoryInstance {
    /// The number of present messages and of their tokens, in total and by a property.
    ///
    /// By priority, content type and resource, one request reads the counters. By role and by a field of the messages all
    /// messages are read, in pages: memory use does not depend on their number, and appends that come meanwhile may be
    /// counted or not. A memory that was never written has zeros.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use memory_instance::{GroupBy, Message};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// memory.append_all([Message::user("Hello"), Message::assistant("Good morning")]).await?;
    /// let stats = memory.stats(Some(GroupBy::Role)).await?;
    /// assert_eq!(stats.messages, 2);
    /// let names: Vec<_> = stats.groups.iter().map(|group| group.name.as_deref()).collect();
    /// assert_eq!(names, [Some("assistant"), Some("user")]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Store`]; [`MemoryError::Contended`] if messages were removed or replaced during each of eight reads.
    ///
    /// # Cancel safety
    /// Reads have no effect.
    #[doc(alias = "get-stats")]
    pub async fn stats(&self, group_by: Option<GroupBy>) -> Result<MessageStats, MemoryError> {
        let work = async { Ok(self.stats_count(group_by).await?.finish()) };
        operation!(&*self.inner, "stats", work).await
    }

    /// The statistics before they are finished, so that those of several memories can be merged.
    pub(crate) async fn stats_count(
        &self,
        group_by: Option<GroupBy>,
    ) -> Result<StatsCount, MemoryError> {
        let started = Instant::now();
        let count = self.inner.stats(group_by).await;
        self.inner.rules.telemetry.ended(Operation::Stats, started, &count);
        count
    }
}

impl Inner {
    /// The count of the present messages.
    pub(crate) async fn stats(&self, group_by: Option<GroupBy>) -> Result<StatsCount, MemoryError> {
        let resource = &self.rules.resource.id;
        let mut count = StatsCount::new(group_by);
        if !count.needs_messages() {
            count.add_counters(resource, &self.head().await?.counters);
            return Ok(count);
        }
        let empty = count.clone();
        let (mut after, mut attempts) = (None, 1);
        loop {
            // Not from a view: these messages need not be kept.
            let page = self.store().read(&self.key, Read { after, limit: Some(PAGE) }).await?;
            if page.restarted {
                attempts += 1;
                count.clone_from(&empty);
            }
            if attempts > ATTEMPTS {
                return Err(self.contended("count the messages of"));
            }
            page.messages.iter().for_each(|message| count.add(resource, message));
            count.add_unreadable(page.unreadable.len() as u64);
            if !page.more {
                return Ok(count);
            }
            after = Some(page.cursor);
        }
    }
}
