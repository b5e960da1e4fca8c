//! How heads and messages lie in rows.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use memory_core::{
    Class, ContentType, Counters, FencingToken, Generation, Head, Message, MessageId, MessageMeta,
    NewMessage, Priority, Sequence, StoreErrorKind, StoredMessage, Tally, ToolLink, WriterId,
};
use rusqlite::types::Type;
use rusqlite::{Row, ToSql};
use serde_json::Value;
use uuid::Uuid;

use crate::error::Fault;
use crate::schema::SEQUENCE_BITS;

/// Numbers that may use all 64 bits are kept as SQLite's signed integers, bit for bit. They are
/// compared here only, never in SQL.
pub(crate) const fn int(number: u64) -> i64 {
    number.cast_signed()
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

/// The row of a memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeadRow {
    /// 0 for a memory that has no row yet.
    pub(crate) id: i64,
    pub(crate) head: Head,
    /// The number of the newest receipt, counted from 1.
    pub(crate) receipts: u64,
    /// The id of the newest receipt.
    pub(crate) receipt: Option<Uuid>,
    /// The writers that wrote last, the latest last.
    pub(crate) writers: Vec<LastWrite>,
}

/// The newest write of a writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastWrite {
    pub(crate) writer: WriterId,
    pub(crate) number: u64,
    /// The place of its first message; a clear has none.
    pub(crate) first: Option<Sequence>,
}

impl LastWrite {
    const BYTES: usize = 32;

    /// The writer's bits, the number and the place (0 for none), each with the highest byte first.
    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let first = self.first.unwrap_or_default().number();
        let parts = self.writer.bits().to_be_bytes().into_iter();
        let parts = parts.chain(self.number.to_be_bytes()).chain(first.to_be_bytes());
        for (to, from) in bytes.iter_mut().zip(parts) {
            *to = from;
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let number =
            |part: &[u8]| part.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
        let (writer, rest) = bytes.split_at(16);
        let (count, first) = rest.split_at(8);
        // Eight bytes are never more than 64 bits.
        let short = |part| u64::try_from(number(part)).unwrap_or_default();
        let first = Sequence::new(short(first));
        Self {
            writer: WriterId::new(number(writer)),
            number: short(count),
            first: (first > Sequence::ZERO).then_some(first),
        }
    }
}

pub(crate) const SELECT_HEAD: &str = "
SELECT id, generation, version, last, fence, flush_fence, next_flush_at, expires_at, messages,
       tokens, summaries, appended, summarised, evicted, cleared, classes, receipts, receipt,
       writers
FROM memory WHERE key = ?1";

impl HeadRow {
    pub(crate) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let classes = row.get_ref(15)?.as_str()?;
        let classes: BTreeMap<Class, Tally> =
            serde_json::from_str(classes).map_err(|error| odd(15, Type::Text, error))?;
        let expires_at =
            row.get::<_, Option<i64>>(7)?.map(|micros| timestamp(7, micros)).transpose()?;
        let head = Head {
            counters: Counters {
                present: Tally { messages: unsigned(row, 8)?, tokens: unsigned(row, 9)? },
                classes,
                summaries: unsigned(row, 10)?,
                appended: unsigned(row, 11)?,
                summarised: unsigned(row, 12)?,
                evicted: unsigned(row, 13)?,
                cleared: unsigned(row, 14)?,
            },
            generation: Generation::new(unsigned(row, 1)?),
            version: unsigned(row, 2)?,
            last: Sequence::new(unsigned(row, 3)?),
            fence: FencingToken::new(unsigned(row, 4)?),
            flush_fence: FencingToken::new(unsigned(row, 5)?),
            next_flush_at: row.get::<_, Option<i64>>(6)?.map(i64::cast_unsigned),
            expires_at,
        };
        let receipt = row.get::<_, Option<[u8; 16]>>(17)?.map(Uuid::from_bytes);
        let (writers, rest) = row.get_ref(18)?.as_blob()?.as_chunks();
        if !rest.is_empty() {
            return Err(odd(18, Type::Blob, UnknownForm));
        }
        let writers = writers.iter().map(LastWrite::from_bytes).collect();
        Ok(Self { id: row.get(0)?, head, receipts: unsigned(row, 16)?, receipt, writers })
    }

    pub(crate) fn writers(&self) -> Vec<u8> {
        self.writers.iter().copied().flat_map(LastWrite::to_bytes).collect()
    }

    pub(crate) fn is_alive(&self, now_micros: u64) -> bool {
        self.head.expires_at.is_none_or(|end| int(now_micros) < end.as_microsecond())
    }

    pub(crate) fn classes(&self) -> Result<String, StoreErrorKind> {
        // Classes are strings and tallies are numbers, so this cannot fail.
        serde_json::to_string(&self.head.counters.classes)
            .map_err(|error| StoreErrorKind::Other(format!("cannot encode counters: {error}")))
    }

    /// The key of the message at this place, and none for a place beyond what a file can hold.
    pub(crate) const fn place(&self, sequence: Sequence) -> Option<i64> {
        let number = sequence.number();
        if number >> SEQUENCE_BITS == 0 { Some(self.first_place() | int(number)) } else { None }
    }

    /// The key below those of all messages of this memory.
    pub(crate) const fn first_place(&self) -> i64 {
        self.id << SEQUENCE_BITS
    }

    /// The key of the last message that this memory could have.
    pub(crate) const fn last_place(&self) -> i64 {
        self.first_place() | ((1 << SEQUENCE_BITS) - 1)
    }
}

/// What a message's row holds of its text; made on the caller's thread, before any lock.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) body: String,
    pub(crate) link: Option<String>,
}

impl Encoded {
    /// Refuses a message that could not be read back, such as one whose role is empty: a batch is
    /// the last place where its writer can still be told.
    pub(crate) fn new(message: &Message) -> Result<Self, StoreErrorKind> {
        let malformed = |reason: &dyn fmt::Display| {
            StoreErrorKind::Invalid(format!("a message of the batch is malformed: {reason}"))
        };
        let body = serde_json::to_string(message).map_err(|error| malformed(&error))?;
        Message::from_json(&body).map_err(|error| malformed(&error))?;
        Ok(Self { body, link: encode_link(&message.tool_link()) })
    }
}

pub(crate) const META_COLUMNS: &str =
    "place, id, tokens, priority, content_type, created_at, link, closed, summary";
const BODY_COLUMN: usize = 9;

pub(crate) fn meta(row: &Row<'_>) -> rusqlite::Result<MessageMeta> {
    let number = unsigned(row, 0)? & ((1 << SEQUENCE_BITS) - 1);
    let link = match row.get_ref(6)?.as_str_or_null()? {
        None => ToolLink::None,
        Some(text) => decode_link(text).ok_or_else(|| odd(6, Type::Text, UnknownForm))?,
    };
    Ok(MessageMeta {
        sequence: Sequence::new(number),
        id: MessageId::new(Uuid::from_bytes(row.get(1)?)),
        tokens: row.get(2)?,
        priority: row.get::<_, Option<u8>>(3)?.map(Priority::new),
        content_type: ContentType::from(row.get_ref(4)?.as_str()?),
        created_at: timestamp(5, row.get(5)?)?,
        link,
        closed: row.get(7)?,
        summary: row.get(8)?,
    })
}

/// The message of a row with the columns of [`META_COLUMNS`] and the body. An error names its place;
/// the text never appears in it.
pub(crate) fn stored(row: &Row<'_>) -> Result<StoredMessage, Fault> {
    let meta = named_meta(row)?;
    let message = row
        .get_ref(BODY_COLUMN)?
        .as_str()
        .map_err(|error| error.to_string())
        .and_then(|text| Message::from_json(text).map_err(|error| error.to_string()));
    match message {
        Ok(message) => Ok(StoredMessage { meta, message }),
        Err(reason) => Err(Fault::Refused(unreadable(meta.sequence, &reason))),
    }
}

/// Like [`meta`]; an error names the message's place.
pub(crate) fn named_meta(row: &Row<'_>) -> Result<MessageMeta, Fault> {
    let number = unsigned(row, 0)? & ((1 << SEQUENCE_BITS) - 1);
    meta(row).map_err(|error| unreadable(Sequence::new(number), &error.to_string()).into())
}

fn unreadable(sequence: Sequence, reason: &str) -> StoreErrorKind {
    StoreErrorKind::Corrupt(format!(
        "the message at place {sequence} cannot be read ({reason}); read on after it, evict it or \
         restore a backup"
    ))
}

fn timestamp(column: usize, micros: i64) -> rusqlite::Result<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(|error| odd(column, Type::Integer, error))
}

/// A string for a result, an array of strings for calls.
fn encode_link(link: &ToolLink) -> Option<String> {
    let value = match link {
        ToolLink::None => return None,
        ToolLink::Calls(ids) => ids.iter().map(|id| Value::from(&**id)).collect(),
        ToolLink::Result(id) => Value::from(&**id),
    };
    Some(value.to_string())
}

fn decode_link(text: &str) -> Option<ToolLink> {
    match serde_json::from_str(text).ok()? {
        Value::String(id) => Some(ToolLink::Result(id.into())),
        Value::Array(ids) => ids
            .into_iter()
            .map(|id| match id {
                Value::String(id) => Some(id.into()),
                _ => None,
            })
            .collect::<Option<_>>()
            .map(ToolLink::Calls),
        _ => None,
    }
}

/// A value that this crate did not write.
fn odd(
    column: usize,
    kind: Type,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(error))
}

#[derive(Debug, thiserror::Error)]
#[error("unknown form")]
struct UnknownForm;

/// The parameters of a message's row, in the order of the columns.
pub(crate) fn insert_message(
    statement: &mut rusqlite::CachedStatement<'_>,
    place: i64,
    new: &NewMessage,
    Encoded { body, link }: &Encoded,
    summary: bool,
) -> rusqlite::Result<()> {
    let id = new.id.uuid().into_bytes();
    let priority = new.priority.map(Priority::number);
    let parameters: [&dyn ToSql; 9] = [
        &place,
        &id,
        &new.tokens,
        &priority,
        &new.content_type.as_str(),
        &new.created_at.as_microsecond(),
        link,
        &summary,
        body,
    ];
    statement.execute(parameters).map(drop)
}

pub(crate) const INSERT_MESSAGE: &str = "
INSERT INTO message
    (place, id, tokens, priority, content_type, created_at, link, closed, summary, body)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?9)";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_link_reads_back(ids in prop::collection::vec("\\PC{0,6}", 0..4), which in 0..3) {
            let link = match which {
                0 => ToolLink::None,
                1 => ToolLink::Calls(ids.iter().map(|id| id.as_str().into()).collect()),
                _ => ToolLink::Result(ids.concat().into()),
            };
            let read = encode_link(&link).map_or(Some(ToolLink::None), |text| decode_link(&text));
            prop_assert_eq!(read, Some(link));
        }

        #[test]
        fn places_of_different_memories_never_meet(
            a in (1..1_i64 << 27, 1..1_u64 << 36),
            b in (1..1_i64 << 27, 1..1_u64 << 36),
        ) {
            let place = |(id, number)| {
                let row = HeadRow { id, ..HeadRow::default() };
                let place = row.place(Sequence::new(number)).unwrap();
                assert!(row.first_place() < place && place <= row.last_place());
                place
            };
            prop_assert_eq!(place(a) == place(b), a == b);
        }
    }

    proptest! {
        #[test]
        fn the_last_write_of_a_writer_reads_back(
            writer in any::<u128>(),
            number in any::<u64>(),
            first in prop::option::of(1..u64::MAX),
        ) {
            let writer = WriterId::new(writer);
            let last = LastWrite { writer, number, first: first.map(Sequence::new) };
            prop_assert_eq!(LastWrite::from_bytes(&last.to_bytes()), last);
        }
    }

    #[test]
    fn a_place_beyond_the_last_is_none() {
        let row = HeadRow { id: 7, ..HeadRow::default() };
        assert_eq!(row.place(Sequence::new(1 << SEQUENCE_BITS)), None);
    }
}
