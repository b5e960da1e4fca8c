//! A read of a whole memory: plain commands in a pipeline, because a script takes the server twice as long.

use std::ops::RangeInclusive;

use futures::{StreamExt as _, stream};
use memory_core::store::{Cursor, Generation, MessageId, Page};
use memory_core::{MemoryKey, Sequence};
use memory_redis_link::{LinkError, Reply};
use redis::Value;

use crate::codec;
use crate::reads::{text_of, warn_unreadable};
use crate::store::RedisStore;

/// The first request asks for the messages at these places, where those of a memory are that was never flushed.
const FIRST: RangeInclusive<u64> = 1..=128;

/// A command blocks all other clients, so it returns about this many bytes of messages, by the size of those before.
const PART_BYTES: usize = 128 << 10;

/// The fewest and the most messages of a command.
const PART_MESSAGES: RangeInclusive<usize> = 8..=512;

/// The number of commands that are sent before the first is answered.
const PIPELINED: usize = 4;

/// Attempts to read the memory in one state.
const ATTEMPTS: u32 = 3;

/// The state of a memory at the first request.
struct Found {
    generation: Generation,
    /// The places of its messages, in order.
    places: Vec<u64>,
}

/// The state of the memory that an answer is from.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Same,
    /// It was changed since the first request, or the server rolled back.
    Another,
}

/// The messages that were read so far.
struct Reading<'a> {
    key: &'a MemoryKey,
    page: Page,
    id: Option<MessageId>,
    bytes: usize,
}

impl RedisStore {
    /// All messages; `None` if the memory changed during each attempt, or is damaged.
    ///
    /// The messages of a generation do not change, so the answers are one snapshot if all of them have the
    /// generation of the first. Each request after the first also reads the last message of the one before: another
    /// id shows that the store returned to an earlier state between them.
    pub(crate) async fn whole_page(&self, key: &MemoryKey) -> Result<Option<Page>, LinkError> {
        for _ in 0..ATTEMPTS {
            if let Some(page) = self.attempt_whole(key).await? {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    async fn attempt_whole(&self, key: &MemoryKey) -> Result<Option<Page>, LinkError> {
        let memory = self.link().keys().memory(key.as_str());
        let mut first = redis::cmd("HMGET");
        first.arg(&memory).arg("i").arg("h");
        FIRST.for_each(|place| {
            first.arg(format!("m{place}"));
        });
        let mut length = redis::cmd("HLEN");
        length.arg(&memory);
        let (first, fields) =
            futures::future::try_join(self.link().send(&first), self.link().send(&length)).await?;
        let mut first = Reply::parts(first)?;
        let (index, head) = (first.value()?, first.value()?);
        let Value::BulkString(head) = head else {
            return Ok(Some(Page::new(Cursor::default())));
        };
        let fields = memory_redis_link::number(fields)?;
        let Some(found) = self.found(&head, index, fields) else { return Ok(None) };
        if found.generation == Generation::default() {
            return Ok(Some(Page::new(Cursor::default())));
        }
        let page = Page::new(Cursor::from(found.generation));
        let mut reading = Reading { key, page, id: None, bytes: 0 };
        reading.page.messages.reserve(found.places.len());
        let known = found.places.partition_point(|place| FIRST.contains(place));
        let (known, rest) = found.places.split_at(known);
        for (place, value) in FIRST.zip(std::iter::repeat_with(|| first.value())) {
            let value = value?;
            if known.binary_search(&place).is_ok() {
                reading.add(place, value);
            }
        }
        let each = reading.messages_per_part();
        // Each part begins with the last message before it.
        let mut before = known.last().copied();
        let mut parts: Vec<(Option<u64>, Vec<u64>)> = Vec::new();
        for part in rest.chunks(each) {
            parts.push((before, part.to_vec()));
            before = part.last().copied();
        }
        let memory = &memory;
        let requests = parts.into_iter().map(|(before, part)| async move {
            let mut read = redis::cmd("HMGET");
            read.arg(memory).arg("h");
            for place in before.iter().chain(&part) {
                read.arg(format!("m{place}"));
            }
            let reply = Reply::parts(self.link().send(&read).await?)?;
            Ok::<_, LinkError>((before, part, reply))
        });
        let mut answers = stream::iter(requests).buffered(PIPELINED);
        while let Some(answer) = answers.next().await {
            let (before, part, reply) = answer?;
            if reading.add_part(before, &part, reply)? == State::Another {
                return Ok(None);
            }
        }
        Ok(Some(reading.page))
    }

    /// `None` for a head or an index that is not sound, which the scripts report.
    fn found(&self, head: &[u8], index: Value, fields: u64) -> Option<Found> {
        let (head, base) = codec::head_and_base(head)?;
        if self.has_expired(&head) {
            return Some(Found { generation: Generation::default(), places: Vec::new() });
        }
        let index = if base > 0 { text_of(index).unwrap_or_default() } else { String::new() };
        let messages = head.counters.present.messages;
        if messages > fields.saturating_mul(2).saturating_add(1_000) {
            return None;
        }
        let last = head.last.number();
        let numbers: Vec<u64> = index.split(' ').filter_map(|number| number.parse().ok()).collect();
        let mut ranges: Vec<(u64, u64)> = Vec::with_capacity(numbers.len() / 2 + 1);
        let (pairs, []) = numbers.as_chunks() else { return None };
        ranges.extend(pairs.iter().map(|[first, last]| (*first, *last)));
        if last > base {
            ranges.push((base + 1, last));
        }
        let mut places = Vec::with_capacity(usize::try_from(messages).ok()?);
        let mut before = 0;
        for (first, end) in ranges {
            let count = end.checked_sub(first)?.checked_add(1)?;
            let total = u64::try_from(places.len()).ok()?.checked_add(count)?;
            if first <= before || end > last || total > messages {
                return None;
            }
            places.extend(first..=end);
            before = end;
        }
        let is_whole = u64::try_from(places.len()).ok()? == messages;
        is_whole.then_some(Found { generation: head.generation, places })
    }
}

impl Reading<'_> {
    /// Adds the answer of a request: the head, the last message before the part if there is one, and the part.
    fn add_part(
        &mut self,
        before: Option<u64>,
        part: &[u64],
        mut reply: Reply,
    ) -> Result<State, LinkError> {
        let is_same = match reply.value()? {
            Value::BulkString(head) => codec::head(&head)
                .is_some_and(|head| head.generation == self.page.cursor.generation),
            _ => false,
        };
        if !is_same || (before.is_some() && !self.ends_with(&reply.value()?)) {
            return Ok(State::Another);
        }
        for place in part {
            self.add(*place, reply.value()?);
        }
        Ok(State::Same)
    }

    fn add(&mut self, place: u64, value: Value) {
        let place = Sequence::new(place);
        let text = text_of(value);
        self.bytes += text.as_ref().map_or(0, String::len);
        self.id = text.as_deref().and_then(codec::id);
        self.page.cursor = Cursor { sequence: place, id: self.id, ..self.page.cursor };
        let read = text.ok_or_else(|| "it is not UTF-8".to_owned());
        match read.and_then(|text| codec::stored(place, &text)) {
            Ok(message) => self.page.messages.push(message),
            Err(reason) => {
                warn_unreadable(self.key, place, &reason);
                self.page.unreadable.push(place);
            }
        }
    }

    /// Whether this is the last message that was read, as far as its id can be read.
    fn ends_with(&self, value: &Value) -> bool {
        let id = match value {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok().and_then(codec::id),
            _ => None,
        };
        id == self.id
    }

    /// The number of messages of this size that one command returns.
    fn messages_per_part(&self) -> usize {
        let read = self.page.messages.len() + self.page.unreadable.len();
        let each = self.bytes.checked_div(read).unwrap_or(512);
        (PART_BYTES / each.max(1)).clamp(*PART_MESSAGES.start(), *PART_MESSAGES.end())
    }
}

#[cfg(test)]
mod tests {
    use memory_core::store::NewMessage;
    use memory_core::{ContentType, Message};
    use rmp::encode;
    use uuid::Uuid;

    use super::*;
    use crate::codec::{Encoded, FORM};

    const GENERATION: u64 = 7;

    fn head(generation: u64, last: u64) -> Value {
        let mut packed = Vec::new();
        encode::write_array_len(&mut packed, 9).unwrap();
        for number in [u64::from(FORM), last, last, last, 0, last] {
            encode::write_uint(&mut packed, number).unwrap();
        }
        let seldom = format!("{generation} 0 0  0 0 0 0 0 ");
        for text in ["", "0", &*seldom] {
            encode::write_str(&mut packed, text).unwrap();
        }
        assert_eq!(codec::head(&packed).unwrap().generation, Generation::new(generation));
        Value::BulkString(packed)
    }

    /// The stored message of this id.
    fn message(id: u64) -> Value {
        let new = NewMessage {
            id: MessageId::new(Uuid::from_u128(id.into())),
            message: Message::user(id.to_string()),
            tokens: 1,
            priority: None,
            content_type: ContentType::Conversation,
            created_at: jiff::Timestamp::UNIX_EPOCH,
        };
        Value::BulkString(Encoded::new(&new).unwrap().to_string().into_bytes())
    }

    fn reply(generation: u64, ids: &[u64]) -> Reply {
        let messages = ids.iter().map(|id| message(*id));
        let parts = std::iter::once(head(generation, 9)).chain(messages).collect();
        Reply::parts(Value::Array(parts)).unwrap()
    }

    /// The server rolled back between two requests of one read and assigned the lost places to other messages, in
    /// the same generation.
    #[test]
    fn rollback_between_two_parts_is_noticed() {
        let key: MemoryKey = MemoryKey::new("p", "m", "k").unwrap();
        let start = || {
            let page = Page::new(Cursor::from(Generation::new(GENERATION)));
            let mut reading = Reading { key: &key, page, id: None, bytes: 0 };
            let first = reading.add_part(None, &[1, 2, 3], reply(GENERATION, &[1, 2, 3]));
            assert_eq!(first.unwrap(), State::Same);
            reading
        };
        let mut same = start();
        let next = same.add_part(Some(3), &[4, 5], reply(GENERATION, &[3, 4, 5])).unwrap();
        let ids: Vec<_> = same.page.messages.iter().map(|m| m.meta.id.uuid().as_u128()).collect();
        assert_eq!((next, ids), (State::Same, vec![1, 2, 3, 4, 5]));
        assert_eq!(same.page.cursor.sequence, Sequence::new(5));
        for (generation, ids) in [(GENERATION, [13, 14, 15]), (GENERATION + 1, [3, 4, 5])] {
            let mut torn = start();
            let next = torn.add_part(Some(3), &[4, 5], reply(generation, &ids)).unwrap();
            assert_eq!((next, torn.page.messages.len()), (State::Another, 3));
        }
    }
}
