//! Failures of a write that was sent to the store.

use std::time::Duration;

use memory_core::store::{Applied, StoreError, StoreErrorKind};
use memory_core::{ErrorCode, MemoryKey};
use memory_lock::LockErrorKind;

use super::{LeaseError, MemoryError};

/// Why a write to the store failed, after all its attempts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The store refused the write or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lease on the memory could not be acquired.
    #[error(transparent)]
    Lock(Box<LeaseError>),
    /// A write within a turn that would have waited for the same turn to end.
    #[error("{}", own_turn_text(operation, key))]
    OwnTurn {
        /// The attempted operation.
        operation: &'static str,
        /// The memory.
        key: MemoryKey,
    },
    /// The store did not answer within the resource's `lock.failure_timeout`.
    #[error("{}", timed_out_text(operation, key, *waited))]
    TimedOut {
        /// The attempted operation.
        operation: &'static str,
        /// The memory.
        key: MemoryKey,
        /// How long the operation waited.
        waited: Duration,
    },
}

impl WriteError {
    /// Whether the write may have been applied.
    #[must_use]
    pub fn applied(&self) -> Applied {
        match self {
            Self::Store(error) => error.applied(),
            Self::Lock(failure) => failure.applied,
            Self::OwnTurn { .. } => Applied::No,
            Self::TimedOut { .. } => Applied::Unknown,
        }
    }

    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Store(error) => error.kind().code(),
            Self::Lock(failure) => failure.reason.kind().code(),
            Self::OwnTurn { .. } => ErrorCode::InvalidOperation,
            Self::TimedOut { .. } => ErrorCode::Timeout,
        }
    }

    /// Whether the write was refused because its lease is stale.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        matches!(self.store_kind(), Some(StoreErrorKind::Fenced { .. }))
    }

    /// Whether the server of the store or of the leases rejects the user or the password, or the user lacks
    /// permissions.
    #[must_use]
    pub fn is_authentication(&self) -> bool {
        match self {
            Self::Store(error) => matches!(error.kind(), StoreErrorKind::Authentication(_)),
            Self::Lock(failure) => *failure.reason.kind() == LockErrorKind::Authentication,
            Self::OwnTurn { .. } | Self::TimedOut { .. } => false,
        }
    }

    /// The kind of the store's error, if the store was the cause.
    #[must_use]
    pub fn store_kind(&self) -> Option<&StoreErrorKind> {
        match self {
            Self::Store(error) => Some(error.kind()),
            Self::Lock(_) | Self::OwnTurn { .. } | Self::TimedOut { .. } => None,
        }
    }

    /// Whether the same write may succeed when it is sent again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Lock(failure) => failure.reason.is_retryable(),
            Self::OwnTurn { .. } => false,
            Self::TimedOut { .. } => true,
        }
    }

    /// The same error, if an earlier attempt may have been applied and its answer was lost.
    pub(crate) fn possibly_applied(self) -> Self {
        match self {
            Self::Store(error) => Self::Store(error.possibly_applied()),
            Self::Lock(failure) => LeaseError { applied: Applied::Unknown, ..*failure }.into(),
            other @ (Self::OwnTurn { .. } | Self::TimedOut { .. }) => other,
        }
    }
}

impl From<LeaseError> for WriteError {
    fn from(failure: LeaseError) -> Self {
        Self::Lock(Box::new(failure))
    }
}

impl From<WriteError> for MemoryError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Store(error) => Self::Store(error),
            WriteError::Lock(failure) => Self::Lock(failure),
            WriteError::OwnTurn { operation, key } => Self::OwnTurn { operation, key },
            WriteError::TimedOut { operation, key, waited } => {
                Self::TimedOut { operation, key, waited }
            }
        }
    }
}

pub(super) fn own_turn_text(operation: &str, key: &MemoryKey) -> String {
    format!(
        "{operation} {key}: this is called within a turn on the same memory and would wait for its own end; go through the session of the turn, or call it when the turn has ended"
    )
}

pub(super) fn timed_out_text(operation: &str, key: &MemoryKey, waited: Duration) -> String {
    format!(
        "{operation} {key}: no definite answer within {waited:?}; the store may be down or overloaded, and the same write may be sent again"
    )
}
