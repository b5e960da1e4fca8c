//! What can go wrong at a store, in terms that a caller can act on.

use std::error::Error;
use std::fmt;
use std::time::Duration;

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
    /// The memory is no longer in the generation that the caller worked from.
    #[error("the memory was flushed or cleared meanwhile; start from a fresh snapshot")]
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
    /// The store cannot be written.
    #[error("the store is read-only: {0}")]
    ReadOnly(String),
    /// What is stored is damaged, or not in our form.
    #[error("damaged or foreign data: {0}")]
    Corrupt(String),
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

/// Whether a write that failed may be there nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It is not.
    No,
    /// It may be. Sending the same request again tells.
    Unknown,
}

impl StoreError {
    /// An error of this operation that left everything as it was.
    #[must_use]
    pub const fn new(operation: &'static str, kind: StoreErrorKind) -> Self {
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
        self.source = Some(source.into());
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
        let mend = "the memory was flushed or cleared meanwhile; start from a fresh snapshot";
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
    fn silence_and_leases_of_others_pass() {
        let text = || "x".to_owned();
        let (token, newest) = (FencingToken::new(1), FencingToken::new(2));
        for (kind, retryable) in [
            (StoreErrorKind::Unavailable(text()), true),
            (StoreErrorKind::Locked { remaining: None }, true),
            (StoreErrorKind::Fenced { token, newest }, false),
            (StoreErrorKind::Conflict, false),
            (StoreErrorKind::CircuitOpen { failures: 5, retry_after: Duration::ZERO }, false),
            (StoreErrorKind::Full(text()), false),
            (StoreErrorKind::ReadOnly(text()), false),
            (StoreErrorKind::Corrupt(text()), false),
            (StoreErrorKind::Newer { place: text(), found: 2, known: 1 }, false),
            (StoreErrorKind::Invalid(text()), false),
            (StoreErrorKind::Other(text()), false),
        ] {
            let error = StoreError::new("read from", kind.clone());
            assert_eq!(error.is_retryable(), retryable, "{kind:?}");
        }
    }
}
