//! Store errors, classified by what a caller can do about them.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::{RestoreRefusal, StoreOperation};
use crate::applied::Applied;
use crate::error_code::ErrorCode;
use crate::error_text::{cut_error_source, cut_error_text};
use crate::key::MemoryKey;
use crate::lease::FencingToken;
use crate::metadata::MetadataError;

/// An operation of a store that failed.
///
/// The text names the operation, the key and the remedy; the driver's own error is the [`source`](Error::source).
/// Message contents never appear.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    operation: StoreOperation,
    key: Option<MemoryKey>,
    applied: Applied,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The kind of a store error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// Another owner holds the lease on the memory.
    #[error("another agent holds the lease on this memory; wait for it in line")]
    Locked {
        /// The remaining time of that lease, if known.
        remaining: Option<Duration>,
    },
    /// The writer's lease is no longer the newest, or no longer live: another writer may have written since.
    #[error(
        "fenced off: the lease with token {token} is over (newest token {newest}); take a new lease and read again"
    )]
    Fenced {
        /// The writer's token.
        token: FencingToken,
        /// The newest token that the memory has seen.
        newest: FencingToken,
    },
    /// The record by which a retry of this write would be recognized was pruned. The write may have been applied
    /// before, so it is refused. Only session writers, which a process creates for itself, are forgotten, long after
    /// their first write; see [`WriterId`](crate::store::WriterId).
    #[error(
        "this write is too old to be sent again safely: it may have been applied already; read the memory, and append what is missing as a new batch"
    )]
    WriterForgotten {
        /// The newest creation time of a forgotten writer, in milliseconds since 1970: writers created later are
        /// accepted.
        newest_millis: u64,
    },
    /// The memory is no longer in the generation that the caller worked from, or a message to be replaced no longer
    /// exists.
    #[error("the memory was flushed, cleared or changed meanwhile; start from a fresh snapshot")]
    Conflict,
    /// An update of metadata exceeds a limit.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A removal cannot be undone.
    #[error("this removal cannot be undone: {0}")]
    NotRestorable(RestoreRefusal),
    /// The memory is a copy, such as a fork or a restored backup, that is not complete. It can be neither read nor
    /// written.
    #[error(
        "a copy, fork or restore of this memory is unfinished; run it again to complete it, or delete the memory; it is removed an hour after its last part"
    )]
    Unfinished,
    /// A copy would replace a memory.
    #[error("this key already has a memory; choose another key, or delete that memory first")]
    Exists,
    /// The store did not answer in time, or the connection broke.
    #[error("the store did not answer: {0}")]
    Unavailable(String),
    /// The circuit breaker is open: the store failed so often in a row that the call was refused without being sent.
    #[error(
        "circuit breaker open after {failures} failures in a row, so this was not sent; try again in {retry_after:.1?}"
    )]
    CircuitOpen {
        /// The number of consecutive failures that opens the circuit breaker.
        failures: u32,
        /// The time until the next call may be allowed.
        retry_after: Duration,
    },
    /// The storage is full.
    #[error("no room left: {0}")]
    Full(String),
    /// The server rejected the user or the password, or the user lacks a permission.
    #[error("not permitted: {0}")]
    Authentication(String),
    /// The store is read-only.
    #[error("the store is read-only: {0}")]
    ReadOnly(String),
    /// Stored data is damaged, or not in our format.
    #[error("damaged or foreign data: {0}")]
    Corrupt(String),
    /// The store's file was removed, replaced or renamed while it was open. This handle no longer reads or writes;
    /// open the store again.
    #[error("the store was replaced while it was open: {0}")]
    Replaced(String),
    /// The store was written by a newer version of this software.
    #[error(
        "{place} was written by a newer version (schema {found}, this one knows {known}); upgrade this program"
    )]
    Newer {
        /// The file or server.
        place: String,
        /// The version found.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The request is invalid.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// Any other error: a bug in this crate, or an unexpected state.
    #[error("{0}")]
    Other(String),
}

impl StoreErrorKind {
    /// Its stable code.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Locked { .. }
            | Self::Fenced { .. }
            | Self::WriterForgotten { .. }
            | Self::Conflict
            | Self::Unfinished
            | Self::Exists => ErrorCode::Conflict,
            Self::Unavailable(_) | Self::CircuitOpen { .. } | Self::Replaced(_) => {
                ErrorCode::Unavailable
            }
            Self::Full(_) => ErrorCode::QuotaExceeded,
            Self::Authentication(_) | Self::ReadOnly(_) => ErrorCode::Unauthorized,
            Self::Corrupt(_) => ErrorCode::Corrupt,
            Self::Newer { .. } => ErrorCode::ConfigError,
            Self::Metadata(error) => error.code(),
            Self::NotRestorable(_) | Self::Invalid(_) => ErrorCode::InvalidOperation,
            Self::Other(_) => ErrorCode::Internal,
        }
    }

    fn cut(self) -> Self {
        match self {
            Self::Unavailable(text) => Self::Unavailable(cut_error_text(text)),
            Self::Full(text) => Self::Full(cut_error_text(text)),
            Self::Authentication(text) => Self::Authentication(cut_error_text(text)),
            Self::ReadOnly(text) => Self::ReadOnly(cut_error_text(text)),
            Self::Corrupt(text) => Self::Corrupt(cut_error_text(text)),
            Self::Newer { place, found, known } => {
                Self::Newer { place: cut_error_text(place), found, known }
            }
            Self::Invalid(text) => Self::Invalid(cut_error_text(text)),
            Self::Replaced(text) => Self::Replaced(cut_error_text(text)),
            Self::Other(text) => Self::Other(cut_error_text(text)),
            Self::Locked { .. }
            | Self::Fenced { .. }
            | Self::WriterForgotten { .. }
            | Self::Conflict
            | Self::Unfinished
            | Self::Exists
            | Self::NotRestorable(_)
            | Self::Metadata(_)
            | Self::CircuitOpen { .. } => self,
        }
    }
}

impl StoreError {
    /// An error of this operation, with an unknown effect. A text over [`MAX_ERROR_TEXT`](crate::limits::MAX_ERROR_TEXT) is
    /// cut.
    #[must_use]
    pub fn new(operation: StoreOperation, kind: StoreErrorKind) -> Self {
        let kind = kind.cut();
        Self { kind, operation, key: None, applied: Applied::Unknown, source: None }
    }

    /// Adds the memory's key.
    #[must_use]
    pub fn at(mut self, key: &MemoryKey) -> Self {
        self.key = Some(key.clone());
        self
    }

    /// Says that the operation had no effect, as for every error of a read.
    #[must_use]
    pub const fn not_applied(mut self) -> Self {
        self.applied = Applied::No;
        self
    }

    /// Marks the write as possibly applied.
    #[must_use]
    pub const fn possibly_applied(mut self) -> Self {
        self.applied = Applied::Unknown;
        self
    }

    /// Adds the source error.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(cut_error_source(source));
        self
    }

    /// The kind of the error.
    #[must_use]
    pub const fn kind(&self) -> &StoreErrorKind {
        &self.kind
    }

    /// The operation that failed.
    #[must_use]
    pub const fn operation(&self) -> StoreOperation {
        self.operation
    }

    /// The key of the memory.
    #[must_use]
    pub const fn key(&self) -> Option<&MemoryKey> {
        self.key.as_ref()
    }

    /// Whether the write may have been applied.
    #[must_use]
    pub const fn applied(&self) -> Applied {
        self.applied
    }

    /// Whether the same request may succeed when it is sent again unchanged: the store did not answer, or another
    /// owner holds the lease for now. `false` while a [circuit breaker is open](StoreErrorKind::CircuitOpen), which
    /// reports its own retry time.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Unavailable(_) | StoreErrorKind::Locked { .. })
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.operation.fmt(f)?;
        if let Some(key) = &self.key {
            write!(f, " {key}")?;
        }
        write!(f, ": {}", self.kind)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_names_operation_key_and_remedy() {
        let key = MemoryKey::new("p", "m", "k").unwrap();
        let error = StoreError::new(StoreOperation::Append, StoreErrorKind::Conflict);
        let remedy =
            "the memory was flushed, cleared or changed meanwhile; start from a fresh snapshot";
        assert_eq!(error.to_string(), format!("append to: {remedy}"));
        assert_eq!((error.kind(), error.key()), (&StoreErrorKind::Conflict, None));
        assert_eq!(
            (error.operation(), error.applied()),
            (StoreOperation::Append, Applied::Unknown)
        );
        assert!(error.source().is_none());

        let error = error.at(&key).not_applied().caused_by("disk on fire");
        assert_eq!(error.to_string(), format!("append to p:m:k: {remedy}"));
        assert_eq!((error.key(), error.applied()), (Some(&key), Applied::No));
        assert_eq!(error.source().unwrap().to_string(), "disk on fire");
        assert_eq!(error.possibly_applied().applied(), Applied::Unknown);
    }

    #[test]
    fn long_texts_are_cut() {
        let key = MemoryKey::new("p", "m", &"k".repeat(2_000)).unwrap();
        let long = "語".repeat(1 << 20);
        for kind in [
            StoreErrorKind::Unavailable(long.clone()),
            StoreErrorKind::Full(long.clone()),
            StoreErrorKind::Authentication(long.clone()),
            StoreErrorKind::ReadOnly(long.clone()),
            StoreErrorKind::Corrupt(long.clone()),
            StoreErrorKind::Newer { place: long.clone(), found: 2, known: 1 },
            StoreErrorKind::Invalid(long.clone()),
            StoreErrorKind::Other(long.clone()),
        ] {
            let error =
                StoreError::new(StoreOperation::Read, kind).at(&key).caused_by(long.clone());
            assert!(error.to_string().len() < 4 << 10);
            assert!(error.source().unwrap().to_string().len() < 4 << 10);
        }
    }

    #[test]
    fn unavailable_and_locked_are_retryable() {
        let text = || "x".to_owned();
        let (token, newest) = (FencingToken::new(1), FencingToken::new(2));
        for (kind, retryable) in [
            (StoreErrorKind::Unavailable(text()), true),
            (StoreErrorKind::Locked { remaining: None }, true),
            (StoreErrorKind::Fenced { token, newest }, false),
            (StoreErrorKind::WriterForgotten { newest_millis: 1 }, false),
            (StoreErrorKind::Conflict, false),
            (StoreErrorKind::CircuitOpen { failures: 5, retry_after: Duration::ZERO }, false),
            (StoreErrorKind::Full(text()), false),
            (StoreErrorKind::Authentication(text()), false),
            (StoreErrorKind::ReadOnly(text()), false),
            (StoreErrorKind::Corrupt(text()), false),
            (StoreErrorKind::Replaced(text()), false),
            (StoreErrorKind::Newer { place: text(), found: 2, known: 1 }, false),
            (StoreErrorKind::Invalid(text()), false),
            (StoreErrorKind::Other(text()), false),
        ] {
            let error = StoreError::new(StoreOperation::Read, kind.clone());
            assert_eq!(error.is_retryable(), retryable, "{kind:?}");
        }
    }
}
