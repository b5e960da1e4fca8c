//! Failures of the lease backend.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use memory_core::MemoryKey;
use memory_core::store::Applied;
use memory_lock::{LockError, LockErrorKind};

/// A lease that could not be acquired.
#[derive(Debug)]
#[non_exhaustive]
pub struct LeaseError {
    /// The memory.
    pub key: MemoryKey,
    /// The cause.
    pub reason: LockError,
    /// Whether the operation may have been applied by an earlier attempt.
    pub applied: Applied,
    /// The maximum duration of another holder's turn, if the operation waited for turns.
    pub max_turn: Option<Duration>,
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "take the lease on {}: {}", self.key, self.reason)?;
        match (self.reason.kind(), self.max_turn) {
            (LockErrorKind::WaitTimeout { .. }, Some(max_turn)) => {
                write!(f, "; a turn may last {max_turn:?} (`lock.max_turn`)")
            }
            _ => Ok(()),
        }
    }
}

/// The source is the driver's error, because the text already contains the reason's text.
impl Error for LeaseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason.source()
    }
}

/// A lease backend that could not be opened.
#[derive(Debug)]
#[non_exhaustive]
pub struct OpenLeasesError {
    /// The store's URL, without a password.
    pub url: String,
    /// The cause.
    pub reason: LockError,
}

impl fmt::Display for OpenLeasesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "open the leases of {}: {}", self.url, self.reason)
    }
}

impl Error for OpenLeasesError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason.source()
    }
}
