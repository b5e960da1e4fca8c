//! The cost of a lease, compared with its parts: a mutex in process, two prepared statements in SQLite.
//!
//! `cargo bench -p memory-lock --features sqlite`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use memory_lock::{InProcessLock, LockBackend, LockKey, LockManager, LockOptions, ReleaseOutcome};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn key() -> LockKey {
    LockKey::new("support-case:acme:case-17").expect("a key")
}

fn in_process() -> LockManager {
    LockManager::new(Arc::new(InProcessLock::default()) as Arc<dyn LockBackend>)
}

async fn pairs(locks: LockManager, count: u64) -> Duration {
    let (key, options) = (key(), LockOptions::new());
    let begun = Instant::now();
    for _ in 0..count {
        let guard = locks.lock(&key, &options).await.expect("a lease");
        assert_eq!(black_box(guard).release().await, ReleaseOutcome::Released);
    }
    begun.elapsed()
}

fn uncontended(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("in_process_pair");
    group.bench_function("tokio_mutex", |b| {
        b.iter_custom(|count| {
            runtime.block_on(async {
                let mutex = tokio::sync::Mutex::new(());
                let begun = Instant::now();
                for _ in 0..count {
                    drop(black_box(mutex.lock().await));
                }
                begun.elapsed()
            })
        });
    });
    let locks = in_process();
    group.bench_function("lock_release", |b| {
        b.iter_custom(|count| runtime.block_on(pairs(locks.clone(), count)));
    });
    group.bench_function("lock_drop", |b| {
        b.iter_custom(|count| {
            runtime.block_on(async {
                let (key, options) = (key(), LockOptions::new());
                let begun = Instant::now();
                for _ in 0..count {
                    drop(black_box(locks.lock(&key, &options).await.expect("a lease")));
                }
                begun.elapsed()
            })
        });
    });
    group.bench_function("with_lock_refresh", |b| {
        b.iter_custom(|count| {
            runtime.block_on(async {
                let (key, options) = (key(), LockOptions::new());
                let begun = Instant::now();
                for n in 0..count {
                    let work = async |_| black_box(n);
                    locks.with_lock_refresh(&key, &options, work).await.expect("a lease");
                }
                begun.elapsed()
            })
        });
    });
    group.finish();
}

/// The time from the moment a holder drops its guard until a waiting task has the lease.
fn hand_over(c: &mut Criterion) {
    let runtime = runtime();
    let locks = in_process();
    c.bench_function("in_process_hand_over", |b| {
        b.iter_custom(|count| {
            let locks = locks.clone();
            runtime.block_on(async move {
                let (key, options) = (key(), LockOptions::new());
                let mut total = Duration::ZERO;
                for _ in 0..count {
                    let guard = locks.lock(&key, &options).await.expect("a lease");
                    let waiter = locks.clone();
                    let name = key.clone();
                    let waiting = tokio::spawn(async move {
                        let guard = waiter.lock(&name, &options).await.expect("a lease");
                        let got = Instant::now();
                        drop(guard);
                        got
                    });
                    while locks.waiting(&key) == 0 {
                        tokio::task::yield_now().await;
                    }
                    let begun = Instant::now();
                    drop(guard);
                    total += waiting.await.expect("a waiter") - begun;
                }
                total
            })
        });
    });
}

#[cfg(feature = "sqlite")]
fn sqlite(c: &mut Criterion) {
    use memory_lock::{Clock, ClockExt as _, SqliteLock};
    use memory_sqlite_file::{OpenOptions, Synchronous, open_connection};
    use rusqlite::params;

    let runtime = runtime();
    let dir = tempfile::tempdir().expect("a directory");
    let mut group = c.benchmark_group("sqlite_pair");

    let backend = SqliteLock::open(dir.path().join("leases.db"), Clock::system()).expect("a file");
    let backend: Arc<dyn LockBackend> = Arc::new(backend);
    let locks = LockManager::new(Arc::clone(&backend));

    let options = OpenOptions::new().with_synchronous(Synchronous::Normal);
    let bare = open_connection(&dir.path().join("bare.db"), &options).expect("a file");
    bare.execute_batch(
        "CREATE TABLE leases (key TEXT NOT NULL PRIMARY KEY, owner BLOB, token INTEGER NOT NULL,
         granted INTEGER NOT NULL, expires INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    )
    .expect("a table");
    let mut acquire = bare
        .prepare(
            "INSERT INTO leases VALUES (?1, ?2, ?3, ?3, ?4) ON CONFLICT (key) DO UPDATE SET
             owner = ?2, token = max(token + 1, ?3), granted = ?3, expires = ?4
             WHERE owner IS NULL OR expires <= ?3 RETURNING token",
        )
        .expect("a statement");
    let mut release = bare
        .prepare("UPDATE leases SET owner = NULL WHERE key = ?1 AND owner = ?2")
        .expect("a statement");
    let clock = Clock::system();
    group.bench_function("two_prepared_statements", |b| {
        b.iter(|| {
            let (key, owner) = ("support-case:acme:case-17", fastrand::u128(..).to_be_bytes());
            let now = i64::try_from(clock.now_micros()).expect("a time");
            let token: i64 = acquire
                .query_row(params![key, owner, now, now + 30_000_000], |row| row.get(0))
                .expect("a grant");
            assert_eq!(release.execute(params![key, owner]).expect("a release"), 1);
            token
        });
    });
    group.bench_function("lock_release", |b| {
        b.iter_custom(|count| runtime.block_on(pairs(locks.clone(), count)));
    });
    group.bench_function("backend_only", |b| {
        b.iter_custom(|count| {
            runtime.block_on(async {
                let (key, ttl) = (key(), Duration::from_secs(30));
                let begun = Instant::now();
                for _ in 0..count {
                    let owner = memory_lock::OwnerId::new(fastrand::u128(..));
                    black_box(backend.try_acquire(&key, owner, ttl).await.expect("a grant"));
                    black_box(backend.release(&key, owner).await.expect("a release"));
                }
                begun.elapsed()
            })
        });
    });
    group.finish();
}

#[cfg(not(feature = "sqlite"))]
fn sqlite(_: &mut Criterion) {}

criterion_group!(benches, uncontended, hand_over, sqlite);
criterion_main!(benches);
