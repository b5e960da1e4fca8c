//! The permission of a write.

use serde::{Deserialize, Serialize};

use crate::lease::LeaseProof;

/// The permission with which a write is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Access {
    /// The writer's lease on the memory, if it holds one.
    pub lease: Option<LeaseProof>,
}

impl Access {
    /// Without a lease: valid only while no other owner holds one.
    pub const OPEN: Self = Self { lease: None };

    /// Under a lease on the memory.
    #[must_use]
    pub const fn with_lease(lease: LeaseProof) -> Self {
        Self { lease: Some(lease) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::{FencingToken, OwnerId};

    #[test]
    fn access_is_open_or_leased() {
        let lease = LeaseProof { owner: OwnerId::new(1), token: FencingToken::new(2) };
        assert_eq!(Access::with_lease(lease), Access { lease: Some(lease) });
        assert_eq!(Access::OPEN, Access::default());
    }
}
