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

mod append;
mod archive;
mod before;
mod changes;
mod clear;
mod commands;
mod copy;
mod fetch;
mod fork;
mod frame;
mod metadata;
mod names;
mod parts;
mod places;
mod reads;
mod replace_all;
mod scripts;
mod unused;
mod watch;
mod whole;

mod codec;
mod erase;
mod error;

#[cfg(test)]
mod auto_traits;

pub use config::{RedisStoreConfig, TokenChecks};
pub use memory_redis_link::{Acknowledge, RedisConfig, RedisLink};
pub use store::RedisStore;
