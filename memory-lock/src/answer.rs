//! The answers of a backend. An answer is definite; an error is not.

use std::time::Duration;

use memory_core::lease::FencingToken;

/// The answer to [`LockBackend::try_acquire`](crate::LockBackend::try_acquire).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acquired {
    /// The lease is the asking owner's.
    Granted {
        /// The token of this grant, greater than all before it.
        token: FencingToken,
    },
    /// Another owner holds it.
    Held {
        /// How long that lease lasts unless it is refreshed, where this is known.
        remaining: Option<Duration>,
    },
}

/// The answer of [`LockBackend::renew`](crate::LockBackend::renew) for one lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Renewal {
    /// It lasts its full TTL again.
    Renewed,
    /// Another owner holds the key now.
    NotOwner,
    /// Nobody holds the key: the lease ran out, or was released.
    Vanished,
}

/// The answer to [`LockBackend::release`](crate::LockBackend::release).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Release {
    /// The lease was the asking owner's until this moment, and is free now.
    Released,
    /// The asking owner did not hold it; nothing was changed.
    NotOwner,
}

/// The answer to [`LockBackend::hand_over`](crate::LockBackend::hand_over).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandOver {
    /// The lease is the new owner's.
    HandedOver {
        /// The token of the new grant, greater than the old one.
        token: FencingToken,
    },
    /// The giving owner did not hold it; nothing was changed.
    NotOwner,
}
