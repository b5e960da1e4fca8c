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

mod acknowledge;
mod config;
mod confirmation;
mod url;

mod connect;
mod info;
mod link;
mod masters;
mod push;
mod request;
mod server;
mod shared_connection;

mod keyspace;
mod lease_value;
mod reply;
mod script;

mod error;

#[cfg(test)]
mod auto_traits;

pub use acknowledge::Acknowledge;
pub use config::RedisConfig;
pub use error::{LinkError, LinkErrorKind};
pub use keyspace::Keyspace;
pub use lease_value::{LEASE_LUA, WRITE_LEASE_LUA};
pub use link::{RedisLink, WriteOutcome};
pub use push::PushListener;
pub use reply::{Reply, flag, number};
pub use script::{Script, Shown};
pub use server::{ServerRole, ServerStatus};
