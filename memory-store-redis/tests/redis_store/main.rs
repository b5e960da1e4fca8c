//! The tests of the store: those in [`on_redis_servers`] start servers of their own, the others need any server.

mod conformance;
mod copies;
mod forks;
mod fuzz_fields;
mod on_redis_servers;
mod prefixed;
mod programs;
mod requests;
mod support;
