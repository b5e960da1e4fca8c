//! The tests of the store.

mod bad_files;
mod conformance;
mod erased_bytes;
mod fuzz_rows;
mod group_commit;
mod leases;
mod migration;
mod processes;
mod reopen;
mod search;
mod state_machine;
mod support;
mod watch;
