//! A lease as a backend receives it, and as a backend describes it.

use std::time::Duration;

use memory_core::lease::{FencingToken, OwnerId};

use crate::key::LockKey;

/// A granted lease, as it is passed to a [`LockBackend`](crate::LockBackend) for a renewal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The guarded key.
    pub key: LockKey,
    /// The owner that holds it.
    pub owner: OwnerId,
    /// The token of its grant.
    pub token: FencingToken,
    /// The time for which it lasts from the moment the backend renews it.
    pub ttl: Duration,
}
