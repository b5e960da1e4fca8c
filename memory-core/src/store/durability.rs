//! The durability of acknowledged writes.

use serde::{Deserialize, Serialize};

/// The failures that an acknowledged write survives; each level includes the levels before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Durability {
    /// The end of the task that wrote it.
    Memory,
    /// A crash or `kill -9` of this process.
    Process,
    /// A loss of power: the write has been synced to the disk.
    Disk,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_levels_are_ordered() {
        assert!(Durability::Memory < Durability::Process && Durability::Process < Durability::Disk);
    }
}
