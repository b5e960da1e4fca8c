//! The commit of a replacement.

use memory_core::store::{Access, Counters, MessageMeta, Replace};
use memory_core::{Priority, Sequence};
use rusqlite::{OptionalExtension, params};

use super::step::Step;
use crate::codec::{self, Encoded, META_COLUMNS};
use crate::error::JobError;

/// `closed` and `summary` are those of the message that is replaced.
const UPDATE_MESSAGE: &str = "
UPDATE message SET
    id = ?2, tokens = ?3, priority = ?4, content_type = ?5, created_at = ?6, link = ?7, body = ?8
WHERE place = ?1";

impl Step<'_> {
    pub(super) fn replace(
        &mut self,
        access: Access,
        replace: &Replace,
        encoded: &Encoded,
    ) -> Result<Counters, JobError> {
        if self.earlier(replace.write)?.is_some() {
            return Ok(self.head().counters.clone());
        }
        let fence = self.check_writer_lease(access.lease)?;
        let found = self.meta(replace.sequence)?;
        replace.check_against(found.as_ref().map(|(_, old)| old)).map_err(JobError::Refused)?;
        let Some((place, old)) = found else {
            return Err(JobError::Refused(memory_core::store::StoreErrorKind::Conflict));
        };

        self.begin()?;
        let new = &replace.message;
        self.connection.prepare_cached(UPDATE_MESSAGE)?.execute(params![
            place,
            new.id.uuid().into_bytes(),
            new.tokens,
            new.priority.map(Priority::number),
            new.content_type.as_str(),
            new.created_at.as_microsecond(),
            encoded.link,
            encoded.body,
        ])?;
        self.remember(replace.write, None)?;
        let now = self.now;
        let head = &mut self.loaded.row.head;
        head.counters.replace(&old, new);
        head.fence = fence;
        head.next_flush_at = None;
        head.generation = head.generation.after(now, replace.spread());
        Ok(self.head().counters.clone())
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
