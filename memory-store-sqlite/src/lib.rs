#![doc = include_str!("../README.md")]

mod config;
mod store;

mod commands;
mod reads;

mod readers;
mod writer;

mod codec;
mod error;
mod open;
mod schema;

pub use config::SqliteConfig;
pub use store::SqliteStore;
