//! Kills processes with SIGKILL while they append to Redis and flush, and the servers they use
//! (`appendfsync always`). See `crash` for the checks.

#![cfg(all(unix, feature = "redis", feature = "sqlite"))]
#![allow(dead_code, reason = "each of the two binaries uses its part")]

#[cfg(test)]
#[path = "../crash/child.rs"]
mod child;
#[cfg(test)]
#[path = "../crash/ledger.rs"]
mod ledger;
#[cfg(test)]
#[path = "../crash/marks.rs"]
mod marks;
#[cfg(test)]
#[path = "../crash/parent.rs"]
mod parent;
#[cfg(test)]
mod redis;

/// Needed by children on SQLite.
#[cfg(test)]
mod sqlite {
    pub(crate) fn arm(url: &str, event: &str) {
        panic!("{url} has no triggers, such as {event}");
    }
}
