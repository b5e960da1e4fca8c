//! Ports that are free, as far as one can know.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};

/// Where the ports lie. Below what systems hand out to outgoing connections (from 32768 on Linux, from
/// 49152 elsewhere), so that a server that was killed finds its port free when it comes back.
const FIRST: u16 = 10_000;
const COUNT: u16 = 10_000;

/// The port on which a Cluster's nodes talk to each other lies this far above the clients' one.
pub(crate) const BUS: u16 = 10_000;

/// A port that nobody listens on, nor on the one 10,000 above it. Another process may take it before its
/// user does, who must be ready to ask again.
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
