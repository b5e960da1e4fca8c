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
    reason = "a test without its server fails here, with the last observation"
)]

mod any;
mod cluster;
mod driver_errors;
mod port;
mod process;
mod proxy;
mod resp;
mod sentinels;
mod server;
mod wait;

pub use any::{AnyServer, any_server, unique_prefix};
pub use cluster::{Cluster, ClusterShape};
pub use driver_errors::assert_driver_errors;
pub use port::free_port;
pub use proxy::{Fault, Proxy};
pub use sentinels::Sentinels;
pub use server::Server;
