//! Moves removed messages to the archive and drops them when their retention ends.

use jiff::Timestamp;
use memory_core::Sequence;
use memory_core::store::{ArchivedRemoval, FlushReceipt, RemovalCause, Retention, StoreErrorKind};
use rusqlite::{Connection, params};

use super::index::unindex_removal;
use super::step::{MOST_MEMORIES, Step, no_room};
use crate::codec::int;
use crate::error::JobError;
use crate::schema::SEQUENCE_BITS;

/// The number of overdue messages that one write drops, or twice the number that it adds: other writers wait for it.
pub(super) const DROPPED_AT_ONCE: usize = 256;

/// A removal of messages, and its retention.
pub(super) struct Removal<'a> {
    pub(super) cause: RemovalCause,
    pub(super) receipt: Option<&'a FlushReceipt>,
    pub(super) retention: Retention,
}

/// The columns of a removal that decide how long it is kept.
struct Kept {
    id: i64,
    keep_until: Option<i64>,
    bytes: u64,
}

/// The range of the places of a removal's messages.
pub(crate) const fn places_of(removal: i64) -> (i64, i64) {
    let first = removal << SEQUENCE_BITS;
    (first, first | ((1 << SEQUENCE_BITS) - 1))
}

/// These ranges of places in the table of the present messages of a memory, whose first place this is.
pub(super) fn ranges(
    first_place: i64,
    places: &[(Sequence, Sequence)],
) -> impl Iterator<Item = (i64, i64)> + Clone {
    let key = move |place: Sequence| first_place | int(place.number());
    places.iter().map(move |(first, last)| (key(*first), key(*last)))
}

impl Step<'_> {
    /// Moves the messages in these ranges of places to the archive, copies those at the replaced places, and drops what
    /// exceeds its limits. Returns the number of the removal if it is kept. Call this after [`begin`](Self::begin).
    pub(super) fn archive(
        &self,
        removal: &Removal<'_>,
        ranges: impl Iterator<Item = (i64, i64)>,
        replaced: &[i64],
    ) -> Result<Option<u64>, JobError> {
        let Removal { cause, receipt, retention } = removal;
        let id = next_removal(self.connection)?;
        let (first, last) = places_of(id);
        let mut copy = self.connection.prepare_cached(COPY)?;
        let mut delete = self.connection.prepare_cached(DELETE_RANGE)?;
        for (from, to) in ranges {
            copy.execute(params![first, SEQUENCE_MASK, from, to])?;
            delete.execute([from, to])?;
        }
        for place in replaced {
            copy.execute(params![first, SEQUENCE_MASK, place, place])?;
        }
        let number = self.loaded.row.head.version;
        let mut archived = ArchivedRemoval::new(number, *cause, self.time()?, retention);
        let mut places = Vec::new();
        let mut weigh = self.connection.prepare_cached(WEIGH)?;
        let mut rows = weigh.query([first, last])?;
        while let Some(row) = rows.next()? {
            let place = row.get::<_, i64>(0)? & SEQUENCE_MASK;
            places.push(Sequence::new(place.cast_unsigned()));
            archived.tokens = archived.tokens.saturating_add(row.get::<_, i64>(1)?.unsigned_abs());
            archived.bytes = archived.bytes.saturating_add(row.get::<_, i64>(2)?.unsigned_abs());
        }
        if places.is_empty() {
            return Ok(None);
        }
        let most = DROPPED_AT_ONCE.max(places.len().saturating_mul(2));
        archived.messages = u64::try_from(places.len()).unwrap_or(u64::MAX);
        archived.places = places.into_iter().collect();
        archived.receipt = receipt.cloned();
        let body = serde_json::to_string(&archived).map_err(|error| {
            StoreErrorKind::Invalid(format!("the receipt cannot be written: {error}"))
        })?;
        self.connection.prepare_cached(INSERT_REMOVAL)?.execute(params![
            id,
            self.loaded.row.id,
            int(number),
            archived.keep_until.map(Timestamp::as_microsecond),
            receipt.map(|receipt| receipt.id.into_bytes()),
            int(archived.bytes),
            int(archived.messages),
            body,
        ])?;
        // One that alone is too large is not kept, and drops no earlier one.
        let is_too_large = archived.bytes > retention.max_bytes;
        if is_too_large {
            drop_part(self.connection, self.loaded.row.id, id, i64::MAX)?;
        }
        self.drop_old_removals(retention.max_bytes, most)?;
        let is_kept = !is_too_large && archived.is_kept(archived.removed_at);
        Ok(is_kept.then_some(number))
    }

    /// The time of this transaction.
    pub(super) fn time(&self) -> Result<Timestamp, JobError> {
        Timestamp::from_microsecond(int(self.now)).map_err(|error| {
            JobError::Refused(StoreErrorKind::Other(format!("the clock is wrong: {error}")))
        })
    }

    /// Drops overdue removals, at most this many messages of them, and the oldest removals beyond this size.
    pub(super) fn drop_old_removals(&self, max_bytes: u64, most: usize) -> Result<(), JobError> {
        let now = int(self.now);
        let removals = self.kept_removals()?;
        let (overdue, kept): (Vec<_>, Vec<_>) = removals
            .into_iter()
            .partition(|removal| removal.keep_until.is_some_and(|end| end <= now));
        let mut left = i64::try_from(most).unwrap_or(i64::MAX);
        for removal in overdue {
            left = drop_part(self.connection, self.loaded.row.id, removal.id, left)?;
            if left <= 0 {
                break;
            }
        }
        let mut bytes = kept.iter().map(|removal| removal.bytes).fold(0, u64::saturating_add);
        for removal in kept {
            if bytes <= max_bytes {
                break;
            }
            bytes = bytes.saturating_sub(removal.bytes);
            drop_part(self.connection, self.loaded.row.id, removal.id, i64::MAX)?;
        }
        Ok(())
    }

    /// Drops all removals whose retention has ended.
    pub(super) fn drop_overdue(&self) -> Result<(), JobError> {
        for removal in self.kept_removals()? {
            if removal.keep_until.is_some_and(|end| end <= int(self.now)) {
                drop_part(self.connection, self.loaded.row.id, removal.id, i64::MAX)?;
            }
        }
        Ok(())
    }

    /// The removals of this memory, oldest first.
    fn kept_removals(&self) -> Result<Vec<Kept>, JobError> {
        let mut select = self.connection.prepare_cached(REMOVALS)?;
        let rows = select.query_map([self.loaded.row.id], |row| {
            let bytes = row.get::<_, i64>(2)?.unsigned_abs();
            Ok(Kept { id: row.get(0)?, keep_until: row.get(1)?, bytes })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Drops the whole archive of this memory.
    pub(super) fn drop_archive(&self) -> Result<(), JobError> {
        for removal in self.kept_removals()? {
            drop_part(self.connection, self.loaded.row.id, removal.id, i64::MAX)?;
        }
        Ok(())
    }
}

/// The id of the next removal.
pub(super) fn next_removal(connection: &Connection) -> Result<i64, JobError> {
    let id = connection.prepare_cached(NEXT_ID)?.query_row([SEQUENCE_BITS], |row| row.get(0))?;
    if id >= MOST_MEMORIES { Err(no_room()) } else { Ok(id) }
}

/// Drops at most this many messages of a removal of a memory, and the removal with the last; returns how many more may be dropped.
fn drop_part(
    connection: &Connection,
    memory: i64,
    removal: i64,
    most: i64,
) -> rusqlite::Result<i64> {
    let (first, last) = places_of(removal);
    unindex_removal(connection, memory, removal, most)?;
    let dropped = if most == i64::MAX {
        connection.prepare_cached(DELETE_ARCHIVED)?.execute([first, last])?
    } else {
        connection.prepare_cached(DELETE_PART)?.execute([first, last, most])?
    };
    let left = most.saturating_sub(i64::try_from(dropped).unwrap_or(i64::MAX));
    if left > 0 {
        connection.prepare_cached("DELETE FROM removal WHERE id = ?1")?.execute([removal])?;
    }
    Ok(left)
}

/// Drops at most this many rows of a memory's archive; returns how many more may be dropped.
pub(super) fn drop_rows(
    connection: &Connection,
    memory: i64,
    mut left: i64,
) -> rusqlite::Result<i64> {
    while left > 0 {
        let oldest = connection
            .prepare_cached(REMOVALS)?
            .query_map([memory], |row| row.get(0))?
            .next()
            .transpose()?;
        let Some(oldest) = oldest else { break };
        left = drop_part(connection, memory, oldest, left)?.saturating_sub(1);
    }
    Ok(left)
}

const SEQUENCE_MASK: i64 = (1 << SEQUENCE_BITS) - 1;

/// Larger than the id of each removal, and than that of each one whose row was lost.
const NEXT_ID: &str = "
SELECT 1 + max(ifnull((SELECT max(id) FROM removal), 0),
               ifnull((SELECT max(place) FROM archive), 0) >> ?1)";

const COPY: &str = "
INSERT INTO archive
    (place, id, tokens, priority, content_type, created_at, link, closed, summary, body)
SELECT ?1 | (place & ?2), id, tokens, priority, content_type, created_at, link, closed, summary, body
FROM message WHERE place BETWEEN ?3 AND ?4 ORDER BY place";

const DELETE_RANGE: &str = "DELETE FROM message WHERE place BETWEEN ?1 AND ?2";

/// The length of a text is in the header of its row, so no body is read.
const WEIGH: &str = "
SELECT place, tokens, octet_length(body) FROM archive WHERE place BETWEEN ?1 AND ?2";

const INSERT_REMOVAL: &str = "
INSERT INTO removal (id, memory, number, keep_until, receipt, bytes, messages, body)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

const REMOVALS: &str = "
SELECT id, keep_until, bytes FROM removal WHERE memory = ?1 ORDER BY number, id";

const DELETE_ARCHIVED: &str = "DELETE FROM archive WHERE place BETWEEN ?1 AND ?2";

const DELETE_PART: &str = "
DELETE FROM archive WHERE place IN
    (SELECT place FROM archive WHERE place BETWEEN ?1 AND ?2 ORDER BY place LIMIT ?3)";
