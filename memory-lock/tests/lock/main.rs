//! The tests of leases: those in [`on_redis`] need any server, those in [`on_redis_servers`] start separate servers.

mod cancel;
mod cancellation;
mod common;
#[cfg(feature = "conformance")]
mod conformance;
mod line;
mod model;
#[cfg(feature = "redis")]
mod on_redis;
#[cfg(feature = "redis")]
mod on_redis_servers;
mod programs;
mod refresh;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "conformance")]
mod third_party;
