//! The read of everything of a memory but its messages and its archive, and the steps of copies.

use std::collections::BTreeMap;

use memory_core::store::{
    Access, CopyProgress, CopyWrite, Erasure, ForkOrigin, Frame, FrameWriters, StoreError,
    StoreErrorKind, StoreOperation, WriterId, WriterRecord,
};
use memory_core::{MemoryKey, Sequence};
use rusqlite::{OptionalExtension, params};

use crate::codec::{HeadRow, LastWrite, int, newest, select_metadata};
use crate::commands::CopyRows;
use crate::error::JobError;
use crate::readers::FileSnapshot;
use crate::reads::{erasures, live, receipts};
use crate::store::SqliteStore;

impl SqliteStore {
    pub(crate) async fn whole_frame(
        &self,
        key: &MemoryKey,
        writers: FrameWriters,
    ) -> Result<Frame, StoreError> {
        let name = key.clone();
        let read = move |db: &FileSnapshot<'_>| frame(db, &name, writers);
        let done = self.readers().run(StoreOperation::Read, read).await;
        done.map_err(|error| error.at(key))
    }

    pub(crate) async fn kept_erasures(&self, key: &MemoryKey) -> Result<Vec<Erasure>, StoreError> {
        let name = key.clone();
        let done = self.readers().run(StoreOperation::Read, move |db| erasures(db, &name)).await;
        done.map_err(|error| error.at(key))
    }

    pub(crate) async fn fork_origin(
        &self,
        key: &MemoryKey,
    ) -> Result<Option<ForkOrigin>, StoreError> {
        let name = key.clone();
        let done = self.readers().run(StoreOperation::Read, move |db| origin(db, &name)).await;
        done.map_err(|error| error.at(key))
    }

    pub(crate) async fn copy_step(
        &self,
        key: &MemoryKey,
        access: Access,
        write: &CopyWrite,
    ) -> Result<CopyProgress, StoreError> {
        let refused = |kind| StoreError::new(StoreOperation::Copy, kind).not_applied().at(key);
        let rows = CopyRows::new(access, write).map_err(refused)?;
        self.writer().submit(key, rows).await
    }
}

fn frame(
    db: &FileSnapshot<'_>,
    key: &MemoryKey,
    writers: FrameWriters,
) -> Result<Option<Frame>, JobError> {
    let Some(row) = live(db, key)? else { return Ok(Some(Frame::new(HeadRow::default().head))) };
    let records = match writers {
        FrameWriters::LeftOut => Vec::new(),
        // Their number is unknown.
        FrameWriters::Included if db.brief => return Ok(None),
        FrameWriters::Included => all_writers(db, &row)?,
    };
    let mut frame = Frame::new(row.head.clone());
    frame.writers = records;
    frame.forgotten_millis = row.forgotten;
    frame.receipts = receipts(db, key)?.unwrap_or_default();
    frame.erasures = erasures(db, key)?.unwrap_or_default();
    frame.metadata = select_metadata(db.connection, row.id)?;
    frame.origin = origin_of(db, row.id)?;
    frame.newest = db
        .connection
        .prepare_cached("SELECT ?1, id FROM message WHERE place = ?2")?
        .query_row(params![int(row.head.last.number()), row.place(row.head.last)], |found| {
            newest(found, 0)
        })
        .optional()?
        .flatten();
    Ok(Some(frame))
}

fn all_writers(db: &FileSnapshot<'_>, row: &HeadRow) -> Result<Vec<WriterRecord>, JobError> {
    let mut writers = BTreeMap::new();
    let mut select = db
        .connection
        .prepare_cached("SELECT writer, number, first FROM writer WHERE memory = ?1")?;
    let mut rows = select.query([row.id])?;
    while let Some(found) = rows.next()? {
        let writer = WriterId::new(u128::from_be_bytes(found.get(0)?));
        let number = found.get::<_, i64>(1)?.cast_unsigned();
        let first = found.get::<_, Option<i64>>(2)?;
        let first = first.map(|first| Sequence::new(first.cast_unsigned()));
        writers.insert(writer, WriterRecord { writer, number, first });
    }
    // Those in the memory's row are newer.
    for LastWrite { writer, number, first } in row.writers.iter().copied() {
        writers.insert(writer, WriterRecord { writer, number, first });
    }
    Ok(writers.into_values().collect())
}

fn origin(db: &FileSnapshot<'_>, key: &MemoryKey) -> Result<Option<Option<ForkOrigin>>, JobError> {
    let Some(row) = live(db, key)? else { return Ok(Some(None)) };
    Ok(Some(origin_of(db, row.id)?))
}

fn origin_of(db: &FileSnapshot<'_>, memory: i64) -> Result<Option<ForkOrigin>, JobError> {
    let body = db
        .connection
        .prepare_cached("SELECT body FROM origin WHERE memory = ?1")?
        .query_row([memory], |row| row.get::<_, Option<String>>(0))
        .optional()?
        .flatten();
    let decoded = body.map(|body| serde_json::from_str(&body)).transpose();
    decoded.map_err(|_| {
        let problem = "the origin of a fork cannot be read; restore a backup";
        JobError::Refused(StoreErrorKind::Corrupt(problem.into()))
    })
}
