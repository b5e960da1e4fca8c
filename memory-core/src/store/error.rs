//! What can go wrong at a store, in terms that a caller can act on.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::applied::Applied;
use crate::error_text::{cut_error_source, cut_error_text};
use crate::key::MemoryKey;
use crate::lease::FencingToken;

/// An operation of a store that failed.
///
/// The text names the operation, the key and the mend; the driver's own error is the
/// [`source`](Error::source). Message contents never appear.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    operation: &'static str,
    key: Option<MemoryKey>,
    applied: Applied,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// Another holds the lease on the memory.
    #[error("another agent holds the lease on this memory; wait for it in line")]
    Locked {
        /// How long the lease still runs, if known.
        remaining: Option<Duration>,
    },
    /// The lease of the writer is no longer the newest, or no longer live: somebody may have written
    /// since.
    #[error(
        "fenced off: the lease with token {token} is over (newest token {newest}); take a new lease and read again"
    )]
    Fenced {
        /// The writer's token.
        token: FencingToken,
        /// The newest token that the memory has seen.
        newest: FencingToken,
    },
    /// The record by which a retry of this write would be recognized was pruned, so that it may have been
    /// applied before: it is refused. Only writers that a process made for itself are forgotten, long
    /// after their first write; see [`WriterId`](crate::WriterId).
    #[error(
        "this write is too old to be sent again safely: it may have been applied already; read the memory, and append what is missing as a new batch"
    )]
    WriterForgotten {
        /// The newest time of origin of a writer that was forgotten, in milliseconds since 1970: a writer that
        /// was made later is accepted.
        newest_millis: u64,
    },
    /// The memory is no longer in the generation that the caller worked from, or a message that is to be replaced
    /// is no longer there.
    #[error("the memory was flushed, cleared or changed meanwhile; start from a fresh snapshot")]
    Conflict,
    /// The store did not answer in time, or its link broke.
    #[error("the store did not answer: {0}")]
    Unavailable(String),
    /// The store failed so often in a row that the call was refused without being sent.
    #[error(
        "the store is taken to be down after {failures} failures in a row, and this was not sent; try again in {retry_after:.1?}"
    )]
    CircuitOpen {
        /// How many failures in a row it takes.
        failures: u32,
        /// When the next call may be let through.
        retry_after: Duration,
    },
    /// There is no room left.
    #[error("no room left: {0}")]
    Full(String),
    /// The server does not accept the user or the password, or gives the user too few rights.
    #[error("not permitted: {0}")]
    Authentication(String),
    /// The store cannot be written.
    #[error("the store is read-only: {0}")]
    ReadOnly(String),
    /// What is stored is damaged, or not in our form.
    #[error("damaged or foreign data: {0}")]
    Corrupt(String),
    /// The store's file was removed, replaced or renamed while it was open. This handle neither reads
    /// nor writes any more; open the store again.
    #[error("the store was replaced while it was open: {0}")]
    Replaced(String),
    /// The store was written by a newer version of this software.
    #[error(
        "{place} was written by a newer version (schema {found}, this one knows {known}); upgrade this program"
    )]
    Newer {
        /// Which file or server.
        place: String,
        /// The version found.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The request itself is wrong.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// Anything else; a bug of ours or a state that nobody foresaw.
    #[error("{0}")]
    Other(String),
}

impl StoreErrorKind {
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
            | Self::CircuitOpen { .. } => self,
        }
    }
}

impl StoreError {
    /// An error of this operation that left everything as it was. A text over
    /// [`MAX_ERROR_TEXT`](crate::MAX_ERROR_TEXT) is cut.
    #[must_use]
    pub fn new(operation: &'static str, kind: StoreErrorKind) -> Self {
        let kind = kind.cut();
        Self { kind, operation, key: None, applied: Applied::No, source: None }
    }

    /// The same error, about this memory.
    #[must_use]
    pub fn at(mut self, key: &MemoryKey) -> Self {
        self.key = Some(key.clone());
        self
    }

    /// The same error, after which the write may be there.
    #[must_use]
    pub const fn possibly_applied(mut self) -> Self {
        self.applied = Applied::Unknown;
        self
    }

    /// The same error with what caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(cut_error_source(source));
        self
    }

    /// What went wrong.
    #[must_use]
    pub const fn kind(&self) -> &StoreErrorKind {
        &self.kind
    }

    /// What was being done.
    #[must_use]
    pub const fn operation(&self) -> &'static str {
        self.operation
    }

    /// To which memory.
    #[must_use]
    pub const fn key(&self) -> Option<&MemoryKey> {
        self.key.as_ref()
    }

    /// Whether the write may be there nevertheless.
    #[must_use]
    pub const fn applied(&self) -> Applied {
        self.applied
    }

    /// Whether the same request may succeed when it is sent again, without anybody's help: the store did
    /// not answer, or another holds the lease for now. That is not so while a [breaker is open](StoreErrorKind::CircuitOpen): it says itself when.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Unavailable(_) | StoreErrorKind::Locked { .. })
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.operation)?;
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
    fn an_error_tells_operation_memory_and_mend_and_keeps_the_source_apart() {
        let key = MemoryKey::new("p", "m", "k").unwrap();
        let error = StoreError::new("append to", StoreErrorKind::Conflict);
        let mend =
            "the memory was flushed, cleared or changed meanwhile; start from a fresh snapshot";
        assert_eq!(error.to_string(), format!("append to: {mend}"));
        assert_eq!((error.kind(), error.key()), (&StoreErrorKind::Conflict, None));
        assert_eq!((error.operation(), error.applied()), ("append to", Applied::No));
        assert!(error.source().is_none());

        let error = error.at(&key).possibly_applied().caused_by("disk on fire");
        assert_eq!(error.to_string(), format!("append to p:m:k: {mend}"));
        assert_eq!((error.key(), error.applied()), (Some(&key), Applied::Unknown));
        assert_eq!(error.source().unwrap().to_string(), "disk on fire");
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
            let error = StoreError::new("read from", kind).at(&key).caused_by(long.clone());
            assert!(error.to_string().len() < 4 << 10);
            assert!(error.source().unwrap().to_string().len() < 4 << 10);
        }
    }

    #[test]
    fn silence_and_leases_of_others_pass() {
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
            let error = StoreError::new("read from", kind.clone());
            assert_eq!(error.is_retryable(), retryable, "{kind:?}");
        }
    }
}
