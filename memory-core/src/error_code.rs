//! Stable codes of errors.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The code of an error: a stable name for programs, dashboards and other languages, where the text is for people.
///
/// Only `unavailable`, `timeout` and `conflict` may be worth a retry; the error's `is_retryable` decides. New codes may be
/// added; a code never changes its meaning.
///
/// # Examples
///
/// ```
/// use memory_core::ErrorCode;
/// use memory_core::store::StoreErrorKind;
///
/// let code = StoreErrorKind::Conflict.code();
/// assert_eq!(code, ErrorCode::Conflict);
/// assert_eq!(code.as_str(), "conflict");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// A message or a window is larger than its budget, or the store is full.
    QuotaExceeded,
    /// There is no such resource, agent or open call.
    NotFound,
    /// Another write or another holder of the lease came first.
    Conflict,
    /// The handle or the store is read-only, or the server rejects the user.
    Unauthorized,
    /// The call cannot be carried out as it was made.
    InvalidOperation,
    /// A key or its template is not valid, or a variable is missing.
    TemplateError,
    /// There was no answer in time, or the wait in line took too long. The effect may be unknown.
    Timeout,
    /// More messages or bytes at once than a memory accepts.
    SafetyLimitExceeded,
    /// The store or the leases cannot be reached or are busy, or the manager is shut down.
    Unavailable,
    /// The store holds data that is damaged or foreign.
    Corrupt,
    /// The configuration cannot be used, or this build lacks what it needs.
    ConfigError,
    /// A fault of a driver, or of a component that the program supplied.
    Internal,
}

impl ErrorCode {
    /// All codes.
    pub const ALL: [Self; 12] = [
        Self::QuotaExceeded,
        Self::NotFound,
        Self::Conflict,
        Self::Unauthorized,
        Self::InvalidOperation,
        Self::TemplateError,
        Self::Timeout,
        Self::SafetyLimitExceeded,
        Self::Unavailable,
        Self::Corrupt,
        Self::ConfigError,
        Self::Internal,
    ];

    /// Its name, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QuotaExceeded => "quota_exceeded",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unauthorized => "unauthorized",
            Self::InvalidOperation => "invalid_operation",
            Self::TemplateError => "template_error",
            Self::Timeout => "timeout",
            Self::SafetyLimitExceeded => "safety_limit_exceeded",
            Self::Unavailable => "unavailable",
            Self::Corrupt => "corrupt",
            Self::ConfigError => "config_error",
            Self::Internal => "internal",
        }
    }

    /// Whether an error with this code can be worth a retry.
    #[must_use]
    pub const fn may_be_retried(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout | Self::Conflict)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_json() {
        for code in ErrorCode::ALL {
            let json = serde_json::to_value(code).unwrap();
            assert_eq!(json, code.as_str());
            assert_eq!(serde_json::from_value::<ErrorCode>(json).unwrap(), code);
        }
    }
}
