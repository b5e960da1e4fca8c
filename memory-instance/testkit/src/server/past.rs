//! The past in the simulated server, with the bugs that are planted in it.

use std::num::NonZeroUsize;
use std::time::Duration;

use memory_core::store::{
    Access, ArchivedRemoval, Clear, Counters, Erase, Erased, FLUSH_HELD, FoundIn, MAX_SEARCH_HITS,
    MessageId, NewMessage, PageLimit, Replace, Replacement, Restore, RestoreRefusal, Retention,
    SearchHit, SearchQuery, SearchResults, SequenceSet, Splice, StoreError, StoreErrorKind,
};
use memory_core::{MemoryKey, MemoryStore, Sequence, StoredMessage};
use tokio::time::Instant;

use super::{Server, now};
use crate::agent::SECRET;
use crate::bug::Bug;
use crate::program::KEPT_FOR;

/// The time after which a removal is archived, if that is a second step.
const SECOND_STEP: Duration = Duration::from_millis(40);

/// The memory of planted bugs.
#[derive(Debug, Default)]
pub(super) struct PastBugs {
    /// Removals that are not archived yet.
    hidden: Vec<(MemoryKey, u64, Instant)>,
    /// Removals whose messages are archived twice.
    doubled: Vec<(MemoryKey, u64)>,
    /// Hits of searches before erasures and undos, which an index still has.
    pub(super) stale_hits: Vec<(MemoryKey, SearchHit)>,
    /// How many messages too many are counted as present, and too few as withdrawn.
    pub(super) restored: std::collections::HashMap<MemoryKey, u64>,
    /// How many cleared results are counted as evicted too.
    pub(super) cleared: std::collections::HashMap<MemoryKey, u64>,
    /// Archived removals of deleted memories.
    deleted: Vec<(MemoryKey, ArchivedRemoval)>,
    /// Memories, and the forks that get their later writes.
    pub(super) shared: Vec<(MemoryKey, MemoryKey)>,
    /// Erased messages, with their removals.
    pub(super) erased_messages: Vec<(MemoryKey, u64, StoredMessage)>,
    /// The summaries that restored backups lack.
    pub(super) torn: Vec<memory_core::store::MessageMeta>,
    /// Completed copies, with their memories.
    pub(super) copied: Vec<(MemoryKey, uuid::Uuid)>,
    /// How many erased messages are counted as evicted.
    pub(super) erased: std::collections::HashMap<MemoryKey, u64>,
}

/// The message, to be stored again.
pub(super) fn as_new(StoredMessage { meta, message, .. }: &StoredMessage) -> NewMessage {
    NewMessage {
        id: meta.id,
        message: message.clone(),
        tokens: meta.tokens,
        priority: meta.priority,
        content_type: meta.content_type.clone(),
        created_at: meta.created_at,
    }
}

/// Whether the id has a name: that of an ensured system prompt.
pub(super) fn has_name(id: MessageId) -> bool {
    id.uuid().get_version_num() == 8
}

impl Server {
    /// The id of a message without a name.
    pub(super) fn fresh_id(&self) -> MessageId {
        MessageId::new(uuid::Uuid::from_u128(self.fresh_write().writer.bits() & !(0xf << 76)))
    }

    fn all_removals(&self, at: &MemoryKey) -> Result<Vec<ArchivedRemoval>, StoreError> {
        now(self.store.removals(at, None, NonZeroUsize::MAX))
    }

    fn all_hits(&self, at: &MemoryKey) -> Result<Vec<SearchHit>, StoreError> {
        let limit = NonZeroUsize::new(MAX_SEARCH_HITS).unwrap_or(NonZeroUsize::MIN);
        Ok(now(self.store.search(at, &SearchQuery::new(SECRET).with_limit(limit)))?.hits)
    }

    /// The archived messages of all memories, if the archive stays when the server rolls back.
    pub(super) fn archived_hits(&self) -> Vec<(MemoryKey, SearchHit)> {
        if !self.has(Bug::RollbackKeepsArchive) {
            return Vec::new();
        }
        let all = now(self.store.keys(None, NonZeroUsize::MAX)).unwrap_or_default();
        let hits = all.into_iter().flat_map(|at| {
            let hits = self.all_hits(&at).unwrap_or_default().into_iter();
            hits.map(move |hit| (at.clone(), hit))
        });
        hits.filter(|(_, hit)| hit.found_in != FoundIn::Present).collect()
    }

    /// Keeps the hits at these places for later searches, if that bug is planted.
    pub(super) fn keep_hits(
        &self,
        bug: Bug,
        at: &MemoryKey,
        is_kept: impl Fn(Sequence) -> bool,
    ) -> Result<(), StoreError> {
        if self.has(bug) {
            let mut hits = self.all_hits(at)?;
            hits.retain(|hit| is_kept(hit.sequence));
            let hits = hits.into_iter().map(|hit| (at.clone(), hit));
            self.state().past.stale_hits.extend(hits);
        }
        Ok(())
    }

    /// Keeps the archived removals of a memory that is deleted, if that bug is planted.
    pub(super) fn keep_archive(&self, at: &MemoryKey) -> Result<(), StoreError> {
        if self.has(Bug::DeleteKeepsArchive) {
            let removals = self.all_removals(at)?.into_iter();
            self.state().past.deleted.extend(removals.map(|removal| (at.clone(), removal)));
        }
        if self.has(Bug::DeleteKeepsIndex) {
            let mut hits = self.all_hits(at)?;
            hits.retain(|hit| hit.found_in != FoundIn::Present);
            let hits = hits.into_iter().map(|hit| (at.clone(), hit));
            self.state().past.stale_hits.extend(hits);
        }
        Ok(())
    }

    /// The time for which all archived messages are kept ends. The step is long enough even after steps back.
    pub(crate) fn end_archives(&self) {
        self.clock.step_forward(KEPT_FOR + Duration::from_mins(5));
    }

    /// The retention as the planted bug changes it.
    pub(super) fn retention(&self, archive: Option<Retention>) -> Option<Retention> {
        let mut archive = archive?;
        match self.bug {
            Some(Bug::ArchiveBeyondLimit) => archive = Retention::forever(),
            Some(Bug::ArchiveOutlivesKeep) => archive.keep = None,
            Some(Bug::ArchiveEndsEarly) => archive.keep = Some(Duration::from_millis(100)),
            _ => {}
        }
        Some(archive)
    }

    fn is_hidden(&self, at: &MemoryKey, removal: u64) -> bool {
        let now = Instant::now();
        self.state()
            .past
            .hidden
            .iter()
            .any(|(of, number, until)| (of, *number) == (at, removal) && now < *until)
    }

    /// Called after each removal by a splice or a clear.
    pub(super) fn archived_now(&self, at: &MemoryKey) -> Result<(), StoreError> {
        if !matches!(self.bug, Some(Bug::ArchiveLater | Bug::ArchivedAgain)) {
            return Ok(());
        }
        let Some(number) = self.all_removals(at)?.first().map(|newest| newest.number) else {
            return Ok(());
        };
        let mut state = self.state();
        let until = Instant::now() + SECOND_STEP;
        if self.has(Bug::ArchiveLater) {
            let is_new =
                !state.past.hidden.iter().any(|(of, known, _)| (of, *known) == (at, number));
            if is_new {
                state.past.hidden.push((at.clone(), number, until));
            }
        } else if number.is_multiple_of(3) {
            state.past.doubled.push((at.clone(), number));
        }
        Ok(())
    }

    /// The clear as the planted bug changes it.
    pub(super) fn changed_clear(&self, clear: &Clear) -> Clear {
        let archive = match self.bug {
            Some(Bug::ClearForgetsArchive) => None,
            Some(Bug::PurgeKeepsArchive) => clear.archive.or(Some(Retention::forever())),
            _ => self.retention(clear.archive),
        };
        Clear { archive, ..*clear }
    }

    pub(crate) fn restore(
        &self,
        key: &MemoryKey,
        access: Access,
        restore: &Restore,
    ) -> Result<Counters, StoreError> {
        let at = self.place(key);
        let is_retry = self.is_retry(&at, restore.write);
        if !is_retry {
            self.check_lease(key, access)?;
        }
        let receipt = restore.receipt;
        let removals = self.all_removals(&at)?;
        let is_it = |removal: &&ArchivedRemoval| {
            removal.receipt.as_ref().is_some_and(|found| found.id == receipt)
        };
        let removal = removals.iter().find(is_it);
        if removal.is_some_and(|removal| self.is_hidden(&at, removal.number)) {
            let kind = StoreErrorKind::NotRestorable(RestoreRefusal::NotArchived);
            let operation = memory_core::store::StoreOperation::Restore;
            return Err(StoreError::new(operation, kind).not_applied().at(key));
        }
        let before = now(self.store.read(&at, memory_core::store::Read::default()))?.messages;
        let access = self.access(access);
        let mut done = now(self.store.restore(&at, access, restore));
        let refusal = match &done {
            Err(error) => match error.kind() {
                StoreErrorKind::NotRestorable(refusal) => Some(*refusal),
                _ => None,
            },
            Ok(_) => None,
        };
        match (self.bug, refusal) {
            (Some(Bug::UndoAfterErase), Some(RestoreRefusal::Erased)) => {
                done = Ok(now(self.store.head(&at))?.counters);
            }
            (Some(Bug::UndoIgnoresLaterSummary), Some(RestoreRefusal::SummaryRemoved)) => {
                // The later one is undone too.
                let later = removals.iter().take_while(|removal| !is_it(removal));
                for later in later.filter_map(|later| later.receipt.as_ref()) {
                    let write = self.fresh_write();
                    let _ =
                        now(self.store.restore(&at, access, &Restore { write, receipt: later.id }));
                }
                done = now(self.store.restore(&at, access, restore));
            }
            _ => {}
        }
        let mut counters = done?;
        self.wrote(&at, restore.write);
        let Some(removal) = removal.filter(|_| !is_retry) else {
            self.repair(&at, &mut counters);
            return Ok(counters);
        };
        self.undone(&at, access, removal, &before)?;
        counters = now(self.store.head(&at))?.counters;
        self.repair(&at, &mut counters);
        Ok(counters)
    }

    /// The effect of a planted bug on an undo.
    fn undone(
        &self,
        at: &MemoryKey,
        access: Access,
        removal: &ArchivedRemoval,
        before: &[StoredMessage],
    ) -> Result<(), StoreError> {
        let outline = now(self.store.outline(at))?;
        let mut splice = Splice::of(&outline);
        let summary = removal.receipt.as_ref().and_then(|receipt| receipt.summary.as_ref());
        match self.bug {
            Some(Bug::UndoKeepsSummary) => {
                let summary = summary
                    .and_then(|summary| before.iter().find(|stored| stored.meta.id == summary.id));
                let Some(summary) = summary else { return Ok(()) };
                splice.summarized = vec![summary.meta.sequence];
                splice.summary = Some(as_new(summary));
            }
            Some(Bug::UndoLosesOriginal) => {
                splice.evicted = removal.places.iter().take(1).collect();
            }
            Some(Bug::UndoKeepsMarker) => {
                let receipt = removal.receipt.iter();
                let replaced = receipt.flat_map(|receipt| &receipt.replaced);
                for replaced in replaced {
                    let marker = before.iter().find(|stored| stored.meta.id == replaced.id);
                    splice.replaced.extend(marker.map(|marker| Replacement {
                        sequence: marker.meta.sequence,
                        message: as_new(marker),
                    }));
                }
            }
            Some(Bug::UndoDropsNewer) => {
                let last = removal.places.iter().last();
                let newest = before.iter().map(|stored| stored.meta.sequence).next_back();
                splice.evicted = newest.into_iter().filter(|newest| Some(*newest) > last).collect();
            }
            Some(Bug::UndoForgetsPrompt) => {
                let there = now(self.store.read(at, memory_core::store::Read::default()))?;
                let is_it = |one: &&StoredMessage| {
                    removal.places.contains(one.meta.sequence) && has_name(one.meta.id)
                };
                for prompt in there.messages.iter().filter(is_it) {
                    let message = NewMessage { id: self.fresh_id(), ..as_new(prompt) };
                    let (sequence, replaced) = (prompt.meta.sequence, prompt.meta.id);
                    let write = self.fresh_write();
                    let replace = Replace { write, sequence, replaced, message };
                    now(self.store.replace(at, access, &replace))?;
                }
                return Ok(());
            }
            Some(Bug::RestoredCountedTwice) => {
                *self.state().past.restored.entry(at.clone()).or_default() += removal.messages;
                return Ok(());
            }
            Some(Bug::UndoKeepsArchived) => {
                // Before the undo these were archived.
                let mut hits = self.all_hits(at)?;
                hits.retain(|hit| removal.places.contains(hit.sequence));
                let archived = FoundIn::Archived { removal: removal.number };
                hits.iter_mut().for_each(|hit| hit.found_in = archived);
                let hits = hits.into_iter().map(|hit| (at.clone(), hit));
                self.state().past.stale_hits.extend(hits);
                return Ok(());
            }
            _ => return Ok(()),
        }
        if splice.changes() {
            now(self.store.splice(at, access, &splice))?;
        }
        Ok(())
    }

    pub(crate) fn erase(
        &self,
        key: &MemoryKey,
        access: Access,
        erase: &Erase,
    ) -> Result<Erased, StoreError> {
        let at = self.place(key);
        let is_retry = self.is_retry(&at, erase.write);
        if !is_retry {
            self.check_lease(key, access)?;
        }
        let outline = now(self.store.outline(&at))?;
        let present: SequenceSet = outline.metas.iter().map(|meta| meta.sequence).collect();
        let removals = self.all_removals(&at)?;
        let archived =
            removals.iter().fold(SequenceSet::default(), |all, removal| all.union(&removal.places));
        let mut changed = erase.clone();
        // An erasure names at least one place.
        let nowhere: SequenceSet = [Sequence::new(u64::MAX)].into_iter().collect();
        match self.bug {
            Some(Bug::EraseForgetsRetry) if is_retry => changed.write = self.fresh_write(),
            Some(Bug::EraseLeavesArchived) if !is_retry => {
                changed.places = erase.places.without(&archived).union(&nowhere);
            }
            Some(Bug::EraseLeavesPresent) if !is_retry => {
                changed.places = erase.places.without(&present).union(&nowhere);
            }
            _ => {}
        }
        self.keep_hits(Bug::EraseKeepsIndex, &at, |place| erase.places.contains(place))?;
        self.keep_erased(&at, &removals, &erase.places)?;
        let mut erased = now(self.store.erase(&at, self.access(access), &changed))?;
        self.wrote(&at, erase.write);
        let both = |set: &SequenceSet| erase.places.iter().filter(|at| set.contains(*at)).collect();
        match self.bug {
            Some(Bug::EraseLeavesArchived) if !is_retry => {
                erased.erasure.archived = both(&archived);
            }
            Some(Bug::EraseLeavesPresent) if !is_retry => {
                erased.erasure.present = both(&present);
            }
            Some(Bug::ErasedCountedAsEvicted) if !is_retry => {
                let erased = erased.counters.withdrawn - outline.head.counters.withdrawn;
                *self.state().past.erased.entry(at.clone()).or_default() += erased;
            }
            _ => {}
        }
        self.ended(Bug::EraseUnnoticed, &at, outline.head.generation);
        self.repair(&at, &mut erased.counters);
        Ok(erased)
    }

    pub(crate) fn removals(
        &self,
        key: &MemoryKey,
        before: Option<u64>,
        limit: NonZeroUsize,
    ) -> Result<Vec<ArchivedRemoval>, StoreError> {
        let at = self.place(key);
        let mut removals = now(self.store.removals(&at, before, limit))?;
        removals.retain(|removal| !self.is_hidden(&at, removal.number));
        let state = self.state();
        // Only in the first part of the list, which would not end otherwise.
        let deleted = state.past.deleted.iter().filter(|(of, _)| *of == at && before.is_none());
        removals.extend(deleted.map(|(_, removal)| removal.clone()));
        Ok(removals)
    }

    pub(crate) fn archived(
        &self,
        key: &MemoryKey,
        removal: u64,
        after: Sequence,
        limit: PageLimit,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let at = self.place(key);
        let mut messages = now(self.store.archived(&at, removal, after, limit))?;
        match self.bug {
            Some(Bug::ArchivedReadMissesLast) if messages.len() > 1 => drop(messages.pop()),
            _ if self.is_hidden(&at, removal) => messages.clear(),
            _ => {}
        }
        Ok(messages)
    }

    pub(crate) fn search(
        &self,
        key: &MemoryKey,
        query: &SearchQuery,
    ) -> Result<SearchResults, StoreError> {
        let at = self.place(key);
        let mut results = now(self.store.search(&at, query))?;
        let hits = &mut results.hits;
        let number = |hit: &SearchHit| match hit.found_in {
            FoundIn::Archived { removal } => Some(removal),
            _ => None,
        };
        hits.retain(|hit| number(hit).is_none_or(|removal| !self.is_hidden(&at, removal)));
        match self.bug {
            Some(Bug::SearchMissesArchived) => hits.retain(|hit| number(hit).is_none()),
            Some(Bug::SearchMissesNewest) => {
                let last = now(self.store.head(&at))?.last;
                hits.retain(|hit| hit.sequence != last);
            }
            Some(Bug::ArchivedAgain) => {
                let state = self.state();
                let is_doubled = |hit: &&SearchHit| {
                    let doubled = &state.past.doubled;
                    number(hit).is_some_and(|number| doubled.contains(&(at.clone(), number)))
                };
                let again: Vec<_> = hits.iter().filter(is_doubled).cloned().collect();
                hits.extend(again);
            }
            Some(
                Bug::EraseKeepsIndex
                | Bug::ReplaceKeepsIndex
                | Bug::UndoKeepsArchived
                | Bug::DeleteKeepsIndex
                | Bug::RollbackKeepsArchive,
            ) => {
                let state = self.state();
                let stale = state.past.stale_hits.iter().filter(|(of, _)| *of == at);
                hits.extend(stale.map(|(_, hit)| hit.clone()));
            }
            _ => {}
        }
        Ok(results)
    }

    /// The mark of the next flush, as the planted bug has it.
    pub(super) fn flush_mark(&self, next_flush_at: Option<u64>) -> Option<u64> {
        next_flush_at.filter(|mark| *mark != FLUSH_HELD || !self.has(Bug::UndoHoldsNoFlush))
    }
}
