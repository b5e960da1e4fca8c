//! Updates of metadata.

use memory_core::MemoryKey;
use memory_core::store::{Access, Metadata, StoreErrorKind, StoreOperation, UpdateMetadata};
use rusqlite::params;

use super::append::expiry;
use super::batch::Batch;
use super::secure::SecureDelete;
use super::step::Step;
use super::{Command, LIGHT_BYTES};
use crate::codec::{int, select_metadata};
use crate::error::JobError;

#[derive(Debug)]
pub(crate) struct MetadataRow {
    pub(crate) access: Access,
    pub(crate) update: UpdateMetadata,
}

impl Command for MetadataRow {
    type Answer = Metadata;
    const OPERATION: StoreOperation = StoreOperation::UpdateMetadata;

    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<Metadata, JobError> {
        let UpdateMetadata { write, patch, expected, ttl } = &self.update;
        let mut step = batch.step(key)?;
        let old = step.metadata()?;
        if step.earlier(*write)?.is_some() {
            return Ok(old);
        }
        let fence = step.check_writer_lease(self.access.lease)?;
        if expected.is_some_and(|expected| expected != old.revision) {
            return Err(JobError::Refused(StoreErrorKind::Conflict));
        }
        let new = old.updated(patch, step.time()?).map_err(StoreErrorKind::from)?;
        step.begin()?;
        {
            // No later operation restores the old values.
            let _secure = SecureDelete::new(step.connection)?;
            step.set_metadata(&new)?;
        }
        step.remember(*write, None)?;
        let end = ttl.and_then(|ttl| expiry(step.now, ttl));
        let head = &mut step.loaded.row.head;
        head.fence = fence;
        head.expires_at = end;
        Ok(new)
    }

    fn bytes(&self) -> usize {
        Metadata::MAX_BYTES
    }

    fn pages(&self) -> usize {
        self.bytes() / 4_096
    }

    fn is_light(&self) -> bool {
        self.bytes() <= LIGHT_BYTES
    }
}

impl Step<'_> {
    /// The metadata of this memory.
    pub(super) fn metadata(&self) -> Result<Metadata, JobError> {
        if self.has_rows() {
            select_metadata(self.connection, self.loaded.row.id)
        } else {
            Ok(Metadata::default())
        }
    }

    pub(super) fn set_metadata(&self, metadata: &Metadata) -> Result<(), JobError> {
        let Metadata { revision, values, updated_at, .. } = metadata;
        let updated_at = updated_at.unwrap_or_default().as_microsecond();
        self.connection.prepare_cached(SET_METADATA)?.execute(params![
            self.loaded.row.id,
            int(*revision),
            updated_at,
            values.to_string(),
        ])?;
        Ok(())
    }
}

const SET_METADATA: &str = "
INSERT INTO metadata (memory, revision, updated_at, body) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT DO UPDATE SET revision = ?2, updated_at = ?3, body = ?4";
