//! The words of messages that are not in the index yet.

use memory_core::sibling::index_words;
use memory_core::store::SearchScope;
use memory_core::{MemoryKey, Sequence};
use rusqlite::params;

use super::places::{Places, sequence_of};
use crate::codec::{HeadRow, int};
use crate::commands::{Unindexed, indexed_to};
use crate::error::JobError;
use crate::readers::FileSnapshot;
use crate::reads::live;

/// The places that are indexed in one transaction, and the bytes of their words. Other writers wait for it.
const PLACES_AT_ONCE: usize = 1_024;
const BYTES_AT_ONCE: usize = 512 << 10;

/// The most places without a message that one part passes over, which only a damaged archive lists.
const MOST_GAPS: usize = 4_096;

/// The next part to add to the index; nothing if at most `limit` places are not in it.
pub(super) fn unindexed(
    db: &FileSnapshot<'_>,
    key: &MemoryKey,
    limit: u64,
) -> Result<Option<Option<Unindexed>>, JobError> {
    let Some(row) = live(db, key)?.filter(|row| row.id != 0) else { return Ok(Some(None)) };
    let from = indexed_to(db.connection, row.id)?;
    let new = row.head.last.number().saturating_sub(from.unwrap_or_default().number());
    let stale =
        stale_places(db, &row, limit.max(u64::try_from(PLACES_AT_ONCE).unwrap_or(u64::MAX)))?;
    let all = new.saturating_add(u64::try_from(stale.len()).unwrap_or(u64::MAX));
    if all <= limit {
        return Ok(Some(None));
    }
    if db.is_too_long(all, 0) {
        return Ok(None);
    }
    Ok(Some(Some(read_part(db, key, &row, from, stale)?)))
}

fn read_part(
    db: &FileSnapshot<'_>,
    key: &MemoryKey,
    row: &HeadRow,
    from: Option<Sequence>,
    stale: Vec<i64>,
) -> Result<Unindexed, JobError> {
    let places = Places::new(db, key, row, SearchScope::All)?;
    let mut part = Unindexed {
        memory: row.id,
        generation: row.head.generation,
        from,
        to: from.unwrap_or_default(),
        stale: Vec::new(),
        words: Vec::new(),
    };
    let mut bytes = 0;
    let mut add = |part: &mut Unindexed, place: i64| -> Result<bool, JobError> {
        let mut all: Option<String> = None;
        places.visit(sequence_of(place), &mut |_, message| {
            let words = index_words(&message.message);
            match &mut all {
                None => all = Some(words),
                Some(before) => {
                    before.push(' ');
                    before.push_str(&words);
                }
            }
        })?;
        // Also a message without words: its place is then known to the index if another takes it.
        if let Some(words) = all {
            bytes += words.len();
            part.words.push((place, words));
        }
        Ok(part.words.len() >= PLACES_AT_ONCE || bytes >= BYTES_AT_ONCE)
    };
    for place in stale {
        part.stale.push(place);
        if add(&mut part, place)? {
            return Ok(part);
        }
    }
    let mut gaps = 0;
    while gaps < MOST_GAPS {
        let Some(place) = places.after(part.to)?.filter(|place| *place <= row.head.last) else {
            part.to = row.head.last;
            break;
        };
        part.to = place;
        let before = part.words.len();
        if add(&mut part, row.first_place() | int(place.number()))? {
            break;
        }
        gaps += usize::from(part.words.len() == before);
    }
    Ok(part)
}

/// The places of a memory that must be indexed again, newest first.
pub(super) fn stale_places(
    db: &FileSnapshot<'_>,
    row: &HeadRow,
    most: u64,
) -> Result<Vec<i64>, JobError> {
    let mut select = db.connection.prepare_cached(STALE)?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let places = select.query_map(params![row.first_place(), row.last_place(), most], |row| {
        row.get::<_, i64>(0)
    })?;
    Ok(places.collect::<Result<_, _>>()?)
}

/// The number of places of a memory in the index.
pub(super) fn count_indexed(
    db: &FileSnapshot<'_>,
    key: &MemoryKey,
) -> Result<Option<u64>, JobError> {
    let Some(row) = live(db, key)?.filter(|row| row.id != 0) else { return Ok(Some(0)) };
    if db.is_too_long(row.head.last.number(), 0) {
        return Ok(None);
    }
    let count = db
        .connection
        .prepare_cached("SELECT count(*) FROM word_docsize WHERE id BETWEEN ?1 AND ?2")?
        .query_row([row.first_place(), row.last_place()], |row| row.get::<_, i64>(0))?;
    Ok(Some(count.unsigned_abs()))
}

const STALE: &str = "
SELECT place FROM stale WHERE place BETWEEN ?1 AND ?2 ORDER BY place DESC LIMIT ?3";
