//! Signals that a memory changed.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;

use super::StoreError;
use crate::key::MemoryKey;

/// The signal that [`MemoryStore::watch`](crate::MemoryStore::watch) returns. It is a hint: a reader learns what
/// changed by reading.
#[async_trait]
pub trait StoreWatch: fmt::Debug + Send + Sync + 'static {
    /// Waits until the memory may have changed.
    ///
    /// # Correctness
    /// Returns soon if a write was acknowledged since this watch began or since `changed` returned the last time:
    /// signals are kept while no future waits for them, and several become one. It may also return without a
    /// change. A signal can be lost where a server forwards it, so readers also read from time to time.
    ///
    /// # Errors
    /// [`StoreError`]: the watch is interrupted, and a write may be missed. The next call continues it, and read
    /// before waiting again.
    ///
    /// # Cancel safety
    /// A signal that arrives while the future is dropped is kept for the next call.
    async fn changed(&mut self) -> Result<(), StoreError>;
}

/// The watchers of one process: a store calls [`notify`](Self::notify) after each write that it acknowledges.
///
/// A store whose memories no other process writes needs nothing else to implement
/// [`MemoryStore::watch`](crate::MemoryStore::watch). Clones share the watchers. Without watchers, `notify` is one
/// atomic load.
#[derive(Clone, Default)]
pub struct LocalWatchers {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The number of signals in `signals`.
    count: AtomicUsize,
    signals: Mutex<HashMap<MemoryKey, Vec<Arc<Signal>>>>,
}

impl Shared {
    fn signals(&self) -> MutexGuard<'_, HashMap<MemoryKey, Vec<Arc<Signal>>>> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Signal(Mutex<SignalState>);

#[derive(Default)]
struct SignalState {
    is_set: bool,
    waker: Option<Waker>,
}

impl Signal {
    fn state(&self) -> MutexGuard<'_, SignalState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self) {
        let mut state = self.state();
        state.is_set = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl LocalWatchers {
    /// Watches a memory: writes that are notified from now on end the next [`changed`](LocalWatch::changed).
    #[must_use]
    pub fn watch(&self, key: &MemoryKey) -> LocalWatch {
        let signal = Arc::<Signal>::default();
        let mut signals = self.shared.signals();
        signals.entry(key.clone()).or_default().push(Arc::clone(&signal));
        // Sequentially consistent with `notify`: a writer that reads no watcher here wrote before the watcher reads.
        self.shared.count.fetch_add(1, Ordering::SeqCst);
        drop(signals);
        LocalWatch { key: key.clone(), signal, shared: Arc::clone(&self.shared) }
    }

    /// Signals that this memory changed. Call it after the write is visible to reads.
    pub fn notify(&self, key: &MemoryKey) {
        if self.shared.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let found = self.shared.signals().get(key).cloned().unwrap_or_default();
        for signal in found {
            signal.set();
        }
    }

    /// Signals that each memory may have changed.
    pub fn notify_all(&self) {
        let found: Vec<_> = self.shared.signals().values().flatten().cloned().collect();
        for signal in found {
            signal.set();
        }
    }
}

impl fmt::Debug for LocalWatchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.shared.count.load(Ordering::Relaxed);
        f.debug_struct("LocalWatchers").field("count", &count).finish_non_exhaustive()
    }
}

/// A signal of [`LocalWatchers`].
pub struct LocalWatch {
    key: MemoryKey,
    signal: Arc<Signal>,
    shared: Arc<Shared>,
}

impl LocalWatch {
    /// Waits for a signal; see [`StoreWatch::changed`].
    ///
    /// # Cancel safety
    /// A signal that arrives while the future is dropped is kept for the next call.
    pub async fn changed(&mut self) {
        std::future::poll_fn(|context| self.poll_changed(context)).await;
    }

    /// The poll function of [`changed`](Self::changed).
    pub fn poll_changed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.signal.state();
        if std::mem::take(&mut state.is_set) {
            return Poll::Ready(());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

#[async_trait]
impl StoreWatch for LocalWatch {
    async fn changed(&mut self) -> Result<(), StoreError> {
        Self::changed(self).await;
        Ok(())
    }
}

impl Drop for LocalWatch {
    fn drop(&mut self) {
        let mut signals = self.shared.signals();
        if let Some(of_key) = signals.get_mut(&self.key) {
            of_key.retain(|signal| !Arc::ptr_eq(signal, &self.signal));
            if of_key.is_empty() {
                signals.remove(&self.key);
            }
        }
        self.shared.count.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for LocalWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalWatch").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn key(name: &str) -> MemoryKey {
        MemoryKey::new("p", "m", name).unwrap()
    }

    fn is_set(watch: &mut LocalWatch) -> bool {
        pin!(watch.changed()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn signals_are_kept_and_merged() {
        let watchers = LocalWatchers::default();
        watchers.notify(&key("a"));
        let mut watch = watchers.watch(&key("a"));
        assert!(!is_set(&mut watch), "it changed before the watch began");
        watchers.notify(&key("a"));
        watchers.notify(&key("a"));
        assert!(is_set(&mut watch) && !is_set(&mut watch));
        watchers.notify(&key("b"));
        assert!(!is_set(&mut watch));
        watchers.clone().notify_all();
        assert!(is_set(&mut watch));
    }

    #[test]
    fn dropped_watch_is_unregistered() {
        let watchers = LocalWatchers::default();
        let (one, mut two) = (watchers.watch(&key("a")), watchers.watch(&key("a")));
        drop(one);
        watchers.notify(&key("a"));
        assert!(is_set(&mut two));
        drop(two);
        assert!(watchers.shared.signals().is_empty());
        assert_eq!(watchers.shared.count.load(Ordering::SeqCst), 0);
    }
}
