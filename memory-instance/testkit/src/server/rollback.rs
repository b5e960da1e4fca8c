//! Rollbacks of the simulated server.

use std::collections::HashMap;

use memory_core::MemoryKey;
use memory_core::store::{Cursor, SavedMemories, WriterId};

use super::Server;
use crate::bug::Bug;

/// The state that rolls back: the data on a server's disk. Leases are not part of the store and do not roll back.
#[derive(Debug, Default)]
pub(super) struct Kept {
    memories: SavedMemories,
    writers: HashMap<(MemoryKey, WriterId), u64>,
}

impl Server {
    /// Saves a copy of the state, and replaces the previous copy.
    pub(crate) fn keep(&self) {
        let memories = self.store.saved();
        let mut state = self.state();
        let writers = state.writers.clone();
        state.kept = Kept { memories, writers };
    }

    /// Rolls back to the last saved copy, or to the empty state.
    pub(crate) fn go_back(&self) {
        let mut state = self.state();
        state.writers = state.kept.writers.clone();
        self.store.go_back(&state.kept.memories);
    }

    /// The cursor as the store compares it: without the message's identity if that bug is planted.
    pub(super) fn compared(&self, cursor: Cursor, bug: Bug) -> Cursor {
        if self.has(bug) { Cursor { id: None, ..cursor } } else { cursor }
    }
}
