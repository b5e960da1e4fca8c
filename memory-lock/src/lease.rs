//! A lease as it is named to a backend, and as a backend describes it.

use std::time::Duration;

use memory_core::{FencingToken, LeaseProof, OwnerId};

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

/// What a backend knows about a live lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseInfo {
    /// Who holds it.
    pub owner: OwnerId,
    /// The token of its grant.
    pub token: FencingToken,
    /// How long it lasts unless it is refreshed, by the backend's clock; its TTL at the most.
    pub remaining: Duration,
    /// How long ago it was granted, where the backend keeps that.
    pub held_for: Option<Duration>,
}

impl LeaseInfo {
    /// What the holder shows to a store.
    #[must_use]
    pub const fn proof(&self) -> LeaseProof {
        LeaseProof { owner: self.owner, token: self.token }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_lease_proves_its_grant() {
        let (owner, token) = (OwnerId::new(7), FencingToken::new(9));
        let info = LeaseInfo { owner, token, remaining: Duration::ZERO, held_for: None };
        assert_eq!(info.proof(), LeaseProof { owner, token });
    }
}
