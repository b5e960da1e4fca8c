//! Searching a memory.

use std::borrow::Cow;

use memory_config::Mode;
use memory_core::store::{Indexing, SearchQuery, SearchResults};

use crate::error::MemoryError;
use crate::instance::MemoryInstance;
use crate::telemetry::operation;

impl MemoryInstance {
    /// Searches the texts of all messages, present and archived, for words and phrases.
    ///
    /// Each message that was acknowledged before the call is looked at, unless the memory is long: the
    /// [coverage](SearchResults::coverage) of the result says from which place on the search looked, and
    /// [`SearchQuery::before`] continues it. A SQLite file has an index, which is brought up to date by the search, not by appends. Other
    /// stores read the newest 10,000 messages, or 8 MiB of text, per call. A read-only handle writes no index: it scans the
    /// messages that are not in it.
    ///
    /// Messages are found as they are stored: a text that was redacted before it was stored is not found.
    ///
    /// # Examples
    ///
    /// ```
    /// use memory_instance::{MemoryManager, MemoryResource, Message, SearchQuery};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 4_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// memory.append(Message::user("My ferry to Texel was canceled.")).await?;
    /// memory.append(Message::assistant("I refunded the ticket.")).await?;
    ///
    /// let results = memory.search(&SearchQuery::new("ferry cancel*")).await?;
    /// let hit = &results.hits[0];
    /// assert_eq!(hit.snippet.text, "My ferry to Texel was canceled.");
    /// assert_eq!(&hit.snippet.text[hit.snippet.matches[0].clone()], "ferry");
    /// assert_eq!(results.coverage.next(), None, "all messages were looked at");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Store`]: a query without a word, or one that is too long, is
    /// [`Invalid`](memory_core::store::StoreErrorKind::Invalid).
    ///
    /// # Cancel safety
    /// A search changes no message. An index may have been brought up to date in part; the next search continues.
    pub async fn search(&self, query: &SearchQuery) -> Result<SearchResults, MemoryError> {
        let work = async {
            let mut query = Cow::Borrowed(query);
            if self.mode == Mode::ReadOnly {
                query.to_mut().indexing = Indexing::Forbidden;
            }
            Ok(self.inner.store().search(&self.inner.key, &query).await?)
        };
        operation!(&*self.inner, "search", work).await
    }

    /// Builds the index of the memory anew, such as after a file was damaged; returns the number of places in it, or `None`
    /// if the store has no index.
    ///
    /// # Errors
    /// [`MemoryError::Store`]; [`MemoryError::ReadOnly`] from a read-only handle.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a part of the index; the next search completes it.
    pub async fn rebuild_index(&self) -> Result<Option<u64>, MemoryError> {
        let work = async {
            self.writable("rebuild the index")?;
            Ok(self.inner.store().rebuild_index(&self.inner.key).await?)
        };
        operation!(&*self.inner, "rebuild_index", work).await
    }
}
