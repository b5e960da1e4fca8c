//! A stream of the changes of a memory.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, stream};
use memory_core::MemoryKey;
use memory_core::changes::Change;
use memory_core::sibling::{ChangeTracker, NeedsComparison};
use memory_core::store::{Cursor, StoreWatch};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::error::MemoryError;
use crate::inner::{ATTEMPTS, Inner};
use crate::instance::MemoryInstance;
use crate::telemetry::operation;

/// The interval after which a watcher reads without a signal: the end of a TTL gives none, and a server can lose one.
const WATCH_READ_INTERVAL: Duration = Duration::from_secs(30);
/// The pause after the first failed read of a watcher.
const FIRST_WATCH_RETRY: Duration = Duration::from_millis(100);
/// The longest pause between failed reads.
const MAX_WATCH_RETRY: Duration = Duration::from_secs(5);

/// Where a watcher begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WatchFrom {
    /// All present messages are reported first. Places without a message may be reported as removed, and a summary comes
    /// with the range that it replaced.
    #[default]
    Start,
    /// Only later changes are reported.
    Now,
    /// Changes after this cursor are reported; see [`Watcher::cursor`].
    After(Cursor),
}

impl From<Cursor> for WatchFrom {
    fn from(cursor: Cursor) -> Self {
        Self::After(cursor)
    }
}

impl MemoryInstance {
    /// Watches the memory: a stream of appended messages, and of those that were removed or replaced, by any process.
    ///
    /// A copy that applies every [`Change`] equals the memory whenever the watcher has caught up. Each message that is
    /// present then arrives once, in order. Writes of this process arrive at once; those of others within about
    /// 2 ms on Redis, and within 25 ms on SQLite, on average. A watch needs no task: it reads while [`Watcher::next`] is polled.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use memory_instance::{Change, Message, WatchFrom};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// let mut watch = memory.watch(WatchFrom::Now).await?;
    /// memory.append(Message::user("Where is my parcel?")).await?;
    /// match watch.next().await? {
    ///     Change::Appended(messages) => assert_eq!(messages[0].message.text(), "Where is my parcel?"),
    ///     other => panic!("unexpected: {other:?}"),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Dropping the future ends the watch.
    #[doc(alias = "subscribe")]
    pub async fn watch(&self, from: impl Into<WatchFrom> + Send) -> Result<Watcher, MemoryError> {
        let work = async {
            let inner = &self.inner;
            // Before the first read, so that no later write is missed.
            let signal = inner.store().watch(&inner.key).await?;
            let tracker = match from.into() {
                WatchFrom::Start => ChangeTracker::start(),
                WatchFrom::Now => {
                    let outline = inner.outline().await?;
                    ChangeTracker::resume(outline.cursor(), &outline)
                }
                WatchFrom::After(cursor) => ChangeTracker::resume(cursor, &inner.outline().await?),
            };
            Ok(Watcher {
                inner: Arc::clone(inner),
                signal,
                cursor: tracker.cursor(),
                tracker,
                pending: VecDeque::new(),
                next: Next::Read,
                failures: 0,
            })
        };
        operation!(&*self.inner, "watch", work).await
    }
}

/// The changes of a memory; see [`MemoryInstance::watch`].
pub struct Watcher {
    inner: Arc<Inner>,
    signal: Box<dyn StoreWatch>,
    tracker: ChangeTracker,
    /// Changes that were read and not returned yet, with the position after each.
    pending: VecDeque<(Change, Cursor)>,
    /// The position after the changes that were returned.
    cursor: Cursor,
    next: Next,
    /// Failed steps since the last signal.
    failures: u32,
}

/// The next step of a watcher without pending changes.
#[derive(Debug, Clone, Copy)]
enum Next {
    Read,
    /// Wait for a signal, at most until this moment.
    Wait(Instant),
    /// The last step failed: read after this moment.
    Retry(Instant),
}

impl Watcher {
    /// The next change; waits for one.
    ///
    /// # Errors
    /// [`MemoryError::Store`]; [`MemoryError::Contended`] if messages were removed or replaced during every attempt to
    /// compare what is left. The watch continues: the next call tries again, after a pause that grows from 100 ms
    /// to 5 s. No change is lost. An error that is not [retryable](MemoryError::is_retryable) returns until its cause is
    /// removed: if the database file was replaced, open the manager again and resume from the cursor.
    ///
    /// # Cancel safety
    /// A change is either returned or kept for the next call.
    pub async fn next(&mut self) -> Result<Change, MemoryError> {
        loop {
            if let Some((change, cursor)) = self.pending.pop_front() {
                self.cursor = cursor;
                return Ok(change);
            }
            let done = match self.next {
                Next::Read => self.catch_up().await,
                Next::Wait(until) => {
                    let signal = timeout_at(until, self.signal.changed()).await.unwrap_or(Ok(()));
                    signal.map_err(MemoryError::from).map(|()| {
                        self.next = Next::Read;
                        // A read can succeed while signals fail.
                        self.failures = 0;
                    })
                }
                Next::Retry(at) => {
                    sleep_until(at).await;
                    self.catch_up().await
                }
            };
            if let Err(error) = done {
                let pause = FIRST_WATCH_RETRY.saturating_mul(1 << self.failures.min(16));
                self.failures = self.failures.saturating_add(1);
                self.next = Next::Retry(Instant::now() + pause.min(MAX_WATCH_RETRY));
                return Err(error);
            }
        }
    }

    /// The position after the changes that were returned, for [`WatchFrom::After`], also in another process.
    ///
    /// A watch that is resumed there misses nothing. If messages were removed or replaced in between, it begins with
    /// [`Change::Lagged`], because it no longer knows the messages before the cursor. So it does if the cursor was
    /// taken between two changes of one flush. A cursor of [`page`](MemoryInstance::page) has the same meaning: all
    /// messages up to it are known.
    #[must_use]
    pub const fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The key of the memory.
    #[must_use]
    pub fn key(&self) -> &MemoryKey {
        &self.inner.key
    }

    /// The changes as a stream. It never ends; an error is followed by another attempt.
    pub fn into_stream(self) -> impl Stream<Item = Result<Change, MemoryError>> + Send + 'static {
        stream::unfold(self, |mut watch| async move {
            let next = watch.next().await;
            Some((next, watch))
        })
    }

    /// Reads what came since the last read. Its effects follow the last await.
    async fn catch_up(&mut self) -> Result<(), MemoryError> {
        let (inner, store) = (&self.inner, self.inner.store());
        let page = inner.page(self.tracker.read_after(), None).await?;
        match self.tracker.advance(page) {
            Ok(change) => {
                let cursor = self.tracker.cursor();
                self.pending.extend(change.map(|change| (change, cursor)));
            }
            Err(NeedsComparison) => {
                let mut compared = None;
                for _ in 0..ATTEMPTS {
                    let head = inner.head().await?;
                    let receipts = store.receipts(&inner.key).await?;
                    let erasures = store.erasures(&inner.key).await?;
                    let page = inner.page(None, None).await?;
                    compared = self.tracker.compare(&page, &receipts, &erasures, &head);
                    if compared.is_some() {
                        break;
                    }
                }
                self.pending.extend(compared.ok_or_else(|| inner.contended("watch"))?);
            }
        }
        if self.pending.is_empty() {
            self.cursor = self.tracker.cursor();
        }
        self.next = Next::Wait(Instant::now() + WATCH_READ_INTERVAL);
        Ok(())
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("key", &self.inner.key)
            .field("cursor", &self.cursor)
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
