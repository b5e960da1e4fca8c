//! Clearing a memory after it was backed up.

use std::fmt::Debug;
use std::io;

use async_trait::async_trait;
use memory_core::MemoryKey;
use memory_core::lease::LeaseProof;
use memory_core::store::{Cleared, StoreErrorKind};
use serde::Serialize;
use tokio::io::AsyncWrite;

use super::{BackupError, CopyReceipt, Stopped};
use crate::error::MemoryError;
use crate::exclusive::ExclusiveError;
use crate::instance::MemoryInstance;
use crate::telemetry::operation;

/// A stream to which a backup is written.
pub type BackupStream = Box<dyn AsyncWrite + Send + Unpin>;

/// Where the backups of [`clear_with_backup`](MemoryInstance::clear_with_backup) are kept, such as a folder.
#[async_trait]
pub trait BackupSink: Debug + Send + Sync {
    /// Begins a backup of this memory. If an earlier one of the same call was completed, but the memory was changed before
    /// it could be cleared, the new one replaces it.
    ///
    /// # Errors
    /// Any error is returned as [`BackupError::Write`], and nothing is cleared.
    ///
    /// # Cancel safety
    /// If the future is dropped, nothing is cleared.
    async fn begin(&mut self, key: &MemoryKey) -> io::Result<BackupStream>;

    /// Completes the backup that was begun last and returns its place, as a text for people. After this the memory is
    /// cleared, so a file must be synced.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    ///
    /// # Cancel safety
    /// As [`begin`](Self::begin).
    async fn complete(&mut self, receipt: &CopyReceipt) -> io::Result<String>;
}

/// The record of a memory that was backed up and cleared. It is not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ClearedWithBackup {
    /// The backup, which has every message that was cleared and no other.
    pub backup: CopyReceipt,
    /// The place of the backup, as its sink named it.
    pub place: String,
    /// The record and the counters of the clear.
    pub cleared: Cleared,
}

/// How often a memory is backed up while others can write. After that their writes wait.
const OPEN_ATTEMPTS: u32 = 2;

impl MemoryInstance {
    /// [Backs the memory up](Self::backup), then [clears](Self::clear) it. The backup has exactly what is cleared: if a
    /// message was appended, replaced or removed after it was read, the backup begins again. The third one runs in an
    /// [exclusive turn](Self::exclusive), so that other writes wait for it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use std::io;
    ///
    /// use memory_instance::backup::{BackupSink, BackupStream, CopyReceipt};
    /// use memory_instance::{MemoryKey, Message};
    ///
    /// #[derive(Debug)]
    /// struct Folder(std::path::PathBuf);
    ///
    /// #[async_trait::async_trait]
    /// impl BackupSink for Folder {
    ///     async fn begin(&mut self, _: &MemoryKey) -> io::Result<BackupStream> {
    ///         Ok(Box::new(tokio::fs::File::create(self.0.join("case.memory")).await?))
    ///     }
    ///
    ///     async fn complete(&mut self, _: &CopyReceipt) -> io::Result<String> {
    ///         let path = self.0.join("case.memory");
    ///         tokio::fs::File::open(&path).await?.sync_all().await?;
    ///         Ok(path.display().to_string())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// # let folder = tempfile::tempdir()?;
    /// # let folder = folder.path();
    /// memory.append(Message::user("Where is my parcel?")).await?;
    /// let done = memory.clear_with_backup(&mut Folder(folder.to_owned())).await?;
    /// assert_eq!(done.cleared.counters.cleared, done.backup.counters.present.messages);
    /// assert!(std::path::Path::new(&done.place).is_file());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`backup`](Self::backup); nothing is cleared if the sink fails. As [`clear`](Self::clear), with
    /// [`MemoryError::LeaseLost`] if the last backup takes longer than the resource's `lock.max_turn`. A backup that the sink
    /// has completed before an error is not removed.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the memory cleared or not. If it is cleared, the backup is complete.
    pub async fn clear_with_backup(
        &self,
        sink: &mut dyn BackupSink,
    ) -> Result<ClearedWithBackup, BackupError> {
        operation!(&*self.inner, "clear_with_backup", self.clear_with(sink)).await
    }

    async fn clear_with(
        &self,
        sink: &mut dyn BackupSink,
    ) -> Result<ClearedWithBackup, BackupError> {
        self.writable("clear")?;
        for _ in 0..OPEN_ATTEMPTS {
            if let Some(done) = self.clear_backed_up(&mut *sink, None).await? {
                return Ok(done);
            }
        }
        let last = self.exclusive(|session| async move {
            let lease = Some(session.scope.proof());
            session.memory.clear_backed_up(sink, lease).await
        });
        let done = match last.await {
            // The store checked the token of the clear, so the turn's result is valid.
            Ok(done) | Err(ExclusiveError::Lost { output: Some(done), .. }) => done?,
            Err(ExclusiveError::Begin(error)) => return Err((*error).into()),
            Err(ExclusiveError::Lost { reason, .. }) => {
                return Err(MemoryError::LeaseLost { key: self.key().clone(), reason }.into());
            }
        };
        done.ok_or_else(|| self.inner.contended("clear").into())
    }

    /// Backs up and clears once; `None` if the memory was changed meanwhile.
    async fn clear_backed_up(
        &self,
        sink: &mut dyn BackupSink,
        lease: Option<LeaseProof>,
    ) -> Result<Option<ClearedWithBackup>, BackupError> {
        let stream = sink.begin(self.key()).await.map_err(BackupError::Write)?;
        let (backup, version) = match self.inner.back_up(stream).await {
            Ok(done) => done,
            Err(Stopped::Changed) => return Ok(None),
            Err(Stopped::Failed(error)) => return Err(error),
        };
        let place = sink.complete(&backup).await.map_err(BackupError::Write)?;
        let inner = &self.inner;
        match inner.clear_measured(lease, inner.rules.archive, Some(version)).await {
            Ok(cleared) => Ok(Some(ClearedWithBackup { backup, place, cleared })),
            Err(error) if error.store_kind() == Some(&StoreErrorKind::Conflict) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
