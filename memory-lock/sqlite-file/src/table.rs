//! The table of leases: its schema, and a row of it. The lock grants and renews leases.

use std::time::Duration;

use memory_core::Clock;
use memory_core::clock::Ticks;
use memory_core::lease::{FencingToken, LeaseInfo, OwnerId};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use crate::error::out_of_range;

/// The table of leases in a SQLite file, for any holder of a connection to the file.
///
/// Each key has one row. A row is never deleted, because it keeps the last token; a released lease has no
/// owner. The duration of a lease is measured by its TTL and by the monotonic
/// [clock](memory_core::Clock) of its owner, where others can read that too; see
/// [`LeaseObserver`](crate::LeaseObserver). `granted` and `expires` are times of day, which earlier
/// versions of this crate used.
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

/// The columns that a table of an earlier version lacks.
///
/// `ttl` in microseconds; `source` and `renewed`: the ticks at which the TTL began to count; `renewals`:
/// the number of times it began; `stamp`: `expires` as this version wrote it, so that a later write of an
/// earlier version is detected; `watched`: the microseconds for which others saw the lease unrenewed.
const COLUMNS: [(&str, &str); 6] = [
    ("ttl", "INTEGER"),
    ("source", "BLOB"),
    ("renewed", "INTEGER"),
    ("renewals", "INTEGER NOT NULL DEFAULT 0"),
    ("stamp", "INTEGER"),
    ("watched", "INTEGER NOT NULL DEFAULT 0"),
];

const HELD: &str = "
SELECT owner, token, granted, expires, ttl, source, renewed, renewals, stamp, watched
FROM memory_leases WHERE key = ?1 AND owner IS NOT NULL";

/// Frees a lease as it was seen, with a greater token, which the earlier holder cannot present.
const FREE: &str = "
UPDATE memory_leases SET owner = NULL, token = max(token + 1, ?2)
WHERE key = ?1 AND owner = ?3 AND token = ?4 AND renewals = ?5 AND expires = ?6";

/// Stores the time for which a lease was seen unrenewed, for later observers.
const WATCHED: &str = "
UPDATE memory_leases SET
    watched = ?2, ttl = ?7, source = CASE WHEN stamp IS expires THEN source END, stamp = expires
WHERE key = ?1 AND owner = ?3 AND token = ?4 AND renewals = ?5 AND expires = ?6
    AND (stamp IS NOT expires OR watched < ?2)";

impl LeaseTable {
    /// Creates the table if it is missing, and adds the columns that one of an earlier version lacks.
    /// Several processes may do so at once, also inside a transaction of the caller.
    ///
    /// # Errors
    ///
    /// Those of SQLite; see [`classify`](crate::classify).
    pub fn create(connection: &Connection) -> rusqlite::Result<()> {
        if Self::missing(connection)?.is_empty() {
            return Ok(());
        }
        if !connection.is_autocommit() {
            return Self::complete(connection);
        }
        // Immediate, so that the busy handler is called: a later upgrade of the lock would fail at once.
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

/// One reading of both parts of a clock.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub(crate) day: u64,
    pub(crate) ticks: Ticks,
}

impl Now {
    pub(crate) fn of(clock: &Clock) -> Self {
        Self { day: clock.now_micros(), ticks: clock.ticks() }
    }

    /// The time of day in its stored form.
    #[must_use]
    pub fn day(self) -> i64 {
        int(self.day)
    }

    /// The source of the ticks in its stored form.
    #[must_use]
    pub const fn source(self) -> [u8; 16] {
        self.ticks.source.to_be_bytes()
    }

    /// The ticks in their stored form.
    #[must_use]
    pub fn micros(self) -> i64 {
        int(self.ticks.micros)
    }

    /// The time of day at which a TTL that begins now is over, in its stored form.
    #[must_use]
    pub fn expiry(self, ttl: Duration) -> i64 {
        int(self.day.saturating_add(micros(ttl)))
    }
}

/// The values that change whenever a lease is granted or renewed, by this version or an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The owner in the row.
    pub owner: OwnerId,
    /// The token of its grant.
    pub token: FencingToken,
    /// The number of times its TTL began to count.
    pub renewals: u64,
    /// The time of day at which it expires.
    pub expires: u64,
}

/// A lease that has an owner, live or not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) grant: Grant,
    granted: u64,
    stamped: Option<Stamped>,
}

/// The values of a lease that only this version writes.
#[derive(Debug, Clone, Copy)]
struct Stamped {
    ttl: u64,
    renewed: Option<Ticks>,
    watched: u64,
}

/// The longest TTL that is assumed for a lease that an earlier version wrote.
const MAX_ASSUMED_TTL: Duration = Duration::from_secs(60);
/// The shortest one.
const MIN_ASSUMED_TTL: Duration = Duration::from_secs(1);

impl Held {
    pub(crate) fn of(connection: &Connection, key: &str) -> rusqlite::Result<Option<Self>> {
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

    /// In microseconds. Earlier versions did not store it: for a lease that was not renewed it is the time
    /// from its grant to its end; for one that was renewed it is less.
    pub(crate) fn ttl(&self) -> u64 {
        match self.stamped {
            Some(stamped) => stamped.ttl,
            None => match self.grant.expires.checked_sub(self.granted) {
                Some(lasts) => lasts.clamp(micros(MIN_ASSUMED_TTL), micros(MAX_ASSUMED_TTL)),
                None => micros(MAX_ASSUMED_TTL),
            },
        }
    }

    /// The time since its TTL began to count, where its owner and this process share a monotonic clock.
    pub(crate) fn age(&self, now: Now) -> Option<u64> {
        self.stamped
            .and_then(|stamped| stamped.renewed)
            .and_then(|renewed| now.ticks.since(renewed))
    }

    /// The time for which others saw it unrenewed.
    pub(crate) fn watched(&self) -> u64 {
        self.stamped.map_or(0, |stamped| stamped.watched)
    }

    /// The information about it if it counts as live and its TTL began that long ago.
    pub(crate) fn info(&self, now: Now, age: u64) -> LeaseInfo {
        let remaining = Duration::from_micros(self.ttl().saturating_sub(age));
        let mut info = LeaseInfo::new(self.grant.owner, self.grant.token, remaining);
        info.held_for = Some(Duration::from_micros(now.day.saturating_sub(self.granted)));
        info
    }

    /// Returns whether, by the time of day, it is over or ends later than is possible, where no shared
    /// clock is available to decide.
    pub(crate) fn is_overdue(&self, now: Now) -> bool {
        let (ends, ttl) = (self.grant.expires, self.ttl());
        let odd = ends <= now.day || ends > now.day.saturating_add(ttl.saturating_mul(2));
        odd && self.age(now).is_none()
    }

    /// Frees it, unless it was renewed or taken since.
    pub(crate) fn free(
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

    /// Stores the time for which it was seen unrenewed, unless it was renewed since.
    pub(crate) fn keep_watched(
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

/// The token in the first column.
///
/// # Errors
///
/// Those of SQLite; a foreign value is [`Corrupt`](crate::SqliteErrorKind::Corrupt).
pub fn token(row: &Row<'_>) -> rusqlite::Result<FencingToken> {
    unsigned(row, 0).map(FencingToken::new)
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| out_of_range(column))
}

/// An owner in its stored form.
#[must_use]
pub const fn blob(owner: OwnerId) -> [u8; 16] {
    owner.bits().to_be_bytes()
}

/// A number in its stored form.
#[must_use]
pub fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Whole microseconds, saturating.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
