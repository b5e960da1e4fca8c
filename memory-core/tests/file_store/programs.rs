//! The store matches the reference in random programs that reopen it repeatedly, which shows that the example is
//! complete.

use memory_core::Clock;
use memory_core_testkit::programs::{Opened, Place, run};
use tempfile::TempDir;

use crate::store::{FileStore, shared};

#[derive(Debug)]
struct File(TempDir);

impl Place for File {
    async fn open(&self, clock: &Clock) -> Opened {
        let store = FileStore::open(&self.0.path().join("memories"), clock.clone()).unwrap();
        Opened { store: shared(store), leases: None }
    }
}

#[test]
fn plain_file_store_matches_the_reference() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    run(&runtime, 24, || File(tempfile::tempdir().unwrap()));
}
