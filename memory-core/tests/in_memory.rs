//! The reference store passes the suite that it is the reference of.

#![cfg(feature = "conformance")]

use std::sync::Arc;

use async_trait::async_trait;
use memory_core::conformance::{ManualClock, StoreFixture, run_all};
use memory_core::{InMemoryStore, MemoryStore};

#[derive(Debug)]
struct InMemory;

#[async_trait]
impl StoreFixture for InMemory {
    async fn fresh(&self, clock: ManualClock) -> Arc<dyn MemoryStore> {
        Arc::new(InMemoryStore::new(move || clock.now()))
    }
}

#[tokio::test]
async fn the_in_memory_store_conforms() {
    run_all(&InMemory).await;
}
