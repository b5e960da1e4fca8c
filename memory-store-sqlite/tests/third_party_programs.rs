//! The store over a plain file of `memory-core/tests/file_store` matches the reference in random
//! programs that reopen it repeatedly, which shows that the example is complete.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that fails panics, and its output is where people look"
)]

#[path = "../../memory-core/tests/file_store/log.rs"]
mod log;
mod programs;
#[path = "../../memory-core/tests/file_store/store.rs"]
mod store;

use memory_lock::Clock;
use programs::{Opened, Place, run};
use store::{FileStore, shared};
use tempfile::TempDir;

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
