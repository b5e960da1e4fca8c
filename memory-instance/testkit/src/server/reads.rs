//! Reads from the simulated server, with the bugs that are planted in them.

use std::num::NonZeroUsize;

use memory_core::store::{
    CaughtUp, Cursor, Erasure, FlushReceipt, ForkOrigin, Frame, FrameWriters, Head, KnownBatch,
    Metadata, Outline, Page, Read, StoreError, StoreWatch, UnusedPage, UnusedQuery,
};
use memory_core::{MemoryKey, MemoryStore, Sequence, StoredMessage};

use super::{Server, now};
use crate::bug::Bug;

impl Server {
    pub(crate) fn head(&self, key: &MemoryKey) -> Result<Head, StoreError> {
        let at = self.place(key);
        let mut head = now(self.store.head(&at))?;
        match self.bug {
            Some(Bug::CountersApart) => {
                if let Some(old) = self.state().old_head.get(&at) {
                    head.counters = old.counters.clone();
                }
            }
            Some(Bug::FlushMarkLost) => head.next_flush_at = None,
            _ => head.next_flush_at = self.flush_mark(head.next_flush_at),
        }
        self.repair(&at, &mut head.counters);
        Ok(head)
    }

    pub(crate) fn frame(
        &self,
        key: &MemoryKey,
        writers: FrameWriters,
    ) -> Result<Frame, StoreError> {
        now(self.store.frame(&self.place(key), writers))
    }

    pub(crate) fn origin(&self, key: &MemoryKey) -> Result<Option<ForkOrigin>, StoreError> {
        now(self.store.origin(&self.place(key)))
    }

    pub(crate) fn metadata(&self, key: &MemoryKey) -> Result<Metadata, StoreError> {
        now(self.store.metadata(&self.place(key)))
    }

    pub(crate) fn erasures(&self, key: &MemoryKey) -> Result<Vec<Erasure>, StoreError> {
        now(self.store.erasures(&self.place(key)))
    }

    pub(crate) fn read(&self, key: &MemoryKey, read: Read) -> Result<Page, StoreError> {
        let at = self.place(key);
        let after = read.after.map(|cursor| self.compared(cursor, Bug::ReaderGoesOn));
        let after = after.map(|cursor| self.replaced_under(&at, cursor));
        let mut page = now(self.store.read(&at, Read { after, ..read }))?;
        if self.has(Bug::TokensUnderstated) {
            for stored in &mut page.messages {
                stored.meta.tokens = stored.meta.tokens.div_ceil(2);
            }
        }
        if let Some(after) = read.after {
            return self.delta(&at, after, page);
        }
        if !matches!(self.bug, Some(Bug::StaleRead | Bug::TornRead)) {
            return Ok(page);
        }
        let mut state = self.state();
        state.reads += 1;
        let count = state.reads;
        let old = state.old_pages.insert(at, page.clone());
        let Some(old) = old.filter(|_| count.is_multiple_of(2)) else { return Ok(page) };
        if self.has(Bug::StaleRead) {
            return Ok(old);
        }
        // The first half as it was, the second as it is.
        let half = old.messages.len().div_ceil(2);
        let from = old.messages.get(half.saturating_sub(1)).map(|message| message.meta.sequence);
        let mut messages: Vec<_> = old.messages.into_iter().take(half).collect();
        messages.extend(page.messages.drain(..).filter(|m| Some(m.meta.sequence) > from));
        page.messages = messages;
        Ok(page)
    }

    /// The messages after this cursor, without any bug.
    pub(crate) fn read_after(&self, key: &MemoryKey, after: Cursor) -> Result<Page, StoreError> {
        now(self.store.read(&self.place(key), Read { after: Some(after), limit: None }))
    }

    pub(crate) fn catch_up(
        &self,
        key: &MemoryKey,
        after: Cursor,
        known: &[KnownBatch],
    ) -> Result<CaughtUp, StoreError> {
        let at = self.place(key);
        let mut page = self.read(key, Read { after: Some(after), limit: None })?;
        if page.restarted {
            return Ok(page.into());
        }
        let cursor = self.replaced_under(&at, self.compared(after, Bug::ReaderGoesOn));
        let mut confirmed = now(self.store.catch_up(&at, cursor, known))?.confirmed;
        let all: Vec<_> = KnownBatch::after(known, after).collect();
        let newest_is_stored = confirmed.last() == all.last() && !all.is_empty();
        if self.has(Bug::KnownUnchecked) || (self.has(Bug::KnownByNewest) && newest_is_stored) {
            confirmed = all;
            for batch in &confirmed {
                let end = Cursor { sequence: batch.last, id: Some(batch.id), ..page.cursor };
                page.cursor = if end.sequence > page.cursor.sequence { end } else { page.cursor };
            }
        }
        // A planted bug may have left them out of the page.
        confirmed.retain(|batch| batch.last <= page.cursor.sequence);
        let is_known = |place| confirmed.iter().any(|batch| batch.contains(place));
        page.messages.retain(|message| !is_known(message.meta.sequence));
        Ok(CaughtUp::new(page, confirmed))
    }

    pub(crate) fn read_before(
        &self,
        key: &MemoryKey,
        before: Option<Cursor>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        let at = self.place(key);
        let before = before.map(|cursor| self.compared(cursor, Bug::ReaderGoesOn));
        let before = before.map(|cursor| self.replaced_under(&at, cursor));
        now(self.store.read_before(&at, before, limit))
    }

    pub(crate) fn watch_memory(&self, key: &MemoryKey) -> Result<Box<dyn StoreWatch>, StoreError> {
        now(self.store.watch(&self.place(key)))
    }

    pub(crate) fn outline(&self, key: &MemoryKey) -> Result<Outline, StoreError> {
        let at = self.place(key);
        let mut outline = now(self.store.outline(&at))?;
        match self.bug {
            Some(Bug::TokensUnderstated) => {
                for meta in &mut outline.metas {
                    meta.tokens = meta.tokens.div_ceil(2);
                }
            }
            Some(Bug::FlushMarkLost) => outline.head.next_flush_at = None,
            _ => outline.head.next_flush_at = self.flush_mark(outline.head.next_flush_at),
        }
        self.repair(&at, &mut outline.head.counters);
        Ok(outline)
    }

    pub(crate) fn fetch(
        &self,
        key: &MemoryKey,
        snapshot: Cursor,
        places: &[Sequence],
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let snapshot = self.compared(snapshot, Bug::FetchFindsOthers);
        now(self.store.fetch(&self.place(key), snapshot, places))
    }

    pub(crate) fn receipts(&self, key: &MemoryKey) -> Result<Vec<FlushReceipt>, StoreError> {
        now(self.store.receipts(&self.place(key)))
    }

    pub(crate) fn keys(
        &self,
        after: Option<&MemoryKey>,
        limit: NonZeroUsize,
    ) -> Result<Vec<MemoryKey>, StoreError> {
        now(self.store.keys(after, limit))
    }

    pub(crate) fn unused(&self, query: &UnusedQuery) -> Result<UnusedPage, StoreError> {
        now(self.store.unused(query))
    }

    /// The cursor in the generation that the store has, where replacements do not seem to change it.
    fn replaced_under(&self, at: &MemoryKey, mut cursor: Cursor) -> Cursor {
        let state = self.state();
        while let Some(next) = state.replaced_in.get(&(at.clone(), cursor.generation)) {
            cursor.generation = *next;
        }
        cursor
    }
}
