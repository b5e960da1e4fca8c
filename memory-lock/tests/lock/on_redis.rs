//! Leases on any Redis server.

#[cfg(feature = "conformance")]
mod conformance;
mod model;
mod requests;
