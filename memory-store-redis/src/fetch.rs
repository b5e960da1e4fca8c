//! Messages at given places, read by plain commands.

use memory_core::store::{Cursor, StoreError, StoreErrorKind, StoreOperation};
use memory_core::{MemoryKey, Sequence, StoredMessage};
use memory_redis_link::{LinkError, Reply};
use redis::Value;

use crate::codec;
use crate::error::store_error;
use crate::places::Places;
use crate::reads::{damaged, log_unreadable, text_of};
use crate::store::RedisStore;
use crate::whole::{FIRST_MESSAGES, id_of, messages_per_part};

/// The messages that were fetched so far.
struct Fetching<'a> {
    key: &'a MemoryKey,
    snapshot: Cursor,
    messages: Vec<StoredMessage>,
    bytes: usize,
}

impl RedisStore {
    pub(crate) async fn fetch_places(
        &self,
        key: &MemoryKey,
        snapshot: Cursor,
        places: &[Sequence],
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let operation = StoreOperation::Read;
        let fetched = self.fetch_of_snapshot(key, snapshot, places).await;
        fetched.map_err(|fault| store_error(operation, Some(key), fault))?.ok_or_else(|| {
            StoreError::new(operation, StoreErrorKind::Conflict).not_applied().at(key)
        })
    }

    /// `None` for another snapshot.
    ///
    /// Each request reads the head and the newest message of the snapshot, so that each answer is known to be from it.
    async fn fetch_of_snapshot(
        &self,
        key: &MemoryKey,
        snapshot: Cursor,
        places: &[Sequence],
    ) -> Result<Option<Vec<StoredMessage>>, LinkError> {
        let memory = self.link().keys().memory(key.as_str());
        let newest = format!("m{}", snapshot.sequence);
        let mut index = redis::cmd("HMGET");
        index.arg(&memory).arg("h").arg(&newest).arg("i");
        let mut places: Vec<u64> = places.iter().map(|place| place.number()).collect();
        let mut rest = places.split_off(places.len().min(FIRST_MESSAGES));
        let first = self.fetch_part(&memory, &newest, &places);
        let fields = async {
            if rest.is_empty() { Ok(0) } else { Ok(self.fields(&memory).await?.mean_bytes) }
        };
        let index = self.link().send(&index);
        let (index, first, by_fields) = futures::future::try_join3(index, first, fields).await?;
        let mut index = Reply::parts(index)?;
        let Value::BulkString(packed) = index.value()? else { return Ok(None) };
        let (head, base) =
            codec::head_and_base(&packed).ok_or_else(|| damaged(&memory, &packed))?;
        let newest_found = index.value()?;
        if self.has_expired(&head) || head.generation != snapshot.generation {
            return Ok(None);
        }
        let there = Places::read(&head, base, &index.value()?).ok_or_else(|| {
            LinkError::corrupt(format!("{memory} holds an index of its messages that is not ours"))
        })?;
        let is_there = match snapshot.id {
            None => snapshot.sequence <= head.last,
            id => id_of(&newest_found) == id && there.contains(snapshot.sequence.number()),
        };
        if !is_there {
            return Ok(None);
        }
        let messages = Vec::with_capacity(places.len() + rest.len());
        let mut fetching = Fetching { key, snapshot, messages, bytes: 0 };
        if !fetching.add_part(&places, &there, first)? {
            return Ok(None);
        }
        // The field of a removed message may still exist.
        rest.retain(|place| there.contains(*place));
        let mut mean_bytes = by_fields.max(fetching.bytes / places.len().max(1));
        let mut rest = rest.as_slice();
        // One after the other, because flushes fetch messages and leave time to others.
        while !rest.is_empty() {
            let each = messages_per_part(mean_bytes);
            let (part, after) = rest.split_at_checked(each).unwrap_or((rest, &[]));
            let before = fetching.bytes;
            let reply = self.fetch_part(&memory, &newest, part).await?;
            if !fetching.add_part(part, &there, reply)? {
                return Ok(None);
            }
            let of_part = (fetching.bytes - before) / part.len().max(1);
            mean_bytes = of_part.max(by_fields);
            rest = after;
        }
        Ok(Some(fetching.messages))
    }

    async fn fetch_part(
        &self,
        memory: &str,
        newest: &str,
        part: &[u64],
    ) -> Result<Reply, LinkError> {
        let mut read = redis::cmd("HMGET");
        read.arg(memory).arg("h").arg(newest);
        for place in part {
            read.arg(format!("m{place}"));
        }
        Reply::parts(self.link().send(&read).await?)
    }
}

impl Fetching<'_> {
    /// Adds the answer of a request: the head, the newest message of the snapshot, and these places. Returns whether it
    /// is from the snapshot.
    fn add_part(
        &mut self,
        part: &[u64],
        there: &Places,
        mut reply: Reply,
    ) -> Result<bool, LinkError> {
        let head = match reply.value()? {
            Value::BulkString(packed) => codec::head(&packed),
            _ => None,
        };
        let newest = reply.value()?;
        let is_same = head.is_some_and(|head| head.generation == self.snapshot.generation)
            && self.snapshot.id.is_none_or(|id| id_of(&newest) == Some(id));
        if !is_same {
            return Ok(false);
        }
        for place in part {
            let value = reply.value()?;
            if value == Value::Nil || !there.contains(*place) {
                continue;
            }
            let place = Sequence::new(*place);
            let text = text_of(value).ok_or_else(|| "it is not UTF-8".to_owned());
            self.bytes += text.as_ref().map_or(0, String::len);
            match text.and_then(|text| codec::stored(place, &text)) {
                Ok(message) => self.messages.push(message),
                Err(reason) => log_unreadable(self.key, place, &reason),
            }
        }
        Ok(true)
    }
}
