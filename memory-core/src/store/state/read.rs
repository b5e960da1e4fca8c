//! Reads of a memory, which change nothing.

use std::num::NonZeroUsize;
use std::ops::Bound;

use jiff::Timestamp;

use super::{MemoryState, micros};
use crate::key::MemoryKey;
use crate::receipt::FlushReceipt;
use crate::store::{
    CaughtUp, Cursor, Generation, Head, KnownBatch, Outline, Page, PageLimit, Read, StoreErrorKind,
    UnusedMemory, UnusedQuery,
};
use crate::stored::{MessageMeta, Sequence, StoredMessage};

/// The first of these messages, up to a limit.
pub(super) fn page_of<'a>(
    messages: impl Iterator<Item = &'a StoredMessage>,
    limit: Option<PageLimit>,
) -> Vec<StoredMessage> {
    let Some(limit) = limit else { return messages.cloned().collect() };
    let (mut page, mut bytes) = (Vec::new(), 0_u64);
    for stored in messages {
        page.push(stored.clone());
        if limit.bytes < u64::MAX {
            bytes = bytes.saturating_add(stored.message.json_bytes());
        }
        if limit.is_reached(page.len(), bytes) {
            break;
        }
    }
    page
}

impl MemoryState {
    /// This memory as [`MemoryStore::unused`](crate::MemoryStore::unused) lists it at this time, if it is selected.
    /// The store itself handles the order of keys and their prefix.
    #[must_use]
    pub fn unused(
        &self,
        key: &MemoryKey,
        query: &UnusedQuery,
        now: Timestamp,
    ) -> Option<UnusedMemory> {
        if let Some(copy) = &self.unfinished {
            let mut memory = UnusedMemory::new(key.clone(), copy.generation, 0);
            memory.expired = !self.is_unfinished(now);
            let is_listed = query.matches(&memory, copy.generation.number(), micros(now));
            return is_listed.then_some(memory);
        }
        let Head { generation, version, last, .. } = self.head;
        let newest = self.messages.get(&last).map(|newest| &newest.meta);
        let created = newest.map_or(0, |newest| micros(newest.created_at));
        let updated = self.metadata.updated_at.map_or(0, micros);
        let written = created.max(generation.number()).max(updated);
        let expired = !self.is_alive(now);
        let messages = u64::try_from(self.messages.len()).unwrap_or(u64::MAX);
        let (key, newest) = (key.clone(), newest.map(MessageMeta::newest));
        let memory = UnusedMemory { key, generation, version, newest, messages, expired };
        (version > 0 && query.matches(&memory, written, micros(now))).then_some(memory)
    }

    /// [`MemoryStore::head`](crate::MemoryStore::head) at this time.
    #[must_use]
    pub fn head(&self, now: Timestamp) -> Head {
        if self.is_alive(now) { self.head.clone() } else { Head::default() }
    }

    /// [`MemoryStore::read`](crate::MemoryStore::read) at this time.
    #[must_use]
    pub fn read(&self, read: Read, now: Timestamp) -> Page {
        if !self.is_alive(now) {
            return Self::default().read(read, now);
        }
        let generation = self.head.generation;
        let (after, restarted) = match read.after {
            Some(cursor) if self.holds(cursor) => (cursor, false),
            Some(cursor) => (generation.into(), cursor != Cursor::default()),
            None => (generation.into(), false),
        };
        let mut rest = self.messages.range((Bound::Excluded(after.sequence), Bound::Unbounded));
        let messages = page_of(rest.by_ref().map(|(_, message)| message), read.limit);
        let cursor = messages.last().map_or(after, |last| Cursor::at(generation, &last.meta));
        let more = rest.next().is_some();
        Page { messages, cursor, restarted, more, unreadable: Vec::new() }
    }

    /// [`MemoryStore::catch_up`](crate::MemoryStore::catch_up) at this time.
    #[must_use]
    pub fn catch_up(&self, after: Cursor, known: &[KnownBatch], now: Timestamp) -> CaughtUp {
        let mut page = self.read(Read { after: Some(after), limit: None }, now);
        if !self.is_alive(now) || !self.holds(after) {
            return page.into();
        }
        let is_stored = |batch: &KnownBatch| {
            self.messages.get(&batch.last).is_some_and(|newest| newest.meta.id == batch.id)
        };
        let confirmed: Vec<_> = KnownBatch::after(known, after).filter(is_stored).collect();
        let is_confirmed = |place| confirmed.iter().any(|batch: &KnownBatch| batch.contains(place));
        page.messages.retain(|message| !is_confirmed(message.meta.sequence));
        CaughtUp::new(page, confirmed)
    }

    /// [`MemoryStore::read_before`](crate::MemoryStore::read_before) at this time.
    #[must_use]
    pub fn read_before(&self, before: Option<Cursor>, limit: NonZeroUsize, now: Timestamp) -> Page {
        if !self.is_alive(now) {
            return Self::default().read_before(before, limit, now);
        }
        let generation = self.head.generation;
        let valid = before.filter(|cursor| self.holds(*cursor));
        let end = valid.map_or(Bound::Unbounded, |cursor| Bound::Excluded(cursor.sequence));
        let mut rest = self.messages.range((Bound::Unbounded, end)).rev();
        let mut messages: Vec<_> =
            rest.by_ref().take(limit.get()).map(|(_, message)| message.clone()).collect();
        messages.reverse();
        let start = valid.unwrap_or(generation.into());
        let mut page =
            Page::new(messages.first().map_or(start, |first| Cursor::at(generation, &first.meta)));
        page.restarted = before.is_some() && valid.is_none();
        page.more = rest.next().is_some();
        page.messages = messages;
        page
    }

    /// [`MemoryStore::outline`](crate::MemoryStore::outline) at this time.
    #[must_use]
    pub fn outline(&self, now: Timestamp) -> Outline {
        if !self.is_alive(now) {
            return Outline::default();
        }
        Outline {
            head: self.head.clone(),
            metas: self.messages.values().map(|message| message.meta.clone()).collect(),
            unreadable: Vec::new(),
        }
    }

    /// [`MemoryStore::fetch`](crate::MemoryStore::fetch) at this time.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`].
    pub fn fetch(
        &self,
        snapshot: Cursor,
        places: &[Sequence],
        now: Timestamp,
    ) -> Result<Vec<StoredMessage>, StoreErrorKind> {
        // A memory that was never written has no generation to fetch from.
        let unwritten = self.head.generation == Generation::NONE;
        if unwritten || !self.is_alive(now) || !self.holds(snapshot) {
            return Err(StoreErrorKind::Conflict);
        }
        Ok(places.iter().filter_map(|place| self.messages.get(place)).cloned().collect())
    }

    /// [`MemoryStore::receipts`](crate::MemoryStore::receipts) at this time.
    #[must_use]
    pub fn receipts(&self, now: Timestamp) -> Vec<FlushReceipt> {
        if self.is_alive(now) { self.receipts.iter().cloned().collect() } else { Vec::new() }
    }

    /// Whether [`MemoryStore::keys`](crate::MemoryStore::keys) lists this memory at this time.
    #[must_use]
    pub fn has_messages(&self, now: Timestamp) -> bool {
        self.is_alive(now) && !self.messages.is_empty()
    }
}
