//! Forks within one store.

use std::collections::VecDeque;
use std::ops::Bound;

use jiff::Timestamp;

use super::MemoryState;
use super::archive::{Archive, Kept};
use crate::counters::Counters;
use crate::store::{
    Access, CopiedRemovals, CopyStep, CopyWrite, Fork, Forked, Frame, FrameWriters, StoreErrorKind,
};
use crate::stored::{Sequence, StoredMessage};

impl MemoryState {
    /// [`MemoryStore::fork`](crate::MemoryStore::fork) of `from` at this time.
    ///
    /// # Errors
    /// [`StoreErrorKind::Exists`], [`StoreErrorKind::Conflict`], [`StoreErrorKind::Fenced`].
    pub fn fork(
        &mut self,
        access: Access,
        fork: &Fork,
        from: &Self,
        now: Timestamp,
    ) -> Result<Forked, StoreErrorKind> {
        if self.is_written(now) {
            return match &self.copied {
                Some(copied) if copied.copy == fork.copy => Ok(Forked::Complete),
                _ => Err(StoreErrorKind::Exists),
            };
        }
        let is_same = from.is_alive(now) && from.head.generation == fork.generation;
        if from.is_unfinished(now) || !is_same {
            return Err(StoreErrorKind::Conflict);
        }
        let (frame, messages, removals) = from.forked(fork, now);
        let count = u64::try_from(messages.len()).unwrap_or(u64::MAX);
        let last = messages.last().map_or(Sequence::ZERO, |newest| newest.meta.sequence);
        frame.check_copied(count, last, CopiedRemovals::Complete)?;
        let step = |step| CopyWrite { copy: fork.copy, attempt: 0, step };
        // An attempt in parts may have left something under this id.
        self.write_copy(access, &step(CopyStep::Discard), now)?;
        self.write_copy(access, &step(CopyStep::Begin), now)?;
        let count = u64::try_from(removals.0.len()).unwrap_or(u64::MAX);
        if let Some(copy) = &mut self.unfinished {
            copy.messages = messages.into_iter().map(|one| (one.meta.sequence, one)).collect();
            copy.removals = removals;
        }
        let finish = CopyStep::Finish { frame: Box::new(frame), removals: count };
        self.write_copy(access, &step(finish), now).map(|_| Forked::Complete)
    }

    /// The frame, messages and removals that a fork takes of this memory.
    fn forked(&self, fork: &Fork, now: Timestamp) -> (Frame, Vec<StoredMessage>, Archive) {
        let at = fork.origin.at;
        let range = (Bound::Unbounded, Bound::Included(at));
        let messages: Vec<_> = self.messages.range(range).map(|(_, one)| one.clone()).collect();
        let is_taken =
            |kept: &&Kept| kept.removal.places.ranges().iter().all(|(_, end)| *end <= at);
        let removals: VecDeque<_> = self.archive.kept(now).filter(is_taken).cloned().collect();
        let mut counters = Counters::recount(messages.iter().map(|one| &one.meta));
        for Kept { removal, messages } in &removals {
            messages.iter().for_each(|one| counters.hold_archived(removal, &one.meta));
        }
        let frame = self.frame(now, FrameWriters::LeftOut);
        (frame.into_fork(at, counters, fork.origin.clone()), messages, Archive(removals))
    }
}
