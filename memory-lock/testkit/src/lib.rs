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
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]
#![expect(clippy::future_not_send, reason = "a sweep and its cases run on one thread")]

mod leases;
mod sweep;

pub use leases::LeaseSweep;
pub use sweep::{
    Cut, Moment, Points, Table, open_files, sweep, sweep_whole, tasks, until, until_tasks,
};
