//! Concurrent first readers, one of which is held back, dropped, not polled, or fails.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::future::{join_all, poll_immediate};
use memory_core::store::{StoreError, StoreErrorKind, StoreOperation};
use memory_core::{MemoryResource, MemoryStore, Message};
use memory_core_testkit::intercept::{Hook, Intercept, Method};
use tokio::sync::Semaphore;

use super::*;
use crate::{FlushMode, MemoryInstance, MemoryManager};

/// Counts reads, and holds their answers back.
#[derive(Debug)]
struct Gate {
    reads: AtomicU64,
    answers: Semaphore,
    fails: AtomicBool,
}

impl Hook for Gate {
    async fn around<T: Send>(
        &self,
        method: Method,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let answer = call.await;
        if method == Method::Read {
            self.reads.fetch_add(1, Ordering::SeqCst);
            self.answers.acquire().await.unwrap().forget();
            if self.fails.load(Ordering::SeqCst) {
                let kind = StoreErrorKind::Other("a test".into());
                return Err(StoreError::new(StoreOperation::Read, kind).not_applied());
            }
        }
        answer
    }
}

/// A process whose reads are held back, and the same memory in another process.
struct World {
    store: Arc<Intercept<Gate>>,
    reader: MemoryInstance,
    writer: MemoryInstance,
}

impl World {
    async fn new() -> Self {
        let builder = || {
            MemoryManager::builder()
                .with_resource(MemoryResource::new("chat", 1 << 20))
                .with_flush_mode(FlushMode::Manual)
        };
        let manager = builder().open("memory://").await.unwrap();
        let writer = manager.memory("chat", "a").unwrap();
        writer.append_all(["one", "two"].map(Message::user)).await.unwrap();
        let (reads, fails) = (AtomicU64::new(0), AtomicBool::new(false));
        let gate = Gate { reads, answers: Semaphore::new(0), fails };
        let store = Arc::new(Intercept::new(Arc::clone(manager.store()), gate));
        let held_back = Arc::clone(&store) as Arc<dyn MemoryStore>;
        let held_back = builder().build(held_back, manager.locks().clone()).unwrap();
        let reader = held_back.memory_at(writer.key()).unwrap();
        Self { store, reader, writer }
    }

    fn reads(&self) -> u64 {
        self.store.hook().reads.load(Ordering::SeqCst)
    }

    fn answer(&self) {
        self.store.hook().answers.add_permits(100);
    }

    async fn read(&self) -> Vec<String> {
        let messages = self.reader.messages().await.unwrap();
        messages.iter().map(|stored| stored.message.text().into_owned()).collect()
    }
}

#[tokio::test]
async fn first_readers_share_one_read() {
    let world = World::new().await;
    let mut readers = pin!(join_all((0..8).map(|_| world.read())));
    assert!(poll_immediate(&mut readers).await.is_none());
    assert_eq!(world.reads(), 1);
    // Written after the answer was made.
    world.writer.append(Message::user("three")).await.unwrap();
    let mut late = pin!(world.read());
    assert!(poll_immediate(&mut late).await.is_none());
    assert_eq!(world.reads(), 1);
    world.answer();
    let (early, late) = futures::join!(readers, late);
    assert_eq!(late, ["one", "two", "three"]);
    assert_eq!(early[0], ["one", "two"]);
    assert_eq!(early[1..], vec![vec!["one", "two", "three"]; 7]);
    // Each of the others asked for what came after the view.
    assert_eq!(world.reads(), 9);
    let window = world.reader.context(1_000).await.unwrap();
    assert_eq!((window.messages.len(), world.reads()), (3, 10));
}

#[tokio::test]
async fn dropped_first_reader_is_replaced() {
    let world = World::new().await;
    let mut first = Box::pin(world.read());
    assert!(poll_immediate(&mut first).await.is_none());
    let mut others = pin!(join_all([world.read(), world.read()]));
    assert!(poll_immediate(&mut others).await.is_none());
    drop(first);
    assert!(poll_immediate(&mut others).await.is_none());
    assert_eq!(world.reads(), 2, "one of the others reads");
    world.answer();
    assert_eq!(others.await, [["one", "two"]; 2]);
    assert_eq!(world.reads(), 3);
}

#[tokio::test(start_paused = true)]
async fn unpolled_first_reader_is_overtaken() {
    let world = World::new().await;
    let mut first = Box::pin(world.read());
    assert!(poll_immediate(&mut first).await.is_none());
    world.answer();
    let begun = Instant::now();
    let others = join_all([world.read(), world.read()]).await;
    assert_eq!(others, [["one", "two"]; 2]);
    assert_eq!((begun.elapsed().as_secs(), world.reads()), (1, 3));
    assert_eq!(first.await, ["one", "two"]);
}

#[tokio::test]
async fn failed_first_read_stops_no_other() {
    let world = World::new().await;
    world.store.hook().fails.store(true, Ordering::SeqCst);
    let read = || world.reader.messages();
    let mut readers = pin!(join_all([read(), read(), read(), read()]));
    assert!(poll_immediate(&mut readers).await.is_none());
    assert_eq!(world.reads(), 1);
    world.store.hook().answers.add_permits(1);
    assert!(poll_immediate(&mut readers).await.is_none());
    assert_eq!(world.reads(), 4, "they do not wait for each other");
    world.answer();
    assert!(readers.await.iter().all(Result::is_err));
    world.store.hook().fails.store(false, Ordering::SeqCst);
    assert_eq!(world.read().await, ["one", "two"]);
}
