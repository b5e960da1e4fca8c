//! Watchers of a memory that changes with each read.

use std::sync::atomic::{AtomicBool, Ordering};

use memory_core::store::StoreError;
use memory_core::{MemoryResource, MemoryStore, Message, Sequence};
use memory_core_testkit::intercept::{Hook, Intercept, Method};

use super::*;
use crate::{FlushMode, MemoryManager};

/// Clears a memory whenever receipts are read.
#[derive(Debug)]
struct Clearing {
    memory: MemoryInstance,
    is_on: AtomicBool,
}

impl Hook for Clearing {
    async fn around<T: Send>(
        &self,
        method: Method,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        if method == Method::Receipts && self.is_on.load(Ordering::SeqCst) {
            self.memory.append(Message::user("gone")).await.unwrap();
            self.memory.clear().await.unwrap();
        }
        call.await
    }
}

#[tokio::test(start_paused = true)]
async fn endless_changes_are_reported_as_contention() {
    let builder = || {
        MemoryManager::builder()
            .with_resource(MemoryResource::new("chat", 1 << 20))
            .with_flush_mode(FlushMode::Manual)
    };
    let manager = builder().open("memory://").await.unwrap();
    let memory = manager.memory("chat", "a").unwrap();
    memory.append(Message::user("first")).await.unwrap();
    let hook = Clearing { memory: memory.clone(), is_on: AtomicBool::new(true) };
    let store = Arc::new(Intercept::new(Arc::clone(manager.store()), hook));
    let clearing = Arc::clone(&store) as Arc<dyn MemoryStore>;
    let clearing = builder().build(clearing, manager.locks().clone()).unwrap();
    let mut watcher =
        clearing.memory_at(memory.key()).unwrap().watch(WatchFrom::Now).await.unwrap();
    memory.clear().await.unwrap();
    let error = watcher.next().await.unwrap_err();
    assert!(matches!(error, MemoryError::Contended { .. }) && error.is_retryable(), "{error}");
    store.hook().is_on.store(false, Ordering::SeqCst);
    let change = watcher.next().await.unwrap();
    let last = Sequence::new(1 + u64::from(ATTEMPTS));
    assert!(matches!(change, Change::Cleared { last: cleared } if cleared == last), "{change:?}");
}
