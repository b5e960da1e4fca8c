//! Operations on the past of a memory.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use memory_core::Sequence;
use memory_core::store::{Applied, ArchivedRemoval, MAX_SEARCH_HITS, SearchQuery, StoreErrorKind};
use memory_instance::{MemoryError, MemoryInstance};

use super::reads::items_of;
use super::{Run, SECRET};
use crate::bug::Bug;
use crate::history::{Answer, Call, Hit, Recorder, numbers};
use crate::link::{deleting, writing};

/// The removals that an agent looks at.
const NEWEST: NonZeroUsize = match NonZeroUsize::new(8) {
    Some(newest) => newest,
    None => NonZeroUsize::MIN,
};

/// All messages of agents that one search finds.
const HITS: NonZeroUsize = match NonZeroUsize::new(MAX_SEARCH_HITS) {
    Some(hits) => hits,
    None => NonZeroUsize::MIN,
};

impl Run<'_> {
    pub(super) async fn purge(&self) {
        let op = self.recorder.call(self.key, Call::Purge(self.tags.call()));
        let purged = writing(op, self.memory.purge()).await;
        self.settle_other(op, purged.map(|_| Answer::Cleared));
    }

    /// Deletes a memory. The server records that; an answer requires that the memory was empty meanwhile.
    pub(super) async fn delete(&self, key: usize) {
        let op = self.recorder.call(key, Call::Read(None));
        let deleted = deleting(self.process.memory(key).delete()).await;
        self.told(deleted.as_ref().err());
        if deleted.is_ok() {
            self.recorder.answer(op, Answer::Page(Vec::new(), None));
        }
    }

    /// Undoes the removal before this number of newer ones.
    pub(super) async fn undo(&self, newer: usize) {
        let Some(removals) = self.removals().await else { return };
        let mut receipts = removals.iter().filter_map(|removal| removal.receipt.as_ref());
        let Some(receipt) = receipts.nth(newer).map(|receipt| receipt.id) else { return };
        let call = Call::Undo { id: self.tags.call(), receipt: receipt.as_u128() };
        let op = self.recorder.call(self.key, call);
        let undone = match writing(op, self.memory.undo_flush(receipt)).await {
            Err(error) if error.applied() == Applied::No => match error.store_kind() {
                Some(StoreErrorKind::NotRestorable(reason)) => Ok(Answer::NotUndone(*reason)),
                _ => Err(error),
            },
            undone => undone.map(|_| Answer::Undone),
        };
        self.settle_other(op, undone);
    }

    /// Erases messages, present or archived.
    pub(super) async fn erase(&self, from: usize, count: usize) {
        let Some((_, items)) = self.read_version().await else { return };
        let Some(removals) = self.removals().await else { return };
        let mut places: BTreeSet<u64> = items.iter().map(|(place, _)| *place).collect();
        places.extend(removals.iter().flat_map(|removal| numbers(&removal.places)));
        let first = from.checked_rem(places.len()).unwrap_or_default();
        let places: Vec<u64> = places.into_iter().skip(first).take(count).collect();
        if places.is_empty() {
            return;
        }
        let call = Call::Erase { id: self.tags.call(), places: places.clone() };
        let op = self.recorder.call(self.key, call);
        let places = places.into_iter().map(Sequence::new);
        let erased = writing(op, self.memory.erase(places, "on demand")).await;
        let erased = erased.map(|receipt| {
            let erasure = receipt.erasure;
            Answer::Erased(numbers(&erasure.present), numbers(&erasure.archived))
        });
        self.settle_other(op, erased);
    }

    /// Reads the archive. The connection records the requests.
    pub(super) async fn archive(&self) {
        let read = self.memory.archived(Sequence::ZERO..=Sequence::new(u64::MAX)).await;
        self.told(read.as_ref().err());
        self.originals(0).await;
    }

    /// Reads the originals of the summary before this number of newer ones, of those present and those that the archive
    /// names.
    pub(super) async fn originals(&self, newer: usize) {
        let Ok(newest) = self.memory.last(50).await else { return };
        let present = newest.iter().filter(|stored| stored.meta.summary).map(|one| one.meta.id);
        let Some(removals) = self.removals().await else { return };
        let receipts = removals.iter().filter_map(|removal| removal.receipt.as_ref());
        let named = receipts.filter_map(|receipt| Some(receipt.summary.as_ref()?.id));
        let named: Vec<_> = named.collect();
        let all = || present.clone().chain(named.iter().copied());
        let Some(mut summary) = all().nth(newer) else { return };
        let op = self.recorder.call(self.key, Call::Originals(summary.uuid().as_u128()));
        if self.process.link.bug() == Some(Bug::OriginalsOfNewest) {
            summary = named.first().copied().unwrap_or(summary);
        }
        let originals = self.memory.originals(summary).await;
        self.told(originals.as_ref().err());
        if let Ok(originals) = originals {
            self.recorder.answer(op, Answer::Archived(items_of(&originals)));
        }
    }

    async fn removals(&self) -> Option<Vec<ArchivedRemoval>> {
        let removals = self.memory.removals(None, NEWEST).await;
        self.told(removals.as_ref().err());
        removals.ok()
    }

    /// Records the outcome of a write other than an append.
    pub(super) fn settle_other(&self, op: usize, done: Result<Answer, MemoryError>) {
        self.told(done.as_ref().err());
        match done {
            Ok(answer) => self.recorder.answer(op, answer),
            Err(error) if error.applied() == Applied::No => self.recorder.refused(op),
            Err(_) => {}
        }
    }
}

/// Searches for the word that all messages of agents contain.
pub(crate) async fn search(
    memory: &MemoryInstance,
    key: usize,
    recorder: &Recorder,
) -> Result<(), MemoryError> {
    let op = recorder.call(key, Call::Search);
    let results = memory.search(&SearchQuery::new(SECRET).with_limit(HITS)).await?;
    debug_assert_eq!(results.coverage.next(), None, "the reference looks at all messages");
    // A summary may quote them.
    let mut hits: Vec<Hit> = results.hits.iter().filter(|hit| !hit.summary).map(Hit::of).collect();
    hits.sort_unstable();
    recorder.answer(op, Answer::Found(hits));
    Ok(())
}
