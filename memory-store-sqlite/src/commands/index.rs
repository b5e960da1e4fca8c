//! The index for searches, which follows the messages in separate transactions.
//!
//! `word` has one document for each place of a memory at which there is a message: the words of the present message
//! and of the archived ones that had the place. So a message that moves to the archive needs no change. `indexed` says up
//! to which place a memory has been indexed; a memory that was never searched has no row. The places in `stale` must
//! be indexed again.
//!
//! A document may have more words than its messages, because a search looks at the messages themselves. It must never
//! have fewer.

use memory_core::store::{Generation, StoreOperation};
use memory_core::{MemoryKey, Sequence};
use memory_sqlite_file::{SqliteErrorKind, classify};
use rusqlite::{Connection, OptionalExtension, params};

use super::Command;
use super::archive::places_of;
use super::batch::Batch;
use super::step::Step;
use crate::codec::int;
use crate::error::JobError;
use crate::schema::SEQUENCE_BITS;

/// The typical number of bytes of words on a page of the index.
const BYTES_OF_PAGE: usize = 2_048;

/// The words of places that are not in the index, as read from one snapshot.
#[derive(Debug)]
pub(crate) struct Unindexed {
    /// The id of the memory's row.
    pub(crate) memory: i64,
    pub(crate) generation: Generation,
    /// The place up to which the memory was indexed; `None` before its first search.
    pub(crate) from: Option<Sequence>,
    /// The place up to which it is then.
    pub(crate) to: Sequence,
    /// Keys of rows in `stale` that are done.
    pub(crate) stale: Vec<i64>,
    /// The keys and words of places.
    pub(crate) words: Vec<(i64, String)>,
}

impl Unindexed {
    pub(crate) fn bytes(&self) -> usize {
        self.words.iter().map(|(_, words)| words.len()).fold(0, usize::saturating_add)
    }
}

/// The outcome of adding [`Unindexed`] words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Indexed {
    Added,
    /// The memory, or its index, has changed since the snapshot.
    Changed,
}

/// Adds words to the index.
#[derive(Debug)]
pub(crate) struct IndexRows(pub(crate) Unindexed);

impl Command for IndexRows {
    type Answer = Indexed;
    const OPERATION: StoreOperation = StoreOperation::Search;

    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<Indexed, JobError> {
        let Unindexed { memory, generation, from, to, stale, words } = &self.0;
        let step = batch.step(key)?;
        let row = &step.loaded.row;
        // Each change but an append changes the generation.
        let is_same = step.has_rows() && row.id == *memory && row.head.generation == *generation;
        if !is_same || indexed_to(step.connection, *memory)? != *from {
            return Ok(Indexed::Changed);
        }
        let connection = step.connection;
        or_without_index(connection, || {
            let mut delete = connection.prepare_cached("DELETE FROM word WHERE rowid = ?1")?;
            let mut done = connection.prepare_cached("DELETE FROM stale WHERE place = ?1")?;
            for place in stale {
                delete.execute([place])?;
                done.execute([place])?;
            }
            // Another process of an earlier memory with this id may have left a document.
            let mut insert = connection
                .prepare_cached("INSERT OR REPLACE INTO word (rowid, text) VALUES (?1, ?2)")?;
            for (place, words) in words {
                insert.execute(params![place, words])?;
            }
            connection
                .prepare_cached("INSERT OR REPLACE INTO indexed (memory, last) VALUES (?1, ?2)")?
                .execute(params![memory, int(to.number())])?;
            Ok(())
        })?;
        Ok(Indexed::Added)
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn pages(&self) -> usize {
        1 + self.0.bytes() / BYTES_OF_PAGE
    }

    fn is_light(&self) -> bool {
        false
    }
}

/// Removes the index of a memory, or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DropIndex {
    OfMemory,
    OfAll,
}

impl Command for DropIndex {
    type Answer = ();
    const OPERATION: StoreOperation = StoreOperation::Search;

    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<(), JobError> {
        let step = batch.step(key)?;
        match self {
            Self::OfAll => drop_all(step.connection)?,
            Self::OfMemory if step.loaded.row.id == 0 => {}
            Self::OfMemory => drop_index(step.connection, step.loaded.row.id)?,
        }
        Ok(())
    }

    fn pages(&self) -> usize {
        super::PAGES_OF_REMOVAL
    }

    fn is_light(&self) -> bool {
        false
    }
}

/// The place up to which a memory is indexed.
pub(crate) fn indexed_to(
    connection: &Connection,
    memory: i64,
) -> rusqlite::Result<Option<Sequence>> {
    connection
        .prepare_cached("SELECT last FROM indexed WHERE memory = ?1")?
        .query_row([memory], |row| Ok(Sequence::new(row.get::<_, i64>(0)?.cast_unsigned())))
        .optional()
}

impl Step<'_> {
    /// Takes the words of these ranges of places out of the index. The next search indexes the messages that are then
    /// there.
    pub(super) fn unindex(
        &self,
        ranges: impl IntoIterator<Item = (i64, i64)>,
    ) -> rusqlite::Result<()> {
        if indexed_to(self.connection, self.loaded.row.id)?.is_none() {
            return Ok(());
        }
        or_without_index(self.connection, || {
            let mut again = self.connection.prepare_cached(
                "INSERT OR IGNORE INTO stale SELECT id FROM word_docsize WHERE id BETWEEN ?1 AND ?2",
            )?;
            let mut delete =
                self.connection.prepare_cached("DELETE FROM word WHERE rowid BETWEEN ?1 AND ?2")?;
            for (first, last) in ranges {
                again.execute([first, last])?;
                delete.execute([first, last])?;
            }
            Ok(())
        })
    }

    /// Lets the next search index these places again: they get a text that the index does not have. A place whose message
    /// could not be decoded has no document from which [`unindex`](Self::unindex) could see it.
    pub(super) fn reindex(&self, places: impl IntoIterator<Item = i64>) -> rusqlite::Result<()> {
        if indexed_to(self.connection, self.loaded.row.id)?.is_none() {
            return Ok(());
        }
        let mut insert =
            self.connection.prepare_cached("INSERT OR IGNORE INTO stale VALUES (?1)")?;
        for place in places {
            insert.execute([place])?;
        }
        Ok(())
    }
}

/// Takes the words of at most this many messages of a removal of a memory out of the index.
pub(super) fn unindex_removal(
    connection: &Connection,
    memory: i64,
    removal: i64,
    most: i64,
) -> rusqlite::Result<()> {
    if indexed_to(connection, memory)?.is_none() {
        return Ok(());
    }
    let (first, last) = places_of(removal);
    let arguments = params![places_of(memory).0, SEQUENCE_MASK, first, last, most];
    or_without_index(connection, || {
        connection.prepare_cached(AGAIN)?.execute(arguments)?;
        connection.prepare_cached(DELETE_WORDS)?.execute(arguments)?;
        Ok(())
    })
}

/// Removes the index of a memory.
pub(super) fn drop_index(connection: &Connection, memory: i64) -> rusqlite::Result<()> {
    let (first, last) = places_of(memory);
    or_without_index(connection, || {
        connection
            .prepare_cached("DELETE FROM word WHERE rowid BETWEEN ?1 AND ?2")?
            .execute([first, last])?;
        forget_index(connection, memory)
    })
}

/// Removes at most this many documents of a memory that ends; returns how many more may be removed.
pub(super) fn drop_documents(
    connection: &Connection,
    memory: i64,
    left: i64,
) -> rusqlite::Result<i64> {
    let (first, last) = places_of(memory);
    let mut dropped = 0;
    or_without_index(connection, || {
        forget_index(connection, memory)?;
        dropped = connection.prepare_cached(DELETE_DOCUMENTS)?.execute([first, last, left])?;
        Ok(())
    })?;
    Ok(left.saturating_sub(i64::try_from(dropped).unwrap_or(i64::MAX)))
}

fn forget_index(connection: &Connection, memory: i64) -> rusqlite::Result<()> {
    let (first, last) = places_of(memory);
    connection
        .prepare_cached("DELETE FROM stale WHERE place BETWEEN ?1 AND ?2")?
        .execute([first, last])?;
    connection.prepare_cached("DELETE FROM indexed WHERE memory = ?1")?.execute([memory])?;
    Ok(())
}

/// Runs a change of the index. If the index is damaged, it is emptied, for all memories: it can be built again, and
/// must not keep messages from being removed.
fn or_without_index(
    connection: &Connection,
    change: impl FnOnce() -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    match change() {
        Err(error) if classify(&error) == SqliteErrorKind::Corrupt => {
            tracing::warn!(%error, "the index for searches is damaged; it will be built again");
            drop_all(connection)
        }
        done => done,
    }
}

/// Empties the index of all memories.
fn drop_all(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "INSERT INTO word (word) VALUES ('delete-all'); DELETE FROM indexed; DELETE FROM stale",
    )
}

const SEQUENCE_MASK: i64 = (1 << SEQUENCE_BITS) - 1;

const AGAIN: &str = "
INSERT OR IGNORE INTO stale
SELECT ?1 | (place & ?2) FROM archive WHERE place BETWEEN ?3 AND ?4 ORDER BY place LIMIT ?5";

const DELETE_WORDS: &str = "
DELETE FROM word WHERE rowid IN
    (SELECT ?1 | (place & ?2) FROM archive WHERE place BETWEEN ?3 AND ?4 ORDER BY place LIMIT ?5)";

const DELETE_DOCUMENTS: &str = "
DELETE FROM word WHERE rowid IN
    (SELECT id FROM word_docsize WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3)";

/// Rewrites the index without the words of removed messages.
pub(crate) fn merge_index(connection: &Connection) -> rusqlite::Result<()> {
    or_without_index(connection, || {
        connection.execute_batch("INSERT INTO word (word) VALUES ('optimize')")
    })
}
