//! The errors of a server and of the link to it, by the action that a caller can take.

mod classify;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use memory_core::limits::MAX_ERROR_TEXT;
use memory_core::sibling::cut_error_text;
use memory_core::store::Applied;
use redis::{ErrorKind, RedisError as DriverError};

use crate::error::classify::classify;

/// The kind of a [`LinkError`], by the action that a caller can take.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkErrorKind {
    /// No server could be connected to.
    Unreachable,
    /// The link broke before an answer was decoded.
    Broken,
    /// There was no answer in time.
    NoAnswer(Duration),
    /// The server is loading, failing over, moving slots or running another script.
    Busy,
    /// The server does not accept the user or the password, or needs one and there is none.
    Authentication,
    /// The server does not permit this to the user.
    NotPermitted,
    /// The server refuses by its configuration.
    Refused,
    /// The server is a replica.
    ReadOnly,
    /// The server is at `maxmemory`.
    Full,
    /// The write was applied, but fewer replicas or disks have confirmed it than were requested.
    NotConfirmed {
        /// The number that was requested.
        wanted: u32,
        /// The number that confirmed.
        confirmed: u32,
    },
    /// A key of this software holds a foreign or damaged value.
    Corrupt,
    /// A newer version of this software wrote the value.
    Newer {
        /// The version of the stored form.
        found: u32,
    },
    /// The URL or a setting cannot be used.
    Config,
    /// Anything else.
    Other,
}

/// An operation on the server that failed: its kind, whether it may have been applied, and the driver's error as the
/// source.
#[derive(Debug, Clone)]
pub struct LinkError {
    kind: LinkErrorKind,
    applied: Applied,
    detail: String,
    source: Option<DriverError>,
}

impl LinkError {
    pub(crate) fn new(kind: LinkErrorKind, applied: Applied, detail: impl Into<String>) -> Self {
        Self { kind, applied, detail: cut_error_text(detail), source: None }
    }

    /// A setting that cannot be used.
    #[must_use]
    pub fn config(problem: impl Into<String>) -> Self {
        Self::new(LinkErrorKind::Config, Applied::No, problem)
    }

    pub(crate) fn no_answer(after: Duration) -> Self {
        let detail = format!(
            "no answer within {after:.1?}; check that the server is reachable and not overloaded"
        );
        Self::new(LinkErrorKind::NoAnswer(after), Applied::Unknown, detail)
    }

    /// An answer in a form that none of our scripts returns.
    #[must_use]
    pub fn odd_answer() -> Self {
        let detail = "the answer has an unknown form; check that this is a Redis or Valkey server";
        Self::new(LinkErrorKind::Other, Applied::Unknown, detail)
    }

    /// A key of this software holds a foreign or damaged value. The text names the key.
    #[must_use]
    pub fn corrupt(what: impl fmt::Display) -> Self {
        let detail = format!("{what}; use another prefix, or remove the key");
        Self::new(LinkErrorKind::Corrupt, Applied::No, detail)
    }

    /// A newer version of this software wrote the value.
    #[must_use]
    pub fn newer(found: u32) -> Self {
        let kind = LinkErrorKind::Newer { found };
        Self::new(kind, Applied::No, "written by a newer version; upgrade this program")
    }

    /// A failed connection: nothing was sent.
    pub(crate) fn connecting(place: &str, error: DriverError) -> Self {
        let mut error = Self::from(error);
        error.applied = Applied::No;
        let words = error.source.as_ref().and_then(DriverError::detail).unwrap_or_default();
        if words.contains("cluster support disabled") {
            return Self::config("the server is no Cluster; write redis://");
        }
        let of_driver = error.source.as_ref().map(DriverError::kind);
        let (kind, problem) = match (&error.kind, of_driver) {
            (LinkErrorKind::Broken, Some(ErrorKind::Parse)) => {
                (LinkErrorKind::Unreachable, "does not answer like Redis; check the address")
            }
            (LinkErrorKind::Broken | LinkErrorKind::NoAnswer(_), _) => (
                LinkErrorKind::Unreachable,
                "cannot be connected to; check the address, that it runs, and whether it expects TLS",
            ),
            (LinkErrorKind::Other, _) => (
                LinkErrorKind::Refused,
                "refuses the connection; see the source of this error, and check the URL",
            ),
            _ => return error,
        };
        error.kind = kind;
        error.detail = format!("{place} {problem}");
        error
    }

    /// The kind, by the action that a caller can take.
    #[must_use]
    pub const fn kind(&self) -> &LinkErrorKind {
        &self.kind
    }

    /// Whether the operation may have been applied nevertheless. Only a decoded error of the server and a
    /// connection that was never made are certain not to have been applied.
    #[must_use]
    pub const fn applied(&self) -> Applied {
        self.applied
    }

    /// Returns whether the same request may succeed when it is sent again.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            LinkErrorKind::Unreachable
                | LinkErrorKind::Broken
                | LinkErrorKind::NoAnswer(_)
                | LinkErrorKind::Busy
                | LinkErrorKind::NotConfirmed { .. }
        )
    }

    /// The problem and its remedy.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The driver's error, if the driver reported one.
    #[must_use]
    pub fn into_source(self) -> Option<DriverError> {
        self.source
    }

    pub(crate) fn set_source(&mut self, source: DriverError) {
        self.source = Some(cut(source));
    }

    pub(crate) fn set_kind(&mut self, kind: LinkErrorKind, detail: String) {
        self.kind = kind;
        self.detail = cut_error_text(detail);
    }

    /// Returns whether the text already names a key.
    pub(crate) fn names_a_key(&self) -> bool {
        !self.detail.starts_with("a key of ours")
    }

    pub(crate) const fn redis_error(&self) -> Option<&DriverError> {
        self.source.as_ref()
    }
}

impl From<DriverError> for LinkError {
    fn from(error: DriverError) -> Self {
        let (kind, applied, detail) = classify(&error);
        Self { kind, applied, detail: cut_error_text(detail), source: Some(cut(error)) }
    }
}

/// The same error with a text of at most [`MAX_ERROR_TEXT`], because a server may send a text of any
/// length.
fn cut(error: DriverError) -> DriverError {
    // The text is made of the detail, or quotes the answer that could not be parsed.
    if error.detail().map_or(0, str::len) <= MAX_ERROR_TEXT
        && error.to_string().len() <= MAX_ERROR_TEXT
    {
        return error;
    }
    let detail = cut_error_text(error.detail().unwrap_or_default());
    match error.kind() {
        ErrorKind::Extension => {
            let code = error.code().unwrap_or_default().chars().take(64).collect();
            redis::make_extension_error(code, Some(detail))
        }
        kind => DriverError::from((kind, "the server answered with a long text", detail)),
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl Error for LinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests;
