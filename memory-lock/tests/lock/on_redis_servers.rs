//! Leases on servers that a test starts, stops and kills.

#[cfg(feature = "redlock")]
mod cancellation;
mod contention;
#[cfg(all(feature = "redlock", feature = "conformance"))]
mod redlock;
