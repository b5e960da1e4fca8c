//! Changes of settings and summaries that are written anew, in the simulated server, with the bugs that are planted in
//! them.

use std::num::NonZeroUsize;

use memory_core::store::{
    Access, ArchivedRemoval, Counters, MessageId, MessageMeta, NewMessage, Outline, PageLimit,
    Read, Replace, Retention, SequenceSet, Splice, StoreError,
};
use memory_core::{
    ContentType, MemoryKey, MemoryStore, Message, Priority, Sequence, StoredMessage,
};
use uuid::Uuid;

use super::past::{as_new, has_name};
use super::{Server, now};
use crate::bug::Bug;

impl Server {
    /// A replacement as the planted bug changes it.
    pub(super) fn edited(
        &self,
        at: &MemoryKey,
        access: Access,
        replace: &Replace,
        is_retry: bool,
    ) -> Result<Counters, StoreError> {
        let there = now(self.store.read(at, Read::default()))?.messages;
        let old = there.iter().find(|one| one.meta.sequence == replace.sequence);
        let is_current = old.is_some_and(|old| old.meta.id == replace.replaced) && !is_retry;
        let is_edit = is_current && old.is_some_and(|old| old.message == replace.message.message);
        match (self.bug, old) {
            (Some(Bug::EditNotStored), _) if is_edit => Ok(now(self.store.head(at))?.counters),
            (Some(Bug::EditRestoresText), Some(old)) if !is_current && !is_retry => {
                let replaced = old.meta.id;
                now(self.store.replace(at, access, &Replace { replaced, ..replace.clone() }))
            }
            (Some(Bug::EditForgetsFlush), Some(old)) if is_edit && old.meta.summary => {
                // Another text in between.
                let other = NewMessage { message: Message::system("other"), ..as_new(old) };
                let id = MessageId::new(Uuid::from_u128(self.fresh_write().writer.bits()));
                let message = NewMessage { id, ..other };
                let write = self.fresh_write();
                let between = Replace { write, message, ..replace.clone() };
                now(self.store.replace(at, access, &between))?;
                now(self.store.replace(at, access, &Replace { replaced: id, ..replace.clone() }))
            }
            _ => {
                let mut replace = replace.clone();
                if is_edit && self.has(Bug::EditForgetsPrompt) && has_name(replace.message.id) {
                    replace.message.id = self.fresh_id();
                }
                let counters = now(self.store.replace(at, access, &replace))?;
                if !is_edit {
                    return Ok(counters);
                }
                self.lose_newer(at, access, replace.sequence)?;
                Ok(now(self.store.head(at))?.counters)
            }
        }
    }

    /// Removes the newest message after this place, if that bug is planted.
    fn lose_newer(
        &self,
        at: &MemoryKey,
        access: Access,
        place: Sequence,
    ) -> Result<(), StoreError> {
        if !self.has(Bug::EditLosesNewer) {
            return Ok(());
        }
        let outline = now(self.store.outline(at))?;
        let newest = outline.metas.last().map(|newest| newest.sequence);
        let evicted: Vec<_> = newest.into_iter().filter(|newest| *newest > place).collect();
        if !evicted.is_empty() {
            now(self.store.splice(at, access, &Splice { evicted, ..Splice::of(&outline) }))?;
        }
        Ok(())
    }

    /// The first message that an agent made critical.
    pub(super) fn pinned(outline: &Outline) -> Option<Sequence> {
        let is_pinned = |meta: &&MessageMeta| {
            meta.priority == Some(Priority::CRITICAL)
                && meta.content_type != ContentType::SystemPrompt
        };
        outline.metas.iter().find(is_pinned).map(|meta| meta.sequence)
    }

    /// The splice of a summary that is written anew, as the planted bug changes it; `None` if it is not applied.
    pub(super) fn changed_rewrite(&self, mut splice: Splice, outline: &Outline) -> Option<Splice> {
        let place = splice.removed_places().next();
        let present = place.and_then(|place| {
            outline.metas.iter().find(|meta| meta.sequence == place && meta.summary)
        });
        match self.bug {
            Some(Bug::RewriteReplacesNewer) if present.is_some() => {
                splice.generation = outline.head.generation;
                splice.newest = outline.metas.last().map(MessageMeta::newest);
            }
            Some(Bug::RewriteArchivesOld) => {
                splice.archive = Some(Retention::forever());
            }
            Some(Bug::RewriteLosesPriority) => {
                if let Some(summary) = &mut splice.summary {
                    summary.priority = Some(Priority::OPTIONAL);
                }
            }
            Some(Bug::RewriteNotStored) if splice.generation == outline.head.generation => {
                return None;
            }
            _ => {}
        }
        Some(splice)
    }

    /// Keeps the archived messages at these places for later rewrites, if that bug is planted.
    pub(super) fn keep_erased(
        &self,
        at: &MemoryKey,
        removals: &[ArchivedRemoval],
        places: &SequenceSet,
    ) -> Result<(), StoreError> {
        if !self.has(Bug::RewriteFromStale) {
            return Ok(());
        }
        for removal in removals {
            let limit = PageLimit::from(NonZeroUsize::MAX);
            let mut archived = now(self.store.archived(at, removal.number, Sequence::ZERO, limit))?;
            archived.retain(|one| places.contains(one.meta.sequence));
            let archived = archived.into_iter().map(|one| (at.clone(), removal.number, one));
            self.state().past.erased_messages.extend(archived);
        }
        Ok(())
    }

    /// The messages of a removal, with its erased ones.
    pub(crate) fn with_erased(
        &self,
        key: &MemoryKey,
        removal: u64,
        mut messages: Vec<StoredMessage>,
    ) -> Vec<StoredMessage> {
        let at = self.place(key);
        let state = self.state();
        let erased = state.past.erased_messages.iter();
        let of = erased.filter(|(of, number, _)| (of, *number) == (&at, removal));
        messages.extend(of.map(|(.., message)| message.clone()));
        messages.sort_by_key(|message| message.meta.sequence);
        messages
    }
}
