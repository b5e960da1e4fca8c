//! The backend, and the context of a request to it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::backend::LockBackend;
use crate::error::{LockError, LockErrorKind, LockOperation};
use crate::foreign_contention::ForeignContention;
use crate::manager_options::ManagerOptions;
use crate::random::Random;
use crate::stats::LockCounters;

/// The backend of one manager, and the context of a request to it. Work that outlives the caller, such as a
/// release in the background, keeps this and not the manager.
#[derive(Debug)]
pub(crate) struct BackendClient {
    pub(crate) backend: Arc<dyn LockBackend>,
    pub(crate) options: ManagerOptions,
    pub(crate) counters: LockCounters,
    pub(crate) random: Random,
    pub(crate) foreign_contention: ForeignContention,
    /// Wakes `shutdown` when no guard and no release is left.
    pub(crate) idle: Notify,
    runtime: Mutex<Option<Handle>>,
}

impl BackendClient {
    pub(crate) fn new(backend: Arc<dyn LockBackend>, options: ManagerOptions) -> Self {
        Self {
            backend,
            options,
            counters: LockCounters::default(),
            random: Random::new(options.seed()),
            foreign_contention: ForeignContention::default(),
            idle: Notify::new(),
            runtime: Mutex::default(),
        }
    }

    /// Waits for one answer of the backend, at most for `limit`.
    pub(crate) async fn answer<T>(
        &self,
        operation: LockOperation,
        limit: Duration,
        call: impl Future<Output = Result<T, LockError>> + Send,
    ) -> Result<T, LockError> {
        let limit = limit.min(self.options.answer_timeout());
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                Err(LockError::new(LockErrorKind::NoAnswer { after: limit }, operation))
            }
        }
    }

    /// A runtime on which this manager's leases were taken, and which was driven most recently.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records that this runtime is being driven now.
    pub(crate) fn note_runtime(&self, current: &Handle) {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if runtime.as_ref().is_none_or(|last| last.id() != current.id()) {
            *runtime = Some(current.clone());
        }
    }
}
