//! Copies in the simulated server, with the bugs that are planted in them.

use memory_core::store::{
    Access, Append, CopyProgress, CopyStep, CopyWrite, Counters, Fork, Forked, NewMessage, Read,
    StoreError,
};
use memory_core::{ContentType, MemoryKey, MemoryStore, StoredMessage};

use super::past::as_new;
use super::{Server, now};
use crate::bug::Bug;

/// The source of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Memory,
    Backup,
}

impl Server {
    pub(crate) fn write_copy(
        &self,
        key: &MemoryKey,
        access: Access,
        write: &CopyWrite,
        source: Source,
    ) -> Result<CopyProgress, StoreError> {
        self.check_lease(key, access)?;
        let (at, access) = (self.place(key), self.access(access));
        let was_written = now(self.store.head(&at)).is_ok_and(|head| head.version > 0);
        if self.has(Bug::CopyOutlivesDelete)
            && write.step == CopyStep::Begin
            && !was_written
            && self.state().past.copied.contains(&(at.clone(), write.copy))
        {
            return Ok(CopyProgress::complete());
        }
        let mut changed = write.clone();
        if source == Source::Backup {
            if self.has(Bug::RestoreOverwrites) && changed.step == CopyStep::Begin {
                self.expire(key)?;
            }
            self.change_restore(&mut changed.step);
        }
        match &mut changed.step {
            // The progress of the step that began the copy.
            CopyStep::Archived { .. } if self.loses_archive(&at) => {
                changed.step = CopyStep::Begin;
            }
            CopyStep::Finish { removals, .. } if self.loses_archive(&at) => *removals = 0,
            CopyStep::Finish { frame, .. } if self.has(Bug::CopyMiscounts) => {
                let summarized = std::mem::take(&mut frame.counters.summarized);
                frame.counters.evicted += summarized;
            }
            _ => {}
        }
        let progress = now(self.store.write_copy(&at, access, &changed))?;
        if progress.complete {
            self.state().past.copied.push((at.clone(), write.copy));
        }
        if let CopyStep::Finish { frame, .. } = &write.step
            && let Some(origin) = frame.origin.as_ref().filter(|_| !was_written)
        {
            self.forked(&at, access, &origin.key, frame.last)?;
        }
        Ok(progress)
    }

    /// Whether a copy to this memory loses the archived messages, by the planted bug.
    fn loses_archive(&self, at: &MemoryKey) -> bool {
        let is_of_copy = || self.state().past.copied.iter().any(|(of, _)| of != at);
        match self.bug {
            Some(Bug::CopyMissesArchived) => true,
            Some(Bug::CopyOfCopyLosesArchive) => is_of_copy(),
            _ => false,
        }
    }

    /// The effect of a planted bug on a step of the restoration of a backup.
    fn change_restore(&self, step: &mut CopyStep) {
        let mut state = self.state();
        match (self.bug, step) {
            // The progress of the step that began the copy.
            (Some(Bug::RestoreLosesArchive), step @ CopyStep::Archived { .. }) => {
                *step = CopyStep::Begin;
            }
            (Some(Bug::RestoreLosesArchive), CopyStep::Finish { removals, .. }) => *removals = 0,
            (Some(Bug::RestoreMissesNewest), CopyStep::Messages(messages)) => {
                state.past.torn = messages.pop().map(|newest| newest.meta).into_iter().collect();
            }
            (Some(Bug::RestoreMissesNewest), CopyStep::Finish { frame, .. }) => {
                for newest in state.past.torn.drain(..) {
                    frame.counters.withdraw(&newest);
                    if !newest.summary {
                        frame.counters.withdrawn -= 1;
                        frame.counters.appended -= 1;
                    }
                }
            }
            (Some(Bug::RestoreTearsFlush), CopyStep::Messages(messages)) => {
                let summaries = messages.extract_if(.., |one| one.meta.summary);
                state.past.torn = summaries.map(|summary| summary.meta).collect();
            }
            (Some(Bug::RestoreTearsFlush), CopyStep::Finish { frame, .. }) => {
                state.past.torn.drain(..).for_each(|summary| frame.counters.withdraw(&summary));
            }
            (Some(Bug::RestoreLosesReceipts), CopyStep::Finish { frame, .. }) => {
                frame.receipts.clear();
            }
            (Some(Bug::RestoreLosesSettings), CopyStep::Messages(messages)) => {
                for StoredMessage { meta, .. } in messages {
                    (meta.priority, meta.content_type) = (None, ContentType::Conversation);
                    state.past.torn.push(meta.clone());
                }
            }
            (Some(Bug::RestoreLosesSettings), CopyStep::Finish { frame, .. }) => {
                let recount = Counters::recount(state.past.torn.iter());
                frame.counters.classes = recount.classes;
                state.past.torn.clear();
            }
            (Some(Bug::RestoreLosesCounters), CopyStep::Finish { frame, .. }) => {
                let counters = &mut frame.counters;
                counters.appended = counters.present.messages - counters.summaries;
                (counters.summarized, counters.evicted) = (0, 0);
                (counters.cleared, counters.withdrawn) = (0, 0);
            }
            _ => {}
        }
    }

    /// In one step, or in parts in half of the programs.
    pub(crate) fn fork(
        &self,
        key: &MemoryKey,
        access: Access,
        fork: &Fork,
    ) -> Result<Forked, StoreError> {
        if self.forks_in_parts {
            return Ok(Forked::InParts);
        }
        self.check_lease(key, access)?;
        let (at, access) = (self.place(key), self.access(access));
        let was_written = now(self.store.head(&at)).is_ok_and(|head| head.version > 0);
        let changed = Fork { from: self.place(&fork.from), ..fork.clone() };
        let forked = now(self.store.fork(&at, access, &changed))?;
        self.state().past.copied.push((at.clone(), fork.copy));
        if !was_written {
            self.forked(&at, access, &fork.from, fork.origin.at)?;
        }
        Ok(forked)
    }

    /// The effect of a planted bug on a fork.
    fn forked(
        &self,
        at: &MemoryKey,
        access: Access,
        origin: &MemoryKey,
        last: memory_core::Sequence,
    ) -> Result<(), StoreError> {
        match self.bug {
            Some(Bug::ForkTakesLater) => {
                let there = now(self.store.read(&self.place(origin), Read::default()))?.messages;
                let later = there.iter().filter(|stored| stored.meta.sequence > last);
                let later: Vec<_> = later.map(as_new).collect();
                self.append_again(at, access, later)
            }
            Some(Bug::ForkSharesWrites) => {
                let origin = self.place(origin);
                self.state().past.shared.push((origin, at.clone()));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Appends messages, unless there are none.
    fn append_again(
        &self,
        at: &MemoryKey,
        access: Access,
        messages: Vec<NewMessage>,
    ) -> Result<(), StoreError> {
        if messages.is_empty() {
            return Ok(());
        }
        let write = self.fresh_write();
        let append = Append { write, messages: messages.into(), ttl: None, expected: None };
        now(self.store.append(at, access, &append)).map(drop)
    }

    /// Appends the batch to forks of this memory, if that bug is planted.
    pub(super) fn share(&self, at: &MemoryKey, append: &Append) -> Result<(), StoreError> {
        let shared = self.state().past.shared.clone();
        for (_, fork) in shared.iter().filter(|(origin, _)| origin == at) {
            self.append_again(fork, Access::OPEN, append.messages.to_vec())?;
        }
        Ok(())
    }
}
