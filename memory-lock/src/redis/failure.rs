//! The errors of a server and of the link to it, sorted by what a caller can do about them.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use memory_core::{MAX_ERROR_TEXT, cut_error_text};
use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::{Applied, LockError, LockErrorKind, LockOperation};

/// What an error of the server or of the link to it means to a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedisFailure {
    /// Nobody could be connected to.
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
    /// The write is there, but fewer replicas or disks have confirmed it than were asked for.
    NotConfirmed {
        /// How many were asked for.
        wanted: u32,
        /// How many confirmed.
        confirmed: u32,
    },
    /// What lies under a key of ours is not ours, or is damaged.
    Corrupt,
    /// Something was written by a newer version of this software.
    Newer {
        /// The version of its form.
        found: u32,
    },
    /// The URL or a setting cannot be used.
    Config,
    /// Anything else.
    Other,
}

/// An operation on the server that failed.
#[derive(Debug, Clone)]
pub struct RedisFault {
    failure: RedisFailure,
    applied: Applied,
    detail: String,
    source: Option<RedisError>,
}

impl RedisFault {
    pub(super) fn new(failure: RedisFailure, applied: Applied, detail: impl Into<String>) -> Self {
        Self { failure, applied, detail: cut_error_text(detail), source: None }
    }

    /// A setting that cannot be used.
    pub(crate) fn config(problem: impl Into<String>) -> Self {
        Self::new(RedisFailure::Config, Applied::NotApplied, problem)
    }

    pub(super) fn no_answer(after: Duration) -> Self {
        let detail = format!(
            "no answer within {after:.1?}; check that the server is reachable and not overloaded"
        );
        Self::new(RedisFailure::NoAnswer(after), Applied::Unknown, detail)
    }

    /// An answer in a form that no script of ours gives.
    #[must_use]
    pub fn odd_answer() -> Self {
        let detail = "the answer has an unknown form; check that this is a Redis or Valkey server";
        Self::new(RedisFailure::Other, Applied::Unknown, detail)
    }

    /// What lies under a key of ours and is not ours, or is damaged; the text names the key.
    #[must_use]
    pub fn corrupt(what: impl fmt::Display) -> Self {
        let detail = format!("{what}; use another prefix, or remove the key");
        Self::new(RedisFailure::Corrupt, Applied::NotApplied, detail)
    }

    /// What a newer version of this software wrote.
    #[must_use]
    pub fn newer(found: u32) -> Self {
        let failure = RedisFailure::Newer { found };
        Self::new(failure, Applied::NotApplied, "written by a newer version")
    }

    /// What a failed connection means: nothing was sent.
    pub(super) fn connecting(place: &str, error: RedisError) -> Self {
        let mut fault = Self::from(error);
        fault.applied = Applied::NotApplied;
        let words = fault.source.as_ref().and_then(RedisError::detail).unwrap_or_default();
        if words.contains("cluster support disabled") {
            return Self::config("the server is no Cluster; write redis://");
        }
        let kind = fault.source.as_ref().map(RedisError::kind);
        let (failure, problem) = match (&fault.failure, kind) {
            (RedisFailure::Broken, Some(ErrorKind::Parse)) => {
                (RedisFailure::Unreachable, "does not answer like Redis; check the address")
            }
            (RedisFailure::Broken | RedisFailure::NoAnswer(_), _) => (
                RedisFailure::Unreachable,
                "cannot be connected to; check the address, that it runs, and whether it expects TLS",
            ),
            (RedisFailure::Other, _) => (
                RedisFailure::Refused,
                "refuses the connection; see the source of this error, and check the URL",
            ),
            _ => return fault,
        };
        fault.failure = failure;
        fault.detail = format!("{place} {problem}");
        fault
    }

    /// What it means to a caller.
    #[must_use]
    pub const fn failure(&self) -> &RedisFailure {
        &self.failure
    }

    /// Whether the operation may have taken effect all the same. Only a decoded error of the server
    /// and a connection that was never made are certain not to have.
    #[must_use]
    pub const fn applied(&self) -> Applied {
        self.applied
    }

    /// Whether the same request may succeed when it is sent again, without anybody's help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self.failure,
            RedisFailure::Unreachable
                | RedisFailure::Broken
                | RedisFailure::NoAnswer(_)
                | RedisFailure::Busy
                | RedisFailure::NotConfirmed { .. }
        )
    }

    /// What happened and what to do about it.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The driver's error, if it was the driver's.
    #[must_use]
    pub fn into_source(self) -> Option<RedisError> {
        self.source
    }

    pub(super) fn set_source(&mut self, source: RedisError) {
        self.source = Some(cut(source));
    }

    pub(super) fn set_failure(&mut self, failure: RedisFailure, detail: String) {
        self.failure = failure;
        self.detail = cut_error_text(detail);
    }

    /// Whether the text names a key already.
    pub(super) fn names_a_key(&self) -> bool {
        !self.detail.starts_with("a key of ours")
    }

    pub(super) const fn redis_error(&self) -> Option<&RedisError> {
        self.source.as_ref()
    }

    pub(crate) fn into_lock_error(self, operation: LockOperation) -> LockError {
        let kind = match self.failure {
            RedisFailure::Unreachable
            | RedisFailure::Broken
            | RedisFailure::NotConfirmed { .. } => LockErrorKind::Unavailable,
            RedisFailure::NoAnswer(after) => LockErrorKind::NoAnswer { after },
            RedisFailure::Busy => LockErrorKind::Busy,
            RedisFailure::Authentication | RedisFailure::NotPermitted => {
                LockErrorKind::Authentication
            }
            RedisFailure::Refused | RedisFailure::ReadOnly | RedisFailure::Full => {
                LockErrorKind::Refused
            }
            RedisFailure::Corrupt | RedisFailure::Newer { .. } => LockErrorKind::Corrupt,
            RedisFailure::Config => LockErrorKind::InvalidOptions,
            RedisFailure::Other => LockErrorKind::Backend,
        };
        let error = LockError::new(kind, operation).with_detail(self.detail).retryable(matches!(
            self.failure,
            RedisFailure::Unreachable
                | RedisFailure::Broken
                | RedisFailure::NoAnswer(_)
                | RedisFailure::Busy
                | RedisFailure::NotConfirmed { .. }
        ));
        let error = if self.applied == Applied::NotApplied { error.not_applied() } else { error };
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

impl From<RedisError> for RedisFault {
    fn from(error: RedisError) -> Self {
        let (failure, applied, detail) = classify(&error);
        Self { failure, applied, detail: cut_error_text(detail), source: Some(cut(error)) }
    }
}

/// The same error with a text that is not over [`MAX_ERROR_TEXT`]: a server may say what it likes.
fn cut(error: RedisError) -> RedisError {
    // The text is made of the detail, or quotes what could not be parsed.
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
        kind => RedisError::from((kind, "the server answered with a long text", detail)),
    }
}

impl fmt::Display for RedisFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl Error for RedisFault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as &(dyn Error + 'static))
    }
}

/// Says what an error of the `redis` crate means. By whitelist: only what the server itself said is
/// certain not to have been applied; half an answer, for instance, surfaces as a parse error although
/// the command was carried out.
fn classify(error: &RedisError) -> (RedisFailure, Applied, String) {
    use Applied::{NotApplied, Unknown};
    let known = |failure, detail: &str| (failure, NotApplied, detail.to_owned());
    match error.kind() {
        ErrorKind::Server(kind) => match kind {
            ServerErrorKind::ReadOnly => known(
                RedisFailure::ReadOnly,
                "the server is a replica; connect to the master, or by redis+sentinel://",
            ),
            ServerErrorKind::NoPerm => known(
                RedisFailure::NotPermitted,
                "the server's access rules do not permit this; give the user the commands and keys",
            ),
            ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask => known(
                RedisFailure::Busy,
                "the server is loading, failing over or moving slots; try again",
            ),
            _ => server_words(error),
        },
        ErrorKind::Extension => server_words(error),
        ErrorKind::AuthenticationFailed => known(
            RedisFailure::Authentication,
            "the server does not accept the user or password; check those of the URL",
        ),
        ErrorKind::InvalidClientConfig | ErrorKind::EmptySentinelList => {
            known(RedisFailure::Config, "the URL cannot be used; see the source of this error")
        }
        ErrorKind::MasterNameNotFoundBySentinel => known(
            RedisFailure::Unreachable,
            "no Sentinel that answers knows a master of this name; check `master=` of the URL",
        ),
        // The driver tells this of requests that were sent, too, when it cannot look up the slots.
        ErrorKind::ClusterConnectionNotFound => (
            RedisFailure::Unreachable,
            Unknown,
            "no node of the Cluster is reachable for this slot".into(),
        ),
        ErrorKind::RESP3NotSupported => {
            known(RedisFailure::Config, "the server is too old; Redis 6.2 or Valkey is needed")
        }
        _ if error.is_timeout() => {
            (RedisFailure::NoAnswer(Duration::ZERO), Unknown, "no answer in time".into())
        }
        _ => (
            RedisFailure::Broken,
            Unknown,
            "the link broke before the answer came; the same request may be sent again".into(),
        ),
    }
}

/// The errors that only their code or text tells apart.
fn server_words(error: &RedisError) -> (RedisFailure, Applied, String) {
    let words = error.detail().unwrap_or_default();
    let known = |failure, detail: String| (failure, Applied::NotApplied, detail);
    match error.code().unwrap_or_default() {
        "OOM" => known(
            RedisFailure::Full,
            "the server is at `maxmemory`; raise it, or flush and clear memories".into(),
        ),
        "WRONGTYPE" => known(
            RedisFailure::Corrupt,
            "a key of ours holds a foreign type; use another prefix, or remove the key".into(),
        ),
        "NOAUTH" | "WRONGPASS" => known(
            RedisFailure::Authentication,
            "the server does not accept the user or password; check those of the URL".into(),
        ),
        "BUSY" => {
            known(RedisFailure::Busy, "the server is running a long script; try again".into())
        }
        "NOREPLICAS" => known(
            RedisFailure::Busy,
            "the server has fewer good replicas than `min-replicas-to-write`; try again".into(),
        ),
        "MISCONF" => known(
            RedisFailure::Refused,
            "the server cannot save to its disk and takes no writes; mend its disk".into(),
        ),
        "CROSSSLOT" => {
            known(RedisFailure::Other, "keys of one request lie in several slots".into())
        }
        _ => match words.split_once("CORRUPT ").or_else(|| words.split_once("NEWER ")) {
            _ if words.contains("WRONGTYPE") => known(
                RedisFailure::Corrupt,
                "a key of ours holds a foreign type; use another prefix, or remove the key".into(),
            ),
            // Redis 6.2 wraps what a script ran into.
            _ if words.contains("READONLY") => known(
                RedisFailure::ReadOnly,
                "the server is a replica; connect to the master, or by redis+sentinel://".into(),
            ),
            _ if words.contains("NOREPLICAS") => known(
                RedisFailure::Busy,
                "the server has fewer good replicas than `min-replicas-to-write`; try again".into(),
            ),
            _ if words.contains("MISCONF") => known(
                RedisFailure::Refused,
                "the server cannot save to its disk and takes no writes; mend its disk".into(),
            ),
            _ if words.contains("ACL failure in script") || words.contains("NOPERM") => known(
                RedisFailure::NotPermitted,
                "the server's access rules do not permit this; give the user the commands and keys"
                    .into(),
            ),
            _ if words.contains("OOM command not allowed") => known(
                RedisFailure::Full,
                "the server is at `maxmemory`; raise it, or flush and clear memories".into(),
            ),
            Some((_, rest)) if words.contains("NEWER ") => {
                let found = rest.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default();
                known(RedisFailure::Newer { found }, "written by a newer version".into())
            }
            Some((_, rest)) => {
                // Redis puts the place in the script behind the message.
                let what = rest.split_once(" script: ").map_or(rest, |(what, _)| what);
                let what = what.trim_end_matches(|c: char| c == ',' || c.is_whitespace());
                let detail = format!("{what}; use another prefix, or remove the key");
                known(RedisFailure::Corrupt, detail)
            }
            None => known(RedisFailure::Other, "the server answered with an error".into()),
        },
    }
}

#[cfg(test)]
mod tests;
