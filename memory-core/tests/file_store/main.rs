//! A store on a plain file, as a third party would write it, and its tests: the conformance suite of `memory-core`,
//! random programs, and failures that only files have.

#![cfg(feature = "conformance")]

mod log;
mod programs;
mod store;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use memory_core::Clock;
use memory_core::conformance::{Rollback, StoreFixture, assert_counters, run_all};
use memory_core::store::{
    Access, Append, MessageId, NewMessage, Outline, Splice, StoreErrorKind, WriterId,
};
use memory_core::{ContentType, MemoryKey, MemoryStore, Message, Sequence};
use store::{FileStore, shared};
use tempfile::TempDir;

/// Creates a store for each case of the suite, and keeps their folders until the test ends.
#[derive(Debug, Default)]
struct Files(Mutex<Vec<TempDir>>);

#[async_trait]
impl StoreFixture for Files {
    async fn fresh(&self, clock: Clock) -> Arc<dyn MemoryStore> {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().join("memories"), &clock);
        self.0.lock().unwrap().push(folder);
        shared(store)
    }

    async fn fresh_with_rollback(
        &self,
        clock: Clock,
    ) -> Option<(Arc<dyn MemoryStore>, Arc<dyn Rollback>)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memories");
        let store = Arc::new(open(&path, &clock));
        self.0.lock().unwrap().push(folder);
        Some((Arc::clone(&store) as _, Arc::new(Copied { store, path })))
    }

    fn copies(&self) -> bool {
        false
    }
}

/// Restores the file from a copy.
#[derive(Debug)]
struct Copied {
    store: Arc<FileStore>,
    path: PathBuf,
}

#[async_trait]
impl Rollback for Copied {
    async fn keep(&self) {
        fs::copy(&self.path, self.path.with_extension("copy")).unwrap();
    }

    async fn go_back(&self) {
        fs::copy(self.path.with_extension("copy"), &self.path).unwrap();
        self.store.open_anew(&self.path).unwrap();
    }
}

fn open(path: &Path, clock: &Clock) -> FileStore {
    FileStore::open(path, clock.clone()).unwrap()
}

#[tokio::test]
async fn file_store_conforms() {
    run_all(&Files::default()).await;
}

fn key() -> MemoryKey {
    MemoryKey::new("example", "file", "k").unwrap()
}

fn append(number: u64, texts: &[&str]) -> Append {
    let message = |text: &&str| NewMessage {
        id: MessageId::new(uuid::Uuid::from_u128(number.into())),
        message: Message::user(*text),
        tokens: 5,
        priority: None,
        content_type: ContentType::Conversation,
        created_at: Clock::manual().now(),
    };
    Append {
        write: WriterId::new(7).write(number),
        messages: texts.iter().map(message).collect(),
        ttl: None,
        expected: None,
    }
}

async fn outline(store: &FileStore) -> Outline {
    let outline = store.outline(&key()).await.unwrap();
    assert_counters(&outline);
    outline
}

/// A write that was cut off at any byte was never acknowledged. It is dropped completely, all earlier writes are
/// kept, and the next write, such as its retry, succeeds.
#[tokio::test]
async fn crash_at_any_byte_is_atomic() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
    let path = folder.path().join("memories");
    let store = open(&path, &clock);
    store.append(&key(), Access::OPEN, &append(1, &["one", "two\nlines"])).await.unwrap();
    let generation = store.head(&key()).await.unwrap().generation;
    let splice = Splice { evicted: vec![Sequence::new(1)], ..Splice::new(generation) };
    store.splice(&key(), Access::OPEN, &splice).await.unwrap();
    let before = (fs::read(&path).unwrap().len(), outline(&store).await);
    store.append(&key(), Access::OPEN, &append(2, &["three", "four"])).await.unwrap();
    let (whole, after) = (fs::read(&path).unwrap(), outline(&store).await);
    drop(store);

    for cut in before.0..=whole.len() {
        // Sometimes followed by zeros, because a file may grow before its content is written.
        for zeros in [0, whole.len() - cut].into_iter().take(1 + usize::from(cut % 8 == 0)) {
            let mut torn = whole[..cut].to_vec();
            torn.resize(cut + zeros, 0);
            fs::write(&path, &torn).unwrap();
            let store = open(&path, &clock);
            let expected = if cut == whole.len() { &after } else { &before.1 };
            assert_eq!(&outline(&store).await, expected, "cut at {cut}");
            let again =
                store.append(&key(), Access::OPEN, &append(2, &["three", "four"])).await.unwrap();
            assert_eq!(again.outcome.is_duplicate(), cut == whole.len());
            assert_eq!(outline(&store).await, after);
            drop(store);
            assert_eq!(fs::read(&path).unwrap(), whole, "cut at {cut}");
        }
    }
}

#[tokio::test]
async fn damage_before_the_end_is_an_error() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
    let path = folder.path().join("memories");
    let store = open(&path, &clock);
    store.append(&key(), Access::OPEN, &append(1, &["a secret"])).await.unwrap();
    let first = fs::read(&path).unwrap().len();
    store.append(&key(), Access::OPEN, &append(2, &["another"])).await.unwrap();
    let whole = fs::read(&path).unwrap();
    for place in 0..first {
        let mut damaged = whole.clone();
        damaged[place] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let error = FileStore::open(&path, clock.clone()).unwrap_err();
        assert!(matches!(error.kind(), StoreErrorKind::Corrupt(_)), "{place}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
}

#[tokio::test]
async fn unreadable_record_is_refused_before_writing() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
    let path = folder.path().join("memories");
    let store = open(&path, &clock);
    let mut batch = append(1, &["a"]);
    let mut message = batch.messages[0].clone();
    message.message = Message::new(memory_core::Role::from(""), "a");
    batch.messages = [message].into();
    let error = store.append(&key(), Access::OPEN, &batch).await.unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Invalid(_)), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"");
}
