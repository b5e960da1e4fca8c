//! Every operation on leases, on any backend.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use memory_lock::{
    Acquired, FencingToken, HandOver, Lease, LockBackend, LockKey, LockManager, LockOptions,
    OwnerId, Release, ReleaseOutcome, Renewal,
};
use tokio::time::sleep;

use crate::sweep::{Cut, Table, sweep, tasks, until, until_tasks};

/// All public async operations of leases; after a comma the situation that they meet.
const OPERATIONS: &[&str] = &[
    "LeaseScope::lost",
    "LockBackend::hand_over",
    "LockBackend::inspect",
    "LockBackend::is_overdue",
    "LockBackend::release",
    "LockBackend::renew",
    "LockBackend::renew, of several leases",
    "LockBackend::try_acquire",
    "LockBackend::watch",
    "LockGuard::lost",
    "LockGuard::release",
    "LockGuard::release, with a waiter in line",
    "LockManager::break_lease",
    "LockManager::inspect",
    "LockManager::is_overdue",
    "LockManager::lock",
    "LockManager::lock, behind another process",
    "LockManager::lock, between two tasks",
    "LockManager::revoke",
    "LockManager::shutdown",
    "LockManager::until_released",
    "LockManager::try_lock",
    "LockManager::try_lock, held by another process",
    "LockManager::with_lock_refresh",
];

/// Far longer than a test waits, so that a leaked lease does not disappear by expiring.
const TTL: Duration = Duration::from_secs(60);

/// Returns the leases and waiters that a backend still stores.
type Leftovers = Box<dyn Fn() -> BoxFuture<'static, Vec<String>>>;

/// The sweep of every operation on leases of one backend.
pub struct LeaseSweep {
    name: &'static str,
    backend: Arc<dyn LockBackend>,
    rounds: usize,
    left: Leftovers,
}

impl fmt::Debug for LeaseSweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseSweep").field("name", &self.name).finish_non_exhaustive()
    }
}

impl LeaseSweep {
    /// A sweep in so many rounds: a real backend does not answer after the same polls each time.
    pub fn new(name: &'static str, backend: Arc<dyn LockBackend>, rounds: usize) -> Self {
        Self { name, backend, rounds, left: Box::new(|| Box::pin(async { Vec::new() })) }
    }

    /// Also checks that nothing of these leases and waiters remains in the backend.
    #[must_use]
    pub fn with_leftovers(
        mut self,
        left: impl Fn() -> BoxFuture<'static, Vec<String>> + 'static,
    ) -> Self {
        self.left = Box::new(left);
        self
    }

    /// Sweeps all operations. At the end no task is left except the earlier ones.
    pub async fn run(&self, table: &mut Table) {
        let before = tasks();
        let locks = LockManager::new(Arc::clone(&self.backend));
        let others = LockManager::new(Arc::clone(&self.backend));
        for operation in OPERATIONS {
            let points = sweep(self.name, self.rounds, async |cut| {
                let case = Case {
                    backend: Arc::clone(&self.backend),
                    locks: locks.clone(),
                    others: others.clone(),
                    key: fresh_key(),
                    what: format!("{operation} on {}, {cut:?}", self.name),
                };
                let ended = case.cut_off(operation, cut).await;
                case.assert_free().await;
                until(&case.what, async || {
                    let left = (self.left)().await;
                    if left.is_empty() { Ok(()) } else { Err(format!("left over: {left:?}")) }
                })
                .await;
                ended
            })
            .await;
            table.add(operation, self.name, points);
            // Their refresh tasks may check for another second whether there is a lease to refresh.
            until_tasks(before + 2, &format!("{operation} on {}", self.name)).await;
        }
        // The managers are alive, and idle.
        until_tasks(before, self.name).await;
        drop((locks, others));
    }
}

fn fresh_key() -> LockKey {
    LockKey::new(format!("key {:x}", fastrand::u64(..))).unwrap()
}

fn options() -> LockOptions {
    LockOptions::new().with_ttl(TTL)
}

fn owner() -> OwnerId {
    OwnerId::new(fastrand::u128(..))
}

async fn a_moment() {
    sleep(Duration::from_millis(1)).await;
}

/// One call to cut off.
struct Case {
    backend: Arc<dyn LockBackend>,
    locks: LockManager,
    /// Another process.
    others: LockManager,
    key: LockKey,
    what: String,
}

impl Case {
    /// Sets the operation up, cuts it off, and returns whether it completed.
    async fn cut_off(&self, operation: &str, cut: Cut) -> bool {
        let Self { backend, locks, others, key, what } = self;
        match operation {
            "LockManager::try_lock" => {
                let done = cut.off(locks.try_lock(key, &options())).await;
                done.map(|guard| guard.unwrap().expect("it is free")).is_some()
            }
            "LockManager::try_lock, held by another process" => {
                let held = others.lock(key, &options()).await.unwrap();
                let done = cut.off(locks.try_lock(key, &options())).await;
                assert_eq!(held.release().await, ReleaseOutcome::Released, "{what}");
                done.map(|guard| assert!(guard.unwrap().is_none(), "{what}")).is_some()
            }
            "LockManager::lock" => {
                let done = cut.off(locks.lock(key, &options())).await;
                done.map(|guard| guard.unwrap().ensure_held().unwrap()).is_some()
            }
            "LockManager::lock, between two tasks" => {
                let first = locks.lock(key, &options()).await.unwrap();
                let holder = tokio::spawn(async move {
                    a_moment().await;
                    drop(first);
                });
                let mut last = None;
                let between = async {
                    let mut asked = Box::pin(async { locks.lock(key, &options()).await });
                    // Enters the line after this one, as soon as this one is in line.
                    std::future::poll_fn(|context| {
                        let polled = asked.as_mut().poll(context);
                        last.get_or_insert_with(|| self.spawn_a_turn());
                        polled
                    })
                    .await
                };
                let done = cut.off(between).await;
                let done = done.map(|guard| guard.unwrap().ensure_held().unwrap());
                holder.await.unwrap();
                if let Some(last) = last {
                    last.await.unwrap();
                }
                done.is_some()
            }
            "LockManager::lock, behind another process" => {
                let held = others.lock(key, &options()).await.unwrap();
                let holder = tokio::spawn(async move {
                    a_moment().await;
                    held.release().await
                });
                let done = cut.off(locks.lock(key, &options())).await;
                assert_eq!(holder.await.unwrap(), ReleaseOutcome::Released, "{what}");
                done.map(|guard| guard.unwrap().ensure_held().unwrap()).is_some()
            }
            "LockManager::with_lock_refresh" => {
                let work = |scope: memory_lock::LeaseScope| async move {
                    tokio::task::yield_now().await;
                    scope.ensure_held().unwrap();
                    a_moment().await;
                };
                let done = cut.off(locks.with_lock_refresh(key, &options(), work)).await;
                done.map(|done| done.unwrap()).is_some()
            }
            "LockManager::break_lease" => {
                let held = others.lock(key, &options()).await.unwrap();
                let done = cut.off(locks.break_lease(key)).await;
                let broken = done.map(|broken| broken.unwrap().unwrap().owner);
                assert!(broken.is_none_or(|owner| owner == held.proof().owner), "{what}");
                // One that was dropped before its end continues concurrently.
                while locks
                    .inspect(key)
                    .await
                    .unwrap()
                    .is_some_and(|it| it.owner != held.proof().owner)
                {
                    a_moment().await;
                }
                let outcome = held.release().await;
                assert!(broken.is_none() || outcome == ReleaseOutcome::NotOwner, "{what}");
                broken.is_some()
            }
            "LockManager::is_overdue" => {
                let held = others.lock(key, &options()).await.unwrap();
                let done = cut.off(locks.is_overdue(key)).await;
                assert_eq!(held.release().await, ReleaseOutcome::Released, "{what}");
                done.inspect(|overdue| assert!(!overdue.as_ref().unwrap(), "{what}")).is_some()
            }
            "LockManager::inspect" => {
                let held = others.lock(key, &options()).await.unwrap();
                let done = cut.off(locks.inspect(key)).await;
                let seen = done.map(|info| info.unwrap().unwrap().owner);
                assert!(seen.is_none_or(|owner| owner == held.proof().owner), "{what}");
                assert_eq!(held.release().await, ReleaseOutcome::Released, "{what}");
                seen.is_some()
            }
            "LockManager::shutdown" => {
                let locks = LockManager::new(Arc::clone(backend));
                let held = locks.lock(key, &options()).await.unwrap();
                let holder = tokio::spawn(async move {
                    a_moment().await;
                    held.release().await
                });
                let done = cut.off(locks.shutdown(TTL)).await;
                assert_eq!(holder.await.unwrap(), ReleaseOutcome::Released, "{what}");
                done.map(|lost| assert_eq!(lost, 0, "{what}")).is_some()
            }
            "LockManager::revoke" => {
                let held = locks.lock(key, &options()).await.unwrap();
                let done = cut.off(locks.revoke(&held.scope())).await;
                done.map(|done| assert_eq!(done, ReleaseOutcome::Released, "{what}")).is_some()
            }
            "LockManager::until_released" => {
                drop(locks.lock(key, &options()).await.unwrap());
                let done = cut.off(locks.until_released(TTL)).await;
                done.map(|done| assert!(done, "{what}")).is_some()
            }
            "LockGuard::release" => {
                let held = locks.lock(key, &options()).await.unwrap();
                let done = cut.off(held.release()).await;
                done.map(|done| assert_eq!(done, ReleaseOutcome::Released, "{what}")).is_some()
            }
            "LockGuard::release, with a waiter in line" => {
                let held = locks.lock(key, &options()).await.unwrap();
                let next = self.spawn_a_turn();
                until(what, async || {
                    if locks.waiting(key) == 1 { Ok(()) } else { Err("no task waits".into()) }
                })
                .await;
                let done = cut.off(held.release()).await;
                next.await.unwrap();
                done.map(|done| assert_eq!(done, ReleaseOutcome::Released, "{what}")).is_some()
            }
            "LockGuard::lost" => {
                let held = self.lose_a_lease().await;
                cut.off(held.lost()).await.is_some()
            }
            "LeaseScope::lost" => {
                let held = self.lose_a_lease().await;
                cut.off(held.scope().lost()).await.is_some()
            }
            _ => self.cut_off_backend(operation, cut).await,
        }
    }

    /// The same for the calls of the backend. The next call of the same owner is ordered after the dropped
    /// one, so the effect of the dropped one is known.
    async fn cut_off_backend(&self, operation: &str, cut: Cut) -> bool {
        let Self { backend, key, what, .. } = self;
        let (one, two) = (owner(), owner());
        match operation {
            "LockBackend::try_acquire" => {
                let done = cut.off(backend.try_acquire(key, one, TTL)).await;
                let granted = done.map(|answer| is_granted(&answer.unwrap()));
                let release = backend.release(key, one).await.unwrap();
                assert!(granted != Some(false), "{what}");
                assert!(granted.is_none() || release == Release::Released, "{what}");
                granted.is_some()
            }
            "LockBackend::renew" => {
                let lease = self.lease(one).await;
                let done = cut.off(backend.renew(std::slice::from_ref(&lease))).await;
                let release = backend.release(key, one).await.unwrap();
                assert_eq!(release, Release::Released, "{what}");
                done.map(|done| assert_eq!(done.unwrap(), [Renewal::Renewed], "{what}")).is_some()
            }
            "LockBackend::renew, of several leases" => {
                // On a Cluster, of several nodes.
                let mut leases = Vec::new();
                for key in [key.clone(), fresh_key(), fresh_key(), fresh_key()] {
                    leases.push(self.lease_of(key, one).await);
                }
                let done = cut.off(backend.renew(&leases)).await.map(Result::unwrap);
                for lease in &leases {
                    let release = backend.release(&lease.key, one).await.unwrap();
                    assert_eq!(release, Release::Released, "{what}");
                }
                done.map(|done| assert_eq!(done, [Renewal::Renewed; 4], "{what}")).is_some()
            }
            "LockBackend::release" => {
                self.lease(one).await;
                let done = cut.off(backend.release(key, one)).await;
                let again = backend.release(key, one).await.unwrap();
                assert!(done.is_none() || again == Release::NotOwner, "{what}");
                done.map(|done| assert_eq!(done.unwrap(), Release::Released, "{what}")).is_some()
            }
            "LockBackend::hand_over" => {
                self.lease(one).await;
                let done = cut.off(backend.hand_over(key, one, two, TTL)).await;
                let passed = done
                    .map(|done| matches!(done.unwrap(), HandOver::HandedOver { .. }))
                    .inspect(|passed| assert!(passed, "{what}"));
                let releases = [
                    backend.release(key, two).await.unwrap(),
                    backend.release(key, one).await.unwrap(),
                ];
                let released = releases.iter().filter(|it| **it == Release::Released).count();
                assert_eq!(released, 1, "{what}: it is one's or the other's, {releases:?}");
                assert!(passed.is_none() || releases[0] == Release::Released, "{what}");
                passed.is_some()
            }
            "LockBackend::inspect" => {
                self.lease(one).await;
                let done = cut.off(backend.inspect(key)).await;
                assert_eq!(backend.release(key, one).await.unwrap(), Release::Released, "{what}");
                done.map(|info| assert_eq!(info.unwrap().unwrap().owner, one, "{what}")).is_some()
            }
            "LockBackend::is_overdue" => {
                self.lease(one).await;
                let done = cut.off(backend.is_overdue(key)).await;
                assert_eq!(backend.release(key, one).await.unwrap(), Release::Released, "{what}");
                done.inspect(|overdue| assert!(!overdue.as_ref().unwrap(), "{what}")).is_some()
            }
            "LockBackend::watch" => {
                self.lease(one).await;
                assert!(!is_granted(&backend.try_acquire(key, two, TTL).await.unwrap()), "{what}");
                let watch = backend.watch(key, Some(two));
                let (releasing, released) = (Arc::clone(backend), key.clone());
                let release = tokio::spawn(async move {
                    a_moment().await;
                    releasing.release(&released, one).await.unwrap()
                });
                let done = cut.off(watch).await;
                assert_eq!(release.await.unwrap(), Release::Released, "{what}");
                done.is_some()
            }
            other => panic!("the sweep has no case for {other}"),
        }
    }

    async fn lease(&self, owner: OwnerId) -> Lease {
        self.lease_of(self.key.clone(), owner).await
    }

    async fn lease_of(&self, key: LockKey, owner: OwnerId) -> Lease {
        let token = match self.backend.try_acquire(&key, owner, TTL).await.unwrap() {
            Acquired::Granted { token } => token,
            Acquired::Held { .. } => panic!("{}: it is free", self.what),
        };
        assert!(token > FencingToken::ZERO);
        Lease { key, owner, token, ttl: TTL }
    }

    /// A guard whose lease another owner took, which its next refresh will notice.
    async fn lose_a_lease(&self) -> memory_lock::LockGuard {
        let options = LockOptions::new()
            .with_ttl(Duration::from_secs(1))
            .with_refresh_interval(Duration::from_millis(5));
        let held = self.locks.lock(&self.key, &options).await.unwrap();
        let release = self.backend.release(&self.key, held.proof().owner).await.unwrap();
        assert_eq!(release, Release::Released, "{}", self.what);
        held
    }

    /// Another caller in this process that waits for the lease, and must get it.
    fn spawn_a_turn(&self) -> tokio::task::JoinHandle<()> {
        let (locks, key) = (self.locks.clone(), self.key.clone());
        tokio::spawn(async move {
            let guard = locks.lock(&key, &options()).await.unwrap();
            guard.ensure_held().unwrap();
            assert_eq!(guard.release().await, ReleaseOutcome::Released);
        })
    }

    /// Another process gets the lease at once, and no caller of this process holds or waits for anything.
    async fn assert_free(&self) {
        let Self { locks, others, key, what, .. } = self;
        until(what, async || match others.try_lock(key, &options()).await.unwrap() {
            Some(guard) => {
                assert_eq!(guard.release().await, ReleaseOutcome::Released, "{what}");
                Ok(())
            }
            None => Err("the lease is held".into()),
        })
        .await;
        until(what, async || {
            let stats = locks.stats();
            let busy = (stats.held, stats.waiting, stats.releasing, locks.waiting(key));
            if busy == (0, 0, 0, 0) { Ok(()) } else { Err(format!("busy: {busy:?}")) }
        })
        .await;
    }
}

fn is_granted(acquired: &Acquired) -> bool {
    matches!(acquired, Acquired::Granted { .. })
}
