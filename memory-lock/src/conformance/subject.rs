//! The subject of a case: a backend, and its way to advance time.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use memory_core::lease::OwnerId;

use crate::Clock;
use crate::backend::LockBackend;

/// A fresh backend to be examined, and its way to advance time.
pub struct Subject {
    backend: Arc<dyn LockBackend>,
    clock: Option<Clock>,
    kept: Vec<Box<dyn Any + Send + Sync>>,
}

impl Subject {
    /// A backend whose clock cannot be moved.
    #[must_use]
    pub fn new(backend: Arc<dyn LockBackend>) -> Self {
        Self { backend, clock: None, kept: Vec::new() }
    }

    /// The backend uses this [`Clock::manual`], so that time passes without waiting.
    #[must_use]
    pub fn with_manual_clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Keeps something for as long as the case runs, such as the directory of a file.
    #[must_use]
    pub fn keeping(mut self, thing: impl Any + Send + Sync) -> Self {
        self.kept.push(Box::new(thing));
        self
    }

    pub(super) fn backend(&self) -> &Arc<dyn LockBackend> {
        &self.backend
    }

    /// The TTL for the leases of a case.
    pub(super) fn ttl(&self) -> Duration {
        if self.clock.is_some() { Duration::from_secs(30) } else { Duration::from_millis(500) }
    }

    /// Lets this part of a TTL pass, in tenths.
    pub(super) async fn pass(&self, tenths: u32) {
        let time = self.ttl() * tenths / 10;
        match &self.clock {
            Some(clock) => clock.advance(time),
            None => tokio::time::sleep(time).await,
        }
    }

    /// An owner that no other case uses.
    pub(super) fn owner(&self) -> OwnerId {
        OwnerId::new(fastrand::u128(..))
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("backend", &self.backend)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}
