//! A read of a whole memory, or of its outline: plain commands in a pipeline, because a script takes the server twice
//! as long.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt as _, stream};
use memory_core::store::{Cursor, Generation, Head, MessageId, MessageMeta, Outline, Page};
use memory_core::{MemoryKey, Sequence};
use memory_redis_link::{LinkError, Reply};
use redis::Value;

use crate::codec;
use crate::places::Places;
use crate::reads::{What, log_unreadable, text_of};
use crate::store::RedisStore;

/// The first request asks for the messages at this many places, where those of a memory are that was never flushed. They
/// are few, because their sizes are not known.
pub(crate) const FIRST_MESSAGES: usize = 16;

/// The fields whose sizes the server samples to estimate those of all.
const SAMPLES: u32 = 32;

/// A command blocks all other clients, so it returns about this many bytes of messages, by the size of those before.
const PART_BYTES: usize = 128 << 10;

/// The fewest and the most messages of a command: the most, because the sizes of the next messages are not known.
pub(crate) const PART_MESSAGES: RangeInclusive<usize> = 1..=128;

/// The bytes of messages in the commands that are sent before the first is answered.
const PIPELINED_BYTES: usize = 512 << 10;

/// The fewest and the most commands that are sent before the first is answered. Those of an outline are sent one after
/// the other, because flushes read outlines and leave time to others.
const PIPELINED: RangeInclusive<usize> = 4..=16;

/// An outline of longer messages is read by scripts, which send no texts: their bytes on average, and their tokens.
const LONG_BYTES: usize = 2 << 10;
const LONG_TOKENS: u64 = 512;

/// The bytes of a token of text, about.
const BYTES_OF_TOKEN: usize = 4;

/// Attempts to read the memory in one state.
const ATTEMPTS: u32 = 3;

/// The fields of a memory, its archive included.
pub(crate) struct Fields {
    count: u64,
    /// Their bytes on average, by a sample: large messages may follow small ones. 0 if it is not known.
    pub(crate) mean_bytes: usize,
}

/// The state of a memory at the first request.
struct Found {
    head: Head,
    places: Vec<u64>,
}

/// The outcome of one attempt.
enum Attempt<'a> {
    Done(Box<Reading<'a>>),
    /// The memory was changed meanwhile.
    Changed,
    /// The scripts do it better: they report damage, and read outlines of long messages.
    Unfit,
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
    what: What,
    head: Head,
    page: Page,
    metas: Vec<MessageMeta>,
    id: Option<MessageId>,
    bytes: usize,
}

impl RedisStore {
    /// All messages; `None` if scripts must read them: the memory changed during each attempt, or is damaged.
    pub(crate) async fn whole_page(&self, key: &MemoryKey) -> Result<Option<Page>, LinkError> {
        let reading = self.whole(key, What::Messages).await?;
        Ok(reading.map(|reading| reading.page))
    }

    /// The outline; `None` if scripts must read it, as for [`whole_page`](Self::whole_page) or because the messages are
    /// long.
    pub(crate) async fn short_outline(
        &self,
        key: &MemoryKey,
    ) -> Result<Option<Outline>, LinkError> {
        let reading = self.whole(key, What::Descriptions).await?;
        Ok(reading.map(|it| Outline::new(it.head, it.metas, it.page.unreadable)))
    }

    /// The messages of a generation do not change, so the answers are one snapshot if all of them have the
    /// generation of the first. Each request after the first also reads the last message of the one before: another
    /// id shows that the store returned to an earlier state between them.
    async fn whole<'a>(
        &self,
        key: &'a MemoryKey,
        what: What,
    ) -> Result<Option<Reading<'a>>, LinkError> {
        for _ in 0..ATTEMPTS {
            match self.attempt_whole(key, what).await? {
                Attempt::Done(reading) => return Ok(Some(*reading)),
                Attempt::Changed => {}
                Attempt::Unfit => break,
            }
        }
        Ok(None)
    }

    async fn attempt_whole<'a>(
        &self,
        key: &'a MemoryKey,
        what: What,
    ) -> Result<Attempt<'a>, LinkError> {
        let memory = self.link().keys().memory(key.as_str());
        let mut first = redis::cmd("HMGET");
        first.arg(&memory).arg("i").arg("h");
        let guessed = 1..=match what {
            What::Messages => FIRST_MESSAGES as u64,
            What::Descriptions => 0,
        };
        for place in guessed.clone() {
            first.arg(format!("m{place}"));
        }
        let first = self.link().send(&first);
        let (first, fields) = futures::future::try_join(first, self.fields(&memory)).await?;
        let mut first = Reply::parts(first)?;
        let (index, head) = (first.value()?, first.value()?);
        let Value::BulkString(head) = head else {
            return Ok(Attempt::Done(Box::new(Reading::new(key, what, Head::default()))));
        };
        let Some(found) = self.found(&head, &index, fields.count) else {
            return Ok(Attempt::Unfit);
        };
        let mut reading = Reading::new(key, what, found.head);
        if reading.head.generation == Generation::default() {
            return Ok(Attempt::Done(Box::new(reading)));
        }
        let mut rest = found.places.as_slice();
        // Each part begins with the last message before it.
        let mut before = None;
        let mut read: Vec<(u64, Value)> = Vec::new();
        if what == What::Messages {
            reading.page.messages.reserve(rest.len());
            let (known, unread) = rest.split_at(rest.partition_point(|at| guessed.contains(at)));
            for (place, value) in guessed.zip(std::iter::repeat_with(|| first.value())) {
                let value = value?;
                if known.binary_search(&place).is_ok() {
                    read.push((place, value));
                }
            }
            (rest, before) = (unread, known.last().copied());
        } else if reading.has_long_texts() {
            return Ok(Attempt::Unfit);
        } else {
            reading.metas.reserve(rest.len());
        }
        let at_least = reading.bytes_by_tokens().max(fields.mean_bytes);
        let mean_bytes = mean_bytes(&read).max(at_least);
        let each = messages_per_part(mean_bytes);
        let pipelined = match what {
            What::Messages => (PIPELINED_BYTES / (each * mean_bytes).max(1))
                .clamp(*PIPELINED.start(), *PIPELINED.end()),
            What::Descriptions => 1,
        };
        // Of the messages in the newest answer or of all before it, whichever are larger.
        let mean_bytes = AtomicUsize::new(mean_bytes);
        let parts = std::iter::from_fn(|| {
            let each = messages_per_part(mean_bytes.load(Ordering::Relaxed));
            let (part, after) = rest.split_at_checked(each).unwrap_or((rest, &[]));
            rest = after;
            let last = part.last().copied()?;
            Some((before.replace(last), part.to_vec()))
        });
        let memory = &memory;
        let requests = parts.map(|(before, part)| async move {
            let mut read = redis::cmd("HMGET");
            read.arg(memory).arg("h");
            for place in before.iter().chain(&part) {
                read.arg(format!("m{place}"));
            }
            let reply = Reply::parts(self.link().send(&read).await?)?;
            Ok::<_, LinkError>((before, part, reply))
        });
        let mut answers = stream::iter(requests).buffered(pipelined);
        // The first messages are decoded while the server answers the next requests.
        let decoded = async { reading.add_first(read) };
        let (mut answer, ()) = futures::future::join(answers.next(), decoded).await;
        while let Some(next) = answer {
            let (before, part, reply) = next?;
            let bytes = reading.bytes;
            if reading.add_part(before, &part, reply)? == State::Another {
                return Ok(Attempt::Changed);
            }
            let of_part = (reading.bytes - bytes) / part.len().max(1);
            let mean = of_part.max(reading.mean_bytes()).max(at_least);
            mean_bytes.store(mean, Ordering::Relaxed);
            if what == What::Descriptions && reading.mean_bytes() > LONG_BYTES {
                return Ok(Attempt::Unfit);
            }
            answer = answers.next().await;
        }
        drop(answers);
        Ok(Attempt::Done(Box::new(reading)))
    }

    /// The fields of a memory.
    pub(crate) async fn fields(&self, memory: &str) -> Result<Fields, LinkError> {
        let (mut length, mut usage) = (redis::cmd("HLEN"), redis::cmd("MEMORY"));
        length.arg(memory);
        usage.arg("USAGE").arg(memory).arg("SAMPLES").arg(SAMPLES);
        let (length, usage) =
            futures::future::join(self.link().send(&length), self.link().send(&usage)).await;
        let count = memory_redis_link::number(length?)?;
        // A user may not be permitted to ask, and some servers do not know it.
        let usage = usage.ok().and_then(|usage| memory_redis_link::number::<u64>(usage).ok());
        let mean_bytes = usage.and_then(|bytes| bytes.checked_div(count)).unwrap_or_default();
        Ok(Fields { count, mean_bytes: usize::try_from(mean_bytes).unwrap_or(usize::MAX) })
    }

    /// `None` for a head or an index that is not sound, which the scripts report.
    fn found(&self, head: &[u8], index: &Value, fields: u64) -> Option<Found> {
        let (head, base) = codec::head_and_base(head)?;
        if self.has_expired(&head) {
            return Some(Found { head: Head::default(), places: Vec::new() });
        }
        let messages = head.counters.present.messages;
        if messages > fields.saturating_mul(2).saturating_add(1_000) {
            return None;
        }
        let places = Places::read(&head, base, index)?.iter().collect();
        Some(Found { head, places })
    }
}

impl<'a> Reading<'a> {
    fn new(key: &'a MemoryKey, what: What, head: Head) -> Self {
        let page = Page::new(Cursor::from(head.generation));
        Self { key, what, head, page, metas: Vec::new(), id: None, bytes: 0 }
    }

    /// Adds the answer of the first request.
    fn add_first(&mut self, read: Vec<(u64, Value)>) {
        if let Some((place, value)) = read.last() {
            self.end_with(*place, value);
        }
        for (place, value) in read {
            self.add(place, value);
        }
    }

    /// Adds the answer of a request: the head, the last message before the part if there is one, and the part.
    fn add_part(
        &mut self,
        before: Option<u64>,
        part: &[u64],
        mut reply: Reply,
    ) -> Result<State, LinkError> {
        let is_same = match reply.value()? {
            // A server that rolled back has fewer places until others append.
            Value::BulkString(head) => codec::head(&head).is_some_and(|head| {
                head.generation == self.head.generation && head.last >= self.head.last
            }),
            _ => false,
        };
        if !is_same || (before.is_some() && !self.ends_with(&reply.value()?)) {
            return Ok(State::Another);
        }
        for place in part {
            let value = reply.value()?;
            if Some(place) == part.last() {
                self.end_with(*place, &value);
            }
            self.add(*place, value);
        }
        Ok(State::Same)
    }

    /// The last message that is read by a request.
    fn end_with(&mut self, place: u64, value: &Value) {
        self.id = id_of(value);
        let sequence = Sequence::new(place);
        self.page.cursor = Cursor { sequence, id: self.id, ..self.page.cursor };
    }

    fn add(&mut self, place: u64, value: Value) {
        let place = Sequence::new(place);
        let text = text_of(value);
        self.bytes += text.as_ref().map_or(0, String::len);
        let read =
            text.ok_or_else(|| "it is not UTF-8".to_owned()).and_then(|text| match self.what {
                What::Messages => {
                    codec::stored(place, &text).map(|stored| self.page.messages.push(stored))
                }
                What::Descriptions => {
                    codec::described(place, &text).map(|(meta, _)| self.metas.push(meta))
                }
            });
        if let Err(reason) = read {
            log_unreadable(self.key, place, &reason);
            self.page.unreadable.push(place);
        }
    }

    /// Whether this is the last message that was read, as far as its id can be read.
    fn ends_with(&self, value: &Value) -> bool {
        id_of(value) == self.id
    }

    /// The bytes of a message on average.
    fn mean_bytes(&self) -> usize {
        let messages = self.metas.len() + self.page.messages.len() + self.page.unreadable.len();
        self.bytes / messages.max(1)
    }

    /// The bytes of a message on average, by the tokens of the memory: the messages that were read may be the short ones.
    fn bytes_by_tokens(&self) -> usize {
        let present = self.head.counters.present;
        let tokens = present.tokens.checked_div(present.messages).unwrap_or_default();
        usize::try_from(tokens).unwrap_or(PART_BYTES).saturating_mul(BYTES_OF_TOKEN)
    }

    fn has_long_texts(&self) -> bool {
        let present = self.head.counters.present;
        present.tokens.checked_div(present.messages).is_some_and(|each| each > LONG_TOKENS)
    }
}

/// The bytes of a message on average; a guess if none was read.
fn mean_bytes(read: &[(u64, Value)]) -> usize {
    let bytes = read.iter().map(|(_, value)| match value {
        Value::BulkString(bytes) => bytes.len(),
        _ => 0,
    });
    bytes.sum::<usize>().checked_div(read.len()).unwrap_or(PART_BYTES / PART_MESSAGES.end())
}

/// The number of messages of this size that one command returns.
pub(crate) fn messages_per_part(mean_bytes: usize) -> usize {
    (PART_BYTES / mean_bytes.max(1)).clamp(*PART_MESSAGES.start(), *PART_MESSAGES.end())
}

/// The id of a stored message, as far as it can be read.
pub(crate) fn id_of(value: &Value) -> Option<MessageId> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok().and_then(codec::id),
        _ => None,
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
            let mut head = Head::default();
            head.generation = Generation::new(GENERATION);
            let mut reading = Reading::new(&key, What::Messages, head);
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
