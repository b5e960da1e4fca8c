//! Decides which lease of the file is live, by clocks that never step.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memory_core::Clock;
use memory_core::clock::Ticks;
use memory_core::lease::LeaseInfo;
use rusqlite::Connection;
use tokio::time::Instant;

use crate::table::{Grant, Held, Now, micros};

/// Decides which lease of a [`LeaseTable`](crate::LeaseTable) is live, independently of the time of day.
/// Each process that reads leases keeps one observer for as long as it has the file open.
///
/// A lease lasts for its TTL after its grant or its last renewal:
///
/// - by the monotonic clock of the machine if its owner and this process share that clock, as the processes
///   of one machine do on Linux until the next boot;
/// - else until it was *seen unrenewed* for its TTL. The observations of this process count from the first
///   one on, by its own monotonic clock, regardless of the pauses between two observations, because every
///   renewal changes the row. The observations of other processes count too: they are kept in the row, so
///   that processes that live for less than the TTL can take the lease as soon as they have observed it for
///   a TTL together.
///
/// No step of a time of day ends a live lease or extends an expired one. While the machine is suspended no
/// time passes for an observer, and none passes for the lease's owner.
#[derive(Debug)]
pub struct LeaseObserver {
    clock: Clock,
    seen: Mutex<HashMap<String, Seen>>,
    /// Whether `seen` has entries; read for every free lease.
    watching: AtomicBool,
}

/// The state of a lease when it was seen first.
#[derive(Debug, Clone, Copy)]
struct Seen {
    grant: Grant,
    since: (Ticks, Instant),
    /// The microseconds for which others had seen it unrenewed by then.
    before: u64,
}

/// The state of a lease that has an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgment {
    /// Its TTL began at least that many microseconds ago, as this process saw or by a shared clock.
    Live { age: u64, seen: bool },
    /// Its TTL is over by a clock that its owner uses too.
    Over,
    /// It was seen unrenewed for its TTL. Its owner may not know, so a caller that takes it raises the
    /// token.
    Abandoned,
}

/// The state of a lease for a caller that was not granted it.
#[derive(Debug, Clone, Copy)]
pub enum LeaseState {
    /// It has no owner, or its TTL is over by a clock that its owner shares.
    Free,
    /// Another owner holds it.
    Live(LeaseInfo),
    /// It was seen unrenewed for its TTL. Its owner may not know, so a caller that takes it over raises the token.
    Abandoned(Grant),
}

/// The most leases that are remembered. If owners with other clocks use more, the observations begin again.
const MOST_SEEN: usize = 10_000;
/// The additional observed time after which it is written to the row.
const SAVE_EVERY: Duration = Duration::from_secs(1);

impl LeaseObserver {
    /// An observer without observations.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, seen: Mutex::default(), watching: AtomicBool::new(false) }
    }

    /// One reading of the clock.
    #[must_use]
    pub fn now(&self) -> Now {
        Now::of(&self.clock)
    }

    /// The holder of the lease of `key`, if it is live. Called in the transaction of a write, it decides
    /// whether that write may proceed: a lease that was seen unrenewed for its TTL is freed in the same
    /// transaction, with a greater token, so that its owner can no longer present it.
    ///
    /// # Errors
    ///
    /// Those of SQLite; see [`classify`](crate::classify).
    pub fn live_lease(
        &self,
        connection: &Connection,
        key: &str,
    ) -> rusqlite::Result<Option<LeaseInfo>> {
        let Some((held, now)) = self.held(connection, key)? else { return Ok(None) };
        match self.judge(key, &held, now) {
            Judgment::Live { age, seen } => {
                if seen {
                    Self::save(connection, key, &held, age)?;
                }
                Ok(Some(held.info(now, age)))
            }
            Judgment::Over => Ok(None),
            Judgment::Abandoned => {
                held.free(connection, key, now)?;
                Ok(None)
            }
        }
    }

    /// The state at `now` of the lease of `key`, which the caller was not granted.
    ///
    /// # Errors
    ///
    /// Those of SQLite; see [`classify`](crate::classify).
    pub fn state(
        &self,
        connection: &Connection,
        key: &str,
        now: Now,
    ) -> rusqlite::Result<LeaseState> {
        let Some(held) = Held::of(connection, key)? else { return Ok(LeaseState::Free) };
        Ok(match self.judge(key, &held, now) {
            Judgment::Live { age, seen } => {
                if seen {
                    Self::save(connection, key, &held, age)?;
                }
                LeaseState::Live(held.info(now, age))
            }
            Judgment::Over => LeaseState::Free,
            Judgment::Abandoned => LeaseState::Abandoned(held.grant),
        })
    }

    /// Returns whether a live lease has lost its expiry: by the time of day it is over, or ends later than
    /// is possible.
    ///
    /// # Errors
    ///
    /// Those of SQLite; see [`classify`](crate::classify).
    pub fn is_overdue(&self, connection: &Connection, key: &str) -> rusqlite::Result<bool> {
        let Some((held, now)) = self.held(connection, key)? else { return Ok(false) };
        let live = matches!(self.judge(key, &held, now), Judgment::Live { .. });
        Ok(live && held.is_overdue(now))
    }

    /// Like [`live_lease`](Self::live_lease), but changes nothing in the file.
    ///
    /// # Errors
    ///
    /// Those of SQLite; see [`classify`](crate::classify).
    pub fn look(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<LeaseInfo>> {
        let Some((held, now)) = self.held(connection, key)? else { return Ok(None) };
        Ok(match self.judge(key, &held, now) {
            Judgment::Live { age, .. } => Some(held.info(now, age)),
            Judgment::Over | Judgment::Abandoned => None,
        })
    }

    /// The row, if it has an owner, and a reading of the clock that was taken after the row was read.
    fn held(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<(Held, Now)>> {
        let held = Held::of(connection, key)?;
        if held.is_none() {
            self.forget(key);
        }
        Ok(held.map(|held| (held, self.now())))
    }

    fn judge(&self, key: &str, held: &Held, now: Now) -> Judgment {
        let ttl = held.ttl();
        if let Some(age) = held.age(now) {
            self.forget(key);
            return if age < ttl { Judgment::Live { age, seen: false } } else { Judgment::Over };
        }
        let age = self.watch(key, held, now);
        if age < ttl { Judgment::Live { age, seen: true } } else { Judgment::Abandoned }
    }

    /// The time for which the lease was seen unrenewed, by this process and by others.
    fn watch(&self, key: &str, held: &Held, now: Now) -> u64 {
        let instant = Instant::now();
        let mut seen = self.seen();
        if let Some(first) = seen.get(key).filter(|first| first.grant == held.grant) {
            let (ticks, since) = first.since;
            let passed = now.ticks.since(ticks).unwrap_or_default();
            let passed = passed.max(micros(instant.saturating_duration_since(since)));
            return first.before.saturating_add(passed).max(held.watched());
        }
        if seen.len() >= MOST_SEEN {
            seen.clear();
        }
        let before = held.watched();
        let first = Seen { grant: held.grant, since: (now.ticks, instant), before };
        seen.insert(key.to_owned(), first);
        self.watching.store(true, Ordering::Release);
        before
    }

    fn save(connection: &Connection, key: &str, held: &Held, age: u64) -> rusqlite::Result<()> {
        let Some(more) = age.checked_sub(held.watched()) else { return Ok(()) };
        if more < micros(SAVE_EVERY).min(held.ttl() / 8).max(1) {
            return Ok(());
        }
        held.keep_watched(connection, key, age)
    }

    /// Removes the observation of the lease of `key`, because this process was granted the lease.
    pub fn forget(&self, key: &str) {
        if self.watching.load(Ordering::Acquire) {
            let mut seen = self.seen();
            seen.remove(key);
            self.watching.store(!seen.is_empty(), Ordering::Release);
        }
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        // Nothing that can panic runs while the map is locked.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
