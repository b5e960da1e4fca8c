//! Several connections, threads and processes on one file.

mod clocks;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::common::{key, ms, secs};
use memory_lock::{
    Acquired, Applied, Clock, ClockExt as _, FencingToken, Lease, LockBackend, LockErrorKind,
    LockManager, LockOptions, LostReason, OwnerId, Release, ReleaseOutcome, Renewal, SqliteLock,
};
use memory_sqlite_file::{LeaseObserver, LeaseTable, OpenOptions, SqliteErrorKind, Synchronous};
use rusqlite::Connection;

fn open(path: &Path) -> Arc<SqliteLock> {
    Arc::new(SqliteLock::open(path, Clock::system()).unwrap())
}

fn manager(path: &Path) -> LockManager {
    LockManager::new(open(path))
}

fn patient() -> LockOptions {
    LockOptions::new().with_wait_timeout(secs(60))
}

/// A second connection that keeps the file locked, as another process would.
fn locked(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
}

#[test]
fn many_open_a_new_file_at_once() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new.db");
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|n| {
                    let path = &path;
                    // Half of them as a store would.
                    scope.spawn(move || {
                        if n % 2 == 0 {
                            drop(open(path));
                        } else {
                            let options = OpenOptions::new();
                            let connection =
                                memory_sqlite_file::open_connection(path, &options).unwrap();
                            LeaseTable::create(&connection).unwrap();
                        }
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }
}

#[tokio::test]
async fn store_on_the_same_file_sees_leases() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let store = memory_sqlite_file::open_connection(&path, &OpenOptions::new()).unwrap();
    store.execute_batch("PRAGMA user_version = 42; PRAGMA application_id = 7;").unwrap();
    let locks = manager(&path);
    let guard = locks.lock(&key("k"), &patient()).await.unwrap();

    let leases = LeaseObserver::new(Clock::system());
    let lease = leases.live_lease(&store, "k").unwrap().unwrap();
    assert_eq!(lease.proof(), guard.proof());
    assert!(lease.remaining <= secs(30) && lease.remaining > secs(25));
    assert_eq!(leases.live_lease(&store, "other").unwrap(), None);
    assert_eq!(guard.release().await, ReleaseOutcome::Released);
    assert_eq!(leases.live_lease(&store, "k").unwrap(), None);

    let pragma = |name: &str| {
        store.query_row(&format!("PRAGMA {name}"), (), |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!((pragma("user_version"), pragma("application_id")), (42, 7));
    assert_eq!(pragma("synchronous"), 2);
    let normal = OpenOptions::new().with_synchronous(Synchronous::Normal);
    let normal = memory_sqlite_file::open_connection(&path, &normal).unwrap();
    assert_eq!(normal.query_row("PRAGMA synchronous", (), |r| r.get::<_, i64>(0)).unwrap(), 1);

    let link = dir.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(&memory_sqlite_file::sqlite_domain(&link).unwrap(), locks.domain());
}

#[tokio::test]
async fn tokens_rise_after_reopening_and_clock_steps_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases.db");
    let mut last = FencingToken::ZERO;
    for clock in [Clock::system(), Clock::tokio(), Clock::manual(), Clock::manual()] {
        let backend = SqliteLock::open(&path, clock).unwrap();
        for _ in 0..3 {
            let owner = OwnerId::new(fastrand::u128(..));
            let Acquired::Granted { token } =
                backend.try_acquire(&key("k"), owner, secs(1)).await.unwrap()
            else {
                panic!("held")
            };
            assert!(token > last);
            last = token;
            assert_eq!(backend.release(&key("k"), owner).await.unwrap(), Release::Released);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn briefly_locked_file_only_delays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases.db");
    let locks = manager(&path);
    let busy = locked(&path);
    let mut tasks = Vec::new();
    for n in 0..8 {
        let locks = locks.clone();
        tasks.push(tokio::spawn(async move {
            let guard = locks.lock(&key(&format!("k{n}")), &patient()).await.unwrap();
            assert_eq!(guard.release().await, ReleaseOutcome::Released);
        }));
    }
    // The runtime continues meanwhile.
    for _ in 0..20 {
        tokio::time::sleep(ms(5)).await;
    }
    assert!(tasks.iter().all(|task| !task.is_finished()));
    busy.execute_batch("COMMIT").unwrap();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn locked_file_is_busy_and_not_applied() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases.db");
    let backend = SqliteLock::open(&path, Clock::system()).unwrap().with_operation_timeout(ms(100));
    let busy = locked(&path);
    let error = backend.try_acquire(&key("k"), OwnerId::new(1), secs(30)).await.unwrap_err();
    assert_eq!(error.kind(), &LockErrorKind::Busy);
    assert_eq!((error.applied(), error.is_retryable()), (Applied::No, true));
    assert_eq!(error.key(), Some(&key("k")));
    busy.execute_batch("ROLLBACK").unwrap();
    assert_eq!(backend.inspect(&key("k")).await.unwrap(), None);
}

#[tokio::test]
async fn acquisition_dropped_on_a_locked_file_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases.db");
    let backend = open(&path);
    let busy = locked(&path);
    let name = key("k");
    let call = backend.try_acquire(&name, OwnerId::new(1), secs(30));
    assert!(tokio::time::timeout(ms(60), call).await.is_err());
    busy.execute_batch("ROLLBACK").unwrap();
    // Behind it in line.
    let next = backend.try_acquire(&key("k"), OwnerId::new(2), secs(30)).await.unwrap();
    assert!(matches!(next, Acquired::Granted { .. }));
}

#[test]
fn callers_that_fill_the_blocking_pool_get_leases() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases.db");
    let backend = open(&path);
    let busy = locked(&path);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(2)
        .build()
        .unwrap();
    let (sender, done) = std::sync::mpsc::channel();
    for number in 0..4 {
        let (backend, sender) = (Arc::clone(&backend), sender.clone());
        runtime.spawn_blocking(move || {
            let name = key(&format!("k{number}"));
            let call = backend.try_acquire(&name, OwnerId::new(1), secs(30));
            let granted = tokio::runtime::Handle::current().block_on(call);
            sender.send(granted).unwrap();
        });
    }
    // Before the callers' five seconds are over, and after they have found the file locked.
    assert!(done.recv_timeout(ms(300)).is_err());
    busy.execute_batch("ROLLBACK").unwrap();
    for _ in 0..4 {
        let granted = done.recv_timeout(secs(30)).expect("a caller is stuck");
        assert!(matches!(granted, Ok(Acquired::Granted { .. })), "{granted:?}");
    }
}

#[tokio::test]
async fn unpolled_call_delays_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases.db");
    let backend = open(&path);
    let busy = locked(&path);
    let names: Vec<_> = (0..3).map(|number| key(&format!("k{number}"))).collect();
    let mut kept: Vec<_> =
        names.iter().map(|name| backend.try_acquire(name, OwnerId::new(1), secs(30))).collect();
    for call in &mut kept {
        assert!(futures::poll!(call).is_pending());
    }
    busy.execute_batch("ROLLBACK").unwrap();
    let next = backend.try_acquire(&key("next"), OwnerId::new(2), secs(30)).await.unwrap();
    assert!(matches!(next, Acquired::Granted { .. }));
    for call in kept {
        assert!(matches!(call.await, Ok(Acquired::Granted { .. })));
    }
}

#[tokio::test]
async fn guard_dropped_without_a_runtime_frees_the_lease() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases.db");
    let locks = manager(&path);
    let guard = locks.lock(&key("k"), &patient()).await.unwrap();
    std::thread::spawn(move || drop(guard)).join().unwrap();
    assert_eq!(locks.inspect(&key("k")).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn guard_dropped_on_a_locked_file_releases_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases.db");
    let locks = manager(&path);
    let guard = locks.lock(&key("k"), &patient()).await.unwrap();
    let busy = locked(&path);
    drop(guard);
    assert_eq!(locks.stats().releasing, 1);
    busy.execute_batch("ROLLBACK").unwrap();
    crate::common::until_tasks(0).await;
    assert_eq!(locks.inspect(&key("k")).await.unwrap(), None);
}

#[tokio::test]
async fn file_that_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let garbage = dir.path().join("garbage");
    std::fs::write(&garbage, vec![b'x'; 8_192]).unwrap();
    let error = SqliteLock::open(&garbage, Clock::system()).unwrap_err();
    assert_eq!(error.kind(), &LockErrorKind::Corrupt);
    let nowhere = dir.path().join("no").join("where.db");
    let error = SqliteLock::open(nowhere, Clock::system()).unwrap_err();
    assert_eq!(error.kind(), &LockErrorKind::Unavailable);
    let error = SqliteLock::open(":memory:", Clock::system()).unwrap_err();
    assert_eq!(error.kind(), &LockErrorKind::Refused, "{error}");
    assert_eq!(
        memory_sqlite_file::classify(&rusqlite::Error::QueryReturnedNoRows),
        SqliteErrorKind::Other
    );
}

#[tokio::test]
async fn release_by_another_connection_wakes_waiters() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases.db");
    let (ours, theirs) = (manager(&path), manager(&path));
    let held = theirs.lock(&key("k"), &patient()).await.unwrap();
    let waiting = tokio::spawn({
        let ours = ours.clone();
        async move { ours.lock(&key("k"), &patient()).await.unwrap().fence() }
    });
    while ours.waiting(&key("k")) == 0 {
        tokio::task::yield_now().await;
    }
    let fence = held.fence();
    assert_eq!(held.release().await, ReleaseOutcome::Released);
    let woken = tokio::time::timeout(ms(900), waiting).await;
    assert!(woken.expect("not before the timer").unwrap() > fence);
}

const ROUNDS: i64 = 40;
const FILE: &str = "MEMORY_LOCK_TEST_FILE";

/// The work of each process of the next test: increments a number, by a read and a write in two
/// transactions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_that_counts() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let path = Path::new(&path);
    let locks = manager(path);
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let locks = locks.clone();
        let data = memory_sqlite_file::open_connection(path, &OpenOptions::new()).unwrap();
        tasks.push(tokio::spawn(async move {
            for _ in 0..ROUNDS / 2 {
                let guard = locks.lock(&key("counter"), &patient()).await.unwrap();
                let (count, fence) = data
                    .query_row("SELECT count, fence FROM counter", (), |row| {
                        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
                    })
                    .unwrap();
                let token = i64::try_from(guard.fence().number()).unwrap();
                assert!(token > fence, "token {token} after {fence}");
                tokio::task::yield_now().await;
                data.execute("UPDATE counter SET count = ?1, fence = ?2", (count + 1, token))
                    .unwrap();
                assert_eq!(guard.release().await, ReleaseOutcome::Released);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[test]
fn processes_that_share_a_file_never_overlap() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shared.db");
    let data = memory_sqlite_file::open_connection(&path, &OpenOptions::new()).unwrap();
    data.execute_batch(
        "CREATE TABLE counter (count INTEGER, fence INTEGER); INSERT INTO counter VALUES (0, 0);",
    )
    .unwrap();
    let processes: Vec<_> = (0..4)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "sqlite::process_that_counts", "--nocapture"])
                .env(FILE, &path)
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
    let count: i64 = data.query_row("SELECT count FROM counter", (), |row| row.get(0)).unwrap();
    assert_eq!(count, 4 * ROUNDS);
}

#[tokio::test(start_paused = true)]
async fn leases_in_a_replaced_file_do_not_count() {
    for suffixes in [&[""][..], &["-wal"], &["-shm"], &["", "-wal", "-shm"]] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("leases.db");
        let (backend, locks) = (open(&path), manager(&path));
        let (name, owner) = (key("k"), OwnerId::new(1));
        let Acquired::Granted { token } =
            backend.try_acquire(&name, owner, secs(30)).await.unwrap()
        else {
            panic!("held")
        };
        let guard = locks.lock(&key("guarded"), &patient()).await.unwrap();
        for suffix in suffixes {
            std::fs::remove_file(format!("{}{suffix}", path.display())).unwrap();
        }

        // At the next refresh, not when the TTL is over.
        assert_eq!(guard.lost().await, LostReason::Vanished, "{suffixes:?}");
        let lease = Lease { key: name.clone(), owner, token, ttl: secs(30) };
        assert_eq!(backend.renew(&[lease.clone(), lease]).await.unwrap(), [Renewal::Vanished; 2]);
        assert_eq!(backend.release(&name, owner).await.unwrap(), Release::NotOwner);
        for error in [
            backend.try_acquire(&name, owner, secs(30)).await.unwrap_err(),
            backend.inspect(&name).await.unwrap_err(),
            locks.lock(&name, &patient()).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), &LockErrorKind::Replaced, "{error}");
            assert!(!error.is_retryable());
        }
        drop((backend, guard, locks));
        // A log without its file is refused.
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
        }
        let fresh = open(&path);
        fresh.try_acquire(&name, OwnerId::new(2), secs(30)).await.unwrap();
    }
}
