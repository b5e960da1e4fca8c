//! The meaning of each error of the driver, as tables.

use std::time::Duration;

use memory_core::store::Applied;
use redis::{ErrorKind, RedisError as DriverError};

use crate::error::LinkErrorKind;

const READ_ONLY: &str = "the server is a replica; connect to the master, or by redis+sentinel://";
const NOT_PERMITTED: &str =
    "the server's access rules do not permit this; give the user the commands and keys";
const MOVING: &str = "the server is loading, failing over or moving slots; try again";
const AUTHENTICATION: &str =
    "the server does not accept the user or password; check those of the URL";
const FULL: &str = "the server is at `maxmemory`; raise it, or flush and clear memories";
const FOREIGN_TYPE: &str =
    "a key of ours holds a foreign type; use another prefix, or remove the key";
const LONG_SCRIPT: &str = "the server is running a long script; try again";
const FEW_REPLICAS: &str =
    "the server has fewer good replicas than `min-replicas-to-write`; try again";
const NO_DISK: &str = "the server cannot save to its disk and takes no writes; fix its disk";
const SLOTS: &str =
    "the keys of one request are in several slots of the Cluster; report this as a bug";
const URL: &str = "the URL cannot be used; see the source of this error";
const NO_MASTER: &str =
    "no Sentinel that answers knows a master of this name; check `master=` of the URL";
const NO_NODE: &str =
    "no node of the Cluster is reachable for this slot; check that a master serves it";
const TOO_OLD: &str = "the server is too old; Redis 6.2 or Valkey is needed";
const NO_ANSWER: &str = "no answer in time";
const BROKEN: &str = "the link broke before the answer came; the same request may be sent again";
const ANY_OTHER: &str = "the server answered with an error; see the source of this error";

/// Errors of the server, by their code. The server did not apply the request.
const BY_CODE: [(&str, LinkErrorKind, &str); 16] = [
    ("READONLY", LinkErrorKind::ReadOnly, READ_ONLY),
    ("NOPERM", LinkErrorKind::NotPermitted, NOT_PERMITTED),
    ("LOADING", LinkErrorKind::Busy, MOVING),
    ("TRYAGAIN", LinkErrorKind::Busy, MOVING),
    ("CLUSTERDOWN", LinkErrorKind::Busy, MOVING),
    ("MASTERDOWN", LinkErrorKind::Busy, MOVING),
    ("MOVED", LinkErrorKind::Busy, MOVING),
    ("ASK", LinkErrorKind::Busy, MOVING),
    ("OOM", LinkErrorKind::Full, FULL),
    ("WRONGTYPE", LinkErrorKind::Corrupt, FOREIGN_TYPE),
    ("NOAUTH", LinkErrorKind::Authentication, AUTHENTICATION),
    ("WRONGPASS", LinkErrorKind::Authentication, AUTHENTICATION),
    ("BUSY", LinkErrorKind::Busy, LONG_SCRIPT),
    ("NOREPLICAS", LinkErrorKind::Busy, FEW_REPLICAS),
    ("MISCONF", LinkErrorKind::Refused, NO_DISK),
    ("CROSSSLOT", LinkErrorKind::Other, SLOTS),
];

/// Errors of the server with any other code, by words of their text: Redis 6.2 wraps the error that a
/// script met. The first row that matches counts.
const BY_WORDS: [(&str, LinkErrorKind, &str); 7] = [
    ("WRONGTYPE", LinkErrorKind::Corrupt, FOREIGN_TYPE),
    ("READONLY", LinkErrorKind::ReadOnly, READ_ONLY),
    ("NOREPLICAS", LinkErrorKind::Busy, FEW_REPLICAS),
    ("MISCONF", LinkErrorKind::Refused, NO_DISK),
    ("ACL failure in script", LinkErrorKind::NotPermitted, NOT_PERMITTED),
    ("NOPERM", LinkErrorKind::NotPermitted, NOT_PERMITTED),
    ("OOM command not allowed", LinkErrorKind::Full, FULL),
];

/// Errors that the driver detected.
const BY_KIND: [(ErrorKind, LinkErrorKind, Applied, &str); 6] = [
    (ErrorKind::AuthenticationFailed, LinkErrorKind::Authentication, Applied::No, AUTHENTICATION),
    (ErrorKind::InvalidClientConfig, LinkErrorKind::Config, Applied::No, URL),
    (ErrorKind::EmptySentinelList, LinkErrorKind::Config, Applied::No, URL),
    (ErrorKind::MasterNameNotFoundBySentinel, LinkErrorKind::Unreachable, Applied::No, NO_MASTER),
    // The driver also returns this for requests that were sent, when it cannot look up the slots.
    (ErrorKind::ClusterConnectionNotFound, LinkErrorKind::Unreachable, Applied::Unknown, NO_NODE),
    (ErrorKind::RESP3NotSupported, LinkErrorKind::Config, Applied::No, TOO_OLD),
];

/// The kind of an error of the driver, whether the request may have been applied, and the text.
///
/// By allow list: only a decoded error of the server is certain not to have been applied. A partial answer,
/// for instance, appears as a parse error although the command was applied.
pub(super) fn classify(error: &DriverError) -> (LinkErrorKind, Applied, String) {
    if let ErrorKind::Server(_) | ErrorKind::Extension = error.kind() {
        let (kind, text) = of_server(error);
        return (kind, Applied::No, text);
    }
    if let Some((_, kind, applied, text)) = BY_KIND.iter().find(|row| row.0 == error.kind()) {
        return (kind.clone(), *applied, (*text).to_owned());
    }
    if error.is_timeout() {
        return (LinkErrorKind::NoAnswer(Duration::ZERO), Applied::Unknown, NO_ANSWER.to_owned());
    }
    (LinkErrorKind::Broken, Applied::Unknown, BROKEN.to_owned())
}

fn of_server(error: &DriverError) -> (LinkErrorKind, String) {
    let code = error.code().unwrap_or_default();
    let words = error.detail().unwrap_or_default();
    let by_code = BY_CODE.iter().find(|row| row.0 == code);
    let row = by_code.or_else(|| BY_WORDS.iter().find(|row| words.contains(row.0)));
    if let Some((_, kind, text)) = row {
        return (kind.clone(), (*text).to_owned());
    }
    // Errors that our scripts raise.
    match words.split_once("CORRUPT ").or_else(|| words.split_once("NEWER ")) {
        Some((_, rest)) if words.contains("NEWER ") => {
            let found = rest.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default();
            (
                LinkErrorKind::Newer { found },
                "written by a newer version; upgrade this program".to_owned(),
            )
        }
        Some((_, rest)) => {
            // Redis appends the place in the script to the message.
            let what = rest.split_once(" script: ").map_or(rest, |(what, _)| what);
            let what = what.trim_end_matches(|c: char| c == ',' || c.is_whitespace());
            (LinkErrorKind::Corrupt, format!("{what}; use another prefix, or remove the key"))
        }
        None => (LinkErrorKind::Other, ANY_OTHER.to_owned()),
    }
}
