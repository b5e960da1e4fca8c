//! Going back to an earlier state.

use std::collections::HashMap;

use memory_core::{Cursor, MemoryKey, SavedMemories, WriterId};

use super::Server;
use crate::bug::Bug;

/// What goes back: what a server keeps on its disk. Leases do not, which are no part of the store.
#[derive(Debug, Default)]
pub(super) struct Kept {
    memories: SavedMemories,
    writers: HashMap<(MemoryKey, WriterId), u64>,
}

impl Server {
    /// Keeps a copy of the state in the place of the one before.
    pub(crate) fn keep(&self) {
        let memories = self.store.saved();
        let mut state = self.state();
        let writers = state.writers.clone();
        state.kept = Kept { memories, writers };
    }

    /// Goes back to the copy that was kept last, or to the empty state.
    pub(crate) fn go_back(&self) {
        let mut state = self.state();
        state.writers = state.kept.writers.clone();
        self.store.go_back(&state.kept.memories);
    }

    /// The cursor as the store compares it: without the message's identity where that bug is planted.
    pub(super) fn compared(&self, cursor: Cursor, bug: Bug) -> Cursor {
        if self.has(bug) { Cursor { id: None, ..cursor } } else { cursor }
    }
}
