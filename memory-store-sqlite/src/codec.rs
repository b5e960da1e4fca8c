//! The encoding of heads and messages as rows.

mod head;
mod metadata;

use jiff::Timestamp;
use memory_core::plan::ToolLink;
use memory_core::store::{Cursor, MessageId, MessageMeta, NewMessage, Newest, StoreErrorKind};
use memory_core::{ContentType, Message, Priority, Sequence, StoredMessage};
use rusqlite::types::Type;
use rusqlite::{Connection, Row, ToSql};
use uuid::Uuid;

pub(crate) use self::head::{HeadRow, LastWrite, SELECT_HEAD, Unfinished};
pub(crate) use self::metadata::select_metadata;
use crate::error::JobError;
use crate::schema::SEQUENCE_BITS;

/// Numbers that may use all 64 bits are stored as SQLite's signed integers, bit for bit. They are compared
/// only in this crate, never in SQL.
pub(crate) const fn int(number: u64) -> i64 {
    number.cast_signed()
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

/// The text fields of a message's row; built on the caller's thread, before any lock.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) body: String,
    pub(crate) link: Option<String>,
}

impl Encoded {
    /// Refuses a message that could not be read back, such as one whose role is empty. The batch is the last
    /// place where the writer can still receive an error.
    pub(crate) fn new(message: &Message) -> Result<Self, StoreErrorKind> {
        let body = message.to_json().map_err(|reason| {
            StoreErrorKind::Invalid(format!("a message of the batch is malformed: {reason}"))
        })?;
        Ok(Self { body, link: message.tool_link().encode() })
    }
}

pub(crate) const META_COLUMNS: &str =
    "place, id, tokens, priority, content_type, created_at, link, closed, summary";
const BODY_COLUMN: usize = 9;

pub(crate) fn meta(row: &Row<'_>) -> rusqlite::Result<MessageMeta> {
    let sequence = sequence(row)?;
    let link = match row.get_ref(6)?.as_str_or_null()? {
        None => ToolLink::default(),
        Some(text) => ToolLink::decode(text).ok_or_else(|| odd(6, Type::Text, UnknownForm))?,
    };
    let id = MessageId::new(Uuid::from_bytes(row.get(1)?));
    let content_type = ContentType::from(row.get_ref(4)?.as_str()?);
    let mut meta = MessageMeta::new(sequence, id, content_type, timestamp(5, row.get(5)?)?);
    meta.tokens = row.get(2)?;
    meta.priority = row.get::<_, Option<u8>>(3)?.map(Priority::new);
    meta.link = link;
    meta.closed = row.get(7)?;
    meta.summary = row.get(8)?;
    Ok(meta)
}

/// The message of a row with the columns of [`META_COLUMNS`] and the body. An error names its place;
/// the text never appears in it.
pub(crate) fn stored(row: &Row<'_>) -> Result<StoredMessage, JobError> {
    let meta = named_meta(row)?;
    let message = row
        .get_ref(BODY_COLUMN)?
        .as_str()
        .map_err(|error| error.to_string())
        .and_then(|text| Message::from_stored_json(text).map_err(|error| error.to_string()));
    match message {
        Ok(message) => Ok(StoredMessage::new(meta, message)),
        Err(reason) => Err(JobError::Refused(unreadable(meta.sequence, &reason))),
    }
}

/// The bytes of the body of such a row.
pub(crate) fn body_bytes(row: &Row<'_>) -> u64 {
    let body = row.get_ref(BODY_COLUMN).ok().and_then(|body| body.as_bytes().ok());
    body.map_or(0, |body| u64::try_from(body.len()).unwrap_or(u64::MAX))
}

/// Like [`meta`]; an error names the message's place.
pub(crate) fn named_meta(row: &Row<'_>) -> Result<MessageMeta, JobError> {
    let place = sequence(row)?;
    meta(row).map_err(|error| unreadable(place, &error.to_string()).into())
}

/// The id of a row's message. It distinguishes the message from others at its place even if the rest cannot
/// be decoded.
pub(crate) fn id(row: &Row<'_>) -> Option<MessageId> {
    row.get(1).ok().map(|bytes| MessageId::new(Uuid::from_bytes(bytes)))
}

/// Whether the messages read up to this cursor are still the same: one message is looked up by its key.
pub(crate) fn holds(
    connection: &Connection,
    row: &HeadRow,
    Cursor { generation, sequence, id }: Cursor,
) -> rusqlite::Result<bool> {
    if generation != row.head.generation {
        return Ok(false);
    }
    let Some(id) = id else { return Ok(sequence <= row.head.last) };
    let Some(place) = row.place(sequence).filter(|_| row.id != 0) else { return Ok(false) };
    let mut select = connection.prepare_cached("SELECT id FROM message WHERE place = ?1")?;
    let mut found = select.query([place])?;
    Ok(match found.next()? {
        Some(found) => {
            found.get_ref(0)?.as_bytes_or_null()? == Some(id.uuid().as_bytes().as_slice())
        }
        None => false,
    })
}

/// The message at the last place that a memory assigned, from these two columns: the place and the id at it.
/// None if the message was removed or its id cannot be read.
pub(crate) fn newest(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Newest>> {
    let sequence = Sequence::new(unsigned(row, column)?);
    let id = row.get_ref(column + 1)?.as_bytes_or_null().ok().flatten();
    let id = id.and_then(|bytes| Uuid::from_slice(bytes).ok()).map(MessageId::new);
    Ok(id.map(|id| Newest { sequence, id }))
}

/// The place of a row's message.
pub(crate) fn sequence(row: &Row<'_>) -> rusqlite::Result<Sequence> {
    Ok(Sequence::new(unsigned(row, 0)? & ((1 << SEQUENCE_BITS) - 1)))
}

fn unreadable(sequence: Sequence, reason: &str) -> StoreErrorKind {
    StoreErrorKind::Corrupt(format!(
        "the message at place {sequence} cannot be read ({reason}); evict it or restore a backup"
    ))
}

fn timestamp(column: usize, micros: i64) -> rusqlite::Result<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(|error| odd(column, Type::Integer, error))
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

/// The kind of a stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowKind {
    Message,
    Summary,
}

/// The expiry time of a memory that a sweep has ended.
pub(crate) const ENDED: i64 = 0;

/// Inserts the row of a message.
pub(crate) fn insert_message(
    statement: &mut rusqlite::CachedStatement<'_>,
    place: i64,
    new: &NewMessage,
    Encoded { body, link }: &Encoded,
    kind: RowKind,
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
        &(kind == RowKind::Summary),
        body,
    ];
    statement.execute(parameters).map(drop)
}

pub(crate) const INSERT_MESSAGE: &str = "
INSERT INTO message
    (place, id, tokens, priority, content_type, created_at, link, closed, summary, body)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?9)";
