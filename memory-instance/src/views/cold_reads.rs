//! Concurrent first readers of a memory share one read of all its messages.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memory_core::MemoryKey;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// How long other readers wait for the first one, whose future may be kept without being polled.
const COLD_READ_WAIT: Duration = Duration::from_secs(1);

/// The reads of whole memories that have no view.
#[derive(Debug, Default)]
pub(super) struct ColdReads(Mutex<HashMap<MemoryKey, Other>>);

/// The read of another reader.
#[derive(Debug, Clone)]
pub(super) struct Other {
    /// Closed when the read ends.
    state: watch::Receiver<ReadState>,
    /// Another reader may take over after this moment.
    until: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadState {
    /// It runs, or it was dropped.
    Unfinished,
    Failed,
}

/// A reader's read of a whole memory, until it is dropped.
#[derive(Debug)]
pub(crate) struct ColdRead {
    reads: Arc<ColdReads>,
    key: MemoryKey,
    state: watch::Sender<ReadState>,
}

/// How the read of another reader ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// There may be a view now. If not, the next reader reads.
    Finished,
    /// The store failed. Readers that tried one after the other would wait for it once each.
    Failed,
}

impl ColdReads {
    /// Begins the read of this reader, unless another one's is under way.
    pub(super) fn begin(self: &Arc<Self>, key: &MemoryKey) -> Result<ColdRead, Other> {
        let now = Instant::now();
        let mut reads = self.lock();
        if let Some(other) = reads.get(key).filter(|other| other.until > now) {
            return Err(other.clone());
        }
        let (sender, state) = watch::channel(ReadState::Unfinished);
        reads.insert(key.clone(), Other { state, until: now + COLD_READ_WAIT });
        Ok(ColdRead { reads: Arc::clone(self), key: key.clone(), state: sender })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MemoryKey, Other>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Other {
    /// Waits until it ends, or may be taken over.
    pub(super) async fn ended(mut self) -> Ended {
        // Also returns at the end of the sender.
        let failed = self.state.wait_for(|state| *state == ReadState::Failed);
        match timeout_at(self.until, failed).await {
            Ok(Ok(_)) => Ended::Failed,
            Ok(Err(_)) | Err(_) => Ended::Finished,
        }
    }
}

impl ColdRead {
    /// The store failed: the waiting readers read on their own.
    pub(crate) fn fail(self) {
        self.state.send_replace(ReadState::Failed);
    }
}

impl Drop for ColdRead {
    fn drop(&mut self) {
        let mut reads = self.reads.lock();
        // Another reader may have taken over.
        let is_own = |other: &Other| other.state.same_channel(&self.state.subscribe());
        if reads.get(&self.key).is_some_and(is_own) {
            reads.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests;
