//! The undoing of a removal.

use std::collections::BTreeMap;

use memory_core::store::{
    Access, ArchivedRemoval, Counters, FLUSH_HELD, MessageMeta, Restore, RestoreRefusal,
    StoreErrorKind, StoreOperation,
};
use memory_core::{MemoryKey, Sequence};
use rusqlite::{OptionalExtension, params};

use super::archive::{places_of, ranges};
use super::batch::Batch;
use super::step::Step;
use super::{Command, PAGES_OF_REMOVAL};
use crate::codec::{self, META_COLUMNS, int};
use crate::error::JobError;
use crate::schema::SEQUENCE_BITS;

#[derive(Debug)]
pub(crate) struct RestoreRows {
    pub(crate) access: Access,
    pub(crate) restore: Restore,
}

impl Command for RestoreRows {
    type Answer = Counters;
    const OPERATION: StoreOperation = StoreOperation::Restore;

    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<Counters, JobError> {
        let mut step = batch.step(key)?;
        let restore = &self.restore;
        if step.earlier(restore.write)?.is_some() {
            return Ok(step.head().counters.clone());
        }
        let fence = step.check_writer_lease(self.access.lease)?;
        let Restorable { id, removal, summary, replacements, metas } = step.restorable(restore)?;

        step.begin()?;
        let ended = summary.iter().map(|(place, _)| *place);
        let ended = ended.chain(replacements.values().map(|(place, _)| *place));
        step.reindex(ended.clone())?;
        step.unindex(ended.map(|place| (place, place)))?;
        let counters = &mut step.loaded.row.head.counters;
        let mut delete = step.connection.prepare_cached("DELETE FROM message WHERE place = ?1")?;
        if let Some((place, meta)) = summary {
            // A summary was never appended, so it is counted nowhere.
            counters.withdraw(&meta);
            delete.execute([place])?;
        }
        for place in replacements.values().map(|(place, _)| place) {
            delete.execute([place])?;
        }
        for meta in &metas {
            match (replacements.get(&meta.sequence), &removal.receipt) {
                (Some((_, now)), _) => counters.put_back(now, meta),
                (None, Some(receipt)) => counters.restore(meta, receipt),
                (None, None) => {}
            }
        }
        let (first, last) = places_of(id);
        let memory = step.loaded.row.first_place();
        step.connection.prepare_cached(MOVE_BACK)?.execute(params![
            memory,
            (1_i64 << SEQUENCE_BITS) - 1,
            first,
            last
        ])?;
        step.connection
            .prepare_cached("DELETE FROM archive WHERE place BETWEEN ?1 AND ?2")?
            .execute([first, last])?;
        step.connection.prepare_cached("DELETE FROM removal WHERE id = ?1")?.execute([id])?;
        step.remember(restore.write, None)?;
        let now = step.now;
        let head = &mut step.loaded.row.head;
        head.fence = fence;
        head.next_flush_at = Some(FLUSH_HELD);
        head.generation = head.generation.after(now, restore.spread());
        Ok(step.head().counters.clone())
    }

    fn pages(&self) -> usize {
        PAGES_OF_REMOVAL
    }

    fn is_light(&self) -> bool {
        false
    }
}

/// A removal that can be undone.
struct Restorable {
    /// The id of its row.
    id: i64,
    removal: ArchivedRemoval,
    /// The summary that is removed, and its place.
    summary: Option<(i64, MessageMeta)>,
    /// The messages that replaced others, and their places.
    replacements: BTreeMap<Sequence, (i64, MessageMeta)>,
    /// Its messages.
    metas: Vec<MessageMeta>,
}

impl Step<'_> {
    fn restorable(&self, restore: &Restore) -> Result<Restorable, JobError> {
        let refused = |reason| JobError::Refused(StoreErrorKind::NotRestorable(reason));
        if !self.has_rows() {
            return Err(refused(RestoreRefusal::NotArchived));
        }
        let memory = self.loaded.row.id;
        let found = self
            .connection
            .prepare_cached(FIND)?
            .query_row(params![memory, restore.receipt.into_bytes(), int(self.now)], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
            })
            .optional()?;
        let (id, number, body) = found.ok_or_else(|| refused(RestoreRefusal::NotArchived))?;
        let removal = decoded(&body)?;
        let later = self
            .connection
            .prepare_cached(LATER)?
            .query_map(params![memory, number, int(self.now)], |row| row.get::<_, String>(0))?
            .map(|body| decoded(&body?))
            .collect::<Result<Vec<_>, _>>()?;
        let written = removal.receipt.as_ref().and_then(|receipt| receipt.summary.as_ref());
        let summary = match written {
            Some(summary) => self.meta(summary.sequence)?,
            None => None,
        };
        let mut replacements = BTreeMap::new();
        for one in removal.receipt.iter().flat_map(|receipt| &receipt.replaced) {
            let found = self.meta(one.sequence)?;
            replacements.extend(found.map(|found| (one.sequence, found)));
        }
        let present = |place| {
            let summary = summary.as_ref().filter(|(_, meta)| meta.sequence == place);
            summary.or_else(|| replacements.get(&place)).map(|(_, meta)| meta)
        };
        removal.check_restorable(later.iter(), present).map_err(refused)?;
        self.check_free(&removal, summary.as_ref().map(|(place, _)| *place))?;
        let (first, last) = places_of(id);
        let sql = format!("SELECT {META_COLUMNS} FROM archive WHERE place BETWEEN ?1 AND ?2");
        let mut select = self.connection.prepare_cached(&sql)?;
        let mut rows = select.query([first, last])?;
        let mut metas = Vec::new();
        while let Some(row) = rows.next()? {
            metas.push(codec::named_meta(row)?);
        }
        Ok(Restorable { id, removal, summary, replacements, metas })
    }

    /// In a sound file no other message has one of these places.
    fn check_free(&self, removal: &ArchivedRemoval, summary: Option<i64>) -> Result<(), JobError> {
        let mut select = self.connection.prepare_cached(
            "SELECT 1 FROM message WHERE place BETWEEN ?1 AND ?2 AND place IS NOT ?3",
        )?;
        for (first, last) in ranges(self.loaded.row.first_place(), &freed(removal)) {
            if select.exists(params![first, last, summary])? {
                return Err(JobError::Refused(StoreErrorKind::Corrupt(
                    "the place of a removed message has another message; restore a backup".into(),
                )));
            }
        }
        Ok(())
    }
}

/// The ranges of the places of a removal without those of replaced messages, where other messages are.
fn freed(removal: &ArchivedRemoval) -> Vec<(Sequence, Sequence)> {
    let replaced = removal.receipt.iter().flat_map(|receipt| &receipt.replaced);
    let replaced: Vec<_> = replaced.map(|one| one.sequence.number()).collect();
    let mut freed = Vec::new();
    for (first, last) in removal.places.ranges() {
        let (mut from, last) = (first.number(), last.number());
        for place in replaced.iter().copied() {
            if !(from..=last).contains(&place) {
                continue;
            }
            freed.push((from, place.saturating_sub(1)));
            from = place.saturating_add(1);
        }
        freed.push((from, last));
    }
    let places = freed.into_iter().filter(|(first, last)| first <= last);
    places.map(|(first, last)| (Sequence::new(first), Sequence::new(last))).collect()
}

pub(super) fn decoded(body: &str) -> Result<ArchivedRemoval, JobError> {
    // The reason is left out, because it may quote what was found.
    serde_json::from_str(body).map_err(|_| {
        JobError::Refused(StoreErrorKind::Corrupt(
            "a removal in the archive cannot be read; restore a backup".into(),
        ))
    })
}

const FIND: &str = "
SELECT id, number, body FROM removal
WHERE memory = ?1 AND receipt = ?2 AND (keep_until IS NULL OR keep_until > ?3)
ORDER BY number DESC LIMIT 1";

const LATER: &str = "
SELECT body FROM removal
WHERE memory = ?1 AND number > ?2 AND (keep_until IS NULL OR keep_until > ?3)";

const MOVE_BACK: &str = "
INSERT INTO message
    (place, id, tokens, priority, content_type, created_at, link, closed, summary, body)
SELECT ?1 | (place & ?2), id, tokens, priority, content_type, created_at, link, closed, summary, body
FROM archive WHERE place BETWEEN ?3 AND ?4 ORDER BY place";
