//! The in-memory reference store passes the conformance suite.

#![cfg(feature = "conformance")]

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use memory_core::Clock;
use memory_core::conformance::{Rollback, StoreFixture, run_all};
use memory_core::store::SavedMemories;
use memory_core::{InMemoryStore, MemoryStore};

#[derive(Debug)]
struct InMemory;

#[async_trait]
impl StoreFixture for InMemory {
    async fn fresh(&self, clock: Clock) -> Arc<dyn MemoryStore> {
        Arc::new(InMemoryStore::new(clock))
    }

    async fn fresh_with_rollback(
        &self,
        clock: Clock,
    ) -> Option<(Arc<dyn MemoryStore>, Arc<dyn Rollback>)> {
        let store = InMemoryStore::new(clock);
        Some((Arc::new(store.clone()), Arc::new(Saved { store, kept: Mutex::default() })))
    }
}

#[derive(Debug)]
struct Saved {
    store: InMemoryStore,
    kept: Mutex<SavedMemories>,
}

#[async_trait]
impl Rollback for Saved {
    async fn keep(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = self.store.saved();
    }

    async fn go_back(&self) {
        self.store.go_back(&self.kept.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[tokio::test]
async fn in_memory_store_conforms() {
    run_all(&InMemory).await;
}
