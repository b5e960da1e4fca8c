use std::io;

use jiff::Timestamp;
use memory_core::store::{Applied, StoreErrorKind};
use memory_core::{ErrorCode, MemoryKey};

use super::format::FORMAT_VERSION;
use crate::error::MemoryError;

/// A backup that was not written, or not restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The memory could not be read or written.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The memory was never written.
    #[error("back up {0}: there is no such memory; check its key")]
    NoMemory(MemoryKey),
    /// A stored message cannot be decoded, so that no copy of the memory would be complete.
    #[error(
        "back up {key}: the message at place {place} cannot be decoded; evict it or clear the memory first"
    )]
    Unreadable {
        /// The memory.
        key: MemoryKey,
        /// The place.
        place: u64,
    },
    /// The counters of the memory do not match its messages, so that a restored copy would be refused.
    #[error(
        "back up {0}: its counters do not account for every message; export the messages instead, or clear the memory"
    )]
    Drifted(MemoryKey),
    /// The destination of the backup failed.
    #[error("write the backup: {0}; check the disk and begin again")]
    Write(#[source] io::Error),
    /// The source of the backup failed.
    #[error("read the backup: {0}; check the file and run it again to continue")]
    Read(#[source] io::Error),
    /// The input is not a backup.
    #[error("this is not a backup of a memory: {0}; make one with `memory backup`")]
    NotABackup(&'static str),
    /// The backup was written by a newer version of this software.
    #[error(
        "the backup was written by a newer version (format {found}, this one knows {FORMAT_VERSION}); upgrade this program"
    )]
    Newer {
        /// The version of the format.
        found: u32,
    },
    /// The backup is damaged or cut off. The memory, if its restore had begun, cannot be opened.
    #[error(
        "the backup is damaged at line {line} (byte {byte}): {problem}; use another copy of the file"
    )]
    Damaged {
        /// The line, from 1.
        line: u64,
        /// The byte at which that line begins, from 0.
        byte: u64,
        /// The problem, without text of messages.
        problem: String,
    },
    /// The TTL of the memory ended before it was restored.
    #[error("the memory's TTL ended at {0}; restore it without a TTL, or keep it deleted")]
    Expired(Timestamp),
}

impl BackupError {
    /// Its stable code, as [`MemoryError::code`].
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Memory(error) => error.code(),
            Self::NoMemory(_) => ErrorCode::NotFound,
            Self::Unreadable { .. } | Self::Drifted(_) | Self::Damaged { .. } => ErrorCode::Corrupt,
            Self::Write(_) | Self::Read(_) => ErrorCode::Unavailable,
            Self::NotABackup(_) | Self::Newer { .. } | Self::Expired(_) => {
                ErrorCode::InvalidOperation
            }
        }
    }

    /// The kind of the store's error, if it is one.
    #[must_use]
    pub fn store_kind(&self) -> Option<&StoreErrorKind> {
        match self {
            Self::Memory(error) => error.store_kind(),
            _ => None,
        }
    }

    /// Whether the memory may have been restored.
    #[must_use]
    pub fn applied(&self) -> Applied {
        match self {
            Self::Memory(error) => error.applied(),
            _ => Applied::No,
        }
    }
}
