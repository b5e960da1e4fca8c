//! Signals of changes, also of those that other processes make.

use std::time::Duration;

use async_trait::async_trait;
use memory_core::store::{Generation, StoreError, StoreWatch};
use memory_core::{MemoryKey, MemoryStore as _};

use crate::store::RedisStore;

/// The interval between looks at the memory.
const WATCH_INTERVAL: Duration = Duration::from_millis(20);

/// Compares the memory's version with the one that was seen, from time to time.
#[derive(Debug)]
pub(crate) struct ServerWatch {
    store: RedisStore,
    key: MemoryKey,
    seen: (Generation, u64),
}

impl ServerWatch {
    pub(crate) async fn new(store: &RedisStore, key: &MemoryKey) -> Result<Self, StoreError> {
        let seen = version(store, key).await?;
        Ok(Self { store: store.clone(), key: key.clone(), seen })
    }
}

async fn version(store: &RedisStore, key: &MemoryKey) -> Result<(Generation, u64), StoreError> {
    store.head(key).await.map(|head| (head.generation, head.version))
}

#[async_trait]
impl StoreWatch for ServerWatch {
    async fn changed(&mut self) -> Result<(), StoreError> {
        loop {
            let now = version(&self.store, &self.key).await?;
            if now != self.seen {
                self.seen = now;
                return Ok(());
            }
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    }
}
