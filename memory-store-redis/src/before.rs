//! A page backward, in scripts that are bounded in bytes.

use std::num::NonZeroUsize;

use memory_core::store::{Cursor, Generation, Page, StoreError, StoreErrorKind, StoreOperation};
use memory_core::{MemoryKey, Sequence};
use memory_redis_link::{LinkError, Reply};

use crate::codec;
use crate::error::store_error;
use crate::reads::{PART_BYTES, PART_MESSAGES, RESTARTS, log_unreadable, text_of};
use crate::scripts::READ_BEFORE;
use crate::store::RedisStore;

/// How much one script returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Part,
    Whole,
}

impl RedisStore {
    /// The messages of a generation do not change, so parts of one generation are one snapshot. A server that rolled
    /// back between two parts is detected by the id of the message at the cursor.
    pub(crate) async fn page_before(
        &self,
        key: &MemoryKey,
        before: Option<Cursor>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        let failed = |fault| store_error(StoreOperation::Read, Some(key), fault);
        for attempt in 0..=2 * RESTARTS {
            // After some attempts no flush can interfere, because there is one part.
            let extent = if attempt < RESTARTS { Extent::Part } else { Extent::Whole };
            let page = self.attempt_before(key, before, limit.get(), extent).await;
            if let Some(page) = page.map_err(failed)? {
                return Ok(page);
            }
        }
        let reason = "it changed during each of many attempts to read it, or a message in it is damaged; \
                      read it again, and restore a backup if that does not help";
        Err(StoreError::new(StoreOperation::Read, StoreErrorKind::Corrupt(reason.into()))
            .not_applied()
            .at(key))
    }

    /// `None` if the memory changed between two parts.
    async fn attempt_before(
        &self,
        key: &MemoryKey,
        before: Option<Cursor>,
        limit: usize,
        extent: Extent,
    ) -> Result<Option<Page>, LinkError> {
        let mut page = self.part_before(key, before, limit, extent).await?;
        while page.more && page.messages.len() < limit {
            let left = limit - page.messages.len();
            let next = self.part_before(key, Some(page.cursor), left, extent).await?;
            if next.restarted {
                return Ok(None);
            }
            page.cursor = next.cursor;
            page.more = next.more;
            page.messages.extend(next.messages);
            page.unreadable.extend(next.unreadable);
        }
        page.messages.reverse();
        page.unreadable.reverse();
        Ok(Some(page))
    }

    /// One part, newest message first.
    async fn part_before(
        &self,
        key: &MemoryKey,
        before: Option<Cursor>,
        limit: usize,
        extent: Extent,
    ) -> Result<Page, LinkError> {
        let (messages, bytes) = match extent {
            Extent::Part => (limit.min(PART_MESSAGES), PART_BYTES),
            Extent::Whole => (limit, usize::MAX),
        };
        let generation = before.map(|cursor| cursor.generation.number().to_string());
        let cursor = before.unwrap_or_default();
        let arguments = [
            generation.unwrap_or_default(),
            cursor.sequence.number().to_string(),
            codec::optional_id(cursor.id),
            messages.to_string(),
            bytes.to_string(),
        ];
        let mut reply = Reply::parts(self.look(key, &READ_BEFORE, &arguments).await?)?;
        let generation = Generation::new(reply.number()?);
        let restarted = reply.number::<u8>()? == 1;
        let start = before.filter(|_| !restarted);
        let mut page = Page::new(start.unwrap_or(Cursor::from(generation)));
        page.restarted = restarted;
        page.more = reply.number::<u8>()? == 1;
        while !reply.is_empty() {
            let (place, text) = (Sequence::new(reply.number()?), text_of(reply.value()?));
            let id = text.as_deref().and_then(codec::id);
            page.cursor = Cursor { generation, sequence: place, id };
            let text = text.ok_or_else(|| "it is not UTF-8".to_owned());
            match text.and_then(|text| codec::stored(place, &text)) {
                Ok(message) => page.messages.push(message),
                Err(reason) => {
                    log_unreadable(key, place, &reason);
                    page.unreadable.push(place);
                }
            }
        }
        Ok(page)
    }
}
