//! The table of leases, and each call as a statement.

use std::time::Duration;

use memory_core::{FencingToken, OwnerId};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::failure::out_of_range;
use crate::answer::{Acquired, HandOver, Release, Renewal};
use crate::lease::{Lease, LeaseInfo};
use crate::time::micros;

/// The table of leases in a SQLite file, for whoever has a connection to it.
///
/// One row a key. A row is never deleted, for it keeps the last token; a released lease has no owner.
/// Times are microseconds since the Unix epoch by the [`Clock`](crate::Clock) of whoever writes, so
/// all of them must go by the same clock.
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

/// Expressions on the right see the row as it was.
pub(super) const ACQUIRE: &str = "
INSERT INTO memory_leases (key, owner, token, granted, expires) VALUES (?1, ?2, ?3, ?3, ?4)
ON CONFLICT (key) DO UPDATE SET
    token   = CASE WHEN owner IS ?2 AND expires > ?3 THEN token ELSE max(token + 1, ?3) END,
    granted = CASE WHEN owner IS ?2 AND expires > ?3 THEN granted ELSE ?3 END,
    owner   = ?2,
    expires = ?4
WHERE owner IS NULL OR owner IS ?2 OR expires <= ?3
RETURNING token";

pub(super) const RELEASE: &str =
    "UPDATE memory_leases SET owner = NULL WHERE key = ?1 AND owner = ?2 AND expires > ?3";

const RENEW: &str =
    "UPDATE memory_leases SET expires = ?4 WHERE key = ?1 AND owner = ?2 AND expires > ?3";

const HAND_OVER: &str = "
UPDATE memory_leases SET
    token   = CASE WHEN owner = ?3 THEN token ELSE max(token + 1, ?4) END,
    granted = CASE WHEN owner = ?3 THEN granted ELSE ?4 END,
    owner   = ?3,
    expires = ?5
WHERE key = ?1 AND owner IN (?2, ?3) AND expires > ?4
RETURNING token";

const LIVE: &str = "
SELECT owner, token, expires, granted FROM memory_leases
WHERE key = ?1 AND owner IS NOT NULL AND expires > ?2";

impl LeaseTable {
    /// Makes the table if it is missing. Safe to do by several processes at once, and inside a
    /// transaction of the caller's.
    ///
    /// # Errors
    ///
    /// Those of SQLite; see [`classify`](super::classify).
    pub fn create(connection: &Connection) -> rusqlite::Result<()> {
        if connection.table_exists(None, "memory_leases")? {
            return Ok(());
        }
        if !connection.is_autocommit() {
            return connection.execute_batch(CREATE);
        }
        // Immediate, so that the busy handler is asked: an upgrade later on would fail at once.
        let immediate = TransactionBehavior::Immediate;
        let transaction = Transaction::new_unchecked(connection, immediate)?;
        transaction.execute_batch(CREATE)?;
        transaction.commit()
    }

    /// Who holds the lease of `key`, if it is live at `now_micros`. In the transaction of a write it
    /// says whether that write may go on.
    ///
    /// # Errors
    ///
    /// Those of SQLite; see [`classify`](super::classify).
    pub fn live_lease(
        connection: &Connection,
        key: &str,
        now_micros: u64,
    ) -> rusqlite::Result<Option<LeaseInfo>> {
        connection
            .prepare_cached(LIVE)?
            .query_row(params![key, int(now_micros)], |row| lease_info(row, now_micros))
            .optional()
    }

    pub(super) fn acquire(
        connection: &Connection,
        key: &str,
        owner: OwnerId,
        ttl: Duration,
        now: u64,
    ) -> rusqlite::Result<Acquired> {
        let granted = connection
            .prepare_cached(ACQUIRE)?
            .query_row(params![key, blob(owner), int(now), expiry(now, ttl)], token)
            .optional()?;
        if let Some(token) = granted {
            return Ok(Acquired::Granted { token });
        }
        let holder = Self::live_lease(connection, key, now)?;
        Ok(Acquired::Held { remaining: holder.map(|lease| lease.remaining) })
    }

    pub(super) fn release(
        connection: &Connection,
        key: &str,
        owner: OwnerId,
        now: u64,
    ) -> rusqlite::Result<Release> {
        let freed =
            connection.prepare_cached(RELEASE)?.execute(params![key, blob(owner), int(now)])?;
        Ok(if freed == 0 { Release::NotOwner } else { Release::Released })
    }

    pub(super) fn renew(
        connection: &Connection,
        leases: &[Lease],
        now: u64,
    ) -> rusqlite::Result<Vec<Renewal>> {
        let immediate = TransactionBehavior::Immediate;
        let transaction = Transaction::new_unchecked(connection, immediate)?;
        let mut answers = Vec::with_capacity(leases.len());
        for lease in leases {
            let key = lease.key.as_str();
            let renewed = transaction.prepare_cached(RENEW)?.execute(params![
                key,
                blob(lease.owner),
                int(now),
                expiry(now, lease.ttl)
            ])?;
            answers.push(if renewed > 0 {
                Renewal::Renewed
            } else if Self::live_lease(&transaction, key, now)?.is_some() {
                Renewal::NotOwner
            } else {
                Renewal::Vanished
            });
        }
        transaction.commit()?;
        Ok(answers)
    }

    pub(super) fn hand_over(
        connection: &Connection,
        key: &str,
        (from, to): (OwnerId, OwnerId),
        ttl: Duration,
        now: u64,
    ) -> rusqlite::Result<HandOver> {
        let token = connection
            .prepare_cached(HAND_OVER)?
            .query_row(params![key, blob(from), blob(to), int(now), expiry(now, ttl)], token)
            .optional()?;
        Ok(token.map_or(HandOver::NotOwner, |token| HandOver::HandedOver { token }))
    }
}

fn token(row: &Row<'_>) -> rusqlite::Result<FencingToken> {
    unsigned(row, 0).map(FencingToken::new)
}

fn lease_info(row: &Row<'_>, now: u64) -> rusqlite::Result<LeaseInfo> {
    Ok(LeaseInfo {
        owner: OwnerId::new(u128::from_be_bytes(row.get(0)?)),
        token: FencingToken::new(unsigned(row, 1)?),
        remaining: Duration::from_micros(unsigned(row, 2)?.saturating_sub(now)),
        held_for: Some(Duration::from_micros(now.saturating_sub(unsigned(row, 3)?))),
    })
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| out_of_range(column))
}

fn blob(owner: OwnerId) -> [u8; 16] {
    owner.bits().to_be_bytes()
}

fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn expiry(now: u64, ttl: Duration) -> i64 {
    int(now.saturating_add(micros(ttl)))
}
