//! One memory, shared by all its handles.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use memory_core::store::{
    Access, Applied, Counters, Cursor, FlushReceipt, Head, Outline, Page, Read, StoreError,
};
use memory_core::{MemoryKey, MemoryResource, MemoryStore, Message, StoredMessage, WindowOptions};
use memory_lock::{Clock, LockKey, LockManager};
use tokio::time::Instant;

use crate::error::MemoryError;
use crate::flush::FlushFailures;
use crate::ids::Ids;
use crate::kinds::Kinds;
use crate::rules::Rules;
use crate::shutdown::{Activity, Lifecycle, Underway};
use crate::telemetry::Operation;
use crate::window::{Calibrations, ContextWindow};
use crate::writers::Writers;

/// A handle to one memory. Clones are cheap and share all state. Any number of tasks may use them at once, and any
/// number of processes may have handles to the same memory.
///
/// An idle instance has no task, timer or connection of its own. Call its methods within a tokio runtime with time
/// enabled; outside of one, tokio panics.
#[derive(Clone)]
#[doc(alias = "AsyncSafeMemoryInstance")]
pub struct MemoryInstance {
    pub(crate) inner: Arc<Inner>,
    pub(crate) mode: Mode,
}

/// The access mode of a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Read and write.
    #[default]
    ReadWrite,
    /// Read only; a write returns [`MemoryError::ReadOnly`].
    ReadOnly,
}

pub(crate) struct Inner {
    pub(crate) key: MemoryKey,
    pub(crate) lease: LockKey,
    pub(crate) flush_lease: LockKey,
    pub(crate) rules: Arc<Rules>,
    pub(crate) backend: Arc<Backend>,
    pub(crate) writers: Writers,
    pub(crate) kinds: Kinds,
    /// The number of writes that wait for the lease without a place in line.
    pub(crate) waiting: AtomicU64,
    /// Whether a flush of this instance is under way.
    pub(crate) flushing: AtomicBool,
    /// The failure state of the newest flushes of this instance.
    pub(crate) flush_failures: Mutex<Option<FlushFailures>>,
    /// The tokens by which providers' reports exceeded the counts of windows.
    pub(crate) calibrations: Calibrations,
}

/// State that all instances of one store share.
pub(crate) struct Backend {
    pub(crate) store: Arc<dyn MemoryStore>,
    pub(crate) locks: LockManager,
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
    pub(crate) lifecycle: Arc<Lifecycle>,
    /// The number of lease refreshes that were published as a metric.
    pub(crate) refreshes: AtomicU64,
}

impl Backend {
    /// Publishes the number of lease refreshes since the last call.
    pub(crate) fn publish_refreshes(&self) {
        let total = self.locks.stats().refreshed;
        let seen = self.refreshes.fetch_max(total, Ordering::Relaxed);
        metrics::counter!("memory_lock_refresh_total").increment(total.saturating_sub(seen));
    }

    /// Whether the store checks leases within its atomic step, so that a write needs no lease.
    pub(crate) fn is_fused(&self) -> bool {
        self.store.lease_domain() == Some(self.locks.domain())
    }

    /// Milliseconds since 1970.
    pub(crate) fn now_millis(&self) -> u64 {
        self.clock.now_micros() / 1_000
    }

    pub(crate) fn now(&self) -> Timestamp {
        let micros = i64::try_from(self.clock.now_micros()).unwrap_or(i64::MAX);
        Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
    }
}

/// The number of attempts of an operation when other writers change the memory meanwhile.
pub(crate) const ATTEMPTS: u32 = 8;

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
    #[must_use]
    pub fn read_only(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), mode: Mode::ReadOnly }
    }

    /// All messages, in order, from one snapshot.
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
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    #[tracing::instrument(level = "debug", skip_all, fields(memory = %self.resource().id))]
    pub async fn page(
        &self,
        after: Option<Cursor>,
        limit: Option<NonZeroUsize>,
    ) -> Result<Page, MemoryError> {
        let started = Instant::now();
        let page = self.inner.store().read(&self.inner.key, Read { after, limit }).await?;
        self.inner.rules.telemetry.took(Operation::Read, started.elapsed());
        Ok(page)
    }

    /// The request to send to a model, within a budget of tokens: [`window`](Self::window) with default options.
    ///
    /// # Errors
    /// As [`window`](Self::window).
    ///
    /// # Cancel safety
    /// Reads have no effect.
    #[doc(alias = "build_context")]
    #[tracing::instrument(level = "debug", skip_all, fields(memory = %self.resource().id))]
    pub async fn context(&self, budget: u64) -> Result<ContextWindow, MemoryError> {
        self.inner.window(&WindowOptions::new(budget)).await
    }

    /// The request to send to a model: the part of the memory that fits, in the format of the model's API.
    ///
    /// Critical messages come first, then the newest unit, then the others by priority and age. Tool calls are
    /// complete and answered. The messages keep the order of the memory. See
    /// [`plan_context`](memory_core::plan::plan_context) for the rules. Without a profile in the options, the resource's
    /// profile is used.
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, Message, MemoryResource, WindowOptions};
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let manager = MemoryManager::builder().resource(MemoryResource::new("support", 8_000)).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// memory.append(Message::user("Where is my parcel?")).await?;
    /// let options = WindowOptions::new(8_000).with_system("You help customers.").with_answer(1_000);
    /// let window = memory.window(&options).await?;
    /// assert_eq!(
    ///     serde_json::to_string(window.request())?,
    ///     r#"[{"role":"system","content":"You help customers."},{"role":"user","content":"Where is my parcel?"}]"#,
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Context`] if the critical messages alone, or together with the newest unit, exceed the budget;
    /// [`MemoryError::Contended`] if other writers changed the memory during every attempt.
    ///
    /// # Cancel safety
    /// Reads have no effect.
    #[tracing::instrument(level = "debug", skip_all, fields(memory = %self.resource().id))]
    pub async fn window(&self, options: &WindowOptions) -> Result<ContextWindow, MemoryError> {
        self.inner.window(options).await
    }

    /// The number of tokens of a message, by the resource's counter. Nothing is stored.
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
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn counters(&self) -> Result<Counters, MemoryError> {
        Ok(self.inner.head().await?.counters)
    }

    /// The receipts of the last flushes, newest first.
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn receipts(&self) -> Result<Vec<FlushReceipt>, MemoryError> {
        Ok(self.inner.store().receipts(&self.inner.key).await?)
    }

    /// Refuses a write through a read-only handle.
    pub(crate) fn writable(&self, operation: &'static str) -> Result<(), MemoryError> {
        match self.mode {
            Mode::ReadWrite => Ok(()),
            Mode::ReadOnly => Err(MemoryError::ReadOnly { operation, key: self.inner.key.clone() }),
        }
    }
}

impl Inner {
    pub(crate) fn store(&self) -> &dyn MemoryStore {
        &*self.rules.store
    }

    pub(crate) async fn head(&self) -> Result<Head, StoreError> {
        self.store().head(&self.key).await
    }

    pub(crate) async fn outline(&self) -> Result<Outline, StoreError> {
        self.store().outline(&self.key).await
    }

    /// Refuses an operation that would wait for the turn in which it is called.
    pub(crate) fn not_in_own_turn(&self, operation: &'static str) -> Result<(), MemoryError> {
        if self.backend.locks.runs_under(&self.lease) {
            return Err(MemoryError::OwnTurn { operation, key: self.key.clone() });
        }
        Ok(())
    }

    pub(crate) fn contended(&self, operation: &'static str) -> MemoryError {
        MemoryError::Contended { operation, key: self.key.clone(), attempts: ATTEMPTS }
    }

    /// Registers a flush or a turn; a shutdown waits for it.
    pub(crate) fn begin(
        &self,
        activity: Activity,
        operation: &'static str,
    ) -> Result<Underway, MemoryError> {
        let shut_down =
            || MemoryError::ShutDown { operation, key: self.key.clone(), applied: Applied::No };
        self.backend.lifecycle.begin(activity, &self.key).ok_or_else(shut_down)
    }

    /// The error of work that a shutdown abandoned.
    pub(crate) fn abandoned(&self, operation: &'static str) -> MemoryError {
        MemoryError::ShutDown { operation, key: self.key.clone(), applied: Applied::Unknown }
    }

    /// The access of a write under this lease, if there is one.
    pub(crate) const fn access(lease: Option<memory_core::lease::LeaseProof>) -> Access {
        Access { lease }
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
