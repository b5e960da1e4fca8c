//! Kills processes at random moments and at marked points while they append, flush and create the file. They are killed
//! with SIGKILL, or in the middle of a write by a limit on the length of files. On Redis the server is killed too.
//!
//! The children are processes of this test binary: [`child`] does nothing unless it has orders. A child reports each
//! acknowledgment. The parent kills it, opens the store again, and [`ledger`] checks that every message is accounted
//! for. `MEMORY_CRASH_SEED` repeats the random choices of a run, but not the moments at which the system switches
//! between processes.
//!
//! Data that the system has accepted survives a kill. So this shows atomicity and recovery, not that the disk keeps
//! data on a power failure.

#![cfg(all(unix, feature = "sqlite"))]

mod child;
mod copied;
mod ledger;
mod marks;
#[cfg(feature = "redis")]
mod on_redis_servers;
mod parent;
mod past;
mod single;
mod sqlite;
mod watched;
