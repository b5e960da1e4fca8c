//! Metadata of a memory.

use jiff::Timestamp;

use super::{MemoryState, PRUNED_AT_ONCE, expiry, raise_fence};
use crate::metadata::Metadata;
use crate::store::{Access, StoreErrorKind, UpdateMetadata};

impl MemoryState {
    /// [`MemoryStore::update_metadata`](crate::MemoryStore::update_metadata) at this time.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`], [`StoreErrorKind::Fenced`], [`StoreErrorKind::Metadata`].
    pub fn update_metadata(
        &mut self,
        access: Access,
        update: &UpdateMetadata,
        now: Timestamp,
    ) -> Result<Metadata, StoreErrorKind> {
        let UpdateMetadata { write, patch, expected, ttl } = update;
        patch.check()?;
        self.change(now, |memory| {
            if memory.earlier(*write)?.is_none() {
                let mut fence = memory.head.fence;
                raise_fence(&mut fence, access.lease)?;
                if expected.is_some_and(|expected| expected != memory.metadata.revision) {
                    return Err(StoreErrorKind::Conflict);
                }
                memory.metadata = memory.metadata.updated(patch, now)?;
                memory.wrote(*write, None, now, PRUNED_AT_ONCE);
                memory.head.fence = fence;
                memory.head.expires_at = ttl.and_then(|ttl| expiry(now, ttl));
                memory.head.version += 1;
            }
            Ok(memory.metadata.clone())
        })
    }

    /// [`MemoryStore::metadata`](crate::MemoryStore::metadata) at this time.
    #[must_use]
    pub fn metadata(&self, now: Timestamp) -> Metadata {
        if self.is_alive(now) { self.metadata.clone() } else { Metadata::default() }
    }

    /// Whether a message was ever appended, or metadata set: a copy does not replace such a memory.
    pub(super) fn is_written(&self, now: Timestamp) -> bool {
        let has_any = self.head.last > crate::Sequence::ZERO || !self.metadata.is_unset();
        has_any && self.is_alive(now)
    }
}
