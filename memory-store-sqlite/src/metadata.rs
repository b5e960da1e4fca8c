//! The read of metadata.

use memory_core::MemoryKey;
use memory_core::store::{
    Access, Metadata, StoreError, StoreErrorKind, StoreOperation, UpdateMetadata,
};

use crate::codec::select_metadata;
use crate::commands::MetadataRow;
use crate::error::JobError;
use crate::readers::FileSnapshot;
use crate::reads::live;
use crate::store::SqliteStore;

impl SqliteStore {
    pub(crate) async fn read_metadata(&self, key: &MemoryKey) -> Result<Metadata, StoreError> {
        let name = key.clone();
        let done = self.readers().run(StoreOperation::Read, move |db| metadata(db, &name)).await;
        done.map_err(|error| error.at(key))
    }

    pub(crate) async fn merge_metadata(
        &self,
        key: &MemoryKey,
        access: Access,
        update: &UpdateMetadata,
    ) -> Result<Metadata, StoreError> {
        let refused = |kind: StoreErrorKind| {
            StoreError::new(StoreOperation::UpdateMetadata, kind).not_applied().at(key)
        };
        update.patch.check().map_err(|error| refused(error.into()))?;
        self.writer().submit(key, MetadataRow { access, update: update.clone() }).await
    }
}

fn metadata(db: &FileSnapshot<'_>, key: &MemoryKey) -> Result<Option<Metadata>, JobError> {
    Ok(Some(match live(db, key)? {
        Some(row) => select_metadata(db.connection, row.id)?,
        None => Metadata::default(),
    }))
}
