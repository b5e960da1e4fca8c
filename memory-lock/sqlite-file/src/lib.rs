#![doc = include_str!("../README.md")]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::print_stdout,
        clippy::print_stderr
    )
)]

mod connection;
mod file_identity;
mod file_path;
mod library;
mod stale_log;

mod folder;
mod pinned;

mod observer;
mod system_clock;
mod table;

mod answer;
mod busy;
mod threads;

mod error;

#[cfg(test)]
mod auto_traits;

pub use answer::{PausedRuntime, answer};
pub use busy::with_busy_timeout;
pub use connection::{
    DEFAULT_BUSY_TIMEOUT, OpenOptions, Synchronous, make_lease_table, open_connection,
    open_database, reconnect, sqlite_domain,
};
pub use error::{SqliteError, SqliteErrorKind, classify};
pub use file_identity::FileIdentity;
pub use file_path::{Links, PathRefused, literal_path};
pub use observer::{LeaseObserver, LeaseState};
pub use stale_log::refuse_by_neighbors;
pub use system_clock::SystemClock;
pub use table::{Grant, LeaseTable, Now, blob, int, token};
pub use threads::{NoThread, WorkerThreads};
