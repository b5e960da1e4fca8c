//! The commit of a replacement.

use memory_core::store::{
    Access, Counters, MessageId, MessageMeta, NewMessage, Replace, StoreErrorKind, StoreOperation,
};
use memory_core::{MemoryKey, Priority, Sequence};
use rusqlite::{OptionalExtension, params};

use super::batch::Batch;
use super::step::Step;
use super::{Command, LIGHT_BYTES, bytes_of};
use crate::codec::{self, Encoded, META_COLUMNS};
use crate::error::JobError;

/// The new text of an id is as long as the old one.
const RENAME: [&str; 3] = [
    "UPDATE receipt SET body = replace(body, ?2, ?3) WHERE memory = ?1 AND instr(body, ?2)",
    "UPDATE removal SET body = replace(body, ?2, ?3) WHERE memory = ?1 AND instr(body, ?2)",
    "UPDATE erasure SET body = replace(body, ?2, ?3) WHERE memory = ?1 AND instr(body, ?2)",
];

/// `closed` and `summary` are those of the message that is replaced.
const UPDATE_MESSAGE: &str = "
UPDATE message SET
    id = ?2, tokens = ?3, priority = ?4, content_type = ?5, created_at = ?6, link = ?7, body = ?8
WHERE place = ?1";

#[derive(Debug)]
pub(crate) struct ReplaceRow {
    pub(crate) access: Access,
    pub(crate) replace: Replace,
    pub(crate) encoded: Encoded,
}

impl Command for ReplaceRow {
    type Answer = Counters;
    const OPERATION: StoreOperation = StoreOperation::Replace;

    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<Counters, JobError> {
        let mut step = batch.step(key)?;
        let replace = &self.replace;
        if step.earlier(replace.write)?.is_some() {
            return Ok(step.head().counters.clone());
        }
        let fence = step.check_writer_lease(self.access.lease)?;
        let found = step.meta(replace.sequence)?;
        replace.check_against(found.as_ref().map(|(_, old)| old)).map_err(JobError::Refused)?;
        let Some((place, old)) = found else {
            return Err(JobError::Refused(StoreErrorKind::Conflict));
        };

        step.begin()?;
        let new = &replace.message;
        step.reindex([place])?;
        step.unindex([(place, place)])?;
        // A flush wrote summaries and cleared tool results.
        if (old.summary || !old.link.results.is_empty())
            && step.has_body(place, &self.encoded.body)?
        {
            step.rename(old.id, new.id)?;
        }
        step.replace_row(place, new, &self.encoded)?;
        step.remember(replace.write, None)?;
        let now = step.now;
        let head = &mut step.loaded.row.head;
        head.counters.replace(&old, new);
        head.fence = fence;
        head.forget_flush_mark();
        head.generation = head.generation.after(now, replace.spread());
        Ok(step.head().counters.clone())
    }

    fn bytes(&self) -> usize {
        bytes_of(&self.encoded)
    }

    fn pages(&self) -> usize {
        self.bytes() / 4_096
    }

    fn is_light(&self) -> bool {
        self.bytes() <= LIGHT_BYTES
    }
}

impl Step<'_> {
    /// Replaces the message in the row with this key.
    pub(super) fn replace_row(
        &self,
        place: i64,
        new: &NewMessage,
        Encoded { body, link }: &Encoded,
    ) -> Result<(), JobError> {
        self.connection.prepare_cached(UPDATE_MESSAGE)?.execute(params![
            place,
            new.id.uuid().into_bytes(),
            new.tokens,
            new.priority.map(Priority::number),
            new.content_type.as_str(),
            new.created_at.as_microsecond(),
            link,
            body,
        ])?;
        Ok(())
    }

    /// Whether the message in the row with this key has this text.
    fn has_body(&self, place: i64, body: &str) -> Result<bool, JobError> {
        let sql = "SELECT body = ?2 FROM message WHERE place = ?1";
        let mut select = self.connection.prepare_cached(sql)?;
        Ok(select.query_row(params![place, body], |row| row.get(0))?)
    }

    /// Lets the receipts, the removals and the erasures that name this message name it by its new id.
    fn rename(&self, old: MessageId, new: MessageId) -> Result<(), JobError> {
        // With its field, because the reason of an erasure may quote an id.
        let [old, new] = [old, new].map(|id| format!(r#""id":"{}""#, id.uuid().hyphenated()));
        for sql in RENAME {
            self.connection.prepare_cached(sql)?.execute(params![self.loaded.row.id, old, new])?;
        }
        Ok(())
    }

    /// The message at a place, and the key of its row; nothing if there is none.
    pub(super) fn meta(&self, sequence: Sequence) -> Result<Option<(i64, MessageMeta)>, JobError> {
        let Some(place) = self.loaded.row.place(sequence).filter(|_| self.has_rows()) else {
            return Ok(None);
        };
        let sql = format!("SELECT {META_COLUMNS} FROM message WHERE place = ?1");
        let mut select = self.connection.prepare_cached(&sql)?;
        Ok(select.query_row([place], codec::meta).optional()?.map(|meta| (place, meta)))
    }
}
