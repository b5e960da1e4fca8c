//! Clocks that are wrong, or step while leases are held.

use std::path::Path;
use std::time::Duration;

use memory_lock::{
    Acquired, Clock, ClockExt as _, FencingToken, Lease, LockBackend, LockManager, LockOptions,
    OwnerId, Release, Renewal, SqliteLock,
};
use memory_sqlite_file::{LeaseObserver, OpenOptions, open_connection};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::common::{key, secs};

const TTL: Duration = secs(30);
const HOURS: Duration = secs(3 * 3_600);

/// The table as earlier versions created it.
const EARLIER: &str = "CREATE TABLE memory_leases (
    key TEXT NOT NULL PRIMARY KEY, owner BLOB, token INTEGER NOT NULL, granted INTEGER NOT NULL,
    expires INTEGER NOT NULL) STRICT, WITHOUT ROWID";

struct File {
    folder: TempDir,
}

impl File {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("leases.db")
    }

    /// A process whose monotonic clock no other process reads.
    fn process(&self) -> (SqliteLock, Clock) {
        let clock = Clock::manual();
        (SqliteLock::open(self.path(), clock.clone()).unwrap(), clock)
    }

    fn connection(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

/// A process three hours ahead that took the lease of `k` and was killed.
async fn killed_ahead(file: &File) -> FencingToken {
    let (lock, clock) = file.process();
    clock.step_forward(HOURS);
    acquire(&lock, 1).await.unwrap()
}

/// The token, or the remaining time of another owner's lease.
async fn acquire(lock: &SqliteLock, owner: u128) -> Result<FencingToken, Duration> {
    match lock.try_acquire(&key("k"), OwnerId::new(owner), TTL).await.unwrap() {
        Acquired::Granted { token } => Ok(token),
        Acquired::Held { remaining } => Err(remaining.unwrap()),
    }
}

async fn renew(lock: &SqliteLock, owner: u128) -> Renewal {
    let token = FencingToken::ZERO;
    let lease = Lease { key: key("k"), owner: OwnerId::new(owner), token, ttl: TTL };
    lock.renew(&[lease]).await.unwrap()[0]
}

#[tokio::test(start_paused = true)]
async fn waiter_takes_lease_of_dead_clock_ahead() {
    let file = File::new();
    let old = killed_ahead(&file).await;
    let locks = LockManager::new(std::sync::Arc::new(file.process().0));
    let begun = Instant::now();
    let patient = LockOptions::new().with_wait_timeout(TTL * 2);
    let guard = locks.lock(&key("k"), &patient).await.unwrap();
    let waited = begun.elapsed();
    assert!(waited >= TTL && waited < TTL + secs(2), "{waited:?}");
    assert!(guard.fence() > old);
}

#[tokio::test(start_paused = true)]
async fn no_step_ends_or_keeps_a_lease() {
    let file = File::new();
    let clock = Clock::manual();
    let open = || SqliteLock::open(file.path(), clock.clone()).unwrap();
    let (holder, waiter) = (open(), open());
    acquire(&holder, 1).await.unwrap();
    for step in [Clock::step_forward, Clock::step_back, Clock::step_back, Clock::step_forward] {
        step(&clock, HOURS);
        assert_eq!(acquire(&waiter, 2).await, Err(TTL));
        assert_eq!(renew(&holder, 1).await, Renewal::Renewed);
    }
    assert!(!waiter.is_overdue(&key("k")).await.unwrap());
    clock.step_back(HOURS);
    clock.advance(TTL - secs(1));
    assert_eq!(acquire(&waiter, 2).await, Err(secs(1)));
    clock.advance(secs(1));
    assert_eq!(renew(&holder, 1).await, Renewal::Vanished);
    assert!(acquire(&waiter, 2).await.is_ok());
    assert_eq!(holder.release(&key("k"), OwnerId::new(1)).await.unwrap(), Release::NotOwner);
}

#[tokio::test(start_paused = true)]
async fn clock_ahead_takes_no_renewed_lease() {
    let file = File::new();
    let (holder, holders) = file.process();
    let (waiter, waiters) = file.process();
    waiters.step_forward(HOURS);
    let token = acquire(&holder, 1).await.unwrap();
    for _ in 0..6 {
        assert_eq!(acquire(&waiter, 2).await, Err(TTL));
        for clock in [&holders, &waiters] {
            clock.advance(TTL - secs(1));
        }
        assert_eq!(acquire(&waiter, 2).await, Err(secs(1)));
        assert_eq!(renew(&holder, 1).await, Renewal::Renewed);
    }
    let found = waiter.inspect(&key("k")).await.unwrap().unwrap();
    assert_eq!((found.token, found.remaining), (token, TTL));

    // It stops, and comes back when another process has the lease.
    waiters.advance(TTL);
    assert_eq!(waiter.inspect(&key("k")).await.unwrap(), None);
    let next = acquire(&waiter, 2).await.unwrap();
    assert!(next > token);
    assert_eq!(renew(&holder, 1).await, Renewal::NotOwner);
    assert_eq!(holder.release(&key("k"), OwnerId::new(1)).await.unwrap(), Release::NotOwner);
}

#[tokio::test(start_paused = true)]
async fn short_processes_add_up_observed_time() {
    let file = File::new();
    killed_ahead(&file).await;
    for watched in 1..=6 {
        // Two processes at once observe the same five seconds, which count once.
        let ((one, clock), (other, others)) = (file.process(), file.process());
        acquire(&one, 2).await.unwrap_err();
        acquire(&other, 3).await.unwrap_err();
        clock.advance(secs(5));
        others.advance(secs(5));
        assert_eq!(acquire(&one, 2).await.is_ok(), watched == 6);
        assert!(acquire(&other, 3).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn overdue_lease_reports_at_most_its_ttl() {
    let file = File::new();
    killed_ahead(&file).await;
    let (ahead, ahead_clock) = file.process();
    ahead_clock.step_forward(HOURS * 2);
    for (lock, clock) in [file.process(), (ahead, ahead_clock)] {
        assert!(lock.is_overdue(&key("k")).await.unwrap());
        let lease = lock.inspect(&key("k")).await.unwrap().unwrap();
        assert_eq!(lease.remaining, TTL);
        clock.advance(TTL);
        assert_eq!(lock.inspect(&key("k")).await.unwrap(), None);
        assert!(!lock.is_overdue(&key("k")).await.unwrap());
    }
}

fn earlier_file() -> File {
    let file = File::new();
    let connection = open_connection(&file.path(), &OpenOptions::new()).unwrap();
    connection.execute_batch(EARLIER).unwrap();
    file
}

/// Grants as earlier versions did, over any present row.
fn grant_as_before(file: &File, now: u64, ttl: Duration) {
    let connection = file.connection();
    let expires = now + u64::try_from(ttl.as_micros()).unwrap();
    connection
        .execute(
            "INSERT INTO memory_leases (key, owner, token, granted, expires)
             VALUES ('k', zeroblob(16), ?1, ?1, ?2)
             ON CONFLICT (key) DO UPDATE SET
                 owner = zeroblob(16), token = max(token + 1, ?1), granted = ?1, expires = ?2",
            (i64::try_from(now).unwrap(), i64::try_from(expires).unwrap()),
        )
        .unwrap();
}

fn renew_as_before(file: &File, by: Duration) {
    let by = i64::try_from(by.as_micros()).unwrap();
    file.connection().execute("UPDATE memory_leases SET expires = expires + ?1", [by]).unwrap();
}

#[tokio::test(start_paused = true)]
async fn leases_of_earlier_versions_are_watched() {
    for table_is_new in [false, true] {
        let file = earlier_file();
        let (waiter, clock) = if table_is_new {
            // This version wrote the overwritten row, whose lease is over.
            let (waiter, clock) = file.process();
            acquire(&waiter, 9).await.unwrap();
            clock.advance(TTL * 3);
            (waiter, clock)
        } else {
            grant_as_before(&file, 1, TTL);
            file.process()
        };
        let ahead = clock.now_micros() + u64::try_from(HOURS.as_micros()).unwrap();
        grant_as_before(&file, ahead, secs(20));
        assert_eq!(acquire(&waiter, 2).await, Err(secs(20)));
        clock.advance(secs(15));
        assert_eq!(acquire(&waiter, 2).await, Err(secs(5)));
        // A renewal restarts the observation; the TTL is unknown now, and assumed to be at most a minute.
        renew_as_before(&file, secs(15));
        assert_eq!(acquire(&waiter, 2).await, Err(secs(35)));
        renew_as_before(&file, HOURS);
        assert_eq!(acquire(&waiter, 2).await, Err(secs(60)));
        clock.advance(secs(59));
        assert_eq!(acquire(&waiter, 2).await, Err(secs(1)));
        clock.advance(secs(1));
        assert!(acquire(&waiter, 2).await.is_ok());
        assert_eq!(acquire(&waiter, 3).await, Err(TTL));
    }
}

#[tokio::test(start_paused = true)]
async fn store_frees_a_lease_seen_unrenewed() {
    let file = File::new();
    let old = killed_ahead(&file).await;
    let clock = Clock::manual();
    let leases = LeaseObserver::new(clock.clone());
    let connection = file.connection();
    assert_eq!(leases.live_lease(&connection, "k").unwrap().unwrap().remaining, TTL);
    clock.advance(TTL - secs(1));
    assert_eq!(leases.live_lease(&connection, "k").unwrap().unwrap().remaining, secs(1));
    clock.advance(secs(1));
    assert_eq!(leases.live_lease(&connection, "k").unwrap(), None);
    let (waiter, _) = file.process();
    assert!(acquire(&waiter, 2).await.unwrap() > old.next(0));
}

#[tokio::test]
async fn processes_of_a_machine_share_its_clock() {
    let file = File::new();
    let open = |path: &Path| SqliteLock::open(path, Clock::system()).unwrap();
    let (one, other) = (open(&file.path()), open(&file.path()));
    one.try_acquire(&key("k"), OwnerId::new(1), Duration::from_millis(20)).await.unwrap();
    // As a process whose time of day is three hours ahead would have written it.
    let ahead = i64::try_from(HOURS.as_micros()).unwrap();
    let skew = "UPDATE memory_leases SET granted = granted + ?1, expires = expires + ?1, stamp = stamp + ?1";
    file.connection().execute(skew, [ahead]).unwrap();
    tokio::time::sleep(Duration::from_millis(21)).await;
    // No process had to observe it.
    assert!(cfg!(not(target_os = "linux")) || acquire(&other, 2).await.is_ok());
}
