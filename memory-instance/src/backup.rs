//! Backups and copies of whole memories.

mod chunks;
mod clear;
mod encoder;
mod error;
mod format;
mod reader;
mod target;

use memory_core::MemoryKey;
use memory_core::store::{Counters, Cursor, Frame, FrameWriters, Version};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use self::chunks::{AT_ONCE, Extent, Stopped, StoreReader, id_of_copy};
use self::chunks::{Chunk, Chunks as _};
pub use self::clear::{BackupSink, BackupStream, ClearedWithBackup};
use self::encoder::Encoder;
pub use self::error::BackupError;
use self::format::{Header, version_for};
pub use self::reader::BackupReader;
pub(crate) use self::target::Done;
#[cfg(doc)]
use crate::error::MemoryError;
use crate::inner::{ATTEMPTS, Inner};
use crate::instance::MemoryInstance;
use crate::telemetry::operation;

/// The record of a backup or a copy. It is not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CopyReceipt {
    /// The key of the memory that was written, or backed up.
    pub key: MemoryKey,
    /// The counters of the copy.
    pub counters: Counters,
    /// The number of archived messages in the copy.
    pub archived: u64,
    /// The SHA-256 of a backup, without its last line, in hexadecimal digits; `None` for a copy in a store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Whether the same copy had been completed before, so that nothing was written.
    pub completed_before: bool,
}

/// The TTL of a restored memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RestoredTtl {
    /// It ends when the original's would have ended. If that time has passed, the backup is not restored. Default.
    #[default]
    Kept,
    /// It has none, until the next append gives it that of its resource.
    Dropped,
}

impl MemoryInstance {
    /// Writes the whole memory to a stream: messages with priorities, content types and ids; counters; receipts; the
    /// archive; records of erasures and of writers; the TTL.
    ///
    /// The memory is read in parts of one state; messages that are appended meanwhile are not part of it. Memory use
    /// does not depend on the size. The format is JSON lines with a SHA-256 of each part and of the whole,
    /// described in `docs/backup-format.md` of the repository. It has the texts in plain form.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use memory_instance::Message;
    /// use memory_instance::backup::{BackupReader, RestoredTtl};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// memory.append(Message::user("Where is my parcel?")).await?;
    /// let mut file = Vec::new();
    /// memory.backup(&mut file).await?;
    ///
    /// let restored = manager.memory("support", "restored")?;
    /// let backup = BackupReader::open(file.as_slice()).await?;
    /// restored.restore_backup(backup, RestoredTtl::Kept).await?;
    /// assert_eq!(restored.messages().await?, memory.messages().await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Contended`] if the memory was flushed or otherwise changed meanwhile: discard the output
    /// and begin again. [`BackupError::NoMemory`], [`BackupError::Unreadable`], [`BackupError::Drifted`],
    /// [`BackupError::Write`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves a part of the output, which is refused as cut off.
    pub async fn backup(
        &self,
        to: impl AsyncWrite + Unpin + Send,
    ) -> Result<CopyReceipt, BackupError> {
        let work = async {
            let done = self.inner.back_up(to).await;
            let (receipt, _) = done.map_err(|stopped| self.inner.stopped("back up", stopped))?;
            Ok(receipt)
        };
        operation!(&*self.inner, "backup", work).await
    }

    /// Restores a backup as this memory, which must not exist. The restored memory equals the original, and retries of
    /// earlier writes are recognized.
    ///
    /// Each part is verified before it is written. Until all is written, the memory can be neither read nor written
    /// ([`StoreErrorKind::Unfinished`](memory_core::store::StoreErrorKind::Unfinished)). If the restore is interrupted,
    /// run it again with the same backup: it continues where it was. The remains of one that is not continued end after
    /// [`COPY_LIFETIME`](memory_core::store::COPY_LIFETIME).
    ///
    /// # Errors
    /// [`StoreErrorKind::Exists`](memory_core::store::StoreErrorKind::Exists) if the key has a memory;
    /// [`BackupError::Damaged`] with the place; [`BackupError::Expired`]; [`BackupError::Read`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the memory restored, absent or unfinished. Restore the same backup again to complete it.
    pub async fn restore_backup<R: AsyncRead + Unpin + Send>(
        &self,
        mut backup: BackupReader<R>,
        ttl: RestoredTtl,
    ) -> Result<CopyReceipt, BackupError> {
        let work = async {
            self.writable("restore")?;
            backup.set_ttl(ttl, self.inner.backend.now())?;
            let (id, frame) = (backup.id(), backup.frame().clone());
            let done = self.inner.receive(id, backup).await;
            let done = done.map_err(|stopped| self.inner.stopped("restore", stopped))?;
            Ok(self.receipt(done, &frame))
        };
        operation!(&*self.inner, "restore_backup", work).await
    }

    /// Copies the whole memory to another one, which must not exist and may be in another store.
    ///
    /// As [`backup`](Self::backup) and [`restore_backup`](Self::restore_backup) in one. If the copy is interrupted, run it
    /// again. If the memory was not changed meanwhile, it continues where it was.
    ///
    /// # Errors
    /// As [`restore_backup`](Self::restore_backup). [`MemoryError::Contended`] if the memory was changed during each of
    /// eight attempts.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the other memory complete, absent or unfinished. Copy again to complete it.
    pub async fn copy_to(&self, other: &Self) -> Result<CopyReceipt, BackupError> {
        let work = async {
            other.writable("copy to")?;
            for _ in 0..ATTEMPTS {
                let reader = StoreReader::new(&self.inner, FrameWriters::Included).await?;
                let frame = reader.frame().clone();
                if !frame.is_written() {
                    return Err(BackupError::NoMemory(self.key().clone()));
                }
                if !frame.counters.is_conserved() {
                    return Err(BackupError::Drifted(self.key().clone()));
                }
                match other.inner.receive(reader.id_of_copy(None), reader).await {
                    Ok(done) => return Ok(other.receipt(done, &frame)),
                    Err(Stopped::Changed) => {}
                    Err(Stopped::Failed(error)) => return Err(error),
                }
            }
            Err(self.inner.contended("copy").into())
        };
        operation!(&*self.inner, "copy_to", work).await
    }

    fn receipt(&self, done: Done, frame: &Frame) -> CopyReceipt {
        let (key, sha256) = (self.key().clone(), None);
        let (archived, completed_before) = match done {
            Done::Copied { archived } => (archived, false),
            Done::Before => (0, true),
        };
        let counters = frame.counters.clone();
        CopyReceipt { key, counters, archived, sha256, completed_before }
    }
}

impl Inner {
    /// Writes a backup; returns the version of the memory that it has.
    async fn back_up(
        &self,
        to: impl AsyncWrite + Unpin + Send,
    ) -> Result<(CopyReceipt, Version), Stopped> {
        let mut reader = StoreReader::new(self, FrameWriters::Included).await?;
        let (key, frame) = (self.key.clone(), reader.frame().clone());
        if !frame.is_written() {
            return Err(BackupError::NoMemory(key).into());
        }
        if !frame.counters.is_conserved() {
            return Err(BackupError::Drifted(key).into());
        }
        let mut encoder = Encoder::new(to);
        let created_at = self.backend.now();
        let memory_backup = version_for(&frame);
        let header = Header { memory_backup, key: key.clone(), created_at };
        encoder.begin(&header, &frame).await?;
        let mut end = Cursor::from(frame.generation);
        while let Some(chunk) = reader.next().await? {
            if let Chunk::Messages(messages) = &chunk
                && let Some(newest) = messages.last()
            {
                end = Cursor::at(frame.generation, &newest.meta);
            }
            encoder.chunk(&chunk).await?;
        }
        let (summary, _) = encoder.finish().await?;
        let counters = frame.counters;
        let (archived, sha256) = (summary.archived, Some(summary.sha256));
        let receipt = CopyReceipt { key, counters, archived, sha256, completed_before: false };
        Ok((receipt, Version::at_end(end)))
    }

    /// The error of a copy that stopped.
    pub(crate) fn stopped(&self, operation: &'static str, stopped: Stopped) -> BackupError {
        match stopped {
            Stopped::Changed => self.contended(operation).into(),
            Stopped::Failed(error) => error,
        }
    }
}
