//! A lease as it is named to a backend, and as a backend describes it.

use std::time::Duration;

use memory_core::lease::{FencingToken, OwnerId};

use crate::key::LockKey;

/// A granted lease, as it is named to a [`LockBackend`](crate::LockBackend) that shall renew it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    /// What it guards.
    pub key: LockKey,
    /// Whose it is.
    pub owner: OwnerId,
    /// The token of its grant.
    pub token: FencingToken,
    /// How long it shall last from the moment the backend renews it.
    pub ttl: Duration,
}
