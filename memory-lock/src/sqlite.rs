//! Leases in a SQLite file, for the processes of one machine, and what a store that keeps its data
//! in the same file needs to respect them.
//!
//! Whoever opens the file first, [`SqliteLock`] or a store, creates what is missing. This module
//! leaves `application_id` and `user_version` alone; they are the store's.

mod answer;
mod busy;
mod connection;
mod failure;
mod library;
mod lock;
mod observer;
mod table;
mod threads;

pub use answer::{PausedRuntime, answer};
pub use connection::{OpenOptions, Synchronous, open_connection, sqlite_domain};
pub use failure::{SqliteFailure, classify};
pub use lock::SqliteLock;
pub use observer::LeaseObserver;
pub use table::LeaseTable;
pub use threads::{NoThread, WorkerThreads};

pub use crate::lease::LeaseInfo as LiveLease;
