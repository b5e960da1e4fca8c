//! The messages of a batch that are not stored, or not with their contents.

use std::sync::Arc;

use memory_core::limits::LimitError;
use memory_core::resource::ExclusionReason;
use memory_core::store::{Appended, NewMessage};

/// A batch that is ready to be written: redacted, classified and counted.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// The messages to store, which may be none.
    pub(crate) messages: Arc<[NewMessage]>,
    pub(crate) exclusions: Exclusions,
}

/// The exclusions of a batch. Most batches have none, which costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Exclusions(Option<Arc<Places>>);

/// Indexes in the batch as the caller passed it, in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Places {
    excluded: Vec<usize>,
    withheld: Vec<usize>,
    reasons: Vec<ExclusionReason>,
}

/// Whether something of an excluded message is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remains {
    Nothing,
    /// Its role, ids and names.
    Stub,
}

impl Exclusions {
    /// Adds a message; they must come in order.
    pub(crate) fn add(&mut self, index: usize, reason: ExclusionReason, remains: Remains) {
        let places = Arc::make_mut(self.0.get_or_insert_default());
        places.reasons.push(reason);
        match remains {
            Remains::Nothing => places.excluded.push(index),
            Remains::Stub => places.withheld.push(index),
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The reason for each of them.
    pub(crate) fn reasons(&self) -> &[ExclusionReason] {
        self.0.as_ref().map_or(&[], |places| &places.reasons)
    }

    /// The index that a stored message has in the batch as the caller passed it.
    pub(crate) fn index_in_batch(&self, stored: usize) -> usize {
        let excluded = self.0.as_ref().map_or(&[][..], |places| &places.excluded);
        excluded.iter().fold(stored, |index, excluded| index + usize::from(*excluded <= index))
    }

    /// The error about a stored message, with its index in the batch as the caller passed it.
    pub(crate) fn in_batch(&self, reason: LimitError) -> LimitError {
        let LimitError { kind, index, found, most, .. } = reason;
        LimitError::new(kind, self.index_in_batch(index), found, most)
    }

    /// Reports them to the caller.
    pub(crate) fn report_in(&self, appended: &mut Appended) {
        if let Some(places) = &self.0 {
            appended.excluded.clone_from(&places.excluded);
            appended.withheld.clone_from(&places.withheld);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_messages_keep_their_index() {
        assert_eq!(Exclusions::default().index_in_batch(3), 3);
        let mut exclusions = Exclusions::default();
        // Of a batch of 8.
        for excluded in [0, 2, 3, 6] {
            exclusions.add(excluded, ExclusionReason::Flag, Remains::Nothing);
        }
        exclusions.add(7, ExclusionReason::Type, Remains::Stub);
        let indexes: Vec<_> = (0..4).map(|stored| exclusions.index_in_batch(stored)).collect();
        assert_eq!(indexes, [1, 4, 5, 7]);
        assert_eq!(exclusions.reasons().len(), 5);
    }
}
