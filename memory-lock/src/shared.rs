//! The parts of one manager, which its clones and guards share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::backend::LockBackend;
use crate::backend_client::BackendClient;
use crate::claim::Claim;
use crate::error::{LockError, LockErrorKind, LockOperation};
use crate::key::LockKey;
use crate::line::Lines;
use crate::manager_options::ManagerOptions;
use crate::refresh::Refresher;
use crate::revocable::Attendance;

/// The parts of one manager. No part refers to this struct, so that the modules have no import cycle: each
/// takes the parts that it needs.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) client: Arc<BackendClient>,
    pub(crate) lines: Arc<Lines<Claim>>,
    pub(crate) refresher: Arc<Refresher>,
    pub(crate) attendance: Arc<Attendance>,
    /// Wakes tasks that wait at the backend when the manager shuts down.
    pub(crate) closing: Notify,
    closed: AtomicBool,
}

impl Shared {
    pub(crate) fn new(backend: Arc<dyn LockBackend>, options: ManagerOptions) -> Self {
        let client = Arc::new(BackendClient::new(backend, options));
        Self {
            lines: Arc::default(),
            refresher: Arc::new(Refresher::new(&client)),
            attendance: Arc::default(),
            closing: Notify::new(),
            closed: AtomicBool::new(false),
            client,
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
}
