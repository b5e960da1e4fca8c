//! The answers of a backend. An answer is definite; an error is not.

use std::time::Duration;

use memory_core::lease::FencingToken;

/// The answer to [`LockBackend::try_acquire`](crate::LockBackend::try_acquire).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acquired {
    /// The asking owner holds the lease.
    Granted {
        /// The token of this grant, greater than all before it.
        token: FencingToken,
    },
    /// Another owner holds it.
    Held {
        /// The time for which that lease lasts unless it is refreshed, if known.
        remaining: Option<Duration>,
    },
}

/// The answer of [`LockBackend::renew`](crate::LockBackend::renew) for one lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Renewal {
    /// It lasts for its full TTL again.
    Renewed,
    /// Another owner holds the key now.
    NotOwner,
    /// No owner holds the key: the lease expired, or was released.
    Vanished,
}

/// The answer to [`LockBackend::release`](crate::LockBackend::release).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Release {
    /// The asking owner held the lease until this moment, and it is free now.
    Released,
    /// The asking owner did not hold it; nothing was changed.
    NotOwner,
}

/// The answer to [`LockBackend::hand_over`](crate::LockBackend::hand_over).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandOver {
    /// The new owner holds the lease.
    HandedOver {
        /// The token of the new grant, greater than the old one.
        token: FencingToken,
    },
    /// The giving owner did not hold it; nothing was changed.
    NotOwner,
}
