//! The backend in the memory of this process, which is the reference.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::lease::{FencingToken, LeaseDomain, OwnerId};
use tokio::sync::Notify;

use crate::LeaseInfo;
use crate::answer::{Acquired, HandOver, Release, Renewal};
use crate::backend::{LockBackend, Watch};
use crate::error::LockError;
use crate::key::LockKey;
use crate::lease::Lease;
use crate::time::micros;
use crate::{Clock, ClockExt as _};

/// Leases in the memory of this process: the reference backend.
///
/// The monotonic [`Clock`] decides when its leases end. Tokens are `max(last + 1, time of day in µs)` over
/// all keys together, so that a released key costs no memory.
#[derive(Debug)]
pub struct InProcessLock {
    table: Mutex<Table>,
    clock: Clock,
    domain: LeaseDomain,
}

#[derive(Debug, Default)]
struct Table {
    last: FencingToken,
    rows: HashMap<LockKey, Row>,
}

#[derive(Debug)]
struct Row {
    owner: OwnerId,
    token: FencingToken,
    granted: u64,
    expires: u64,
    /// Created by the first watcher, and removed with the row.
    released: Option<Arc<Notify>>,
}

impl InProcessLock {
    /// An empty backend on this clock.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    ///
    /// use memory_lock::{Clock, ClockExt, InProcessLock, LockKey, LockManager, LockOptions};
    ///
    /// let locks = LockManager::new(Arc::new(InProcessLock::new(Clock::anchored())));
    /// let guard = locks.lock(&LockKey::new("case-17")?, &LockOptions::default()).await?;
    /// assert!(guard.ensure_held().is_ok());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let domain = LeaseDomain::new(format!("in-process:{number}"));
        Self { table: Mutex::default(), clock, domain }
    }

    /// No step of the time of day ends a lease or extends it.
    fn ticks(&self) -> u64 {
        self.clock.ticks().micros
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Every change of the table is complete before anything in it can panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release_row(&self, key: &LockKey, owner: OwnerId) -> Release {
        let now = self.ticks();
        let mut table = self.table();
        if table.rows.get(key).is_none_or(|row| row.owner != owner) {
            return Release::NotOwner;
        }
        let row = table.rows.remove(key);
        drop(table);
        let Some(row) = row else { return Release::NotOwner };
        if let Some(released) = row.released {
            released.notify_waiters();
        }
        if row.expires > now { Release::Released } else { Release::NotOwner }
    }
}

impl Default for InProcessLock {
    /// On [`Clock::anchored`](crate::ClockExt::anchored).
    fn default() -> Self {
        Self::new(Clock::anchored())
    }
}

impl Table {
    fn grant(&mut self, now: u64) -> FencingToken {
        self.last = self.last.next(now);
        self.last
    }
}

impl Row {
    fn is_live(&self, now: u64) -> bool {
        self.expires > now
    }
}

#[async_trait]
impl LockBackend for InProcessLock {
    async fn try_acquire(
        &self,
        key: &LockKey,
        owner: OwnerId,
        ttl: Duration,
    ) -> Result<Acquired, LockError> {
        let now = self.ticks();
        let expires = now.saturating_add(micros(ttl));
        let mut table = self.table();
        let mut released = None;
        if let Some(row) = table.rows.get_mut(key) {
            if row.is_live(now) {
                if row.owner != owner {
                    let remaining = Some(Duration::from_micros(row.expires - now));
                    return Ok(Acquired::Held { remaining });
                }
                row.expires = expires;
                return Ok(Acquired::Granted { token: row.token });
            }
            released = row.released.take();
        }
        let token = table.grant(self.clock.now_micros());
        table.rows.insert(key.clone(), Row { owner, token, granted: now, expires, released });
        Ok(Acquired::Granted { token })
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Renewal>, LockError> {
        let now = self.ticks();
        let mut table = self.table();
        let renew = |lease: &Lease| match table.rows.get_mut(&lease.key) {
            Some(row) if row.is_live(now) && row.owner == lease.owner => {
                row.expires = now.saturating_add(micros(lease.ttl));
                Renewal::Renewed
            }
            Some(row) if row.is_live(now) => Renewal::NotOwner,
            _ => Renewal::Vanished,
        };
        Ok(leases.iter().map(renew).collect())
    }

    async fn release(&self, key: &LockKey, owner: OwnerId) -> Result<Release, LockError> {
        Ok(self.release_row(key, owner))
    }

    async fn hand_over(
        &self,
        key: &LockKey,
        from: OwnerId,
        to: OwnerId,
        ttl: Duration,
    ) -> Result<HandOver, LockError> {
        let now = self.ticks();
        let mut table = self.table();
        let next = table.last.next(self.clock.now_micros());
        let Some(row) = table.rows.get_mut(key).filter(|row| row.is_live(now)) else {
            return Ok(HandOver::NotOwner);
        };
        if row.owner == to {
            row.expires = now.saturating_add(micros(ttl));
            return Ok(HandOver::HandedOver { token: row.token });
        }
        if row.owner != from {
            return Ok(HandOver::NotOwner);
        }
        row.owner = to;
        row.token = next;
        row.granted = now;
        row.expires = now.saturating_add(micros(ttl));
        table.last = next;
        Ok(HandOver::HandedOver { token: next })
    }

    async fn inspect(&self, key: &LockKey) -> Result<Option<LeaseInfo>, LockError> {
        let now = self.ticks();
        let table = self.table();
        Ok(table.rows.get(key).filter(|row| row.is_live(now)).map(|row| {
            let remaining = Duration::from_micros(row.expires - now);
            let mut info = LeaseInfo::new(row.owner, row.token, remaining);
            info.held_for = Some(Duration::from_micros(now.saturating_sub(row.granted)));
            info
        }))
    }

    fn watch(&self, key: &LockKey, _waiter: Option<OwnerId>) -> Watch {
        let now = self.ticks();
        let mut table = self.table();
        match table.rows.get_mut(key) {
            Some(row) if row.is_live(now) => {
                Box::pin(Arc::clone(row.released.get_or_insert_default()).notified_owned())
            }
            // Free already: a release between the caller's check and this call is not missed.
            _ => Box::pin(std::future::ready(())),
        }
    }

    fn release_now(&self, key: &LockKey, owner: OwnerId) -> bool {
        self.release_row(key, owner);
        true
    }

    /// There is only one process, and the manager keeps its line.
    fn keeps_places(&self) -> bool {
        true
    }

    fn domain(&self) -> &LeaseDomain {
        &self.domain
    }
}
