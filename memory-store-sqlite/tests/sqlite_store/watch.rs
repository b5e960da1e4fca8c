//! Watches see the writes of other stores on the same file.

use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::support::{append, key, message, texts, write};
use memory_core::store::{
    Access, Clear, ExpiredMemories, RemoveUnused, Replace, Splice, StoreErrorKind, StoreWatch,
    UnusedQuery,
};
use memory_core::{MemoryStore, Sequence};
use memory_store_sqlite::SqliteStore;
use rusqlite::Connection;
use tempfile::TempDir;

struct Stores {
    watching: SqliteStore,
    writing: SqliteStore,
    file: PathBuf,
    _folder: TempDir,
}

async fn stores() -> Stores {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory.db");
    let watching = SqliteStore::open(file.as_path()).await.unwrap();
    let writing = SqliteStore::open(file.as_path()).await.unwrap();
    Stores { watching, writing, file, _folder: folder }
}

#[expect(clippy::disallowed_methods, reason = "the poller waits in real time")]
fn now() -> Instant {
    Instant::now()
}

/// Waits longer than the longest pause of the poller.
async fn is_quiet(watch: &mut dyn StoreWatch) -> bool {
    tokio::time::timeout(Duration::from_millis(300), watch.changed()).await.is_err()
}

#[tokio::test]
async fn every_write_of_another_store_is_signaled() {
    let Stores { watching, writing, file: _file, _folder } = stores().await;
    let k = key("k");
    let mut watch = watching.watch(&k).await.unwrap();
    append(&writing, &k, write(1, 1), &["one", "three", "fifth"]).await.unwrap();
    watch.changed().await.unwrap();

    let outline = writing.outline(&k).await.unwrap();
    let replace = Replace {
        write: write(1, 2),
        sequence: Sequence::new(1),
        replaced: outline.metas[0].id,
        message: message("replaced"),
    };
    writing.replace(&k, Access::OPEN, &replace).await.unwrap();
    watch.changed().await.unwrap();

    let generation = writing.head(&k).await.unwrap().generation;
    let splice = Splice { evicted: vec![Sequence::new(2)], ..Splice::new(generation) };
    writing.splice(&k, Access::OPEN, &splice).await.unwrap();
    watch.changed().await.unwrap();

    writing.clear(&k, Access::OPEN, &Clear::new(write(1, 3))).await.unwrap();
    watch.changed().await.unwrap();

    append(&writing, &k, write(1, 4), &["again", "and", "more"]).await.unwrap();
    watch.changed().await.unwrap();

    let query = UnusedQuery {
        prefix: String::new(),
        after: None,
        expired: ExpiredMemories::Ignored,
        unwritten_for: Some(Duration::ZERO),
        limit: NonZeroUsize::MAX,
    };
    let unused = writing.unused(&query).await.unwrap().memories.remove(0);
    // The first part ends the memory and leaves its version unchanged.
    let part = RemoveUnused::new(&unused, NonZeroUsize::MIN);
    assert!(writing.remove(&k, part).await.unwrap().more);
    watch.changed().await.unwrap();
    assert!(texts(&watching, &k).await.is_empty());
    let rest = RemoveUnused::new(&unused, NonZeroUsize::new(100).unwrap());
    assert!(!writing.remove(&k, rest).await.unwrap().more);
    append(&writing, &k, write(1, 5), &["new"]).await.unwrap();
    watch.changed().await.unwrap();
    assert_eq!(texts(&watching, &k).await, ["new"]);
}

#[tokio::test]
async fn one_write_is_signaled_once() {
    let Stores { watching, writing, .. } = &stores().await;
    let k = key("k");
    append(writing, &k, write(1, 1), &["before"]).await.unwrap();
    let mut watch = watching.watch(&k).await.unwrap();
    assert!(is_quiet(&mut *watch).await, "it was written before the watch");
    append(writing, &key("other"), write(1, 1), &["other"]).await.unwrap();
    assert!(is_quiet(&mut *watch).await, "another memory was written");
    for (number, store) in (2..).zip([writing, watching, writing, watching]) {
        append(store, &k, write(1, number), &["one"]).await.unwrap();
        watch.changed().await.unwrap();
        assert!(is_quiet(&mut *watch).await, "write {number} was signaled twice");
    }
}

/// Without waiting for the poller, which would see it too.
#[tokio::test]
async fn own_write_is_signaled_at_once() {
    let Stores { watching, .. } = &stores().await;
    let k = key("k");
    for number in 1..=20 {
        let mut watch = watching.watch(&k).await.unwrap();
        append(watching, &k, write(1, number), &["one"]).await.unwrap();
        let signaled = watch.changed().as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(signaled, Poll::Ready(Ok(()))), "append {number}");
    }
}

#[tokio::test]
async fn write_right_after_the_watch_is_signaled() {
    let Stores { watching, writing, .. } = &stores().await;
    for number in 1..=20 {
        let k = key(&number.to_string());
        // A second watch meets a poller that has seen the previous write.
        let mut watch = watching.watch(&k).await.unwrap();
        append(writing, &k, write(1, number), &["one"]).await.unwrap();
        watch.changed().await.unwrap();
        let mut again = watching.watch(&k).await.unwrap();
        append(writing, &k, write(2, number), &["two"]).await.unwrap();
        again.changed().await.unwrap();
    }
}

/// Rows that are put back have lower numbers, or the same numbers for other messages.
#[tokio::test]
async fn rolled_back_memory_is_signaled() {
    let Stores { watching, writing, file, _folder } = stores().await;
    let k = key("k");
    append(&writing, &k, write(1, 1), &["one"]).await.unwrap();
    append(&writing, &k, write(1, 2), &["other"]).await.unwrap();
    let mut watch = watching.watch(&k).await.unwrap();
    let other = Connection::open(&file).unwrap();
    for change in [
        "UPDATE memory SET version = version - 1",
        "UPDATE memory SET generation = generation - 1, version = version + 1",
        "UPDATE memory SET generation = generation - 1",
        "UPDATE message SET id = zeroblob(16)",
        "DELETE FROM memory",
    ] {
        other.execute_batch(change).unwrap();
        watch.changed().await.unwrap();
    }
}

#[tokio::test]
async fn replaced_file_ends_waits_at_intervals() {
    let Stores { watching, file, .. } = &stores().await;
    let mut watch = watching.watch(&key("k")).await.unwrap();
    let copy = file.with_extension("copy");
    fs::copy(file, &copy).unwrap();
    fs::rename(&copy, file).unwrap();
    let since = now();
    for _ in 0..5 {
        let error = watch.changed().await.unwrap_err();
        assert!(matches!(error.kind(), StoreErrorKind::Replaced(_)), "{error}");
        assert!(!error.is_retryable() && error.to_string().contains("tests:sqlite:k"), "{error}");
    }
    // Four pauses of the poller.
    assert!(since.elapsed() >= Duration::from_millis(200), "{:?}", since.elapsed());
    let error = watching.watch(&key("k")).await.unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Replaced(_)), "{error}");
}

#[tokio::test]
async fn dropped_store_ends_watches_and_closes() {
    let Stores { watching, writing, file, _folder } = stores().await;
    let k = key("k");
    append(&writing, &k, write(1, 1), &["one"]).await.unwrap();
    let mut watch = watching.watch(&k).await.unwrap();
    let mut waits = watching.watch(&k).await.unwrap();
    let waiting = tokio::spawn(async move { waits.changed().await });
    tokio::task::yield_now().await;
    drop(writing);
    drop(watching);
    // At once, unless the poller takes longer than the store waits for it; its end sends no notification.
    while file.with_extension("db-wal").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for error in [waiting.await.unwrap().unwrap_err(), watch.changed().await.unwrap_err()] {
        assert!(error.to_string().contains("the store was closed"), "{error}");
        assert!(!error.is_retryable());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_stores_are_signaled_quickly() {
    const APPENDS: u64 = 100;
    let Stores { watching, writing, .. } = &stores().await;
    let k = key("k");
    let mut watch = watching.watch(&k).await.unwrap();
    let mut taken = Vec::new();
    for number in 1..=APPENDS {
        // Half of them after a pause, when the poller looks less often.
        if number % 2 == 0 {
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        append(writing, &k, write(1, number), &["one"]).await.unwrap();
        let acknowledged = now();
        watch.changed().await.unwrap();
        taken.push(acknowledged.elapsed());
    }
    taken.sort_unstable();
    let (median, longest) = (taken[taken.len() / 2], taken[taken.len() - 1]);
    eprintln!("signaled after {median:?} at the median, {longest:?} at most");
    assert!(median < Duration::from_millis(500));
}
