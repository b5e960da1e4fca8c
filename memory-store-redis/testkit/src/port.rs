//! Ports that are free at the time of the check.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};

/// The range of the ports. It is below the ports that systems assign to outgoing connections (from 32768 on
/// Linux, from 49152 elsewhere), so that a killed server finds its port free when it is started again.
const FIRST: u16 = 10_000;
const COUNT: u16 = 10_000;

/// The port on which a Cluster's nodes communicate is this far above the clients' port.
pub(crate) const BUS: u16 = 10_000;

/// A port without a listener, and without one on the port 10,000 above it. Another process may take it first,
/// so the caller must be ready to ask again.
///
/// # Panics
///
/// If 1,000 ports in a row are taken.
#[must_use]
pub fn free_port() -> u16 {
    let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    std::iter::repeat_with(|| FIRST + u16::try_from(random() % u64::from(COUNT)).unwrap_or(0))
        .take(1_000)
        .find(|&port| is_free(port) && is_free(port + BUS))
        .expect("one of 1,000 ports should be free")
}

/// The standard library seeds each of its hashers at random; nothing here needs a better source.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
