//! The messages at one place of a memory: the present one, and archived ones.

use memory_core::store::{FoundIn, SearchScope, SequenceSet};
use memory_core::{MemoryKey, Sequence, StoredMessage};
use rusqlite::{Connection, params};
use serde::Deserialize;

use crate::codec::{self, HeadRow, META_COLUMNS, int};
use crate::commands::places_of;
use crate::error::JobError;
use crate::readers::FileSnapshot;
use crate::reads::readable;
use crate::schema::SEQUENCE_BITS;

/// A removal whose messages are in the archive.
struct Kept {
    /// The id of its row.
    id: i64,
    number: u64,
    places: SequenceSet,
}

/// Reads the messages at places of one memory.
pub(super) struct Places<'a> {
    connection: &'a Connection,
    key: &'a MemoryKey,
    first_place: i64,
    scope: SearchScope,
    removals: Vec<Kept>,
    select_present: String,
    select_archived: String,
}

/// The places of a removal, without the rest of it.
#[derive(Deserialize)]
struct PlacesOnly {
    places: SequenceSet,
}

impl<'a> Places<'a> {
    pub(super) fn new(
        db: &FileSnapshot<'a>,
        key: &'a MemoryKey,
        row: &HeadRow,
        scope: SearchScope,
    ) -> Result<Self, JobError> {
        let connection = db.connection;
        let mut removals = Vec::new();
        if scope.has_archived() {
            let mut select = connection.prepare_cached(REMOVALS)?;
            let mut rows = select.query(params![row.id, int(db.now)])?;
            while let Some(row) = rows.next()? {
                let body = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?;
                // A removal that cannot be read is not listed either.
                let Ok(PlacesOnly { places }) = serde_json::from_str(body) else { continue };
                let number = row.get::<_, i64>(1)?.cast_unsigned();
                removals.push(Kept { id: row.get(0)?, number, places });
            }
        }
        let select = |table| format!("SELECT {META_COLUMNS}, body FROM {table} WHERE place = ?1");
        Ok(Self {
            connection,
            key,
            first_place: row.first_place(),
            scope,
            removals,
            select_present: select("message"),
            select_archived: select("archive"),
        })
    }

    /// The nearest place with a message after this one. It may turn out to have none.
    pub(super) fn after(&self, place: Sequence) -> Result<Option<Sequence>, JobError> {
        let from = self.first_place | int(place.number().saturating_add(1).min(LAST));
        let present =
            self.nearest(FIRST_PRESENT, from, places_of(self.first_place >> SEQUENCE_BITS).1)?;
        let archived = self.removals.iter().filter_map(|removal| {
            let ranges = removal.places.ranges();
            let (first, _) = ranges.get(ranges.partition_point(|(_, last)| *last <= place))?;
            Some(place.plus(1).max(*first))
        });
        let nearest = present.into_iter().chain(archived).min();
        Ok(nearest.filter(|found| *found > place && found.number() <= LAST))
    }

    /// The nearest place with a message before this one. It may turn out to have none.
    pub(super) fn before(&self, place: Sequence) -> Result<Option<Sequence>, JobError> {
        let Some(last) = place.number().checked_sub(1) else { return Ok(None) };
        let last = Sequence::new(last.min(LAST));
        let to = self.first_place | int(last.number());
        let present = self.nearest(LAST_PRESENT, self.first_place, to)?;
        let archived = self.removals.iter().filter_map(|removal| {
            let ranges = removal.places.ranges();
            let index = ranges.partition_point(|(first, _)| *first <= last).checked_sub(1)?;
            ranges.get(index).map(|(_, end)| last.min(*end))
        });
        Ok(present.into_iter().chain(archived).max().filter(|found| *found < place))
    }

    fn nearest(&self, sql: &str, from: i64, to: i64) -> Result<Option<Sequence>, JobError> {
        if !self.scope.has_present() {
            return Ok(None);
        }
        let found = self
            .connection
            .prepare_cached(sql)?
            .query_row([from, to], |row| row.get::<_, Option<i64>>(0))?;
        Ok(found.map(sequence_of))
    }

    /// Calls `visit` with each message at a place, the present one first, then in the order of removals. Returns their
    /// number.
    pub(super) fn visit(
        &self,
        place: Sequence,
        visit: &mut dyn FnMut(FoundIn, StoredMessage),
    ) -> Result<usize, JobError> {
        let mut count = 0;
        if self.scope.has_present() {
            let key = self.first_place | int(place.number());
            if let Some(message) = self.read(&self.select_present, key)? {
                visit(FoundIn::Present, message);
                count += 1;
            }
        }
        for removal in self.removals.iter().filter(|removal| holds(&removal.places, place)) {
            let key = places_of(removal.id).0 | int(place.number());
            if let Some(message) = self.read(&self.select_archived, key)? {
                visit(FoundIn::Archived { removal: removal.number }, message);
                count += 1;
            }
        }
        Ok(count)
    }

    fn read(&self, select: &str, place: i64) -> Result<Option<StoredMessage>, JobError> {
        let mut select = self.connection.prepare_cached(select)?;
        let mut rows = select.query([place])?;
        match rows.next()? {
            Some(row) => readable(self.key, codec::stored(row)),
            None => Ok(None),
        }
    }
}

/// Whether a set has this place. A set of scattered places has many ranges.
fn holds(places: &SequenceSet, place: Sequence) -> bool {
    let ranges = places.ranges();
    let after = ranges.partition_point(|(first, _)| *first <= place);
    let before = after.checked_sub(1).and_then(|index| ranges.get(index));
    before.is_some_and(|(_, last)| place <= *last)
}

/// The last possible place of a memory.
const LAST: u64 = (1 << SEQUENCE_BITS) - 1;

/// The place of a row within its memory.
pub(super) const fn sequence_of(row: i64) -> Sequence {
    Sequence::new(row.unsigned_abs() & LAST)
}

const FIRST_PRESENT: &str = "SELECT min(place) FROM message WHERE place BETWEEN ?1 AND ?2";

const LAST_PRESENT: &str = "SELECT max(place) FROM message WHERE place BETWEEN ?1 AND ?2";

const REMOVALS: &str = "
SELECT id, number, body FROM removal
WHERE memory = ?1 AND (keep_until IS NULL OR keep_until > ?2) ORDER BY number, id";
