//! One memory, shared by all who hold a handle to it.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use memory_core::{
    Access, Applied, Counters, Cursor, FlushReceipt, Head, MemoryKey, MemoryResource, MemoryStore,
    Message, Outline, Page, Read, StoreError, StoredMessage, WindowOptions,
};
use memory_lock::{Clock, LockKey, LockManager};
use tokio::time::Instant;

use crate::error::MemoryError;
use crate::flush::Trouble;
use crate::ids::Ids;
use crate::kinds::Kinds;
use crate::rules::Rules;
use crate::shutdown::{Activity, Lifecycle, Underway};
use crate::telemetry::Operation;
use crate::window::{Calibrations, ContextWindow};
use crate::writers::Writers;

/// A handle to one memory. Clones are cheap and share everything; any number of tasks may use them
/// at once, and any number of processes may have handles to the same memory.
///
/// An instance has no task, timer or connection of its own while nothing is called. Its methods must
/// be called within a tokio runtime with time enabled; outside of one, tokio panics.
#[derive(Clone)]
#[doc(alias = "AsyncSafeMemoryInstance")]
pub struct MemoryInstance {
    pub(crate) inner: Arc<Inner>,
    pub(crate) mode: Mode,
}

/// What a handle may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Read and write.
    #[default]
    ReadWrite,
    /// Read only; a write is [`MemoryError::ReadOnly`].
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
    /// Writes that wait for the lease to be free, without a place in line.
    pub(crate) waiting: AtomicU64,
    /// A flush of this instance is under way.
    pub(crate) flushing: AtomicBool,
    /// What went wrong with the newest flushes of this instance, if anything.
    pub(crate) flush_trouble: Mutex<Option<Trouble>>,
    /// The tokens that providers reported above the counts of windows.
    pub(crate) calibrations: Calibrations,
}

/// What all instances of one store share.
pub(crate) struct Backend {
    pub(crate) store: Arc<dyn MemoryStore>,
    pub(crate) locks: LockManager,
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
    pub(crate) lifecycle: Arc<Lifecycle>,
    /// How many refreshes of leases have been published as a metric.
    pub(crate) refreshes: AtomicU64,
}

impl Backend {
    /// Publishes how often leases have been refreshed since the last time.
    pub(crate) fn publish_refreshes(&self) {
        let total = self.locks.stats().refreshed;
        let seen = self.refreshes.fetch_max(total, Ordering::Relaxed);
        metrics::counter!("memory_lock_refresh_total").increment(total.saturating_sub(seen));
    }

    /// Whether the store looks at leases within its own atomic step, so that a write needs no lease.
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

/// How often an operation starts over because others changed the memory under it.
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

    /// What this handle may do.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// A handle to the same memory that may only read.
    #[must_use]
    pub fn read_only(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), mode: Mode::ReadOnly }
    }

    /// All messages, in order: one snapshot.
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn messages(&self) -> Result<Vec<StoredMessage>, MemoryError> {
        Ok(self.page(None, None).await?.messages)
    }

    /// Messages after a place, at most `limit` of them: one snapshot, at the cost of the page.
    ///
    /// A reader that keeps the page's cursor reads only what came since. After a flush or a clear, and
    /// where the store went back to a state in which something else or nothing is at the cursor's place,
    /// the page begins at the start again, and [`Page::restarted`] says so: what was read before is then
    /// to be dropped.
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

    /// The request to send to a model, within a budget of tokens: [`window`](Self::window) with no other options.
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

    /// The request to send to a model: what fits of the memory, in the form of its API.
    ///
    /// Critical messages come first, then the newest unit, then the others by priority and age; calls of tools are
    /// whole and answered; the order is that of the memory. See [`plan_context`](memory_core::plan_context) for the
    /// rules. Without a profile in the options, that of the resource is used.
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
    /// [`MemoryError::Context`] where the critical messages alone, or with the newest unit, are over the budget;
    /// [`MemoryError::Contended`] where flushes came between again and again.
    ///
    /// # Cancel safety
    /// Reads have no effect.
    #[tracing::instrument(level = "debug", skip_all, fields(memory = %self.resource().id))]
    pub async fn window(&self, options: &WindowOptions) -> Result<ContextWindow, MemoryError> {
        self.inner.window(options).await
    }

    /// The tokens that a message takes, by the counter of the resource. Nothing is stored.
    #[must_use]
    pub fn count(&self, message: &Message) -> u64 {
        self.inner.rules.count(message)
    }

    /// How many messages there are.
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn len(&self) -> Result<u64, MemoryError> {
        Ok(self.counters().await?.present.messages)
    }

    /// Whether there are none.
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn is_empty(&self) -> Result<bool, MemoryError> {
        Ok(self.len().await? == 0)
    }

    /// How many tokens the messages have.
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

    /// What is there, and what became of everything that ever was.
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

    /// Refuses a write through a handle that may only read.
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

    /// Refuses what would wait for the very turn that it is called in.
    pub(crate) fn not_in_own_turn(&self, operation: &'static str) -> Result<(), MemoryError> {
        if self.backend.locks.runs_under(&self.lease) {
            return Err(MemoryError::OwnTurn { operation, key: self.key.clone() });
        }
        Ok(())
    }

    pub(crate) fn contended(&self, operation: &'static str) -> MemoryError {
        MemoryError::Contended { operation, key: self.key.clone(), attempts: ATTEMPTS }
    }

    /// Registers a flush or a turn, which a shutdown waits for.
    pub(crate) fn begin(
        &self,
        activity: Activity,
        operation: &'static str,
    ) -> Result<Underway, MemoryError> {
        let shut_down =
            || MemoryError::ShutDown { operation, key: self.key.clone(), applied: Applied::No };
        self.backend.lifecycle.begin(activity, &self.key).ok_or_else(shut_down)
    }

    /// The error of work that a shutdown gave up.
    pub(crate) fn abandoned(&self, operation: &'static str) -> MemoryError {
        MemoryError::ShutDown { operation, key: self.key.clone(), applied: Applied::Unknown }
    }

    /// By what right a write is made under this lease, if under any.
    pub(crate) const fn access(lease: Option<memory_core::LeaseProof>) -> Access {
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
