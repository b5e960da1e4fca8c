//! The backend: each call is a statement, run on the calling thread while the file is not busy.

use std::num::NonZeroUsize;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use memory_core::lease::{LeaseDomain, OwnerId};
use memory_sqlite_file::{
    DEFAULT_BUSY_TIMEOUT, FileIdentity, LeaseObserver, Links, NoThread, OpenOptions, PausedRuntime,
    SqliteError, SqliteErrorKind, Synchronous, WorkerThreads, answer, classify, make_lease_table,
    open_database, sqlite_domain, with_busy_timeout,
};
use rusqlite::Connection;
use tokio::sync::{Notify, oneshot};

use super::error::lock_error;
use super::table;
use crate::Clock;
use crate::LeaseInfo;
use crate::answer::{Acquired, HandOver, Release, Renewal};
use crate::backend::{LockBackend, Watch};
use crate::error::{LockError, LockErrorKind, LockOperation};
use crate::key::LockKey;
use crate::lease::Lease;

/// Leases in a SQLite file, shared by all processes of one machine that open it.
///
/// Leases are written with `synchronous = NORMAL`: a power failure may undo the last of them, and also ends
/// the processes that held them. Tokens do not decrease nevertheless, because none is behind the clock.
/// Waiting for the disk would make a lease ten times slower and protect nothing.
///
/// A statement takes about 20 µs and runs on the calling thread, which is less than passing it to another
/// thread would take. If the file is locked for longer (250 µs), or another call has the connection, the
/// call moves to a thread of this backend, and later calls wait in line behind it. That thread is started
/// when it is needed and ends after half a second without work; calls need no runtime.
#[derive(Debug)]
pub struct SqliteLock {
    core: Arc<Core>,
    domain: LeaseDomain,
    operation_timeout: Duration,
}

#[derive(Debug)]
struct Core {
    connection: Mutex<Connection>,
    identity: FileIdentity,
    /// Calls that wait for the thread or run on it. While there are any, no other call overtakes them.
    queued: AtomicUsize,
    thread: WorkerThreads,
    leases: LeaseObserver,
    /// Wakes the tasks of this process that watch for a release.
    released: Notify,
}

/// The limit for which a call may block the thread of its caller while the file is locked.
const MAX_BLOCKING: Duration = Duration::from_micros(250);
/// The time for which the thread uses one reading of the clock.
const CLOCK_READING_LIFETIME: Duration = Duration::from_millis(20);
/// The shortest interval between two polls of a watch. Intervals are random.
const MIN_WATCH_INTERVAL: Duration = Duration::from_millis(10);
/// The longest one.
const MAX_WATCH_INTERVAL: Duration = Duration::from_millis(50);

impl SqliteLock {
    /// Opens the file, and creates it and its lease table if they are missing. Outside tests the clock is
    /// [`Clock::system`](crate::ClockExt::system); [`LeaseObserver`] documents its effect. Blocks for some
    /// milliseconds.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    ///
    /// use memory_lock::{Clock, ClockExt, LockKey, LockManager, LockOptions, SqliteLock};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("leases.db");
    /// // As two processes: each has a manager on the same file.
    /// let ours = LockManager::new(Arc::new(SqliteLock::open(&path, Clock::system())?));
    /// let theirs = LockManager::new(Arc::new(SqliteLock::open(&path, Clock::system())?));
    /// let (key, options) = (LockKey::new("case-17")?, LockOptions::default());
    /// let guard = ours.lock(&key, &options).await?;
    /// assert!(theirs.try_lock(&key, &options).await?.is_none());
    /// guard.release().await;
    /// assert!(theirs.try_lock(&key, &options).await?.is_some());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If the file cannot be opened, is not a database, or does not allow WAL; if it is a database of
    /// another program that does not use WAL; if it has more than one name (see [`Links`]).
    pub fn open(path: impl AsRef<Path>, clock: Clock) -> Result<Self, LockError> {
        Self::open_with_links(path, clock, Links::Refuse)
    }

    /// Like [`open`](Self::open), with the choice whether the file may have more than one name.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub fn open_with_links(
        path: impl AsRef<Path>,
        clock: Clock,
        links: Links,
    ) -> Result<Self, LockError> {
        let path = path.as_ref();
        let options = OpenOptions::new().with_synchronous(Synchronous::Normal).with_links(links);
        let refused = |error: SqliteError| lock_error(error, LockOperation::Open);
        let (connection, identity) =
            open_database(path, &options, make_lease_table).map_err(refused)?;
        Ok(Self {
            domain: sqlite_domain(path).map_err(refused)?,
            operation_timeout: DEFAULT_BUSY_TIMEOUT,
            core: Arc::new(Core {
                connection: Mutex::new(connection),
                identity,
                queued: AtomicUsize::new(0),
                thread: WorkerThreads::new("sqlite-leases", NonZeroUsize::MIN),
                leases: LeaseObserver::new(clock),
                released: Notify::new(),
            }),
        })
    }

    /// The time for which a call waits while other connections keep the file locked. Default: 5 s.
    #[must_use]
    pub fn with_operation_timeout(mut self, timeout: Duration) -> Self {
        self.operation_timeout = timeout;
        self
    }

    /// Runs `work` with the connection and the time. `undo` is the lease to release if `work` took effect
    /// after its caller was dropped.
    async fn call<T: Send + 'static>(
        &self,
        operation: LockOperation,
        undo: Option<(LockKey, OwnerId)>,
        work: impl Fn(&Connection, &LeaseObserver) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LockError> {
        match self.core.try_run(MAX_BLOCKING, &work) {
            Some(Err(error)) if classify(&error) == SqliteErrorKind::Busy => {}
            Some(done) => return done.map_err(|error| lock_error(error, operation)),
            None => {}
        }
        let (reply, mut receiver) = oneshot::channel();
        let fate = Fate::default();
        let abandon = Abandon(fate.clone());
        let paused = PausedRuntime::current();
        let call = Queued {
            place: Place::take(&self.core),
            since: now(),
            timeout: self.operation_timeout,
            fate,
            undo,
            paused: paused.clone(),
        };
        let queued = self.core.thread.run((call, work), |(call, work)| {
            let done = call.run(&work);
            // The next call may run on its calling thread again.
            drop(call);
            if let Some(done) = done {
                // A caller that was dropped does not need it.
                let _ = reply.send(done);
            }
        });
        if let Err(NoThread { source, .. }) = queued {
            return Err(LockError::new(LockErrorKind::Unavailable, operation)
                .not_applied()
                .with_detail(
                    "no thread can be started for the SQLite file, which is locked; raise the \
                     process's limit on threads",
                )
                .with_source(source));
        }
        let done = answer(&mut receiver, paused.as_ref()).await;
        drop(abandon);
        match done {
            Ok(done) => done.map_err(|error| lock_error(error, operation)),
            // SQLite's binding panicked.
            Err(error) => Err(LockError::new(LockErrorKind::Backend, operation).with_source(error)),
        }
    }
}

impl Core {
    /// Runs `work` on this thread.
    fn run<T>(
        &self,
        connection: &Connection,
        budget: Duration,
        work: &impl Fn(&Connection, &LeaseObserver) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.identity.check_found()?;
        let done = with_busy_timeout(budget, || work(connection, &self.leases))?;
        // A lease in a file that other processes do not find excludes no other process.
        self.identity.check()?;
        Ok(done)
    }

    /// Runs `work` on this thread if no other call is waiting or has the connection.
    fn try_run<T>(
        &self,
        budget: Duration,
        work: &impl Fn(&Connection, &LeaseObserver) -> rusqlite::Result<T>,
    ) -> Option<rusqlite::Result<T>> {
        if self.queued.load(Ordering::SeqCst) > 0 {
            return None;
        }
        let connection = match self.connection.try_lock() {
            Ok(connection) => connection,
            // A panic inside a statement leaves SQLite to roll it back.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(self.run(&connection, budget, work))
    }

    /// Runs `work` only if that needs no waiting at all.
    fn run_now<T>(
        &self,
        work: impl Fn(&Connection, &LeaseObserver) -> rusqlite::Result<T>,
    ) -> Option<T> {
        self.try_run(Duration::ZERO, &work)?.ok()
    }
}

/// The monotonic clock of the machine.
#[expect(
    clippy::disallowed_methods,
    reason = "another process is waited for in real time, which a paused test clock does not show"
)]
fn now() -> Instant {
    Instant::now()
}

/// A place in the line of calls, given up when it is dropped.
struct Place(Arc<Core>);

impl Place {
    fn take(core: &Arc<Core>) -> Self {
        core.queued.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(core))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A call on the thread.
struct Queued {
    place: Place,
    since: Instant,
    timeout: Duration,
    fate: Fate,
    /// The lease to release if the call took effect after its caller was dropped.
    undo: Option<(LockKey, OwnerId)>,
    paused: Option<PausedRuntime>,
}

impl Queued {
    /// `None` if the caller was dropped before the call began and needs none of its effects.
    fn run<T>(
        &self,
        work: &impl Fn(&Connection, &LeaseObserver) -> rusqlite::Result<T>,
    ) -> Option<rusqlite::Result<T>> {
        if self.undo.is_some() && self.fate.is_abandoned() {
            return None;
        }
        let _clock = self.paused.as_ref().map(PausedRuntime::enter);
        let core = &self.place.0;
        let connection = core.connection.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            // In rounds, because a lease counts from the reading of the clock.
            let left = self.timeout.saturating_sub(self.since.elapsed());
            match core.run(&connection, CLOCK_READING_LIFETIME.min(left), work) {
                Err(error)
                    if classify(&error) == SqliteErrorKind::Busy
                        && !left.is_zero()
                        && !self.fate.is_abandoned() => {}
                Ok(answer) => {
                    if !self.fate.settle()
                        && let Some((key, owner)) = &self.undo
                    {
                        // The caller was dropped, and may have sent a release that waits behind this call;
                        // a second one is harmless.
                        let release = |connection: &Connection, leases: &LeaseObserver| {
                            table::release(leases, connection, key.as_str(), *owner)
                        };
                        let _ = core.run(&connection, self.timeout, &release);
                    }
                    return Some(Ok(answer));
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let connection = self.connection.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.identity.fold_log_on_close(connection);
    }
}

/// A file that was replaced no longer holds leases.
fn unless_replaced<T>(done: Result<T, LockError>, otherwise: T) -> Result<T, LockError> {
    match done {
        Err(error) if error.kind() == &LockErrorKind::Replaced => Ok(otherwise),
        done => done,
    }
}

/// Whether the caller was still present when its work took effect.
#[derive(Debug, Clone, Default)]
struct Fate(Arc<AtomicU8>);

impl Fate {
    const OPEN: u8 = 0;
    const SETTLED: u8 = 1;
    const ABANDONED: u8 = 2;

    fn decide(&self, fate: u8) -> bool {
        let (success, failure) = (Ordering::SeqCst, Ordering::SeqCst);
        self.0.compare_exchange(Self::OPEN, fate, success, failure).is_ok()
    }

    /// False if the caller was dropped.
    fn settle(&self) -> bool {
        self.decide(Self::SETTLED)
    }

    fn is_abandoned(&self) -> bool {
        self.0.load(Ordering::SeqCst) == Self::ABANDONED
    }
}

/// Owned by the caller's future.
struct Abandon(Fate);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.decide(Fate::ABANDONED);
    }
}

#[async_trait]
impl LockBackend for SqliteLock {
    async fn try_acquire(
        &self,
        key: &LockKey,
        owner: OwnerId,
        ttl: Duration,
    ) -> Result<Acquired, LockError> {
        let (name, undo) = (key.clone(), Some((key.clone(), owner)));
        self.call(LockOperation::Acquire, undo, move |connection, leases| {
            table::acquire(leases, connection, name.as_str(), owner, ttl)
        })
        .await
        .map_err(|error| error.with_key(key))
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Renewal>, LockError> {
        let vanished = vec![Renewal::Vanished; leases.len()];
        let leases = leases.to_vec();
        let renewed = self
            .call(LockOperation::Renew, None, move |connection, observer| {
                table::renew(observer, connection, &leases)
            })
            .await;
        unless_replaced(renewed, vanished)
    }

    async fn release(&self, key: &LockKey, owner: OwnerId) -> Result<Release, LockError> {
        let name = key.clone();
        let release = self
            .call(LockOperation::Release, None, move |connection, leases| {
                table::release(leases, connection, name.as_str(), owner)
            })
            .await;
        let release =
            unless_replaced(release, Release::NotOwner).map_err(|error| error.with_key(key))?;
        self.core.released.notify_waiters();
        Ok(release)
    }

    async fn hand_over(
        &self,
        key: &LockKey,
        from: OwnerId,
        to: OwnerId,
        ttl: Duration,
    ) -> Result<HandOver, LockError> {
        // Not undone: the new owner asks under the same id, and must not lose the lease that it was given.
        let name = key.clone();
        self.call(LockOperation::HandOver, None, move |connection, leases| {
            table::hand_over(leases, connection, name.as_str(), (from, to), ttl)
        })
        .await
        .map_err(|error| error.with_key(key))
    }

    async fn inspect(&self, key: &LockKey) -> Result<Option<LeaseInfo>, LockError> {
        let name = key.clone();
        self.call(LockOperation::Inspect, None, move |connection, leases| {
            leases.look(connection, name.as_str())
        })
        .await
        .map_err(|error| error.with_key(key))
    }

    async fn is_overdue(&self, key: &LockKey) -> Result<bool, LockError> {
        let name = key.clone();
        self.call(LockOperation::Inspect, None, move |connection, leases| {
            leases.is_overdue(connection, name.as_str())
        })
        .await
        .map_err(|error| error.with_key(key))
    }

    /// Polls every 10 to 50 ms; at once after a release through this backend object.
    fn watch(&self, key: &LockKey, _waiter: Option<OwnerId>) -> Watch {
        let (core, key) = (Arc::clone(&self.core), key.clone());
        Box::pin(async move {
            loop {
                let mut released = pin!(core.released.notified());
                released.as_mut().enable();
                let lease =
                    core.run_now(|connection, leases| leases.look(connection, key.as_str()));
                // The call that follows reports a file that was replaced.
                if matches!(lease, Some(None)) || core.identity.check_found().is_err() {
                    return;
                }
                let spread = MAX_WATCH_INTERVAL - MIN_WATCH_INTERVAL;
                let pause = MIN_WATCH_INTERVAL + spread.mul_f64(fastrand::f64());
                tokio::select! {
                    biased;
                    () = released => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        })
    }

    fn release_now(&self, key: &LockKey, owner: OwnerId) -> bool {
        let release = self
            .core
            .run_now(|connection, leases| table::release(leases, connection, key.as_str(), owner));
        if release.is_some() {
            self.core.released.notify_waiters();
        }
        release.is_some()
    }

    fn keeps_places(&self) -> bool {
        false
    }

    fn domain(&self) -> &LeaseDomain {
        &self.domain
    }
}
