//! The table of leases: its statements, and a row of it.

use std::time::Duration;

use memory_core::{FencingToken, OwnerId};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::failure::out_of_range;
use crate::clock::Clock;
use crate::lease::LeaseInfo;
use crate::ticks::Ticks;
use crate::time::micros;

/// The table of leases in a SQLite file, for whoever has a connection to it.
///
/// One row a key. A row is never deleted, for it keeps the last token; a released lease has no owner.
/// How long a lease lasts is told by its TTL and by the monotonic [`Clock`](crate::Clock) of its owner,
/// where others can read that too; see [`LeaseObserver`](super::LeaseObserver). `granted` and `expires` are
/// times of day, by which earlier versions of this crate went.
#[derive(Debug)]
pub struct LeaseTable;

const CREATE: &str = "
CREATE TABLE IF NOT EXISTS memory_leases (
    key     TEXT    NOT NULL PRIMARY KEY,
    owner   BLOB,
    token   INTEGER NOT NULL,
    granted INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID";

/// What a table of an earlier version lacks.
///
/// `ttl` in microseconds; `source` and `renewed`: the ticks at which the TTL began to count; `renewals`: how
/// many times it did; `stamp`: `expires` as this version wrote it, so that a row that an earlier version
/// wrote since is known; `watched`: for how many microseconds others saw the lease unrenewed.
const COLUMNS: [(&str, &str); 6] = [
    ("ttl", "INTEGER"),
    ("source", "BLOB"),
    ("renewed", "INTEGER"),
    ("renewals", "INTEGER NOT NULL DEFAULT 0"),
    ("stamp", "INTEGER"),
    ("watched", "INTEGER NOT NULL DEFAULT 0"),
];

/// The TTL of the lease is over by a monotonic clock that its owner shares with this process, whose ticks are
/// `?2` and `?3`.
macro_rules! over {
    () => {
        "(source IS ?2 AND stamp IS expires AND renewed <= ?3 AND ?3 - renewed >= ttl)"
    };
}

/// What begins a TTL: `?6` expires, `?7` TTL.
macro_rules! begin_ttl {
    () => {
        "expires = ?6, stamp = ?6, ttl = ?7, source = ?2, renewed = ?3, renewals = renewals + 1, watched = 0"
    };
}

/// Expressions on the right see the row as it was. `?4` owner, `?5` time of day.
pub(super) const ACQUIRE: &str = concat!(
    "INSERT INTO memory_leases (key, owner, token, granted, expires, stamp, ttl, source, renewed)
     VALUES (?1, ?4, ?5, ?5, ?6, ?6, ?7, ?2, ?3)
     ON CONFLICT (key) DO UPDATE SET
         token   = CASE WHEN owner IS ?4 AND NOT ",
    over!(),
    " THEN token ELSE max(token + 1, ?5) END,
         granted = CASE WHEN owner IS ?4 AND NOT ",
    over!(),
    " THEN granted ELSE ?5 END,
         owner   = ?4, ",
    begin_ttl!(),
    " WHERE owner IS NULL OR owner IS ?4 OR ",
    over!(),
    " RETURNING token"
);

/// As long as the row is as it was seen: `?8` to `?11`.
pub(super) const TAKE_OVER: &str = concat!(
    "UPDATE memory_leases SET token = max(token + 1, ?5), granted = ?5, owner = ?4, ",
    begin_ttl!(),
    " WHERE key = ?1 AND owner = ?8 AND token = ?9 AND renewals = ?10 AND expires = ?11
     RETURNING token"
);

pub(super) const RELEASE: &str = concat!(
    "UPDATE memory_leases SET owner = NULL WHERE key = ?1 AND owner = ?4 AND NOT ",
    over!()
);

/// `?4` owner.
pub(super) const RENEW: &str = concat!(
    "UPDATE memory_leases SET ",
    begin_ttl!(),
    " WHERE key = ?1 AND owner = ?4 AND NOT ",
    over!()
);

/// `?4` to, `?5` time of day, `?8` from.
pub(super) const HAND_OVER: &str = concat!(
    "UPDATE memory_leases SET
         token   = CASE WHEN owner = ?4 THEN token ELSE max(token + 1, ?5) END,
         granted = CASE WHEN owner = ?4 THEN granted ELSE ?5 END,
         owner   = ?4, ",
    begin_ttl!(),
    " WHERE key = ?1 AND owner IN (?8, ?4) AND NOT ",
    over!(),
    " RETURNING token"
);

const HELD: &str = "
SELECT owner, token, granted, expires, ttl, source, renewed, renewals, stamp, watched
FROM memory_leases WHERE key = ?1 AND owner IS NOT NULL";

/// Frees a lease as it was seen, with a greater token, which the one who held it cannot show.
const FREE: &str = "
UPDATE memory_leases SET owner = NULL, token = max(token + 1, ?2)
WHERE key = ?1 AND owner = ?3 AND token = ?4 AND renewals = ?5 AND expires = ?6";

/// Keeps for how long a lease was seen unrenewed, for observers that come later.
const WATCHED: &str = "
UPDATE memory_leases SET
    watched = ?2, ttl = ?7, source = CASE WHEN stamp IS expires THEN source END, stamp = expires
WHERE key = ?1 AND owner = ?3 AND token = ?4 AND renewals = ?5 AND expires = ?6
    AND (stamp IS NOT expires OR watched < ?2)";

impl LeaseTable {
    /// Makes the table if it is missing, and adds what one of an earlier version lacks. Safe to do by several
    /// processes at once, and inside a transaction of the caller's.
    ///
    /// # Errors
    ///
    /// Those of SQLite; see [`classify`](super::classify).
    pub fn create(connection: &Connection) -> rusqlite::Result<()> {
        if Self::missing(connection)?.is_empty() {
            return Ok(());
        }
        if !connection.is_autocommit() {
            return Self::complete(connection);
        }
        // Immediate, so that the busy handler is asked: an upgrade later on would fail at once.
        let immediate = TransactionBehavior::Immediate;
        let transaction = Transaction::new_unchecked(connection, immediate)?;
        Self::complete(&transaction)?;
        transaction.commit()
    }

    fn complete(connection: &Connection) -> rusqlite::Result<()> {
        connection.execute_batch(CREATE)?;
        for (name, kind) in Self::missing(connection)? {
            let add = format!("ALTER TABLE memory_leases ADD COLUMN {name} {kind}");
            connection.execute_batch(&add)?;
        }
        Ok(())
    }

    fn missing(connection: &Connection) -> rusqlite::Result<Vec<(&'static str, &'static str)>> {
        let mut names =
            connection.prepare("SELECT name FROM pragma_table_info('memory_leases')")?;
        let names: Vec<String> =
            names.query_map((), |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let missing = |column: &&(&str, &str)| !names.iter().any(|name| name == column.0);
        Ok(COLUMNS.iter().filter(missing).copied().collect())
    }
}

/// One reading of both faces of a clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) day: u64,
    pub(super) ticks: Ticks,
}

impl Now {
    pub(super) fn of(clock: &Clock) -> Self {
        Self { day: clock.now_micros(), ticks: clock.ticks() }
    }

    pub(super) const fn source(self) -> [u8; 16] {
        self.ticks.source.to_be_bytes()
    }

    pub(super) fn micros(self) -> i64 {
        int(self.ticks.micros)
    }

    pub(super) fn expiry(self, ttl: Duration) -> i64 {
        int(self.day.saturating_add(micros(ttl)))
    }
}

/// What changes whenever a lease is granted or renewed, by this version or an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) owner: OwnerId,
    pub(super) token: FencingToken,
    pub(super) renewals: u64,
    pub(super) expires: u64,
}

/// A lease that has an owner, live or not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) grant: Grant,
    granted: u64,
    stamped: Option<Stamped>,
}

/// What this version wrote of a lease.
#[derive(Debug, Clone, Copy)]
struct Stamped {
    ttl: u64,
    renewed: Option<Ticks>,
    watched: u64,
}

/// The longest TTL that is assumed of a lease that an earlier version wrote.
const LONGEST_ASSUMED: u64 = 60_000_000;
/// The shortest.
const SHORTEST_ASSUMED: u64 = 1_000_000;

impl Held {
    pub(super) fn of(connection: &Connection, key: &str) -> rusqlite::Result<Option<Self>> {
        connection.prepare_cached(HELD)?.query_row([key], Self::from_row).optional()
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let number = |column| row.get::<_, Option<i64>>(column);
        let expires = unsigned(row, 3)?;
        let written_here = number(8)?.is_some_and(|stamp| u64::try_from(stamp) == Ok(expires));
        let stamped = match number(4)?.map(u64::try_from) {
            Some(Ok(ttl)) if written_here => {
                let source = row.get::<_, Option<[u8; 16]>>(5)?.map(u128::from_be_bytes);
                let since = number(6)?.and_then(|since| u64::try_from(since).ok());
                let renewed = source.zip(since).map(|(source, micros)| Ticks { source, micros });
                Some(Stamped { ttl, renewed, watched: unsigned(row, 9)? })
            }
            _ => None,
        };
        let grant = Grant {
            owner: OwnerId::new(u128::from_be_bytes(row.get(0)?)),
            token: FencingToken::new(unsigned(row, 1)?),
            renewals: unsigned(row, 7)?,
            expires,
        };
        Ok(Self { grant, granted: unsigned(row, 2)?, stamped })
    }

    /// In microseconds. Earlier versions did not write it down: of a lease that was not renewed it is the
    /// time from its grant to its end, and of one that was renewed it is less.
    pub(super) fn ttl(&self) -> u64 {
        match self.stamped {
            Some(stamped) => stamped.ttl,
            None => match self.grant.expires.checked_sub(self.granted) {
                Some(lasts) => lasts.clamp(SHORTEST_ASSUMED, LONGEST_ASSUMED),
                None => LONGEST_ASSUMED,
            },
        }
    }

    /// How long ago its TTL began to count, where its owner and this process share a monotonic clock.
    pub(super) fn age(&self, now: Now) -> Option<u64> {
        self.stamped
            .and_then(|stamped| stamped.renewed)
            .and_then(|renewed| now.ticks.since(renewed))
    }

    /// For how long others saw it unrenewed.
    pub(super) fn watched(&self) -> u64 {
        self.stamped.map_or(0, |stamped| stamped.watched)
    }

    /// What is known of it if it counts as live, its TTL having begun that long ago.
    pub(super) fn info(&self, now: Now, age: u64) -> LeaseInfo {
        LeaseInfo {
            owner: self.grant.owner,
            token: self.grant.token,
            remaining: Duration::from_micros(self.ttl().saturating_sub(age)),
            held_for: Some(Duration::from_micros(now.day.saturating_sub(self.granted))),
        }
    }

    /// Whether, by the time of day, it is over or ends later than it can, where no clock is shared that
    /// knows better.
    pub(super) fn is_overdue(&self, now: Now) -> bool {
        let (ends, ttl) = (self.grant.expires, self.ttl());
        let odd = ends <= now.day || ends > now.day.saturating_add(ttl.saturating_mul(2));
        odd && self.age(now).is_none()
    }

    /// Frees it, unless it was renewed or taken since.
    pub(super) fn free(
        &self,
        connection: &Connection,
        key: &str,
        now: Now,
    ) -> rusqlite::Result<()> {
        let Grant { owner, token, renewals, expires } = self.grant;
        connection.prepare_cached(FREE)?.execute(params![
            key,
            int(now.day),
            blob(owner),
            int(token.number()),
            int(renewals),
            int(expires),
        ])?;
        Ok(())
    }

    /// Writes down for how long it was seen unrenewed, unless it was renewed since.
    pub(super) fn keep_watched(
        &self,
        connection: &Connection,
        key: &str,
        watched: u64,
    ) -> rusqlite::Result<()> {
        let Grant { owner, token, renewals, expires } = self.grant;
        connection.prepare_cached(WATCHED)?.execute(params![
            key,
            int(watched),
            blob(owner),
            int(token.number()),
            int(renewals),
            int(expires),
            int(self.ttl()),
        ])?;
        Ok(())
    }
}

pub(super) fn token(row: &Row<'_>) -> rusqlite::Result<FencingToken> {
    unsigned(row, 0).map(FencingToken::new)
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| out_of_range(column))
}

pub(super) const fn blob(owner: OwnerId) -> [u8; 16] {
    owner.bits().to_be_bytes()
}

pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
