//! Processes that are killed at random and at marked points, while they append and flush and while they
//! make the file; on SQLite. With SIGKILL, or in the middle of a write by a limit on the length of files. `redis_server_crash` does the same on Redis, whose server it
//! kills too.
//!
//! The children are this very test binary: [`child`] does nothing unless it is asked to. A child says
//! what was acknowledged; whoever killed it opens the store again, and [`ledger`] checks that every
//! message is accounted for. `MEMORY_CRASH_SEED` repeats the random choices of a run, though not the
//! moments at which the system switches between processes.
//!
//! A kill leaves what the system has taken: this shows atomicity and recovery, not that the disk
//! keeps its word.

#![cfg(all(unix, feature = "sqlite"))]
#![allow(dead_code, reason = "each binary of the two uses its part")]

#[cfg(test)]
mod child;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod marks;
#[cfg(test)]
mod parent;
#[cfg(test)]
mod sqlite;
