//! Leases in a SQLite file, shared by the processes of one machine.
//!
//! [`SqliteLock`] creates missing tables in the file, and so does a store that opens it first.
//! `application_id` and `user_version` belong to the store. The crate `memory-sqlite-file` opens files and
//! has the table of leases.

mod error;
mod lock;
mod table;

pub use lock::SqliteLock;
pub use memory_sqlite_file::Links;
