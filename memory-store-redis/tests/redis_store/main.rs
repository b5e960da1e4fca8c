//! The tests of the store: those in [`on_redis_servers`] start separate servers, the others use any server.

mod conformance;
mod copies;
mod forks;
mod fuzz_fields;
mod on_redis_servers;
mod prefixed;
mod programs;
mod requests;
mod support;
