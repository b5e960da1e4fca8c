//! Rollbacks of the simulated server.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use memory_core::store::{
    Cursor, Newest, Outline, RemoveUnused, SavedMemories, StoreError, StoreErrorKind, UnusedMemory,
    WriterId,
};
use memory_core::{MemoryKey, MemoryStore};

use super::{Server, now};
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
        if self.has(Bug::RollbackUnnoticed) {
            let all = now(self.store.keys(None, NonZeroUsize::MAX)).unwrap_or_default();
            for at in all {
                let head = now(self.store.head(&at)).unwrap_or_default();
                self.ended(Bug::RollbackUnnoticed, &at, head.generation);
            }
        }
        let archived = self.archived_hits();
        let mut state = self.state();
        state.writers = state.kept.writers.clone();
        self.store.go_back(&state.kept.memories);
        drop(state);
        // Those that the archive does not have now.
        let there = self.archived_hits();
        let lost = archived.into_iter().filter(|hit| !there.contains(hit));
        self.state().past.stale_hits.extend(lost);
    }

    /// Removes a memory as a sweep does after its TTL. It then reads as one that was never written; its fencing tokens
    /// and its generation are kept.
    pub(crate) fn expire(&self, key: &MemoryKey) -> Result<(), StoreError> {
        let at = self.place(key);
        let Outline { head, metas, .. } = match now(self.store.outline(&at)) {
            // There is no memory yet.
            Err(error) if error.kind() == &StoreErrorKind::Unfinished => return Ok(()),
            outline => outline?,
        };
        let mut memory = UnusedMemory::new(at.clone(), head.generation, head.version);
        let newest = metas.last().filter(|newest| newest.sequence == head.last);
        memory.newest = newest.map(|meta| Newest { sequence: meta.sequence, id: meta.id });
        now(self.store.remove(&at, RemoveUnused::new(&memory, NonZeroUsize::MAX)))?;
        self.state().writers.retain(|(of, _), _| *of != at);
        self.ended(Bug::TtlUnnoticed, &at, head.generation);
        Ok(())
    }

    /// The number of writes to a memory.
    pub(crate) fn version(&self, key: &MemoryKey) -> u64 {
        now(self.store.head(&self.place(key))).map_or(0, |head| head.version)
    }

    /// The cursor as the store compares it: without the message's identity if that bug is planted.
    pub(super) fn compared(&self, cursor: Cursor, bug: Bug) -> Cursor {
        if self.has(bug) { Cursor { id: None, ..cursor } } else { cursor }
    }
}
