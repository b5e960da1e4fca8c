//! Leases in a SQLite file, for the processes of one machine.
//!
//! [`SqliteLock`] creates what is missing in the file, and so does a store that opens it first. `application_id` and
//! `user_version` are the store's. Opening files and the table of leases are the crate `memory-sqlite-file`.

mod error;
mod lock;
mod table;

pub use lock::SqliteLock;
pub use memory_sqlite_file::Links;
