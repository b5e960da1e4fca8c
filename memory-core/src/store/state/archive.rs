//! The archive of a memory: removed messages, and their return.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use jiff::Timestamp;

use super::read::page_of;
use super::{MemoryState, PRUNED_AT_ONCE, micros, raise_fence};
use crate::archive::{ArchivedRemoval, RemovalCause, RestoreRefusal, Retention};
use crate::counters::Counters;
use crate::receipt::FlushReceipt;
use crate::store::{Access, FLUSH_HELD, PageLimit, Restore, StoreErrorKind};
use crate::stored::{Sequence, StoredMessage};

/// The number of overdue messages that one write drops, or twice the number that it adds.
pub(super) const DROPPED_AT_ONCE: usize = 256;

/// The removals of a memory whose messages are kept, oldest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Archive(pub(super) VecDeque<Kept>);

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    pub(super) removal: ArchivedRemoval,
    /// Ascending.
    pub(super) messages: Vec<StoredMessage>,
}

/// Messages that a write removes.
pub(super) struct Removal {
    pub(super) cause: RemovalCause,
    pub(super) receipt: Option<FlushReceipt>,
    pub(super) messages: Vec<StoredMessage>,
    pub(super) retention: Retention,
}

impl Archive {
    /// Adds a removal, unless it alone has more bytes than the archive may have; one without messages changes nothing.
    /// Returns whether it is kept.
    pub(super) fn add(&mut self, removal: Removal, number: u64, now: Timestamp) -> bool {
        let Removal { cause, receipt, mut messages, retention } = removal;
        if messages.is_empty() {
            return false;
        }
        messages.sort_unstable_by_key(|message| message.meta.sequence);
        let mut removal = ArchivedRemoval::new(number, cause, now, &retention);
        for StoredMessage { meta, message } in &messages {
            removal.messages = removal.messages.saturating_add(1);
            removal.tokens = removal.tokens.saturating_add(meta.tokens.into());
            removal.bytes = removal.bytes.saturating_add(message.json_bytes());
        }
        removal.places = messages.iter().map(|message| message.meta.sequence).collect();
        removal.receipt = receipt;
        let most = DROPPED_AT_ONCE.max(messages.len().saturating_mul(2));
        let is_kept = removal.bytes <= retention.max_bytes && removal.is_kept(now);
        if is_kept {
            self.0.push_back(Kept { removal, messages });
        }
        self.drop_overdue(most, now);
        self.drop_beyond(retention.max_bytes, now);
        is_kept
    }

    pub(super) fn drop_overdue(&mut self, most: usize, now: Timestamp) {
        let mut dropped = 0;
        self.0.retain(|kept| {
            let is_dropped = !kept.removal.is_kept(now) && dropped < most;
            dropped += if is_dropped { kept.messages.len() } else { 0 };
            !is_dropped
        });
    }

    /// Drops the oldest removals beyond this size. Overdue ones do not count.
    fn drop_beyond(&mut self, max_bytes: u64, now: Timestamp) {
        let mut bytes = self.kept(now).map(|kept| kept.removal.bytes).fold(0, u64::saturating_add);
        while bytes > max_bytes {
            let Some(oldest) = self.0.pop_front() else { return };
            if oldest.removal.is_kept(now) {
                bytes = bytes.saturating_sub(oldest.removal.bytes);
            }
        }
    }

    /// The removals whose time has not passed, oldest first.
    pub(super) fn kept(&self, now: Timestamp) -> impl DoubleEndedIterator<Item = &Kept> + Clone {
        self.0.iter().filter(move |kept| kept.removal.is_kept(now))
    }
}

impl MemoryState {
    /// [`MemoryStore::restore`](crate::MemoryStore::restore) at this time.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotRestorable`], [`StoreErrorKind::Fenced`].
    pub fn restore(
        &mut self,
        access: Access,
        restore: &Restore,
        now: Timestamp,
    ) -> Result<Counters, StoreErrorKind> {
        self.change(now, |memory| {
            if memory.earlier(restore.write)?.is_none() {
                let mut fence = memory.head.fence;
                raise_fence(&mut fence, access.lease)?;
                memory.restore_new(restore, now).map_err(StoreErrorKind::NotRestorable)?;
                memory.head.fence = fence;
                memory.wrote(restore.write, None, now, PRUNED_AT_ONCE);
                memory.head.next_flush_at = Some(FLUSH_HELD);
                memory.head.generation =
                    memory.head.generation.after(micros(now), restore.spread());
                memory.head.version += 1;
            }
            Ok(memory.head.counters.clone())
        })
    }

    fn restore_new(&mut self, restore: &Restore, now: Timestamp) -> Result<(), RestoreRefusal> {
        let receipt_of = |kept: &Kept| kept.removal.receipt.as_ref().map(|receipt| receipt.id);
        let is_it = |kept: &Kept| receipt_of(kept) == Some(restore.receipt);
        let found = self.archive.kept(now).rfind(|kept| is_it(kept));
        let Kept { removal, .. } = found.ok_or(RestoreRefusal::NotArchived)?;
        let number = removal.number;
        let later = self.archive.kept(now).map(|kept| &kept.removal);
        let later = later.filter(|later| later.number > number);
        let present = |place| self.messages.get(&place).map(|found| &found.meta);
        removal.check_restorable(later, present)?;

        let summary = removal.receipt.as_ref().and_then(|receipt| receipt.summary.as_ref());
        let summary = summary.map(|summary| summary.sequence);
        let index = self.archive.0.partition_point(|kept| kept.removal.number < number);
        let Some(Kept { removal, messages }) = self.archive.0.remove(index) else { return Ok(()) };
        if let Some(summary) = summary.and_then(|place| self.messages.remove(&place)) {
            // A summary was never appended, so it is counted nowhere.
            self.head.counters.withdraw(&summary.meta);
        }
        for message in messages {
            let place = message.meta.sequence;
            // Only the originals of replaced messages have another one in their places.
            match (self.messages.get(&place), &removal.receipt) {
                (Some(now), _) => self.head.counters.put_back(&now.meta, &message.meta),
                (None, Some(receipt)) => self.head.counters.restore(&message.meta, receipt),
                (None, None) => {}
            }
            self.messages.insert(place, message);
        }
        Ok(())
    }

    /// [`MemoryStore::removals`](crate::MemoryStore::removals) at this time.
    #[must_use]
    pub fn removals(
        &self,
        before: Option<u64>,
        limit: NonZeroUsize,
        now: Timestamp,
    ) -> Vec<ArchivedRemoval> {
        if !self.is_alive(now) {
            return Vec::new();
        }
        let removals = self.archive.kept(now).rev().map(|kept| &kept.removal);
        let earlier =
            removals.filter(|removal| before.is_none_or(|before| removal.number < before));
        earlier.take(limit.get()).cloned().collect()
    }

    /// [`MemoryStore::archived`](crate::MemoryStore::archived) at this time.
    #[must_use]
    pub fn archived(
        &self,
        removal: u64,
        after: Sequence,
        limit: PageLimit,
        now: Timestamp,
    ) -> Vec<StoredMessage> {
        if !self.is_alive(now) {
            return Vec::new();
        }
        let found = self.archive.kept(now).find(|kept| kept.removal.number == removal);
        let messages = found.map_or(&[][..], |kept| &kept.messages);
        page_of(messages.iter().filter(|message| message.meta.sequence > after), Some(limit))
    }
}
