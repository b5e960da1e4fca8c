//! Operations of the facade whose requests the connection records in a special way.

use std::sync::{Arc, Mutex, PoisonError};

use crate::history::Expected;

tokio::task_local! {
    static REWINDING: Rewinding;
    static DELETING: ();
    static RESTORING: ();
    static REWRITING: ();
    static WRITING: usize;
}

/// A rewind at an expected version, and its requests.
#[derive(Debug, Clone)]
pub(crate) struct Rewinding {
    pub(super) expected: Expected,
    requests: Arc<Mutex<Vec<usize>>>,
}

impl Rewinding {
    pub(crate) fn at(expected: Expected) -> Self {
        Self { expected, requests: Arc::default() }
    }

    /// Runs it. The requests of this future belong to it.
    pub(crate) async fn run<T>(&self, rewind: impl Future<Output = T>) -> T {
        REWINDING.scope(self.clone(), rewind).await
    }

    /// The recorded requests.
    pub(crate) fn requests(&self) -> Vec<usize> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn sent(&self, request: usize) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }

    /// The rewind that is running now.
    pub(super) fn now() -> Option<Self> {
        REWINDING.try_with(Self::clone).ok()
    }
}

/// Runs the deletion of a memory.
pub(crate) async fn deleting<T>(delete: impl Future<Output = T>) -> T {
    DELETING.scope((), delete).await
}

/// Whether a deletion is running now.
pub(super) fn is_deleting() -> bool {
    DELETING.try_with(|()| ()).is_ok()
}

/// Restores a backup.
pub(crate) async fn restoring<T>(restore: impl Future<Output = T>) -> T {
    RESTORING.scope((), restore).await
}

/// Whether a backup is being restored now.
pub(super) fn is_restoring() -> bool {
    RESTORING.try_with(|()| ()).is_ok()
}

/// Has summaries rewritten.
pub(crate) async fn rewriting<T>(rewrite: impl Future<Output = T>) -> T {
    REWRITING.scope((), rewrite).await
}

/// Whether summaries are being rewritten now.
pub(super) fn is_rewriting() -> bool {
    REWRITING.try_with(|()| ()).is_ok()
}

/// Runs a write that an agent recorded as this operation.
pub(crate) async fn writing<T>(operation: usize, write: impl Future<Output = T>) -> T {
    WRITING.scope(operation, write).await
}

/// The write of an agent that is running now.
pub(super) fn written_now() -> Option<usize> {
    WRITING.try_with(|operation| *operation).ok()
}
