//! The request to clear a memory.

use serde::{Deserialize, Serialize};

use super::WriteId;
use super::generation::spread_of_write;

/// A request to clear a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clear {
    /// Recognizes a retry.
    pub write: WriteId,
}

impl Clear {
    /// The distance beyond the next generation, as used by [`Generation::after`](crate::store::Generation::after).
    #[must_use]
    pub fn spread(&self) -> u16 {
        spread_of_write(self.write)
    }
}
