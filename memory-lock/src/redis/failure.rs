//! The errors of a server and of the link to it, sorted by what a caller can do about them.

use std::error::Error;
use std::fmt;
use std::time::Duration;

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
    /// The server refuses: authentication, rights, its configuration.
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
        Self { failure, applied, detail: detail.into(), source: None }
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
        self.source = Some(source);
    }

    pub(super) fn set_failure(&mut self, failure: RedisFailure, detail: String) {
        self.failure = failure;
        self.detail = detail;
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
        Self { failure, applied, detail, source: Some(error) }
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
                RedisFailure::Refused,
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
            RedisFailure::Refused,
            "the server refuses the user or password; check those of the URL",
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
        "NOAUTH" | "WRONGPASS" | "NOPERM" => known(
            RedisFailure::Refused,
            "the server refuses the user or password; check those of the URL".into(),
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
                RedisFailure::Refused,
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
mod tests {
    use super::*;

    /// One row for each error that is told apart.
    #[test]
    fn errors_are_classified_by_what_a_caller_can_do() {
        use Applied::{NotApplied, Unknown};
        let said = |line: &str| {
            let value = redis::parse_redis_value(line.as_bytes()).unwrap();
            let error = value.extract_error().unwrap_err();
            let fault = RedisFault::from(error);
            (fault.failure.clone(), fault.applied)
        };
        for (line, failure) in [
            ("-READONLY You can't write against a read only replica.\r\n", RedisFailure::ReadOnly),
            ("-NOPERM this user has no permissions\r\n", RedisFailure::Refused),
            ("-NOAUTH Authentication required.\r\n", RedisFailure::Refused),
            ("-WRONGPASS invalid\r\n", RedisFailure::Refused),
            ("-LOADING Redis is loading\r\n", RedisFailure::Busy),
            ("-TRYAGAIN Multiple keys\r\n", RedisFailure::Busy),
            ("-CLUSTERDOWN Hash slot not served\r\n", RedisFailure::Busy),
            ("-MASTERDOWN Link with MASTER is down\r\n", RedisFailure::Busy),
            ("-CROSSSLOT Keys in request don't hash to the same slot\r\n", RedisFailure::Other),
            ("-MOVED 3999 127.0.0.1:6381\r\n", RedisFailure::Busy),
            ("-ASK 3999 127.0.0.1:6381\r\n", RedisFailure::Busy),
            ("-BUSY Redis is busy running a script\r\n", RedisFailure::Busy),
            ("-NOREPLICAS Not enough good replicas\r\n", RedisFailure::Busy),
            ("-MISCONF Redis is configured to save\r\n", RedisFailure::Refused),
            ("-OOM command not allowed\r\n", RedisFailure::Full),
            ("-WRONGTYPE Operation against a key\r\n", RedisFailure::Corrupt),
            (
                "-ERR user_script:9: CORRUPT k is odd script: ab, on @x:1.\r\n",
                RedisFailure::Corrupt,
            ),
            ("-ERR user_script:9: NEWER 7 script: ab\r\n", RedisFailure::Newer { found: 7 }),
            (
                "-ERR Error running script (call to f_a): @user_script: 7: -READONLY You can't write\r\n",
                RedisFailure::ReadOnly,
            ),
            (
                "-ERR Error running script (call to f_a): @user_script: 7: -MISCONF Redis is configured\r\n",
                RedisFailure::Refused,
            ),
            (
                "-ERR Error running script (call to f_a): @user_script: 7: -NOREPLICAS Not enough\r\n",
                RedisFailure::Busy,
            ),
            (
                "-ERR Error running script (call to f_a): @user_script: 7: -OOM command not allowed\r\n",
                RedisFailure::Full,
            ),
            (
                "-ERR Error running script (call to f_a): @user_script: 7: -WRONGTYPE Operation\r\n",
                RedisFailure::Corrupt,
            ),
            (
                "-ERR Error running script (call to f_a): @user_script: 7: -NOPERM User x\r\n",
                RedisFailure::Refused,
            ),
            ("-ERR ACL failure in script: User x has no permissions\r\n", RedisFailure::Refused),
            ("-ERR anything else\r\n", RedisFailure::Other),
            ("-ODD anything else\r\n", RedisFailure::Other),
        ] {
            assert_eq!(said(line), (failure, NotApplied), "{line}");
        }
        let dropped = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let fault = RedisFault::from(RedisError::from(dropped));
        assert_eq!((fault.failure, fault.applied), (RedisFailure::Broken, Unknown));
        let half = redis::parse_redis_value(b"$12\r\nhalf").unwrap_err();
        assert_eq!(RedisFault::from(half).applied, Unknown, "half an answer proves nothing");
    }

    /// An error of the server in these words.
    fn said(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    #[test]
    fn refusals_that_are_mended_differently_say_so() {
        for (line, detail) in [
            (
                "NOPERM this user has no permissions",
                "the server's access rules do not permit this; give the user the commands and keys",
            ),
            ("NOAUTH x", "the server refuses the user or password; check those of the URL"),
            ("MISCONF x", "the server cannot save to its disk and takes no writes; mend its disk"),
            ("CROSSSLOT x", "keys of one request lie in several slots"),
            ("ERR x", "the server answered with an error"),
            ("BUSY x", "the server is running a long script; try again"),
            (
                "NOREPLICAS x",
                "the server has fewer good replicas than `min-replicas-to-write`; try again",
            ),
        ] {
            assert_eq!(RedisFault::from(said(line)).detail(), detail, "{line}");
        }
    }

    #[test]
    fn errors_of_the_driver_are_classified_too() {
        use Applied::{NotApplied, Unknown};
        let kind = |kind| RedisError::from((kind, "text"));
        let io = |kind| RedisError::from(std::io::Error::from(kind));
        for (error, failure, applied, detail) in [
            (
                kind(ErrorKind::AuthenticationFailed),
                RedisFailure::Refused,
                NotApplied,
                "the server refuses the user or password; check those of the URL",
            ),
            (
                kind(ErrorKind::InvalidClientConfig),
                RedisFailure::Config,
                NotApplied,
                "the URL cannot be used; see the source of this error",
            ),
            (
                kind(ErrorKind::EmptySentinelList),
                RedisFailure::Config,
                NotApplied,
                "the URL cannot be used; see the source of this error",
            ),
            (
                kind(ErrorKind::MasterNameNotFoundBySentinel),
                RedisFailure::Unreachable,
                NotApplied,
                "no Sentinel that answers knows a master of this name; check `master=` of the URL",
            ),
            (
                kind(ErrorKind::ClusterConnectionNotFound),
                RedisFailure::Unreachable,
                Unknown,
                "no node of the Cluster is reachable for this slot",
            ),
            (
                kind(ErrorKind::RESP3NotSupported),
                RedisFailure::Config,
                NotApplied,
                "the server is too old; Redis 6.2 or Valkey is needed",
            ),
            (
                io(std::io::ErrorKind::TimedOut),
                RedisFailure::NoAnswer(Duration::ZERO),
                Unknown,
                "no answer in time",
            ),
            (
                kind(ErrorKind::Client),
                RedisFailure::Broken,
                Unknown,
                "the link broke before the answer came; the same request may be sent again",
            ),
        ] {
            let fault = RedisFault::from(error);
            assert_eq!((fault.failure(), fault.applied()), (&failure, applied), "{detail}");
            assert_eq!((fault.detail(), fault.to_string().as_str()), (detail, detail));
            assert!(fault.redis_error().is_some() && fault.source().is_some());
            assert!(fault.into_source().is_some());
        }
    }

    #[test]
    fn a_connection_that_fails_has_sent_nothing() {
        let io = || RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        let late = || RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        let odd = || RedisError::from((ErrorKind::Parse, "text"));
        for (error, failure, detail) in [
            (
                io(),
                RedisFailure::Unreachable,
                "h:1 cannot be connected to; check the address, that it runs, and whether it expects \
                 TLS",
            ),
            (
                late(),
                RedisFailure::Unreachable,
                "h:1 cannot be connected to; check the address, that it runs, and whether it expects \
                 TLS",
            ),
            (odd(), RedisFailure::Unreachable, "h:1 does not answer like Redis; check the address"),
            (
                said("ERR unknown command 'HELLO'"),
                RedisFailure::Refused,
                "h:1 refuses the connection; see the source of this error, and check the URL",
            ),
            (
                said("WRONGPASS invalid"),
                RedisFailure::Refused,
                "the server refuses the user or password; check those of the URL",
            ),
            (
                said("ERR This instance has cluster support disabled"),
                RedisFailure::Config,
                "the server is no Cluster; write redis://",
            ),
        ] {
            let fault = RedisFault::connecting("h:1", error);
            assert_eq!((fault.failure(), fault.detail()), (&failure, detail));
            assert_eq!(fault.applied(), Applied::NotApplied, "{detail}");
        }
    }

    #[test]
    fn a_failure_becomes_a_lock_error_with_all_that_is_known() {
        let after = Duration::from_secs(2);
        for (failure, kind, retryable) in [
            (RedisFailure::Unreachable, LockErrorKind::Unavailable, true),
            (RedisFailure::Broken, LockErrorKind::Unavailable, true),
            (
                RedisFailure::NotConfirmed { wanted: 1, confirmed: 0 },
                LockErrorKind::Unavailable,
                true,
            ),
            (RedisFailure::NoAnswer(after), LockErrorKind::NoAnswer { after }, true),
            (RedisFailure::Busy, LockErrorKind::Busy, true),
            (RedisFailure::Refused, LockErrorKind::Refused, false),
            (RedisFailure::ReadOnly, LockErrorKind::Refused, false),
            (RedisFailure::Full, LockErrorKind::Refused, false),
            (RedisFailure::Corrupt, LockErrorKind::Corrupt, false),
            (RedisFailure::Newer { found: 7 }, LockErrorKind::Corrupt, false),
            (RedisFailure::Config, LockErrorKind::InvalidOptions, false),
            (RedisFailure::Other, LockErrorKind::Backend, false),
        ] {
            for applied in [Applied::NotApplied, Applied::Unknown] {
                let mut fault = RedisFault::new(failure.clone(), applied, "the text");
                assert_eq!(fault.is_retryable(), retryable, "{failure:?}");
                assert!(fault.source().is_none());
                fault.set_source(said("ERR x"));
                let error = fault.into_lock_error(LockOperation::Release);
                assert_eq!(error.kind(), &kind);
                assert_eq!(error.operation(), LockOperation::Release);
                assert_eq!((error.applied(), error.is_retryable()), (applied, retryable));
                assert!(error.to_string().ends_with(": the text"), "{error}");
                assert!(error.source().is_some());
            }
        }
    }

    #[test]
    fn what_we_find_out_ourselves_says_what_it_is() {
        use Applied::{NotApplied, Unknown};
        let after = Duration::from_millis(1_500);
        for (fault, failure, applied, detail) in [
            (
                RedisFault::no_answer(after),
                RedisFailure::NoAnswer(after),
                Unknown,
                "no answer within 1.5s; check that the server is reachable and not overloaded",
            ),
            (
                RedisFault::odd_answer(),
                RedisFailure::Other,
                Unknown,
                "the answer has an unknown form; check that this is a Redis or Valkey server",
            ),
            (
                RedisFault::corrupt("`k` is odd"),
                RedisFailure::Corrupt,
                NotApplied,
                "`k` is odd; use another prefix, or remove the key",
            ),
            (
                RedisFault::newer(7),
                RedisFailure::Newer { found: 7 },
                NotApplied,
                "written by a newer version",
            ),
            (RedisFault::config("bad"), RedisFailure::Config, NotApplied, "bad"),
        ] {
            assert_eq!((fault.failure(), fault.applied()), (&failure, applied));
            assert_eq!(fault.detail(), detail);
        }
    }

    #[test]
    fn a_foreign_type_is_told_without_its_key_until_the_key_is_added() {
        let mut fault = RedisFault::from(said("WRONGTYPE Operation against a key"));
        assert!(!fault.names_a_key());
        fault.set_failure(RedisFailure::Busy, "`k` is odd".into());
        assert!(fault.names_a_key());
        assert_eq!((fault.failure(), fault.detail()), (&RedisFailure::Busy, "`k` is odd"));
    }

    #[test]
    fn a_damaged_key_is_named() {
        let line = "-ERR user_script:9: CORRUPT p:{1}:lease:x does not hold a lease of ours script: \
                    ab, on @user_script:9.\r\n";
        let value = redis::parse_redis_value(line.as_bytes()).unwrap();
        let fault = RedisFault::from(value.extract_error().unwrap_err());
        assert_eq!(
            fault.to_string(),
            "p:{1}:lease:x does not hold a lease of ours; use another prefix, or remove the key"
        );
    }

    #[test]
    fn what_stands_around_the_message_of_a_script_is_not_told() {
        for line in ["ERR x: CORRUPT k is odd", "ERR x: CORRUPT k is odd, script: ab, on @x:1."] {
            let fault = RedisFault::from(said(line));
            assert_eq!(fault.detail(), "k is odd; use another prefix, or remove the key", "{line}");
        }
    }
}
