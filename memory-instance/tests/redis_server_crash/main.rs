//! Kills processes with SIGKILL while they append to Redis and flush, and the servers they use
//! (`appendfsync always`). See `crash` for the checks.

#![cfg(all(unix, feature = "redis", feature = "sqlite"))]
#![allow(dead_code, reason = "each of the two binaries uses its part")]

#[path = "../crash/child.rs"]
mod child;
#[path = "../crash/ledger.rs"]
mod ledger;
#[path = "../crash/marks.rs"]
mod marks;
#[path = "../crash/parent.rs"]
mod parent;
mod redis;

/// Needed by children on SQLite.
#[cfg(test)]
mod sqlite {
    pub(crate) fn arm(url: &str, event: &str) {
        panic!("{url} has no triggers, such as {event}");
    }
}
