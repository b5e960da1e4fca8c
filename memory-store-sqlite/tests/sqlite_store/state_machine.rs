//! Random programs compare a file with the reference store.

use std::sync::Arc;

use memory_core::store::Durability;
use memory_core_testkit::programs::{Opened, Place, run};
use memory_lock::{Clock, SqliteLock};
use memory_store_sqlite::{SqliteConfig, SqliteStore};
use tempfile::TempDir;

/// A file, with its leases in it.
#[derive(Debug)]
struct File(TempDir);

impl Place for File {
    async fn open(&self, clock: &Clock) -> Opened {
        let path = self.0.path().join("memory.db");
        // Of some messages the newest are scanned, and the others found in the index.
        let config = SqliteConfig::new(&path)
            .with_durability(Durability::Process)
            .with_unindexed_limit(2)
            .with_clock(clock.clone());
        let store = SqliteStore::open(config).await.unwrap();
        let leases = SqliteLock::open(path, clock.clone()).unwrap();
        Opened { store: Arc::new(store), leases: Some(Arc::new(leases)) }
    }
}

#[test]
fn file_store_matches_the_reference() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    run(&runtime, 64, || File(tempfile::tempdir().unwrap()));
}
