//! Many writers at once share commits without affecting each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{append, batch, checked_outline, key, message, texts, write};
use memory_core::MemoryStore;
use memory_core::store::{Access, Append, StoreErrorKind};
use memory_lock::{Clock, ClockExt as _};
use memory_store_sqlite::{CommitThread, SqliteConfig, SqliteStore};
use tempfile::TempDir;

async fn fresh(commits: CommitThread) -> (TempDir, Arc<SqliteStore>) {
    let folder = tempfile::tempdir().unwrap();
    let config = SqliteConfig::new(folder.path().join("memory.db")).with_commit_thread(commits);
    (folder, Arc::new(SqliteStore::open(config).await.unwrap()))
}

async fn batches_of_64_writers_are_contiguous(commits: CommitThread) {
    const WRITERS: u128 = 64;
    const BATCHES: u64 = 10;
    let (_folder, store) = fresh(commits).await;
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for number in 1..=BATCHES {
                    let texts = [0, 1, 2].map(|part| format!("{writer} {number} {part}"));
                    let key = key(&(writer % 2).to_string());
                    let append = batch(write(writer, number), &texts);
                    let appended = store.append(&key, Access::OPEN, &append).await.unwrap();
                    // A retry at once, while others write.
                    let again = store.append(&key, Access::OPEN, &append).await.unwrap();
                    assert!(again.outcome.is_duplicate());
                    assert_eq!(again.outcome.first(), appended.outcome.first());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for name in ["0", "1"] {
        let outline = checked_outline(&*store, &key(name)).await;
        assert_eq!(outline.head.counters.appended, WRITERS as u64 / 2 * BATCHES * 3);
        let mut last = HashMap::new();
        for batch in texts(&*store, &key(name)).await.chunks(3) {
            let parts: Vec<Vec<u64>> = batch
                .iter()
                .map(|text| text.split(' ').map(|part| part.parse().unwrap()).collect())
                .collect();
            let (writer, number) = (parts[0][0], parts[0][1]);
            for (index, part) in parts.iter().enumerate() {
                assert_eq!(part[..], [writer, number, index as u64], "torn batch");
            }
            assert_eq!(last.insert(writer, number).unwrap_or(0) + 1, number, "order lost");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn four_threads_keep_batches_of_64_writers_ordered() {
    batches_of_64_writers_are_contiguous(CommitThread::Caller).await;
}

#[tokio::test]
async fn one_thread_keeps_batches_of_64_writers_ordered() {
    batches_of_64_writers_are_contiguous(CommitThread::Caller).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn runner_batches_of_64_writers_stay_in_order() {
    batches_of_64_writers_are_contiguous(CommitThread::Store).await;
}

/// All futures are polled in turn on this task, so they are submitted in this order.
async fn all_at_once(
    store: &SqliteStore,
    appends: Vec<(&str, Access, Append)>,
) -> Vec<Result<memory_core::store::Appended, memory_core::store::StoreError>> {
    let calls = appends.into_iter().map(|(name, access, append)| {
        let key = key(name);
        async move { store.append(&key, access, &append).await }
    });
    futures_join(calls).await
}

async fn futures_join<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(move |context| {
        for (future, done) in &mut futures {
            if done.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(context)
            {
                *done = Some(output);
            }
        }
        if futures.iter().all(|(_, done)| done.is_some()) {
            std::task::Poll::Ready(futures.iter_mut().filter_map(|(_, done)| done.take()).collect())
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}

#[tokio::test]
async fn refused_write_spares_others_in_its_commit() {
    for commits in [CommitThread::Caller, CommitThread::Store] {
        let (_folder, store) = fresh(commits).await;
        append(&*store, &key("a"), write(9, 1), &["before"]).await.unwrap();
        let forged = memory_core::lease::LeaseProof {
            owner: memory_core::lease::OwnerId::new(1),
            token: memory_core::lease::FencingToken::new(1),
        };
        let (open, stale) = (Access::OPEN, Access::with_lease(forged));
        let outcomes = all_at_once(
            &store,
            vec![
                ("a", open, batch(write(1, 1), &["one"])),
                ("a", stale, batch(write(2, 1), &["stale"])),
                ("b", open, batch(write(1, 1), &["two", "three"])),
                ("b", stale, batch(write(2, 2), &["stale"])),
                ("a", open, batch(write(9, 1), &["before"])),
                ("a", open, batch(write(1, 2), &["four"])),
                ("new", stale, batch(write(2, 3), &["stale"])),
            ],
        )
        .await;
        for (index, outcome) in outcomes.iter().enumerate() {
            match (index, outcome) {
                (1 | 3 | 6, Err(error)) => {
                    assert!(matches!(error.kind(), StoreErrorKind::Fenced { .. }), "{error}");
                }
                (4, Ok(appended)) => assert!(appended.outcome.is_duplicate()),
                (_, outcome) => {
                    assert!(!outcome.as_ref().unwrap().outcome.is_duplicate(), "{index}");
                }
            }
        }
        assert_eq!(texts(&*store, &key("a")).await, ["before", "one", "four"]);
        assert_eq!(texts(&*store, &key("b")).await, ["two", "three"]);
        assert_eq!(
            store.outline(&key("new")).await.unwrap(),
            memory_core::store::Outline::default()
        );
        for name in ["a", "b"] {
            checked_outline(&*store, &key(name)).await;
        }
    }
}

#[tokio::test]
async fn unreadable_message_is_refused_before_writing() {
    let (_folder, store) = fresh(CommitThread::Caller).await;
    let mut bad = message("secret");
    bad.message = memory_core::Message::new(memory_core::Role::from(""), "secret");
    let append = Append { messages: [message("ok"), bad].into(), ..batch(write(1, 1), &["x"]) };
    let error = store.append(&key("k"), Access::OPEN, &append).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "append to tests:sqlite:k: invalid request: a message of the batch is malformed: `role` \
         must be a non-empty string"
    );
    assert!(texts(&*store, &key("k")).await.is_empty());
}

/// Drops each append after 0, 1, 2, ... polls, until one completes; then checks their outcomes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_append_is_atomic() {
    for commits in [CommitThread::Caller, CommitThread::Store] {
        let (_folder, store) = fresh(commits).await;
        let k = key("k");
        let mut acknowledged = Vec::new();
        for number in 1..=200_u64 {
            let texts = [format!("{number} a"), format!("{number} b")];
            let batch = batch(write(1, number), &texts);
            let call = store.append(&k, Access::OPEN, &batch);
            // Others write meanwhile, so that the append is dropped at every stage.
            let other = {
                let (store, k) = (Arc::clone(&store), k.clone());
                tokio::spawn(async move {
                    append(&*store, &k, write(2, number), &["other"]).await.unwrap();
                })
            };
            if poll_times(call, number % 4).await.is_some_and(|done| done.is_ok()) {
                acknowledged.push(number);
            }
            other.await.unwrap();
        }
        let texts = texts(&*store, &k).await;
        let mine: Vec<_> = texts.iter().filter(|text| *text != "other").collect();
        assert_eq!(texts.len() - mine.len(), 200);
        let mut numbers = Vec::new();
        for pair in mine.chunks(2) {
            let number: u64 = pair[0].strip_suffix(" a").unwrap().parse().unwrap();
            assert_eq!(pair[1], &format!("{number} b"));
            numbers.push(number);
        }
        assert!(numbers.is_sorted(), "order lost");
        assert!(acknowledged.iter().all(|number| numbers.contains(number)));
        checked_outline(&*store, &k).await;
        // Nothing is stuck.
        append(&*store, &k, write(1, 500), &["last"]).await.unwrap();
    }
}

async fn poll_times<F: Future>(future: F, times: u64) -> Option<F::Output> {
    let mut future = Box::pin(future);
    for _ in 0..times {
        let polled = std::future::poll_fn(|context| {
            std::task::Poll::Ready(match future.as_mut().poll(context) {
                std::task::Poll::Ready(done) => Some(done),
                std::task::Poll::Pending => None,
            })
        });
        if let Some(done) = polled.await {
            return Some(done);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[tokio::test(start_paused = true)]
async fn paused_clock_does_not_advance_during_store_calls() {
    for commits in [CommitThread::Caller, CommitThread::Store] {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::tokio();
        let config = SqliteConfig::new(folder.path().join("memory.db"))
            .with_clock(clock.clone())
            .with_commit_thread(commits);
        let store = SqliteStore::open(config).await.unwrap();
        // A timer to which the runtime could advance.
        let timer = tokio::spawn(tokio::time::sleep(Duration::from_secs(3_600)));
        let before = clock.now_micros();
        for number in 1..=50 {
            append(&store, &key("k"), write(1, number), &["x"; 20]).await.unwrap();
        }
        // 1,000 messages: read on a thread of the store.
        assert_eq!(texts(&store, &key("k")).await.len(), 1_000);
        assert_eq!(clock.now_micros(), before);
        timer.abort();
    }
}

#[tokio::test]
async fn one_task_does_not_starve_its_thread() {
    let (_folder, store) = fresh(CommitThread::Caller).await;
    let others = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counting = {
        let others = Arc::clone(&others);
        tokio::spawn(async move {
            loop {
                others.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        })
    };
    for number in 1..=50 {
        append(&*store, &key("k"), write(1, number), &["x"]).await.unwrap();
    }
    assert!(others.load(std::sync::atomic::Ordering::SeqCst) >= 50);
    counting.abort();
}

/// Calls `call` with each number below `count`, each on a separate thread, and waits for all.
fn each_on_a_thread(count: u32, spawn: impl Fn(Box<dyn FnOnce() + Send>), call: fn(&Caller)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let config = SqliteConfig::new(path).with_commit_thread(CommitThread::Store);
    let store = Arc::new(runtime.block_on(SqliteStore::open(config)).unwrap());
    let (sender, done) = std::sync::mpsc::channel();
    for number in 0..count {
        let caller = Caller { store: Arc::clone(&store), number };
        let sender = sender.clone();
        spawn(Box::new(move || {
            call(&caller);
            sender.send(()).unwrap();
        }));
    }
    for _ in 0..count {
        assert!(done.recv_timeout(Duration::from_secs(30)).is_ok(), "a caller is stuck");
    }
    let outline = runtime.block_on(checked_outline(&*store, &key("k")));
    assert_eq!(outline.head.counters.appended, u64::from(count) * 200);
}

struct Caller {
    store: Arc<SqliteStore>,
    number: u32,
}

impl Caller {
    /// Writes more than is read on the calling thread, and reads it.
    async fn write_and_read(&self) {
        for number in 1..=10 {
            append(&*self.store, &key("k"), write(self.number.into(), number), &["x"; 20])
                .await
                .unwrap();
        }
        assert!(texts(&*self.store, &key("k")).await.len() >= 200);
    }
}

#[test]
fn callers_that_fill_the_blocking_pool_are_served() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(4)
        .build()
        .unwrap();
    let spawn = |call: Box<dyn FnOnce() + Send>| drop(runtime.spawn_blocking(call));
    each_on_a_thread(8, spawn, |caller| {
        tokio::runtime::Handle::current().block_on(caller.write_and_read());
    });
}

#[test]
fn undriven_runtime_is_enough() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let spawn = |call: Box<dyn FnOnce() + Send>| {
        let handle = runtime.handle().clone();
        std::thread::spawn(move || {
            let _context = handle.enter();
            call();
        });
    };
    each_on_a_thread(8, spawn, |caller| {
        tokio::runtime::Handle::current().block_on(caller.write_and_read());
    });
}

#[test]
fn many_runtimes_share_a_store() {
    let spawn = |call: Box<dyn FnOnce() + Send>| drop(std::thread::spawn(call));
    each_on_a_thread(8, spawn, |caller| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(caller.write_and_read());
    });
}

/// Only the context of the runtime is left, so nothing can be spawned there.
#[test]
fn ended_runtime_fails_no_call() {
    let ended = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let handle = ended.handle().clone();
    ended.shutdown_background();
    let _context = handle.enter();
    each_on_a_thread(1, |call| call(), |caller| poll_in_place(caller.write_and_read()));
}

/// Waits for a future without any runtime.
fn poll_in_place(future: impl Future<Output = ()>) {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    while future.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending() {
        std::thread::park();
    }
}

/// The threads of this process, which runs this test alone.
#[cfg(target_os = "linux")]
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn dropped_stores_leave_no_thread() {
    let folder = tempfile::tempdir().unwrap();
    let before = threads();
    for number in 0..200_u32 {
        let path = folder.path().join((number % 4).to_string());
        let store = SqliteStore::open(path.as_path()).await.unwrap();
        if number % 10 == 0 {
            let appends = (0..3)
                .map(|writer| ("k", Access::OPEN, batch(write(writer, number.into()), &["x"])));
            for appended in all_at_once(&store, appends.collect()).await {
                appended.unwrap();
            }
        }
        drop(store);
        // The thread of a store that was dropped ends at once, but some time after.
        assert!(threads() <= before + 20, "{} threads", threads());
    }
    while threads() > before {
        tokio::task::yield_now().await;
    }
}
