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

mod config;
mod store;

mod commands;
mod reads;

mod readers;
mod watches;
mod writer;

mod codec;
mod error;
mod frame;
mod metadata;
mod open;
mod real_time;
mod schema;
mod scrub;
mod search;

#[cfg(test)]
mod auto_traits;

pub use config::{CommitThread, SqliteConfig};
/// Whether a file may have more than one name; see [`SqliteConfig::with_links`].
pub use memory_sqlite_file::Links;
pub use store::SqliteStore;
