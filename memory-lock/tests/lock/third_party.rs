//! A lease backend as a third party would write it, with only public items: leases in a map. Copy it, and
//! replace the map by your medium. Where the mutex is held here, your medium needs one atomic step.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use memory_lock::conformance::{self, Subject};
use memory_lock::{
    Acquired, Clock, ClockExt as _, FencingToken, HandOver, Lease, LeaseDomain, LeaseInfo,
    LockBackend, LockError, LockKey, LockManager, LockOptions, OwnerId, Release, Renewal, Watch,
};
use tokio::sync::Notify;

#[derive(Debug)]
struct MapLock {
    rows: Mutex<HashMap<LockKey, Row>>,
    /// Wakes the watchers of any key; they check again, and find their lease held or free.
    released: Arc<Notify>,
    clock: Clock,
    domain: LeaseDomain,
}

/// A row stays when its lease is over, because its token must never be given out again.
#[derive(Debug, Clone, Copy)]
struct Row {
    owner: OwnerId,
    token: FencingToken,
    granted: u64,
    /// In microseconds of the clock; 0 for a released lease.
    expires: u64,
}

impl MapLock {
    fn new(clock: Clock) -> Self {
        Self {
            rows: Mutex::default(),
            released: Arc::default(),
            clock,
            // Two maps must not have the same domain, or a store would confuse them.
            domain: LeaseDomain::new("the map of this test"),
        }
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<LockKey, Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, ttl: Duration) -> u64 {
        let micros = u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX);
        self.clock.now_micros().saturating_add(micros)
    }

    fn free(&self, key: &LockKey, owner: OwnerId) -> Release {
        let now = self.clock.now_micros();
        let released = match self.rows().get_mut(key) {
            Some(row) if row.owner == owner && row.expires > now => {
                row.expires = 0;
                Release::Released
            }
            _ => Release::NotOwner,
        };
        self.released.notify_waiters();
        released
    }
}

#[async_trait]
impl LockBackend for MapLock {
    async fn try_acquire(
        &self,
        key: &LockKey,
        owner: OwnerId,
        ttl: Duration,
    ) -> Result<Acquired, LockError> {
        let (now, expires) = (self.clock.now_micros(), self.end(ttl));
        let mut rows = self.rows();
        let last = match rows.get_mut(key) {
            // A resent request, whose answer was lost: the same grant.
            Some(row) if row.expires > now && row.owner == owner => {
                row.expires = expires;
                return Ok(Acquired::Granted { token: row.token });
            }
            Some(row) if row.expires > now => {
                let remaining = Some(Duration::from_micros(row.expires - now));
                return Ok(Acquired::Held { remaining });
            }
            Some(row) => row.token,
            None => FencingToken::ZERO,
        };
        let token = last.next(now);
        rows.insert(key.clone(), Row { owner, token, granted: now, expires });
        Ok(Acquired::Granted { token })
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Renewal>, LockError> {
        let now = self.clock.now_micros();
        let mut rows = self.rows();
        let renew = |lease: &Lease| match rows.get_mut(&lease.key) {
            Some(row) if row.expires > now && row.owner == lease.owner => {
                row.expires = self.end(lease.ttl);
                Renewal::Renewed
            }
            Some(row) if row.expires > now => Renewal::NotOwner,
            _ => Renewal::Vanished,
        };
        Ok(leases.iter().map(renew).collect())
    }

    async fn release(&self, key: &LockKey, owner: OwnerId) -> Result<Release, LockError> {
        Ok(self.free(key, owner))
    }

    async fn hand_over(
        &self,
        key: &LockKey,
        from: OwnerId,
        to: OwnerId,
        ttl: Duration,
    ) -> Result<HandOver, LockError> {
        let (now, expires) = (self.clock.now_micros(), self.end(ttl));
        Ok(match self.rows().get_mut(key).filter(|row| row.expires > now) {
            Some(row) if row.owner == to => {
                row.expires = expires;
                HandOver::HandedOver { token: row.token }
            }
            Some(row) if row.owner == from => {
                *row = Row { owner: to, token: row.token.next(now), granted: now, expires };
                HandOver::HandedOver { token: row.token }
            }
            _ => HandOver::NotOwner,
        })
    }

    async fn inspect(&self, key: &LockKey) -> Result<Option<LeaseInfo>, LockError> {
        let now = self.clock.now_micros();
        Ok(self.rows().get(key).filter(|row| row.expires > now).map(|row| {
            let remaining = Duration::from_micros(row.expires - now);
            let mut info = LeaseInfo::new(row.owner, row.token, remaining);
            info.held_for = Some(Duration::from_micros(now.saturating_sub(row.granted)));
            info
        }))
    }

    fn watch(&self, key: &LockKey, _waiter: Option<OwnerId>) -> Watch {
        // Registered before the check, so that no release in between is missed.
        let released = Arc::clone(&self.released).notified_owned();
        let now = self.clock.now_micros();
        let is_free = self.rows().get(key).is_none_or(|row| row.expires <= now);
        if is_free { Box::pin(std::future::ready(())) } else { Box::pin(released) }
    }

    fn keeps_places(&self) -> bool {
        false
    }

    fn release_now(&self, key: &LockKey, owner: OwnerId) -> bool {
        self.free(key, owner);
        true
    }

    fn domain(&self) -> &LeaseDomain {
        &self.domain
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn map_backend_conforms() {
    let passed = conformance::run(async || {
        let clock = Clock::manual();
        Subject::new(Arc::new(MapLock::new(clock.clone()))).with_manual_clock(clock)
    })
    .await
    .unwrap_or_else(|failures| panic!("{failures}"));
    assert!(passed >= 25);
}

/// The manager provides the rest, such as waiting in line and refreshing.
#[tokio::test]
async fn manager_locks_with_a_custom_backend() {
    let locks = LockManager::new(Arc::new(MapLock::new(Clock::anchored())));
    let key = LockKey::new("k").unwrap();
    let first = locks.lock(&key, &LockOptions::new()).await.unwrap();
    let token = first.fence();
    first.release().await;
    let second = locks.lock(&key, &LockOptions::new()).await.unwrap();
    assert!(second.fence() > token);
}
