//! The identities under which an instance writes, so that the store recognises its retries.

use std::sync::{Mutex, PoisonError};

use memory_core::{WriteId, WriterId};

use crate::ids::Ids;

/// Writers that are free to make the next write.
///
/// A store accepts the numbers of one writer in increasing order, so a writer makes one write at a
/// time; as many writers are made as writes are under way at once. A writer whose write failed, or
/// whose caller went away, is given up: its last number may still be sent again, and would be taken
/// for a duplicate if the writer had gone on.
#[derive(Debug, Default)]
pub(crate) struct Writers {
    free: Mutex<Vec<WriteId>>,
}

impl Writers {
    /// The id of a new write.
    pub(crate) fn take(&self, ids: &Ids) -> WriteId {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| ids.writer().write(1))
    }

    /// Takes back the writer of a write that was acknowledged.
    pub(crate) fn put_back(&self, done: WriteId) {
        let WriteId { writer, number } = done;
        let next = WriterId::write(writer, number.saturating_add(1));
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_used_again_only_after_its_write_was_acknowledged() {
        let (ids, writers) = (Ids::seeded(1), Writers::default());
        let first = writers.take(&ids);
        let second = writers.take(&ids);
        assert_ne!(first.writer, second.writer, "two writes under way need two writers");
        writers.put_back(first);
        let third = writers.take(&ids);
        assert_eq!((third.writer, third.number), (first.writer, first.number + 1));
    }
}
