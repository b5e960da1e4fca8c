//! Leases in a SQLite file, for the processes of one machine, and what a store that keeps its data
//! in the same file needs to respect them.
//!
//! Whoever opens the file first, [`SqliteLock`] or a store, creates what is missing. This module
//! leaves `application_id` and `user_version` alone; they are the store's.

mod answer;
mod busy;
mod connection;
mod failure;
mod file_identity;
mod file_path;
mod folder;
mod library;
mod lock;
mod observer;
mod pinned;
mod stale_log;
mod table;
mod threads;

pub use answer::{PausedRuntime, answer};
pub use busy::with_busy_timeout;
pub use connection::{
    OpenOptions, Synchronous, open_connection, open_database, reconnect, sqlite_domain,
};
pub use failure::{SqliteFailure, classify};
pub use file_identity::FileIdentity;
pub use file_path::{Links, PathRefused, literal_path};
pub use lock::SqliteLock;
pub use observer::LeaseObserver;
pub use stale_log::refuse_by_neighbors;
pub use table::LeaseTable;
pub use threads::{NoThread, WorkerThreads};

pub use crate::lease::LeaseInfo as LiveLease;
