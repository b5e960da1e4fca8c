//! The conformance suite of stores.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use memory_core::Clock;
use memory_core::MemoryStore;
use memory_core::conformance::{Rollback, StoreFixture, run_all};
use memory_store_sqlite::{CommitThread, SqliteConfig, SqliteStore};
use rusqlite::Connection;
use tempfile::TempDir;

#[derive(Debug)]
struct Files {
    commits: CommitThread,
    unindexed_limit: u64,
    folders: Mutex<Vec<TempDir>>,
}

impl Files {
    fn new(commits: CommitThread) -> Self {
        Self { commits, unindexed_limit: 128, folders: Mutex::default() }
    }
}

#[async_trait]
impl StoreFixture for Files {
    async fn fresh(&self, clock: Clock) -> Arc<dyn MemoryStore> {
        self.open(clock).await.0
    }

    async fn fresh_with_rollback(
        &self,
        clock: Clock,
    ) -> Option<(Arc<dyn MemoryStore>, Arc<dyn Rollback>)> {
        let (store, path) = self.open(clock).await;
        Some((store, Arc::new(Copied(path))))
    }
}

impl Files {
    async fn open(&self, clock: Clock) -> (Arc<dyn MemoryStore>, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.db");
        let config = SqliteConfig::new(&path)
            .with_clock(clock)
            .with_commit_thread(self.commits)
            .with_unindexed_limit(self.unindexed_limit);
        self.folders.lock().unwrap().push(folder);
        (Arc::new(SqliteStore::open(config).await.unwrap()), path)
    }
}

/// Puts the rows of the file back to those of a copy, in one transaction of another connection: a file that
/// is replaced under an open store is refused.
#[derive(Debug)]
struct Copied(PathBuf);

/// The tables of the index for searches.
const INDEX: [&str; 3] = ["word_data", "word_idx", "word_docsize"];

#[async_trait]
impl Rollback for Copied {
    async fn keep(&self) {
        let copy = self.0.with_extension("copy");
        let _ = std::fs::remove_file(&copy);
        let file = Connection::open(&self.0).unwrap();
        file.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    }

    async fn go_back(&self) {
        let mut file = Connection::open(&self.0).unwrap();
        let copy = self.0.with_extension("copy");
        file.execute("ATTACH ?1 AS kept", [copy.to_str().unwrap()]).unwrap();
        let change = file.transaction().unwrap();
        let tables = ["memory", "message", "receipt", "writer", "indexed", "stale"];
        for table in tables.into_iter().chain(INDEX) {
            let rows = format!(
                "DELETE FROM main.{table}; INSERT INTO main.{table} SELECT * FROM kept.{table}"
            );
            change.execute_batch(&rows).unwrap();
        }
        change.commit().unwrap();
    }
}

#[tokio::test]
async fn the_store_conforms() {
    // Each search uses the index.
    run_all(&Files { unindexed_limit: 0, ..Files::new(CommitThread::Caller) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn store_conforms_on_several_threads() {
    run_all(&Files::new(CommitThread::Caller)).await;
}

#[tokio::test]
async fn store_conforms_when_a_runner_does_every_write() {
    run_all(&Files::new(CommitThread::Store)).await;
}

#[test]
fn store_conforms_outside_of_tokio() {
    futures_block_on(run_all(&Files::new(CommitThread::Caller)));
    futures_block_on(run_all(&Files::new(CommitThread::Store)));
}

/// A minimal executor.
fn futures_block_on<T>(future: impl Future<Output = T>) -> T {
    use std::task::{Context, Poll, Wake, Waker};
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park(),
        }
    }
}
