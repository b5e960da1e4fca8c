//! Which lease of the file is live, by clocks that never step.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memory_core::OwnerId;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use tokio::time::Instant;

use super::table::{
    ACQUIRE, Grant, HAND_OVER, Held, Now, RELEASE, RENEW, TAKE_OVER, blob, int, token,
};
use crate::answer::{Acquired, HandOver, Release, Renewal};
use crate::clock::Clock;
use crate::lease::{Lease, LeaseInfo};
use crate::ticks::Ticks;
use crate::time::micros;

/// Tells which lease of a [`LeaseTable`](super::LeaseTable) is live, whatever the time of day shows. Each
/// process that looks at leases keeps one for as long as it has the file open.
///
/// A lease lasts for its TTL after its grant or its last renewal:
///
/// - by the monotonic clock of the machine where its owner and this process share it, as the processes of one
///   machine do on Linux until it is booted again;
/// - else until it was *seen unrenewed* for its TTL. What this process saw counts from the first look on, by
///   its own monotonic clock, however long the pauses between two looks are, for every renewal shows in the
///   row. What others saw counts too: it is kept in the row, so that processes that live for less than the
///   TTL get on as well, as soon as they have watched it for a TTL together.
///
/// No step of a time of day ends a live lease, or keeps one that is not. While the machine is suspended no
/// time passes, as none passes for the lease's owner.
#[derive(Debug)]
pub struct LeaseObserver {
    clock: Clock,
    seen: Mutex<HashMap<String, Seen>>,
    /// Whether there is anything in `seen`; every free lease looks.
    watching: AtomicBool,
}

/// A lease as it was when it was seen first.
#[derive(Debug, Clone, Copy)]
struct Seen {
    grant: Grant,
    since: (Ticks, Instant),
    /// For how many microseconds others had seen it unrenewed by then.
    before: u64,
}

/// What becomes of a lease that has an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    /// Its TTL began that many microseconds ago at the least, as this process saw, or by a shared clock.
    Live { age: u64, seen: bool },
    /// Its TTL is over by the clock that its owner goes by too.
    Over,
    /// It was seen unrenewed for its TTL. Its owner may not know, so the one who takes it raises the token.
    Abandoned,
}

/// How many leases are remembered. If more are in use by owners with other clocks, the observers begin anew.
const MOST_SEEN: usize = 10_000;
/// How much more must have been seen than is written down before it is written down.
const SAVE_EVERY: u64 = 1_000_000;

impl LeaseObserver {
    /// One that has not seen anything yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, seen: Mutex::default(), watching: AtomicBool::new(false) }
    }

    /// Who holds the lease of `key`, if it is live. To be called in the transaction of a write, it says
    /// whether that write may go on: a lease that was seen unrenewed for its TTL is freed in the same
    /// transaction, with a greater token, so that its owner can no longer show it.
    ///
    /// # Errors
    ///
    /// Those of SQLite; see [`classify`](super::classify).
    pub fn live_lease(
        &self,
        connection: &Connection,
        key: &str,
    ) -> rusqlite::Result<Option<LeaseInfo>> {
        let Some((held, now)) = self.held(connection, key)? else { return Ok(None) };
        match self.judge(key, &held, now) {
            Judgement::Live { age, seen } => {
                if seen {
                    Self::save(connection, key, &held, age)?;
                }
                Ok(Some(held.info(now, age)))
            }
            Judgement::Over => Ok(None),
            Judgement::Abandoned => {
                held.free(connection, key, now)?;
                Ok(None)
            }
        }
    }

    /// As [`live_lease`](Self::live_lease), and changes nothing in the file.
    ///
    /// # Errors
    ///
    /// Those of SQLite; see [`classify`](super::classify).
    pub fn look(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<LeaseInfo>> {
        let Some((held, now)) = self.held(connection, key)? else { return Ok(None) };
        Ok(match self.judge(key, &held, now) {
            Judgement::Live { age, .. } => Some(held.info(now, age)),
            Judgement::Over | Judgement::Abandoned => None,
        })
    }

    pub(super) fn is_overdue(&self, connection: &Connection, key: &str) -> rusqlite::Result<bool> {
        let Some((held, now)) = self.held(connection, key)? else { return Ok(false) };
        let live = matches!(self.judge(key, &held, now), Judgement::Live { .. });
        Ok(live && held.is_overdue(now))
    }

    pub(super) fn acquire(
        &self,
        connection: &Connection,
        key: &str,
        owner: OwnerId,
        ttl: Duration,
    ) -> rusqlite::Result<Acquired> {
        let now = Now::of(&self.clock);
        let (ends, lasts) = (now.expiry(ttl), int(micros(ttl)));
        let (source, ticks, day) = (now.source(), now.micros(), int(now.day));
        let granted = connection
            .prepare_cached(ACQUIRE)?
            .query_row(params![key, source, ticks, blob(owner), day, ends, lasts], token)
            .optional()?;
        if let Some(token) = granted {
            self.forget(key);
            return Ok(Acquired::Granted { token });
        }
        let none = Ok(Acquired::Held { remaining: None });
        let Some(held) = Held::of(connection, key)? else { return none };
        match self.judge(key, &held, now) {
            Judgement::Live { age, seen } => {
                if seen {
                    Self::save(connection, key, &held, age)?;
                }
                Ok(Acquired::Held { remaining: Some(held.info(now, age).remaining) })
            }
            Judgement::Over => none,
            Judgement::Abandoned => {
                let Grant { owner: from, token: old, renewals, expires } = held.grant;
                let (from, old) = (blob(from), int(old.number()));
                let (renewals, expires) = (int(renewals), int(expires));
                let taken = connection
                    .prepare_cached(TAKE_OVER)?
                    .query_row(
                        params![
                            key,
                            source,
                            ticks,
                            blob(owner),
                            day,
                            ends,
                            lasts,
                            from,
                            old,
                            renewals,
                            expires
                        ],
                        token,
                    )
                    .optional()?;
                Ok(taken.map_or(Acquired::Held { remaining: None }, |token| {
                    self.forget(key);
                    Acquired::Granted { token }
                }))
            }
        }
    }

    pub(super) fn release(
        &self,
        connection: &Connection,
        key: &str,
        owner: OwnerId,
    ) -> rusqlite::Result<Release> {
        let now = Now::of(&self.clock);
        let freed = connection.prepare_cached(RELEASE)?.execute(params![
            key,
            now.source(),
            now.micros(),
            blob(owner)
        ])?;
        Ok(if freed == 0 { Release::NotOwner } else { Release::Released })
    }

    pub(super) fn renew(
        &self,
        connection: &Connection,
        leases: &[Lease],
    ) -> rusqlite::Result<Vec<Renewal>> {
        let now = Now::of(&self.clock);
        let immediate = TransactionBehavior::Immediate;
        let transaction = Transaction::new_unchecked(connection, immediate)?;
        let mut answers = Vec::with_capacity(leases.len());
        for lease in leases {
            let key = lease.key.as_str();
            let renewed = transaction.prepare_cached(RENEW)?.execute(params![
                key,
                now.source(),
                now.micros(),
                blob(lease.owner),
                int(now.day),
                now.expiry(lease.ttl),
                int(micros(lease.ttl)),
            ])?;
            answers.push(if renewed > 0 {
                Renewal::Renewed
            } else if self.look(&transaction, key)?.is_some() {
                Renewal::NotOwner
            } else {
                Renewal::Vanished
            });
        }
        transaction.commit()?;
        Ok(answers)
    }

    pub(super) fn hand_over(
        &self,
        connection: &Connection,
        key: &str,
        (from, to): (OwnerId, OwnerId),
        ttl: Duration,
    ) -> rusqlite::Result<HandOver> {
        let now = Now::of(&self.clock);
        let token = connection
            .prepare_cached(HAND_OVER)?
            .query_row(
                params![
                    key,
                    now.source(),
                    now.micros(),
                    blob(to),
                    int(now.day),
                    now.expiry(ttl),
                    int(micros(ttl)),
                    blob(from),
                ],
                token,
            )
            .optional()?;
        Ok(token.map_or(HandOver::NotOwner, |token| HandOver::HandedOver { token }))
    }

    /// The row, if it has an owner, and a reading of the clock from after it was read.
    fn held(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<(Held, Now)>> {
        let held = Held::of(connection, key)?;
        if held.is_none() {
            self.forget(key);
        }
        Ok(held.map(|held| (held, Now::of(&self.clock))))
    }

    fn judge(&self, key: &str, held: &Held, now: Now) -> Judgement {
        let ttl = held.ttl();
        if let Some(age) = held.age(now) {
            self.forget(key);
            return if age < ttl { Judgement::Live { age, seen: false } } else { Judgement::Over };
        }
        let age = self.watch(key, held, now);
        if age < ttl { Judgement::Live { age, seen: true } } else { Judgement::Abandoned }
    }

    /// For how long the lease was seen unrenewed, by this process and by others.
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
        if more < SAVE_EVERY.min(held.ttl() / 8).max(1) {
            return Ok(());
        }
        held.keep_watched(connection, key, age)
    }

    fn forget(&self, key: &str) {
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
