#![doc = include_str!("../README.md")]
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
