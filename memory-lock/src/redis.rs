//! Leases in Redis or Valkey, for any number of machines, and what a store that keeps its data on
//! the same server needs to respect them.
//!
//! [`RedisLink`] is the connection that both share: one server, a Cluster, or a master behind
//! Sentinel. [`Keyspace`] says where things lie. [`RedisLock`] keeps the leases.

mod acknowledge;
mod config;
mod connect;
mod failure;
mod keyspace;
mod link;
mod lock;
mod reply;
mod script;
mod server;
mod trunk;
mod url;
mod wakes;

pub use acknowledge::Acknowledge;
pub use config::RedisConfig;
pub use failure::{RedisFailure, RedisFault};
pub use keyspace::Keyspace;
pub use link::{RedisLink, Written};
pub use lock::RedisLock;
#[cfg(feature = "redlock")]
pub(crate) use lock::{ACQUIRE, HAND_OVER, millis};
pub use reply::Reply;
#[cfg(feature = "redlock")]
pub(crate) use reply::number;
pub use script::{LEASE_LUA, Script, Shown};
pub use server::{Role, ServerStatus};
