use memory_core::sibling::OwnBatch;
use memory_core::store::{Cursor, MAX_KNOWN_BATCHES};

/// The batches that this process appended after a view, in the order of their places and without overlap.
#[derive(Debug, Default)]
pub(super) struct OwnBatches {
    batches: Vec<OwnBatch>,
    bytes: usize,
}

impl OwnBatches {
    pub(super) fn as_slice(&self) -> &[OwnBatch] {
        &self.batches
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a batch. It replaces those at the same places, which were lost in a rollback, and the oldest one if there
    /// are too many.
    pub(super) fn add(&mut self, batch: OwnBatch) {
        let known = batch.known();
        self.retain(|other| other.known().last < known.first || other.known().first > known.last);
        let at = self.batches.partition_point(|other| other.known().first < known.first);
        self.bytes += batch.bytes();
        self.batches.insert(at, batch);
        if self.batches.len() > MAX_KNOWN_BATCHES {
            self.bytes -= self.batches.remove(0).bytes();
        }
    }

    /// Adds later batches.
    pub(super) fn merge(&mut self, later: Self) {
        for batch in later.batches {
            self.add(batch);
        }
    }

    /// Removes the batches that a reader has requested: they are in its view now, or not stored.
    pub(super) fn remove(&mut self, requested: &[OwnBatch]) {
        self.retain(|batch| requested.iter().all(|other| other.known() != batch.known()));
    }

    /// Removes the batches that are not after this position.
    pub(super) fn remove_up_to(&mut self, cursor: Cursor) {
        self.retain(|batch| batch.known().first > cursor.sequence);
    }

    fn retain(&mut self, is_kept: impl Fn(&OwnBatch) -> bool) {
        self.batches.retain(is_kept);
        self.bytes = self.batches.iter().map(OwnBatch::bytes).sum();
    }
}

#[cfg(test)]
mod tests;
