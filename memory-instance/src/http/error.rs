//! The errors of a call to a model.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use memory_core::ErrorCode;

/// Why a model wrote no summary: the [source](Error::source) of the
/// [`SummarizeError`](crate::SummarizeError) of an [`HttpSummarizer`](super::HttpSummarizer).
///
/// No text of it quotes the key, the request or the answer.
#[derive(Debug)]
pub struct ModelError {
    kind: ModelErrorKind,
    status: Option<u16>,
    reason: Option<&'static str>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The kind of a [`ModelError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModelErrorKind {
    /// There was no whole answer within the timeout.
    Timeout,
    /// The connection could not be opened, or was lost.
    Connection,
    /// Too many requests or tokens: status 429.
    RateLimited,
    /// The provider is overloaded or has a fault: status 408, 425, 500 or above.
    Unavailable,
    /// The key is missing, wrong, or not allowed to use the model: status 401 or 403.
    Unauthorized,
    /// The request is refused: any other status of 400 or above, such as for an unknown model.
    Rejected,
    /// The answer is a redirection, which is not followed, or no answer of an API: any other status but 200.
    UnexpectedStatus,
    /// The answer has more bytes than are read.
    TooLarge,
    /// The answer is not in the form of the API.
    Malformed,
    /// The model reached its limit of output tokens, so the end of the summary is missing.
    CutShort,
    /// The model or a filter refused to write the summary.
    Refused,
    /// The answer has no text.
    Empty,
    /// The text is over the limit of the summary.
    TooLong,
}

impl ModelErrorKind {
    /// The kind of an answer with this status; `None` for 200.
    pub(super) const fn of_status(status: u16) -> Option<Self> {
        match status {
            200 => None,
            429 => Some(Self::RateLimited),
            408 | 425 | 500.. => Some(Self::Unavailable),
            401 | 403 => Some(Self::Unauthorized),
            400.. => Some(Self::Rejected),
            _ => Some(Self::UnexpectedStatus),
        }
    }

    /// The event, and the remedy.
    const fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::Timeout => ("the model did not answer in time", "raise the timeout"),
            Self::Connection => {
                ("the model cannot be reached", "check the base URL and the network")
            }
            Self::RateLimited => {
                ("the model refused too many requests", "ask less often, or raise the quota")
            }
            Self::Unavailable => ("the model is not available", "ask again later"),
            Self::Unauthorized => ("the model refused the API key", "check the key and its rights"),
            Self::Rejected => (
                "the model refused the request",
                "check the name of the model and the limits of tokens",
            ),
            Self::UnexpectedStatus => {
                ("the base URL did not answer as an API", "check the base URL")
            }
            Self::TooLarge => ("the answer of the model is too large", "check the base URL"),
            Self::Malformed => (
                "the answer of the model is not in the form of the API",
                "check the base URL and the API",
            ),
            Self::CutShort => {
                ("the answer of the model ended at its limit of tokens", "raise the output tokens")
            }
            Self::Refused => {
                ("the model refused to write a summary", "use another model or prompt")
            }
            Self::Empty => (
                "the answer of the model has no text",
                "use another model, or raise the output tokens",
            ),
            Self::TooLong => (
                "the summary of the model is over its limit",
                "raise `summary_tokens`, or ask for less in the prompt",
            ),
        }
    }
}

impl ModelError {
    /// The kind.
    #[must_use]
    pub const fn kind(&self) -> ModelErrorKind {
        self.kind
    }

    /// The stable code of the kind.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self.kind {
            ModelErrorKind::Timeout => ErrorCode::Timeout,
            ModelErrorKind::Connection
            | ModelErrorKind::RateLimited
            | ModelErrorKind::Unavailable => ErrorCode::Unavailable,
            ModelErrorKind::Unauthorized => ErrorCode::Unauthorized,
            ModelErrorKind::Rejected | ModelErrorKind::UnexpectedStatus => ErrorCode::ConfigError,
            ModelErrorKind::TooLarge | ModelErrorKind::TooLong => ErrorCode::SafetyLimitExceeded,
            ModelErrorKind::CutShort => ErrorCode::QuotaExceeded,
            ModelErrorKind::Malformed | ModelErrorKind::Refused | ModelErrorKind::Empty => {
                ErrorCode::Internal
            }
        }
    }

    /// Whether the same request may succeed later: after a timeout, a lost connection, a rate limit or a fault of the
    /// provider.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        self.code().may_be_retried()
    }

    /// The status of the answer, if there was one other than 200.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        self.status
    }

    /// How long to wait before the next request, if the provider said so in seconds.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    pub(super) fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(super) const fn with_status(mut self, status: u16, reason: Option<&'static str>) -> Self {
        self.status = Some(status);
        self.reason = reason;
        self
    }

    pub(super) const fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }
}

impl From<ModelErrorKind> for ModelError {
    fn from(kind: ModelErrorKind) -> Self {
        Self { kind, status: None, reason: None, retry_after: None, source: None }
    }
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, remedy) = self.kind.texts();
        f.write_str(what)?;
        match (self.status, self.reason) {
            (Some(status), Some(reason)) => write!(f, " (status {status}, {reason})")?,
            (Some(status), None) => write!(f, " (status {status})")?,
            _ => {}
        }
        write!(f, ": {remedy}")
    }
}

impl Error for ModelError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_decides_kind_code_and_retry() {
        use ErrorCode as Code;
        use ModelErrorKind as Kind;
        for (status, kind, code, retryable) in [
            (204, Kind::UnexpectedStatus, Code::ConfigError, false),
            (302, Kind::UnexpectedStatus, Code::ConfigError, false),
            (400, Kind::Rejected, Code::ConfigError, false),
            (401, Kind::Unauthorized, Code::Unauthorized, false),
            (403, Kind::Unauthorized, Code::Unauthorized, false),
            (404, Kind::Rejected, Code::ConfigError, false),
            (408, Kind::Unavailable, Code::Unavailable, true),
            (425, Kind::Unavailable, Code::Unavailable, true),
            (429, Kind::RateLimited, Code::Unavailable, true),
            (500, Kind::Unavailable, Code::Unavailable, true),
            (529, Kind::Unavailable, Code::Unavailable, true),
        ] {
            let error = ModelError::from(Kind::of_status(status).unwrap());
            assert_eq!((error.kind(), error.code()), (kind, code), "{status}");
            assert_eq!(error.is_retryable(), retryable, "{status}");
        }
        assert_eq!(Kind::of_status(200), None);
        assert!(ModelError::from(Kind::Timeout).is_retryable());
        assert!(ModelError::from(Kind::Connection).is_retryable());
        assert!(!ModelError::from(Kind::Malformed).is_retryable());
    }
}
