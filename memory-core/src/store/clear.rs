//! The request to clear a memory.

use serde::{Deserialize, Serialize};

use super::generation::spread_of_write;
use super::{Retention, WriteId};

/// A request to clear a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clear {
    /// Recognizes a retry.
    pub write: WriteId,
    /// Keeps the removed messages in the archive; `None` keeps nothing, and removes the archive too. Earlier removals
    /// can then no longer be undone. A clear of a memory without messages archives nothing.
    #[serde(default)]
    pub archive: Option<Retention>,
}

impl Clear {
    /// A clear without an archive.
    #[must_use]
    pub const fn new(write: WriteId) -> Self {
        Self { write, archive: None }
    }

    /// The distance beyond the next generation, as used by [`Generation::after`](crate::store::Generation::after).
    #[must_use]
    pub fn spread(&self) -> u16 {
        spread_of_write(self.write)
    }
}
