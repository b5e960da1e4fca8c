//! The state of one memory, below all operations on it.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use memory_core::MemoryKey;
use memory_core::lease::LeaseProof;
use memory_core::sibling::{OwnBatch, View};
use memory_core::store::{
    Applied, Cursor, Head, Outline, Page, Read, StoreError, StoreErrorKind, WriteId,
};
use memory_lock::{LockError, LockKey};

use crate::asking::Asking;
use crate::backend::Backend;
use crate::calibrations::Calibrations;
use crate::error::{LeaseError, MemoryError, WriteError};
use crate::flush::failures::FlushFailures;
use crate::kinds::Kinds;
use crate::lifecycle::{Activity, Underway};
use crate::rules::Rules;
use crate::telemetry::Held;
use crate::views::{ColdRead, Found, ViewState};
use crate::write::WriteRequest;
use crate::writers::{Writer, Writers};

/// The number of attempts of an operation when other writers change the memory meanwhile.
pub(crate) const ATTEMPTS: u32 = 8;

/// A boxed future for a rare path. Boxing keeps the futures of its callers small.
pub(crate) type OnHeap<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The state of one memory in this process, shared by all its handles.
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
    pub(crate) flush_failures: FlushFailures,
    /// The tokens by which providers' reports exceeded the counts of windows.
    pub(crate) calibrations: Calibrations,
    /// Its part in the gauges of the resource.
    pub(crate) held: Held,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.rules.telemetry.drops(&self.key, &self.held, &self.rules.policy);
    }
}

impl Inner {
    pub(crate) fn new(
        key: &MemoryKey,
        rules: &Arc<Rules>,
        backend: &Arc<Backend>,
    ) -> Result<Self, MemoryError> {
        let lock_key = |name: Arc<str>| {
            LockKey::new(name).map_err(|reason| LeaseError {
                key: key.clone(),
                reason,
                applied: Applied::No,
                max_turn: None,
            })
        };
        Ok(Self {
            // The lease of the writers has the name of the memory.
            lease: lock_key(key.into())?,
            flush_lease: lock_key(key.flush_lease_name().into())?,
            key: key.clone(),
            rules: Arc::clone(rules),
            backend: Arc::clone(backend),
            writers: Writers::default(),
            kinds: Kinds::default(),
            waiting: AtomicU64::new(0),
            flushing: AtomicBool::new(false),
            flush_failures: FlushFailures::default(),
            calibrations: Calibrations::default(),
            held: Held::default(),
        })
    }

    pub(crate) fn store(&self) -> Asking<'_> {
        Asking(&*self.rules.store)
    }

    pub(crate) async fn head(&self) -> Result<Head, StoreError> {
        self.store().head(&self.key).await
    }

    /// The view of the memory, up to date. `None` if it can have none.
    ///
    /// # Cancel safety
    /// Of several readers without a view one reads the whole memory. If it is dropped, another one does.
    pub(crate) async fn view(&self) -> Result<Option<Arc<View>>, StoreError> {
        let (found, cold_read) = self.backend.views.find_or_read(&self.key).await;
        if let ViewState::Excluded = found.state {
            return Ok(None);
        }
        let view = self.refresh_for_all(found, cold_read).await?;
        Ok((!view.has_damage()).then_some(view))
    }

    /// Brings a view up to date. Other readers may wait for a cold read.
    async fn refresh_for_all(
        &self,
        found: Found,
        cold_read: Option<ColdRead>,
    ) -> Result<Arc<View>, StoreError> {
        let view = self.refresh(found).await;
        match (&view, cold_read) {
            (Err(_), Some(cold_read)) => cold_read.fail(),
            // Ends after the view is kept.
            (_, cold_read) => drop(cold_read),
        }
        view
    }

    /// Brings a view up to date: asks the store only for the messages that this process does not have.
    pub(crate) async fn refresh(&self, found: Found) -> Result<Arc<View>, StoreError> {
        let (after, own) = match &found.state {
            ViewState::View(view, own) => (Some(view.cursor()), own.as_slice()),
            ViewState::Missing | ViewState::Excluded => (None, [].as_slice()),
        };
        let mut page = None;
        if let Some(after) = after.filter(|_| !own.is_empty()) {
            let known: Vec<_> = own.iter().map(OwnBatch::known).collect();
            let caught_up = self.store().catch_up(&self.key, after, &known).await?;
            page = OwnBatch::complete(caught_up, own);
        }
        let page = match page {
            Some(page) => page,
            None => self.store().read(&self.key, Read { after, limit: None }).await?,
        };
        Ok(self.backend.views.advance(&self.key, found, page))
    }

    /// A page from the view, if there is one or the page is the whole memory, otherwise from the store.
    pub(crate) async fn page(
        &self,
        after: Option<Cursor>,
        limit: Option<NonZeroUsize>,
    ) -> Result<Page, StoreError> {
        if after.is_none() && limit.is_none() && self.backend.views.are_on() {
            // Also if it can have no view: it may have changed, which a whole read shows.
            let (found, cold_read) = self.backend.views.find_or_read(&self.key).await;
            let view = self.refresh_for_all(found, cold_read).await?;
            return Ok(view.whole());
        }
        let found = self.backend.views.find(&self.key);
        if matches!(found.state, ViewState::View(..))
            && let Some(page) = self.refresh(found).await?.page(after, limit)
        {
            return Ok(page);
        }
        self.store().read(&self.key, Read { after, limit: limit.map(Into::into) }).await
    }

    /// A page backward from the view, if there is one, otherwise from the store: the memory is not loaded for it.
    pub(crate) async fn page_before(
        &self,
        before: Option<Cursor>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        let found = self.backend.views.find(&self.key);
        if matches!(found.state, ViewState::View(..))
            && let Some(page) = self.refresh(found).await?.page_before(before, limit)
        {
            return Ok(page);
        }
        self.store().read_before(&self.key, before, limit).await
    }

    pub(crate) async fn outline(&self) -> Result<Outline, StoreError> {
        self.store().outline(&self.key).await
    }

    /// Refuses an operation that would wait for the turn in which it is called.
    pub(crate) fn not_in_own_turn(&self, operation: &'static str) -> Result<(), WriteError> {
        if self.backend.locks.runs_under(&self.lease) {
            return Err(WriteError::OwnTurn { operation, key: self.key.clone() });
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

    /// The error of a flush in which this code panicked.
    pub(crate) fn panicked(&self, culprit: String) -> MemoryError {
        MemoryError::Panicked { operation: "flush", key: self.key.clone(), culprit }
    }

    pub(crate) fn lock_error(&self, reason: LockError) -> LeaseError {
        let max_turn = self.rules.resource.lock.max_turn;
        let key = self.key.clone();
        LeaseError { key, reason, applied: Applied::No, max_turn: Some(max_turn) }
    }

    pub(crate) fn take_writer(&self) -> Writer {
        self.writers.take(&self.backend.ids, self.backend.now_millis())
    }

    /// Sends a write under the id of a free writer, and once more under that of a newer one if the store needs it.
    pub(crate) async fn write_new<W: WriteRequest>(
        &self,
        lease: Option<LeaseProof>,
        request: impl Fn(WriteId) -> W + Send + Sync,
    ) -> Result<W::Answer, MemoryError> {
        let written = self.write_once(lease, &request).await;
        if written.as_ref().is_err_and(|error| self.needs_newer_writer(error)) {
            let again: OnHeap<'_, _> = Box::pin(self.write_once(lease, &request));
            return again.await;
        }
        written
    }

    async fn write_once<W: WriteRequest>(
        &self,
        lease: Option<LeaseProof>,
        request: &(impl Fn(WriteId) -> W + Send + Sync),
    ) -> Result<W::Answer, MemoryError> {
        let writer = self.take_writer();
        let request = request(writer.write);
        let answer = self.write(&request, lease, self.rules.lock.wait_timeout()).await?;
        self.writers.put_back(writer);
        Ok(answer)
    }

    /// Whether the store refused the write only because it has forgotten newer writers than this one. This
    /// happens to a process whose clock is behind, and to a writer that was idle. The write was never sent under
    /// this id before, so it may be sent under another one.
    pub(crate) fn needs_newer_writer(&self, error: &MemoryError) -> bool {
        let Some(&StoreErrorKind::WriterForgotten { newest_millis }) = error.store_kind() else {
            return false;
        };
        self.writers.forgot(newest_millis);
        error.applied() == Applied::No
    }
}
