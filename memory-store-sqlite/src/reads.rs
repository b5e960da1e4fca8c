//! Each read as a function over a snapshot.

use std::num::NonZeroUsize;

use memory_core::store::{
    ArchivedRemoval, CaughtUp, Cursor, Erasure, FlushReceipt, Generation, Head, KnownBatch,
    MessageMeta, Outline, Page, PageLimit, Read, StoreErrorKind, UnusedMemory, UnusedPage,
    UnusedQuery,
};
use memory_core::{MemoryKey, Sequence, StoredMessage};
use rusqlite::{OptionalExtension, params};

use crate::codec::{self, HeadRow, META_COLUMNS, SELECT_HEAD, holds, int, newest};
use crate::commands::{bad_head, places_of, read_erasure};
use crate::error::JobError;
use crate::readers::FileSnapshot;
use crate::schema::SEQUENCE_BITS;

/// The row of a memory that exists and has not expired.
pub(crate) fn live(db: &FileSnapshot<'_>, key: &MemoryKey) -> Result<Option<HeadRow>, JobError> {
    let row = db
        .connection
        .prepare_cached(SELECT_HEAD)?
        .query_row([key.as_str()], HeadRow::from_row)
        .optional();
    match row {
        Ok(row) => match row.filter(|row| row.is_alive(db.now)) {
            Some(row) if row.unfinished.is_some() => {
                Err(JobError::Refused(StoreErrorKind::Unfinished))
            }
            row => Ok(row),
        },
        Err(error @ rusqlite::Error::SqliteFailure(..)) => Err(error.into()),
        Err(error) => Err(JobError::Refused(bad_head(&error))),
    }
}

pub(crate) fn head(db: &FileSnapshot<'_>, key: &MemoryKey) -> Result<Option<Head>, JobError> {
    Ok(Some(live(db, key)?.unwrap_or_default().head))
}

pub(crate) fn read(
    db: &FileSnapshot<'_>,
    key: &MemoryKey,
    read: Read,
) -> Result<Option<Page>, JobError> {
    let row = live(db, key)?.unwrap_or_default();
    let start = Cursor::from(row.head.generation);
    let (after, restarted) = match read.after {
        Some(cursor) if holds(db.connection, &row, cursor)? => (cursor, false),
        Some(cursor) => (start, cursor != Cursor::default()),
        None => (start, false),
    };
    let mut page = Page::new(after);
    page.restarted = restarted;
    let Some(from) = row.place(after.sequence).filter(|_| row.id != 0) else {
        return Ok(Some(page));
    };
    let limit = read.limit.unwrap_or(NO_LIMIT);
    let present = row.head.counters.present;
    let new = row.head.last.number().saturating_sub(after.sequence.number());
    let expected = present.messages.min(new).min(most(limit));
    let each = present.tokens / present.messages.max(1);
    if db.is_too_long(expected, each.saturating_mul(expected)) {
        return Ok(None);
    }

    page.messages.reserve(room_for(expected));
    let added = add_messages(db, key, (from, row.last_place()), limit, &mut page)?;
    Ok((added == Added::All).then_some(page))
}

/// Whether all messages of a range were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Added {
    All,
    /// Their texts are too long for the calling thread.
    TooLong,
}

const NO_LIMIT: PageLimit = PageLimit { messages: NonZeroUsize::MAX, bytes: u64::MAX };

/// The most messages of a page.
fn most(limit: PageLimit) -> u64 {
    u64::try_from(limit.messages.get()).unwrap_or(u64::MAX)
}

/// Adds the messages after one place and up to another, at most `limit` in the page.
fn add_messages(
    db: &FileSnapshot<'_>,
    key: &MemoryKey,
    (after, to): (i64, i64),
    limit: PageLimit,
    page: &mut Page,
) -> Result<Added, JobError> {
    let sql = format!(
        "SELECT {META_COLUMNS}, body FROM message WHERE place > ?1 AND place <= ?2 ORDER BY place"
    );
    let mut select = db.connection.prepare_cached(&sql)?;
    let mut rows = select.query([after, to])?;
    let mut bytes = 0_u64;
    while let Some(found) = rows.next()? {
        if limit.is_reached(page.messages.len(), bytes) {
            page.more = true;
            break;
        }
        bytes = bytes.saturating_add(codec::body_bytes(found));
        if db.has_too_long_texts(bytes) {
            return Ok(Added::TooLong);
        }
        match readable(key, codec::stored(found))? {
            Some(message) => {
                page.cursor = Cursor::at(page.cursor.generation, &message.meta);
                page.messages.push(message);
            }
            None => {
                page.cursor.sequence = codec::sequence(found)?;
                page.cursor.id = codec::id(found);
                page.unreadable.push(page.cursor.sequence);
            }
        }
    }
    Ok(Added::All)
}

pub(crate) fn catch_up(
    db: &FileSnapshot<'_>,
    key: &MemoryKey,
    after: Cursor,
    known: &[KnownBatch],
) -> Result<Option<CaughtUp>, JobError> {
    let row = live(db, key)?.unwrap_or_default();
    let from = row.place(after.sequence).filter(|_| row.id != 0);
    let Some(mut from) = from.filter(|_| !known.is_empty()) else {
        return Ok(read(db, key, Read { after: Some(after), limit: None })?.map(CaughtUp::from));
    };
    if !holds(db.connection, &row, after)? {
        return Ok(read(db, key, Read { after: Some(after), limit: None })?.map(CaughtUp::from));
    }
    let generation = after.generation;
    let mut caught = CaughtUp::from(Page::new(after));
    for batch in KnownBatch::after(known, after) {
        let newest = Cursor { generation, sequence: batch.last, id: Some(batch.id) };
        if holds(db.connection, &row, newest)? {
            caught.confirmed.push(batch);
        }
    }
    let present = row.head.counters.present;
    let known = caught.confirmed.iter().map(KnownBatch::messages).fold(0, u64::saturating_add);
    let new = row.head.last.number().saturating_sub(after.sequence.number());
    let expected = present.messages.min(new.saturating_sub(known));
    let each = present.tokens / present.messages.max(1);
    if db.is_too_long(expected, each.saturating_mul(expected)) {
        return Ok(None);
    }
    let page = &mut caught.page;
    page.messages.reserve(room_for(expected));
    for KnownBatch { first, last, id } in &caught.confirmed {
        let (Some(first), Some(end)) = (row.place(*first), row.place(*last)) else { continue };
        if first > from + 1
            && add_messages(db, key, (from, first - 1), NO_LIMIT, page)? == Added::TooLong
        {
            return Ok(None);
        }
        page.cursor = Cursor { generation, sequence: *last, id: Some(*id) };
        from = end;
    }
    let added = add_messages(db, key, (from, row.last_place()), NO_LIMIT, page)?;
    Ok((added == Added::All).then_some(caught))
}

pub(crate) fn read_before(
    db: &FileSnapshot<'_>,
    key: &MemoryKey,
    before: Option<Cursor>,
    limit: NonZeroUsize,
) -> Result<Option<Page>, JobError> {
    let row = live(db, key)?.unwrap_or_default();
    let mut valid = None;
    if let Some(cursor) = before
        && holds(db.connection, &row, cursor)?
    {
        valid = Some(cursor);
    }
    let mut page = Page::new(valid.unwrap_or(row.head.generation.into()));
    page.restarted = before.is_some() && valid.is_none();
    let end = match valid {
        // Nothing is before the start.
        Some(cursor) if cursor.sequence == Sequence::ZERO => None,
        Some(cursor) => row.place(cursor.sequence),
        None => row.last_place().checked_add(1),
    };
    let Some(end) = end.filter(|_| row.id != 0) else { return Ok(Some(page)) };
    let present = row.head.counters.present;
    let limit = limit.get();
    let expected = present.messages.min(u64::try_from(limit).unwrap_or(u64::MAX));
    let each = present.tokens / present.messages.max(1);
    if db.is_too_long(expected, each.saturating_mul(expected)) {
        return Ok(None);
    }
    let sql = format!(
        "SELECT {META_COLUMNS}, body FROM message WHERE place > ?1 AND place < ?2
         ORDER BY place DESC"
    );
    let mut select = db.connection.prepare_cached(&sql)?;
    let mut rows = select.query([row.first_place(), end])?;
    page.messages.reserve(room_for(expected));
    let mut bytes = 0;
    while let Some(found) = rows.next()? {
        if page.messages.len() >= limit {
            page.more = true;
            break;
        }
        bytes += codec::body_bytes(found);
        if db.has_too_long_texts(bytes) {
            return Ok(None);
        }
        let sequence = codec::sequence(found)?;
        page.cursor = Cursor { generation: row.head.generation, sequence, id: codec::id(found) };
        match readable(key, codec::stored(found))? {
            Some(message) => page.messages.push(message),
            None => page.unreadable.push(sequence),
        }
    }
    page.messages.reverse();
    page.unreadable.reverse();
    Ok(Some(page))
}

/// The number of places to allocate at once. Damaged counters may have any value, and a wrong one must cost
/// no more than some reallocation.
fn room_for(expected: u64) -> usize {
    const MOST: u64 = 10_000;
    usize::try_from(expected.min(MOST)).unwrap_or_default()
}

pub(crate) fn outline(db: &FileSnapshot<'_>, key: &MemoryKey) -> Result<Option<Outline>, JobError> {
    let Some(row) = live(db, key)? else { return Ok(Some(Outline::default())) };
    let expected = row.head.counters.present.messages;
    if db.is_too_long(expected, 0) {
        return Ok(None);
    }
    let sql = format!(
        "SELECT {META_COLUMNS} FROM message WHERE place > ?1 AND place <= ?2 ORDER BY place"
    );
    let mut select = db.connection.prepare_cached(&sql)?;
    let mut rows = select.query([row.first_place(), row.last_place()])?;
    let mut metas: Vec<MessageMeta> = Vec::with_capacity(room_for(expected));
    let mut unreadable = Vec::new();
    while let Some(found) = rows.next()? {
        match readable(key, codec::named_meta(found))? {
            Some(meta) => metas.push(meta),
            None => unreadable.push(codec::sequence(found)?),
        }
    }
    Ok(Some(Outline::new(row.head, metas, unreadable)))
}

/// Skips a message that cannot be decoded, and logs it: it must not keep the others from being read.
pub(crate) fn readable<T>(
    key: &MemoryKey,
    decoded: Result<T, JobError>,
) -> Result<Option<T>, JobError> {
    match decoded {
        Ok(value) => Ok(Some(value)),
        Err(JobError::Refused(StoreErrorKind::Corrupt(reason))) => {
            tracing::error!(%key, reason, "a message cannot be read; evict it or clear the memory");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

pub(crate) fn fetch(
    db: &FileSnapshot<'_>,
    key: &MemoryKey,
    snapshot: Cursor,
    places: &[Sequence],
) -> Result<Option<Vec<StoredMessage>>, JobError> {
    let row = match live(db, key)? {
        Some(row) if holds(db.connection, &row, snapshot)? => row,
        _ => return Err(JobError::Refused(StoreErrorKind::Conflict)),
    };
    let present = row.head.counters.present;
    let expected = u64::try_from(places.len()).unwrap_or(u64::MAX);
    let each = present.tokens / present.messages.max(1);
    if db.is_too_long(expected, each.saturating_mul(expected)) {
        return Ok(None);
    }
    let sql = format!("SELECT {META_COLUMNS}, body FROM message WHERE place = ?1");
    let mut select = db.connection.prepare_cached(&sql)?;
    let mut messages = Vec::with_capacity(places.len());
    let mut bytes = 0;
    for place in places.iter().filter_map(|sequence| row.place(*sequence)) {
        let mut rows = select.query([place])?;
        if let Some(found) = rows.next()? {
            bytes += codec::body_bytes(found);
            if db.has_too_long_texts(bytes) {
                return Ok(None);
            }
            messages.extend(readable(key, codec::stored(found))?);
        }
    }
    Ok(Some(messages))
}

pub(crate) fn receipts(
    db: &FileSnapshot<'_>,
    key: &MemoryKey,
) -> Result<Option<Vec<FlushReceipt>>, JobError> {
    let Some(row) = live(db, key)? else { return Ok(Some(Vec::new())) };
    let mut select = db
        .connection
        .prepare_cached("SELECT body FROM receipt WHERE memory = ?1 ORDER BY number DESC")?;
    let mut rows = select.query([row.id])?;
    let mut receipts = Vec::new();
    while let Some(found) = rows.next()? {
        let body = found.get_ref(0)?.as_bytes().map_err(rusqlite::Error::from)?;
        match serde_json::from_slice(body) {
            Ok(receipt) => receipts.push(receipt),
            // An old record, which affects no operation.
            Err(error) => tracing::warn!(%key, %error, "a receipt cannot be read"),
        }
    }
    Ok(Some(receipts))
}

pub(crate) fn erasures(
    db: &FileSnapshot<'_>,
    key: &MemoryKey,
) -> Result<Option<Vec<Erasure>>, JobError> {
    let Some(row) = live(db, key)? else { return Ok(Some(Vec::new())) };
    let mut select = db
        .connection
        .prepare_cached("SELECT body FROM erasure WHERE memory = ?1 ORDER BY number DESC")?;
    let mut rows = select.query([row.id])?;
    let mut erasures = Vec::new();
    while let Some(row) = rows.next()? {
        erasures.push(read_erasure(row)?);
    }
    Ok(Some(erasures))
}

pub(crate) fn removals(
    db: &FileSnapshot<'_>,
    key: &MemoryKey,
    before: Option<u64>,
    limit: NonZeroUsize,
) -> Result<Option<Vec<ArchivedRemoval>>, JobError> {
    let Some(row) = live(db, key)? else { return Ok(Some(Vec::new())) };
    let newest = before.map_or(i64::MAX, |before| {
        i64::try_from(before).map_or(i64::MAX, |before| before.saturating_sub(1))
    });
    let limit = i64::try_from(limit.get()).unwrap_or(i64::MAX);
    // A page of long lists of places takes a while.
    if db.is_too_long(limit.unsigned_abs().min(row.receipts), 0) {
        return Ok(None);
    }
    let mut select = db.connection.prepare_cached(
        "SELECT body FROM removal
         WHERE memory = ?1 AND number <= ?2 AND (keep_until IS NULL OR keep_until > ?3)
         ORDER BY number DESC LIMIT ?4",
    )?;
    let mut rows = select.query(params![row.id, newest, int(db.now), limit])?;
    let mut removals = Vec::new();
    while let Some(found) = rows.next()? {
        let body = found.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        let decoded = serde_json::from_str(body).map_err(|_| {
            JobError::Refused(StoreErrorKind::Corrupt("a removal cannot be read".into()))
        });
        removals.extend(readable(key, decoded)?);
    }
    Ok(Some(removals))
}

pub(crate) fn archived(
    db: &FileSnapshot<'_>,
    key: &MemoryKey,
    removal: u64,
    after: Sequence,
    limit: PageLimit,
) -> Result<Option<Vec<StoredMessage>>, JobError> {
    let none = Ok(Some(Vec::new()));
    let (Some(row), Ok(number)) = (live(db, key)?, i64::try_from(removal)) else { return none };
    let found = db
        .connection
        .prepare_cached(
            "SELECT id, messages, bytes FROM removal
             WHERE memory = ?1 AND number = ?2 AND (keep_until IS NULL OR keep_until > ?3)",
        )?
        .query_row(params![row.id, number, int(db.now)], |row| {
            let [messages, bytes] = [row.get::<_, i64>(1)?, row.get::<_, i64>(2)?];
            Ok((row.get::<_, i64>(0)?, messages.unsigned_abs(), bytes.unsigned_abs()))
        })
        .optional()?;
    let Some((id, messages, bytes)) = found else { return none };
    let (first, last) = places_of(id);
    if after.number() >> SEQUENCE_BITS > 0 {
        return none;
    }
    let expected = messages.min(most(limit));
    let each = bytes / 4 / messages.max(1);
    if db.is_too_long(expected, each.saturating_mul(expected)) {
        return Ok(None);
    }
    let sql = format!(
        "SELECT {META_COLUMNS}, body FROM archive WHERE place > ?1 AND place <= ?2 ORDER BY place"
    );
    let mut select = db.connection.prepare_cached(&sql)?;
    let mut rows = select.query([first | int(after.number()), last])?;
    let (mut page, mut bytes) = (Vec::with_capacity(room_for(expected)), 0_u64);
    while !limit.is_reached(page.len(), bytes)
        && let Some(found) = rows.next()?
    {
        bytes = bytes.saturating_add(codec::body_bytes(found));
        page.extend(readable(key, codec::stored(found))?);
    }
    Ok(Some(page))
}

pub(crate) fn unused(
    db: &FileSnapshot<'_>,
    query: &UnusedQuery,
) -> Result<Option<UnusedPage>, JobError> {
    // A page takes long: it reads each memory and its newest message.
    if db.brief {
        return Ok(None);
    }
    let mut select = db.connection.prepare_cached(
        "SELECT memory.key, memory.generation, memory.version, memory.expires_at, memory.messages,
             message.created_at, memory.last, message.id, metadata.updated_at
         FROM memory LEFT JOIN message ON message.place = memory.id << ?3 | memory.last
             LEFT JOIN metadata ON metadata.memory = memory.id
         WHERE memory.key >= ?1 AND memory.key > ?2 ORDER BY memory.key",
    )?;
    let after = query.after.as_ref().map_or("", MemoryKey::as_str);
    let mut rows = select.query(params![query.prefix, after, SEQUENCE_BITS])?;
    let mut page = UnusedPage::default();
    let (mut last, mut looked_at) = (None, 0);
    while let Some(found) = rows.next()? {
        let name = found.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        if !name.starts_with(&query.prefix) {
            break;
        }
        let Ok(key) = name.parse::<MemoryKey>() else { continue };
        if looked_at == query.limit.get() {
            page.next = last;
            break;
        }
        looked_at += 1;
        let number = |column| found.get::<_, i64>(column).map(i64::cast_unsigned);
        let (generation, version) = (number(1)?, number(2)?);
        let end = found.get::<_, Option<i64>>(3)?;
        let expired = end.is_some_and(|end| end <= int(db.now));
        let times = [found.get::<_, Option<i64>>(5)?, found.get::<_, Option<i64>>(8)?];
        let times = times.into_iter().flatten().filter_map(|time| u64::try_from(time).ok());
        let written = times.fold(generation, u64::max);
        let mut memory = UnusedMemory::new(key.clone(), Generation::new(generation), version);
        memory.expired = expired;
        if query.matches(&memory, written, db.now) && !db.is_leased(&key)? {
            memory.newest = newest(found, 6)?;
            memory.messages = number(4)?;
            page.memories.push(memory);
        }
        last = Some(key);
    }
    Ok(Some(page))
}

pub(crate) fn keys(
    db: &FileSnapshot<'_>,
    after: Option<&MemoryKey>,
    limit: NonZeroUsize,
) -> Result<Option<Vec<MemoryKey>>, JobError> {
    // Empty and expired memories have to be skipped, and their number is unknown.
    if db.brief {
        return Ok(None);
    }
    let mut select = db.connection.prepare_cached(
        "SELECT key FROM memory
         WHERE key > ?1 AND messages > 0 AND (expires_at IS NULL OR expires_at > ?2)
         ORDER BY key",
    )?;
    let after = after.map_or("", MemoryKey::as_str);
    let mut rows = select.query(params![after, int(db.now)])?;
    let mut keys = Vec::new();
    while let Some(found) = rows.next()? {
        let key = found.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        match key.parse() {
            Ok(key) => keys.push(key),
            // This store did not write the key; the others can still be listed.
            Err(error) => tracing::warn!(%error, "a key in the file cannot be read"),
        }
        if keys.len() == limit.get() {
            break;
        }
    }
    Ok(Some(keys))
}
