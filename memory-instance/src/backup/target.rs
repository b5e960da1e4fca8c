//! Writing a copy to a store.

use memory_core::lease::LeaseProof;
use memory_core::store::{Access, CopyProgress, CopyStep, CopyWrite, StoreOperation};
use uuid::Uuid;

use super::chunks::{Chunk, Chunks, Stopped};
use crate::asking::Answering;
use crate::audit::{AuditOperation, Audited};
use crate::error::MemoryError;
use crate::inner::Inner;
use crate::write::WriteRequest;

impl WriteRequest for CopyWrite {
    type Answer = CopyProgress;
    const OPERATION: StoreOperation = StoreOperation::Copy;

    fn audited(&self) -> Option<Audited> {
        Some(Audited::all(AuditOperation::Copy))
    }

    fn send<'a>(
        &'a self,
        inner: &'a Inner,
        lease: Option<LeaseProof>,
    ) -> Answering<'a, CopyProgress> {
        inner.store().write_copy(&inner.key, Access { lease }, self)
    }
}

/// The result of a copy.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Done {
    Copied {
        archived: u64,
    },
    /// The same copy was completed before.
    Before,
}

impl Inner {
    /// Writes a copy under this key, or continues an unfinished one with the same id, whose source is in the same state.
    pub(crate) async fn receive(
        &self,
        copy: Uuid,
        mut chunks: impl Chunks,
    ) -> Result<Done, Stopped> {
        let copy = (copy, self.backend.ids.attempt());
        let progress = self.copy_step(copy, CopyStep::Begin, None).await?;
        if progress.complete {
            return Ok(Done::Before);
        }
        let (mut removals, mut archived) = (0_u64, 0_u64);
        while let Some(chunk) = chunks.next().await? {
            let (step, is_new) = match chunk {
                Chunk::Messages(messages) => {
                    let last = messages.last().map(|stored| stored.meta.sequence);
                    (CopyStep::Messages(messages), last > Some(progress.last))
                }
                Chunk::Archived { removal, messages, end } => {
                    removals = removals.saturating_add(u64::from(end.is_some()));
                    archived = archived.saturating_add(messages.len() as u64);
                    let is_new = removal.number > progress.removal;
                    (CopyStep::Archived { removal, messages, end }, is_new)
                }
            };
            if is_new {
                self.copy_step(copy, step, None).await?;
            }
        }
        let frame = Box::new(chunks.into_frame());
        let finish = CopyStep::Finish { frame, removals };
        self.copy_step(copy, finish, None).await?;
        Ok(Done::Copied { archived })
    }

    async fn copy_step(
        &self,
        (copy, attempt): (Uuid, u64),
        step: CopyStep,
        lease: Option<LeaseProof>,
    ) -> Result<CopyProgress, MemoryError> {
        let waits = self.rules.lock.wait_timeout();
        Ok(self.write(&CopyWrite { copy, attempt, step }, lease, waits).await?)
    }

    /// Removes an unfinished copy.
    pub(crate) async fn discard_copy(&self, lease: LeaseProof) -> Result<(), MemoryError> {
        self.copy_step((Uuid::nil(), 0), CopyStep::Discard, Some(lease)).await.map(drop)
    }
}
