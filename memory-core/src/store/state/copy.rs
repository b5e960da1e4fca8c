//! Copies: reading a memory as a whole, and writing one under an absent key.

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::archive::{Archive, Kept};
use super::{LastWrite, MemoryState, micros, raise_fence};
use crate::receipt::{KEPT_RECEIPTS, SequenceSet};
use crate::store::{
    Access, ArchivedRemoval, COPY_LIFETIME, CopiedRemovals, CopyProgress, CopyStep, CopyWrite,
    ForkOrigin, Frame, FrameWriters, Generation, Removed, StoreErrorKind, WriterRecord,
};
use crate::stored::{Sequence, StoredMessage};
use crate::write::WriterId;

/// A copy that is not complete.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unfinished {
    copy: Uuid,
    attempt: u64,
    expires_at: Timestamp,
    /// Changes with each part, so that a sweep does not remove a copy that is continued.
    pub(super) generation: Generation,
    pub(super) messages: BTreeMap<Sequence, StoredMessage>,
    pub(super) removals: Archive,
    /// The removal that is not complete.
    open: Option<Kept>,
}

/// The copy that made a memory.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Copied {
    pub(super) copy: Uuid,
    origin: Option<ForkOrigin>,
}

impl MemoryState {
    /// [`MemoryStore::frame`](crate::MemoryStore::frame) at this time.
    #[must_use]
    pub fn frame(&self, now: Timestamp, writers: FrameWriters) -> Frame {
        if !self.is_alive(now) {
            return Frame::new(super::Head::default());
        }
        let record = |writer: &WriterId| {
            let LastWrite { number, first } = *self.writers.get(writer)?;
            Some(WriterRecord { writer: *writer, number, first })
        };
        let mut frame = Frame::new(self.head.clone());
        if writers == FrameWriters::Included {
            let mut named: Vec<_> =
                self.writers.keys().filter(|writer| writer.born_at().is_none()).collect();
            named.sort_unstable();
            let sessions = self.sessions.iter().map(|(_, writer)| writer);
            frame.writers = named.into_iter().chain(sessions).filter_map(record).collect();
        }
        frame.forgotten_millis = self.forgotten;
        frame.receipts = self.receipts.iter().cloned().collect();
        frame.erasures = self.erasures.iter().cloned().collect();
        frame.metadata = self.metadata.clone();
        frame.origin = self.origin(now);
        frame.newest = self.messages.get(&self.head.last).map(|newest| newest.meta.newest());
        frame
    }

    /// [`MemoryStore::origin`](crate::MemoryStore::origin) at this time.
    #[must_use]
    pub fn origin(&self, now: Timestamp) -> Option<ForkOrigin> {
        let copied = self.copied.as_ref().filter(|_| self.is_alive(now))?;
        copied.origin.clone()
    }

    /// Whether the memory is a copy that is not complete at this time. Reads must then be refused with
    /// [`StoreErrorKind::Unfinished`]; writes are.
    #[must_use]
    pub fn is_unfinished(&self, now: Timestamp) -> bool {
        self.unfinished.as_ref().is_some_and(|copy| now < copy.expires_at)
    }

    /// [`MemoryStore::write_copy`](crate::MemoryStore::write_copy) at this time.
    ///
    /// # Errors
    /// [`StoreErrorKind::Exists`], [`StoreErrorKind::Conflict`], [`StoreErrorKind::Fenced`],
    /// [`StoreErrorKind::Invalid`].
    pub fn write_copy(
        &mut self,
        access: Access,
        write: &CopyWrite,
        now: Timestamp,
    ) -> Result<CopyProgress, StoreErrorKind> {
        if self.is_written(now) {
            return match &self.copied {
                Some(copied) if copied.copy == write.copy => Ok(CopyProgress::complete()),
                _ => Err(StoreErrorKind::Exists),
            };
        }
        let mut fence = self.head.fence;
        raise_fence(&mut fence, access.lease)?;
        if write.step == CopyStep::Discard {
            self.unfinished = None;
            return Ok(CopyProgress::default());
        }
        if !self.is_unfinished(now) {
            self.unfinished = None;
        }
        let is_same = self.unfinished.as_ref().is_some_and(|copy| copy.copy == write.copy);
        if write.step == CopyStep::Begin && !is_same {
            self.unfinished = Some(Unfinished {
                copy: write.copy,
                attempt: write.attempt,
                expires_at: now,
                generation: self.head.generation,
                messages: BTreeMap::new(),
                removals: Archive::default(),
                open: None,
            });
        }
        let Some(copy) = self.unfinished.as_mut().filter(|copy| copy.copy == write.copy) else {
            return Err(StoreErrorKind::Conflict);
        };
        if copy.attempt != write.attempt && write.step != CopyStep::Begin {
            return Err(StoreErrorKind::Conflict);
        }
        match &write.step {
            CopyStep::Begin => copy.attempt = write.attempt,
            CopyStep::Discard => {}
            CopyStep::Messages(messages) => copy.add(messages),
            CopyStep::Archived { removal, messages, end } => {
                copy.add_archived(removal, messages, end.as_ref())?;
            }
            CopyStep::Finish { frame, removals } => {
                copy.check(frame, *removals)?;
                self.head.fence = fence;
                self.finish_copy(frame, now);
                return Ok(CopyProgress::complete());
            }
        }
        copy.expires_at = now.checked_add(COPY_LIFETIME).unwrap_or(Timestamp::MAX);
        copy.generation = copy.generation.next(micros(now));
        self.head.fence = fence;
        Ok(copy.progress())
    }

    fn finish_copy(&mut self, frame: &Frame, now: Timestamp) {
        let Some(copy) = self.unfinished.take() else { return };
        let mut anew = Self::default();
        anew.head.fence = self.head.fence;
        anew.head.flush_fence = self.head.flush_fence;
        anew.head.generation = copy.generation.next(micros(now));
        anew.head.counters = frame.counters.clone();
        anew.head.version = frame.version;
        anew.head.last = frame.last;
        anew.head.next_flush_at = frame.next_flush_at;
        anew.head.expires_at = frame.expires_at;
        anew.messages = copy.messages;
        anew.archive = copy.removals;
        anew.receipts = frame.receipts.iter().take(KEPT_RECEIPTS).cloned().collect();
        anew.erasures = frame.erasures.iter().cloned().collect();
        anew.metadata = frame.metadata.clone();
        anew.forgotten = frame.forgotten_millis;
        for WriterRecord { writer, number, first } in frame.writers.iter().copied() {
            anew.writers.insert(writer, LastWrite { number, first });
            if writer.born_at().is_some() {
                anew.sessions.push_back((now, writer));
            }
        }
        anew.copied = Some(Copied { copy: copy.copy, origin: frame.origin.clone() });
        *self = anew;
    }
}

impl Unfinished {
    fn progress(&self) -> CopyProgress {
        let last = self.messages.last_key_value().map(|(place, _)| *place);
        let removal = self.removals.0.back().map(|kept| kept.removal.number);
        CopyProgress::reached(last.unwrap_or_default(), removal.unwrap_or_default())
    }

    fn add(&mut self, messages: &[StoredMessage]) {
        for stored in messages {
            if stored.meta.sequence > self.progress().last {
                self.messages.insert(stored.meta.sequence, stored.clone());
            }
        }
    }

    fn add_archived(
        &mut self,
        removal: &ArchivedRemoval,
        messages: &[StoredMessage],
        end: Option<&Removed>,
    ) -> Result<(), StoreErrorKind> {
        if removal.number <= self.progress().removal {
            return Ok(());
        }
        if self.open.as_ref().is_some_and(|open| open.removal.number != removal.number) {
            return Err(StoreErrorKind::Conflict);
        }
        let none = || Kept { removal: removal.clone(), messages: Vec::new() };
        let mut open = self.open.take().unwrap_or_else(none);
        for stored in messages {
            let last = open.messages.last().map(|stored| stored.meta.sequence);
            if last.is_none_or(|last| stored.meta.sequence > last) {
                open.messages.push(stored.clone());
            }
        }
        let places: SequenceSet = open.messages.iter().map(|one| one.meta.sequence).collect();
        if end.is_none() {
            self.open = Some(open);
        } else if let Err(incomplete) = removal.check_copied(&places) {
            self.open = Some(open);
            return Err(incomplete);
        } else {
            self.removals.0.push_back(open);
        }
        Ok(())
    }

    /// Whether the copy has what its frame counts.
    fn check(&self, frame: &Frame, removals: u64) -> Result<(), StoreErrorKind> {
        let messages = u64::try_from(self.messages.len()).unwrap_or(u64::MAX);
        let is_complete = self.open.is_none() && self.removals.0.len() as u64 == removals;
        let removals =
            if is_complete { CopiedRemovals::Complete } else { CopiedRemovals::Incomplete };
        frame.check_copied(messages, self.progress().last, removals)
    }
}
