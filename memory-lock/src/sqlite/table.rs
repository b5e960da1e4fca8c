//! The leases of the file: the statements that grant, renew and release them.

use std::time::Duration;

use memory_core::lease::OwnerId;
use memory_sqlite_file::{Grant, LeaseObserver, LeaseState, blob, int, token};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::answer::{Acquired, HandOver, Release, Renewal};
use crate::lease::Lease;
use crate::time::micros;

/// The TTL of the lease is over by a monotonic clock that its owner shares with this process, whose ticks are
/// `?2` and `?3`.
macro_rules! over {
    () => {
        "(source IS ?2 AND stamp IS expires AND renewed <= ?3 AND ?3 - renewed >= ttl)"
    };
}

/// The columns that start a TTL: `?6` expires, `?7` TTL.
macro_rules! begin_ttl {
    () => {
        "expires = ?6, stamp = ?6, ttl = ?7, source = ?2, renewed = ?3, renewals = renewals + 1, watched = 0"
    };
}

/// Expressions on the right see the row before the update. `?4` owner, `?5` time of day.
const ACQUIRE: &str = concat!(
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

/// If the row is unchanged since it was seen: `?8` to `?11`.
const TAKE_OVER: &str = concat!(
    "UPDATE memory_leases SET token = max(token + 1, ?5), granted = ?5, owner = ?4, ",
    begin_ttl!(),
    " WHERE key = ?1 AND owner = ?8 AND token = ?9 AND renewals = ?10 AND expires = ?11
     RETURNING token"
);

const RELEASE: &str = concat!(
    "UPDATE memory_leases SET owner = NULL WHERE key = ?1 AND owner = ?4 AND NOT ",
    over!()
);

/// `?4` owner.
const RENEW: &str = concat!(
    "UPDATE memory_leases SET ",
    begin_ttl!(),
    " WHERE key = ?1 AND owner = ?4 AND NOT ",
    over!()
);

/// `?4` to, `?5` time of day, `?8` from.
const HAND_OVER: &str = concat!(
    "UPDATE memory_leases SET
         token   = CASE WHEN owner = ?4 THEN token ELSE max(token + 1, ?5) END,
         granted = CASE WHEN owner = ?4 THEN granted ELSE ?5 END,
         owner   = ?4, ",
    begin_ttl!(),
    " WHERE key = ?1 AND owner IN (?8, ?4) AND NOT ",
    over!(),
    " RETURNING token"
);

pub(super) fn acquire(
    observer: &LeaseObserver,
    connection: &Connection,
    key: &str,
    owner: OwnerId,
    ttl: Duration,
) -> rusqlite::Result<Acquired> {
    let now = observer.now();
    let (ends, lasts) = (now.expiry(ttl), int(micros(ttl)));
    let (source, ticks, day) = (now.source(), now.micros(), now.day());
    let granted = connection
        .prepare_cached(ACQUIRE)?
        .query_row(params![key, source, ticks, blob(owner), day, ends, lasts], token)
        .optional()?;
    if let Some(token) = granted {
        observer.forget(key);
        return Ok(Acquired::Granted { token });
    }
    match observer.state(connection, key, now)? {
        LeaseState::Live(info) => Ok(Acquired::Held { remaining: Some(info.remaining) }),
        LeaseState::Free => Ok(Acquired::Held { remaining: None }),
        LeaseState::Abandoned(seen) => {
            let Grant { owner: from, token: old, renewals, expires } = seen;
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
                observer.forget(key);
                Acquired::Granted { token }
            }))
        }
    }
}

pub(super) fn release(
    observer: &LeaseObserver,
    connection: &Connection,
    key: &str,
    owner: OwnerId,
) -> rusqlite::Result<Release> {
    let now = observer.now();
    let freed = connection.prepare_cached(RELEASE)?.execute(params![
        key,
        now.source(),
        now.micros(),
        blob(owner)
    ])?;
    Ok(if freed == 0 { Release::NotOwner } else { Release::Released })
}

pub(super) fn renew(
    observer: &LeaseObserver,
    connection: &Connection,
    leases: &[Lease],
) -> rusqlite::Result<Vec<Renewal>> {
    let now = observer.now();
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
            now.day(),
            now.expiry(lease.ttl),
            int(micros(lease.ttl)),
        ])?;
        answers.push(if renewed > 0 {
            Renewal::Renewed
        } else if observer.look(&transaction, key)?.is_some() {
            Renewal::NotOwner
        } else {
            Renewal::Vanished
        });
    }
    transaction.commit()?;
    Ok(answers)
}

pub(super) fn hand_over(
    observer: &LeaseObserver,
    connection: &Connection,
    key: &str,
    (from, to): (OwnerId, OwnerId),
    ttl: Duration,
) -> rusqlite::Result<HandOver> {
    let now = observer.now();
    let token = connection
        .prepare_cached(HAND_OVER)?
        .query_row(
            params![
                key,
                now.source(),
                now.micros(),
                blob(to),
                now.day(),
                now.expiry(ttl),
                int(micros(ttl)),
                blob(from),
            ],
            token,
        )
        .optional()?;
    Ok(token.map_or(HandOver::NotOwner, |token| HandOver::HandedOver { token }))
}
