//! What the parts of one manager share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::backend::LockBackend;
use crate::error::{LockError, LockErrorKind, LockOperation};
use crate::foreign_contention::ForeignContention;
use crate::key::LockKey;
use crate::line::Lines;
use crate::manager_options::ManagerOptions;
use crate::random::Random;
use crate::refresh::Refresher;
use crate::revocable::Attendance;
use crate::stats::Counters;

/// What the clones of one manager and its guards have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) backend: Arc<dyn LockBackend>,
    pub(crate) options: ManagerOptions,
    pub(crate) lines: Lines,
    pub(crate) refresher: Refresher,
    pub(crate) attendance: Attendance,
    pub(crate) counters: Counters,
    pub(crate) random: Random,
    pub(crate) foreign_contention: ForeignContention,
    /// Wakes those who wait at the backend when the manager shuts down.
    pub(crate) closing: Notify,
    /// Wakes `shutdown` when the last guard or the last release is gone.
    pub(crate) idle: Notify,
    closed: AtomicBool,
}

impl Shared {
    pub(crate) fn new(backend: Arc<dyn LockBackend>, options: ManagerOptions) -> Self {
        Self {
            backend,
            options,
            lines: Lines::default(),
            refresher: Refresher::default(),
            attendance: Attendance::default(),
            counters: Counters::default(),
            random: Random::new(options.seed()),
            foreign_contention: ForeignContention::default(),
            closing: Notify::new(),
            idle: Notify::new(),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.closing.notify_waiters();
        self.lines.close();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(crate) fn shut_down_error(key: &LockKey) -> LockError {
        LockError::new(LockErrorKind::ShutDown, LockOperation::Acquire).with_key(key).not_applied()
    }

    /// Waits for one answer of the backend, for `limit` at the most.
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
}

/// Time left until `deadline`.
pub(crate) fn until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
