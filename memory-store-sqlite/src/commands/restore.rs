//! The undoing of a removal.

use memory_core::MemoryKey;
use memory_core::store::{
    Access, ArchivedRemoval, Counters, FLUSH_HELD, MessageMeta, Restore, RestoreRefusal,
    StoreErrorKind, StoreOperation,
};
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
        let Restorable { id, removal, summary, metas } = step.restorable(restore)?;

        step.begin()?;
        let counters = &mut step.loaded.row.head.counters;
        if let Some((place, meta)) = summary {
            // A summary was never appended, so it is counted nowhere.
            counters.withdraw(&meta);
            step.connection
                .prepare_cached("DELETE FROM message WHERE place = ?1")?
                .execute([place])?;
        }
        if let Some(receipt) = &removal.receipt {
            for meta in &metas {
                counters.restore(meta, receipt);
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
        removal
            .check_restorable(later.iter(), summary.as_ref().map(|(_, meta)| meta))
            .map_err(refused)?;
        self.check_free(&removal, summary.as_ref().map(|(place, _)| *place))?;
        let (first, last) = places_of(id);
        let sql = format!("SELECT {META_COLUMNS} FROM archive WHERE place BETWEEN ?1 AND ?2");
        let mut select = self.connection.prepare_cached(&sql)?;
        let mut rows = select.query([first, last])?;
        let mut metas = Vec::new();
        while let Some(row) = rows.next()? {
            metas.push(codec::named_meta(row)?);
        }
        Ok(Restorable { id, removal, summary, metas })
    }

    /// In a sound file no other message has one of these places.
    fn check_free(&self, removal: &ArchivedRemoval, summary: Option<i64>) -> Result<(), JobError> {
        let mut select = self.connection.prepare_cached(
            "SELECT 1 FROM message WHERE place BETWEEN ?1 AND ?2 AND place IS NOT ?3",
        )?;
        for (first, last) in ranges(self.loaded.row.first_place(), &removal.places) {
            if select.exists(params![first, last, summary])? {
                return Err(JobError::Refused(StoreErrorKind::Corrupt(
                    "the place of a removed message has another message; restore a backup".into(),
                )));
            }
        }
        Ok(())
    }
}

fn decoded(body: &str) -> Result<ArchivedRemoval, JobError> {
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
