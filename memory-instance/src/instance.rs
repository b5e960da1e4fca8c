//! A handle to one memory.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use memory_config::Mode;
use memory_core::store::{Counters, Cursor, FlushReceipt, Head, Page};
use memory_core::{MemoryKey, MemoryResource, Message, StoredMessage};
use tokio::time::Instant;

use crate::error::MemoryError;
use crate::inner::Inner;
use crate::telemetry::{Operation, note, operation};

/// A handle to one memory. Clones are cheap and share all state. Any number of tasks may use them at once, and any
/// number of processes may have handles to the same memory.
///
/// An idle instance has no task, timer or connection. Call its methods within a tokio runtime with time
/// enabled; outside of one, tokio panics.
#[derive(Clone)]
#[doc(alias = "AsyncSafeMemoryInstance")]
pub struct MemoryInstance {
    pub(crate) inner: Arc<Inner>,
    pub(crate) mode: Mode,
}

impl MemoryInstance {
    /// The storage key.
    #[must_use]
    pub fn key(&self) -> &MemoryKey {
        &self.inner.key
    }

    /// The resource.
    #[must_use]
    pub fn resource(&self) -> &MemoryResource {
        &self.inner.rules.resource
    }

    /// The access mode of this handle.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// A read-only handle to the same memory.
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
    /// memory.append(Message::user("Where is my parcel?")).await?;
    /// let reader = memory.read_only();
    /// assert_eq!(reader.len().await?, 1);
    /// let refused = reader.append(Message::user("Hello?")).await;
    /// assert!(matches!(refused, Err(MemoryError::ReadOnly { .. })));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn read_only(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), mode: Mode::ReadOnly }
    }

    /// All messages, in order, from one snapshot.
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
    /// memory.append_all([Message::user("Hello"), Message::assistant("Good morning")]).await?;
    /// let messages = memory.messages().await?;
    /// let texts: Vec<_> = messages.iter().map(|stored| stored.message.text()).collect();
    /// assert_eq!(texts, ["Hello", "Good morning"]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn messages(&self) -> Result<Vec<StoredMessage>, MemoryError> {
        Ok(self.page(None, None).await?.messages)
    }

    /// At most `limit` messages after a cursor, from one snapshot. The cost depends on the page, not on the memory.
    ///
    /// A reader that passes the page's cursor to the next call reads only newer messages. After a flush or a clear,
    /// and if the store returned to a state in which the cursor's message is missing or is another one, the page
    /// begins at the start again and [`Page::restarted`] is true. Discard the pages that were read before then.
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
    /// memory.append(Message::user("Where is my parcel?")).await?;
    /// let first = memory.page(None, None).await?;
    /// assert_eq!(first.messages.len(), 1);
    /// memory.append(Message::assistant("In Oslo")).await?;
    /// // Only the messages that were appended since.
    /// let next = memory.page(Some(first.cursor), None).await?;
    /// assert!(!next.restarted && !next.more);
    /// assert_eq!(next.messages[0].message.text(), "In Oslo");
    /// # Ok(()) }
    /// ```
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
        let work = async {
            let started = Instant::now();
            let page = self.inner.page(after, limit).await.map_err(MemoryError::from);
            self.inner.rules.telemetry.ended(Operation::Read, started, &page);
            note(|totals| {
                totals.messages += page.as_ref().map_or(0, |it| it.messages.len() as u64);
            });
            page
        };
        operation!(&*self.inner, "page", work).await
    }

    /// The newest `n` messages, in order, from one snapshot; all messages if there are fewer. The cost depends on
    /// `n`, not on the memory. A message that cannot be decoded is skipped.
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
    /// memory.append_all([Message::user("Hello"), Message::assistant("Good morning")]).await?;
    /// let newest = memory.last(1).await?;
    /// assert_eq!(newest[0].message.text(), "Good morning");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    #[doc(alias = "tail")]
    pub async fn last(&self, n: usize) -> Result<Vec<StoredMessage>, MemoryError> {
        let Some(limit) = NonZeroUsize::new(n) else { return Ok(Vec::new()) };
        Ok(self.page_before(None, limit).await?.messages)
    }

    /// At most `limit` messages before a cursor, in order, from one snapshot; without a cursor, the newest. The cost
    /// depends on the page, not on the memory.
    ///
    /// A reader that passes the page's cursor to the next call pages backward, and is done when [`Page::more`] is
    /// false. After a flush or a clear, and if the store returned to a state in which the cursor's message is missing
    /// or is another one, the page has the newest messages and [`Page::restarted`] is true. Discard the pages that
    /// were read before then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use std::num::NonZeroUsize;
    ///
    /// use memory_instance::Message;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// memory.append_all(["one", "two", "three"].map(Message::user)).await?;
    /// let two = NonZeroUsize::new(2).ok_or("0")?;
    /// let newest = memory.page_before(None, two).await?;
    /// assert_eq!(newest.messages[0].message.text(), "two");
    /// assert!(newest.more);
    /// let older = memory.page_before(Some(newest.cursor), two).await?;
    /// assert_eq!(older.messages[0].message.text(), "one");
    /// assert!(!older.more && !older.restarted);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn page_before(
        &self,
        before: Option<Cursor>,
        limit: NonZeroUsize,
    ) -> Result<Page, MemoryError> {
        let work = async {
            let started = Instant::now();
            let page = self.inner.page_before(before, limit).await.map_err(MemoryError::from);
            self.inner.rules.telemetry.ended(Operation::Read, started, &page);
            note(|totals| {
                totals.messages += page.as_ref().map_or(0, |it| it.messages.len() as u64);
            });
            page
        };
        operation!(&*self.inner, "page_before", work).await
    }

    /// The number of tokens of a message, by the resource's counter. Nothing is stored.
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
    /// let message = Message::user("Where is my parcel?");
    /// let tokens = memory.count(&message);
    /// memory.append(message).await?;
    /// assert_eq!(memory.token_count().await?, tokens);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn count(&self, message: &Message) -> u64 {
        self.inner.rules.count(message)
    }

    /// The number of messages.
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn len(&self) -> Result<u64, MemoryError> {
        Ok(self.counters().await?.present.messages)
    }

    /// Whether the memory has no messages.
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn is_empty(&self) -> Result<bool, MemoryError> {
        Ok(self.len().await? == 0)
    }

    /// The number of tokens of all messages.
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    #[doc(alias = "GetTokenCount")]
    pub async fn token_count(&self) -> Result<u64, MemoryError> {
        Ok(self.counters().await?.present.tokens)
    }

    /// Counts of the present messages, and of all that were ever appended by outcome.
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
    /// memory.append_all([Message::user("Hello"), Message::assistant("Good morning")]).await?;
    /// memory.clear().await?;
    /// memory.append(Message::user("Where is my parcel?")).await?;
    /// let counters = memory.counters().await?;
    /// assert_eq!((counters.appended, counters.cleared, counters.present.messages), (3, 2, 1));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn counters(&self) -> Result<Counters, MemoryError> {
        let work = async {
            let started = Instant::now();
            let head = self.inner.head().await.map_err(MemoryError::from);
            self.inner.rules.telemetry.ended(Operation::Stats, started, &head);
            let tokens = |head: &Head| head.counters.present.tokens;
            note(|totals| totals.tokens = head.as_ref().map(tokens).ok());
            Ok(head?.counters)
        };
        operation!(&*self.inner, "counters", work).await
    }

    /// The receipts of the last flushes, newest first.
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn receipts(&self) -> Result<Vec<FlushReceipt>, MemoryError> {
        let work = async { Ok(self.inner.store().receipts(&self.inner.key).await?) };
        operation!(&*self.inner, "receipts", work).await
    }

    /// Refuses a write through a read-only handle.
    pub(crate) fn writable(&self, operation: &'static str) -> Result<(), MemoryError> {
        match self.mode {
            Mode::ReadWrite => Ok(()),
            Mode::ReadOnly => Err(MemoryError::ReadOnly { operation, key: self.inner.key.clone() }),
        }
    }
}

impl fmt::Debug for MemoryInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryInstance")
            .field("key", &self.inner.key)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}
