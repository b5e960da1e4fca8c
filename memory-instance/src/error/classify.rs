//! Classification of errors: applied or not, retryable, by cause and by code.

use std::error::Error as _;

use memory_core::ErrorCode;
use memory_core::sibling::cut_error_text;
use memory_core::store::{Applied, StoreErrorKind};
use memory_lock::{LockErrorKind, LostReason};

use super::{AppendError, LeaseError, MemoryError};
use crate::prepared::PreparedAppend;

impl MemoryError {
    /// Whether the write may have been applied.
    #[must_use]
    pub fn applied(&self) -> Applied {
        match self {
            Self::Store(error) => error.applied(),
            Self::TimedOut { .. } | Self::LeaseLost { .. } | Self::Panicked { .. } => {
                Applied::Unknown
            }
            Self::ShutDown { applied, .. } => *applied,
            Self::Lock(failure) => failure.applied,
            Self::Append(failure) => failure.reason.applied(),
            // All of these are found before a request is sent, or a store has refused it.
            Self::TurnEnded { .. }
            | Self::OwnTurn { .. }
            | Self::OpenLeases(_)
            | Self::TooLarge { .. }
            | Self::Limit { .. }
            | Self::EmptyBatch { .. }
            | Self::Excluded { .. }
            | Self::Options { .. }
            | Self::Operation { .. }
            | Self::TooManyKeys { .. }
            | Self::ReadOnly { .. }
            | Self::Context { .. }
            | Self::NoOpenCall { .. }
            | Self::Plan { .. }
            | Self::Contended { .. }
            | Self::Resource(_)
            | Self::Template(_)
            | Self::Key(_)
            | Self::Message(_)
            | Self::UnknownResource { .. }
            | Self::UnknownAgent { .. }
            | Self::DuplicateResource { .. }
            | Self::DuplicateAgent { .. }
            | Self::NoKey { .. }
            | Self::UnknownStrategy { .. }
            | Self::ReservedStrategy { .. }
            | Self::NotDurable { .. }
            | Self::LeasesElsewhere { .. }
            | Self::NoTokenizer { .. }
            | Self::Url { .. } => Applied::No,
        }
    }

    /// Its stable code, such as `conflict`: for programs, dashboards and other languages.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Store(error) => error.kind().code(),
            Self::Lock(failure) => failure.reason.kind().code(),
            Self::OpenLeases(failure) => failure.reason.kind().code(),
            Self::Append(failure) => failure.reason.code(),
            Self::LeaseLost { .. } | Self::TurnEnded { .. } | Self::Contended { .. } => {
                ErrorCode::Conflict
            }
            Self::TimedOut { .. } => ErrorCode::Timeout,
            Self::ShutDown { .. } => ErrorCode::Unavailable,
            Self::TooLarge { .. } | Self::Context { .. } => ErrorCode::QuotaExceeded,
            Self::Limit { .. } | Self::TooManyKeys { .. } => ErrorCode::SafetyLimitExceeded,
            Self::ReadOnly { .. } => ErrorCode::Unauthorized,
            Self::OwnTurn { .. }
            | Self::EmptyBatch { .. }
            | Self::Excluded { .. }
            | Self::Options { .. }
            | Self::Operation { .. }
            | Self::Message(_) => ErrorCode::InvalidOperation,
            Self::NoOpenCall { .. } | Self::UnknownResource { .. } | Self::UnknownAgent { .. } => {
                ErrorCode::NotFound
            }
            Self::Template(_) | Self::Key(_) => ErrorCode::TemplateError,
            Self::Plan { .. } | Self::Panicked { .. } => ErrorCode::Internal,
            Self::Resource(_)
            | Self::DuplicateResource { .. }
            | Self::DuplicateAgent { .. }
            | Self::NoKey { .. }
            | Self::UnknownStrategy { .. }
            | Self::ReservedStrategy { .. }
            | Self::NotDurable { .. }
            | Self::LeasesElsewhere { .. }
            | Self::NoTokenizer { .. }
            | Self::Url { .. } => ErrorCode::ConfigError,
        }
    }

    /// The batch of a failed append. [`send`](crate::MemoryInstance::send) it again: it is never appended twice.
    #[must_use]
    pub fn into_prepared(self) -> Option<PreparedAppend> {
        match self {
            Self::Append(failure) => Some(failure.prepared),
            _ => None,
        }
    }

    /// Whether the operation was refused because its lease is stale.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        match self {
            Self::Store(error) => matches!(error.kind(), StoreErrorKind::Fenced { .. }),
            Self::Append(failure) => failure.reason.is_fenced(),
            Self::LeaseLost { .. } | Self::TurnEnded { .. } => true,
            _ => false,
        }
    }

    /// Whether the server of the store or of the leases rejects the user or the password, or the user lacks
    /// permissions.
    #[must_use]
    pub fn is_authentication(&self) -> bool {
        match self {
            Self::Store(error) => matches!(error.kind(), StoreErrorKind::Authentication(_)),
            Self::Lock(failure) => *failure.reason.kind() == LockErrorKind::Authentication,
            Self::Append(failure) => failure.reason.is_authentication(),
            _ => false,
        }
    }

    /// The kind of the store's error, if the store was the cause.
    #[must_use]
    pub fn store_kind(&self) -> Option<&StoreErrorKind> {
        match self {
            Self::Store(error) => Some(error.kind()),
            Self::Append(failure) => failure.reason.store_kind(),
            _ => None,
        }
    }

    /// Whether the same call may succeed when it is repeated unchanged. Repeat an append that is
    /// [`Unknown`](Applied::Unknown) with [`send`](crate::MemoryInstance::send).
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Lock(failure) => failure.reason.is_retryable(),
            Self::OpenLeases(failure) => failure.reason.is_retryable(),
            Self::Append(failure) => failure.reason.is_retryable(),
            Self::TimedOut { .. } | Self::Contended { .. } => true,
            _ => false,
        }
    }

    /// Whether a shutdown of the manager or of its leases ended the operation.
    pub(crate) fn is_shut_down(&self) -> bool {
        match self {
            Self::ShutDown { .. } => true,
            Self::LeaseLost { reason, .. } => *reason == LostReason::ShutDown,
            Self::Lock(failure) => matches!(failure.reason.kind(), LockErrorKind::ShutDown),
            _ => false,
        }
    }

    /// The same error, if an earlier attempt may have been applied and its answer was lost.
    pub(crate) fn possibly_applied(self) -> Self {
        match self {
            Self::Store(error) => Self::Store(error.possibly_applied()),
            Self::Lock(failure) => {
                Self::Lock(Box::new(LeaseError { applied: Applied::Unknown, ..*failure }))
            }
            Self::Append(failure) => {
                let AppendError { reason, prepared } = *failure;
                AppendError { reason: reason.possibly_applied(), prepared }.into()
            }
            other => other,
        }
    }

    /// The same error for a batch that its caller may have sent before. Only a forgotten writer leaves open
    /// whether such an earlier attempt was applied.
    pub(crate) fn with_earlier_sends(self) -> Self {
        match self.store_kind() {
            Some(StoreErrorKind::WriterForgotten { .. }) => self.possibly_applied(),
            _ => self,
        }
    }

    /// This error and its causes, including the driver's text, in one line for a log; at most 4 KiB.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        cut_error_text(text)
    }
}
