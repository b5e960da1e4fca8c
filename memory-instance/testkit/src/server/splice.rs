//! Splices of the simulated server, with the bugs that are planted in them.

use std::collections::HashSet;

use memory_core::store::{Access, Counters, MessageMeta, Newest, Outline, Splice, StoreError};
use memory_core::{MemoryKey, MemoryStore, Sequence};

use super::{Server, now};
use crate::bug::Bug;
use crate::history::REWRITE;

/// The newest message that is there.
fn newest_of(outline: &Outline) -> Option<Newest> {
    outline.metas.last().map(MessageMeta::newest)
}

impl Server {
    pub(crate) fn splice(
        &self,
        key: &MemoryKey,
        access: Access,
        mut splice: Splice,
    ) -> Result<Counters, StoreError> {
        let at = self.place(key);
        let newest = now(self.store.receipts(&at))?.first().map(|receipt| receipt.id);
        let is_retry = splice.receipt.as_ref().is_some_and(|r| Some(r.id) == newest);
        if !is_retry {
            self.check_lease(key, access)?;
        }
        if let Some(proof) = splice.flusher.filter(|_| self.shared_domain && !is_retry) {
            self.live(key, proof, self.held(&key.flush_lease_name()))?;
        }
        if self.has(Bug::NoFencing) {
            splice.flusher = None;
        }
        if self.bug.is_some() {
            // The store below would compare it with the removed messages, and refuse the effect of a planted bug. The
            // checks of the history must find the bug themselves.
            splice.removed = None;
        }
        let outline = now(self.store.outline(&at))?;
        let is_current = splice.generation == outline.head.generation && !is_retry;
        splice.archive = self.retention(splice.archive);
        if self.has(Bug::ClearedForgetsOriginal) && !splice.replaced.is_empty() {
            splice.archive = None;
        }
        if self.has(Bug::SpliceTakesOthers) {
            splice.newest = None;
        }
        if splice.receipt.as_ref().is_some_and(|receipt| receipt.strategy == REWRITE) && !is_retry {
            let Some(changed) = self.changed_rewrite(splice, &outline) else {
                return Ok(outline.head.counters);
            };
            splice = changed;
        }
        let removes = !splice.summarized.is_empty() || !splice.evicted.is_empty();
        let is_planned = |place: Sequence, splice: &Splice| {
            splice.summarized.contains(&place) || splice.evicted.contains(&place)
        };
        match self.bug {
            Some(Bug::WithdrawalIgnoresNewer) => splice.newest = newest_of(&outline),
            Some(Bug::WithdrawnCountedAsEvicted) => {
                splice.evicted.append(&mut splice.withdrawn);
            }
            Some(Bug::NoGenerationCheck) if !is_retry => {
                splice.generation = outline.head.generation;
                let there: HashSet<_> = outline.metas.iter().map(|meta| meta.sequence).collect();
                splice.summarized.retain(|place| there.contains(place));
                splice.evicted.retain(|place| there.contains(place));
                if splice.summarized.is_empty() {
                    splice.summary = None;
                }
            }
            Some(Bug::FlushTakesNewAppends) if is_current && removes => {
                let seen = splice.receipt.as_ref().map_or(0, |receipt| receipt.messages_before);
                let seen = usize::try_from(seen).unwrap_or(usize::MAX);
                let new = outline.metas.iter().skip(seen).map(|meta| meta.sequence);
                let new: Vec<_> = new.filter(|place| !is_planned(*place, &splice)).collect();
                splice.evicted.extend(new);
            }
            Some(Bug::CriticalEvicted) if is_current && removes => {
                let critical = outline
                    .metas
                    .iter()
                    .find(|meta| meta.priority.is_some_and(memory_core::Priority::is_critical));
                splice.evicted.extend(critical.map(|meta| meta.sequence));
            }
            Some(Bug::PinnedFlushed) if is_current && removes => {
                let pinned = Self::pinned(&outline).filter(|place| !is_planned(*place, &splice));
                splice.evicted.extend(pinned);
            }
            Some(Bug::UnitSplit) if is_current && removes => {
                let call = outline.metas.iter().find(|meta| {
                    let is_answered = |call: &memory_core::plan::ToolRef| {
                        let results =
                            outline.metas.iter().flat_map(|other| other.link.results.iter());
                        results.into_iter().any(|result| result.id == call.id)
                    };
                    !is_planned(meta.sequence, &splice) && meta.link.calls.iter().any(is_answered)
                });
                splice.evicted.extend(call.map(|meta| meta.sequence));
            }
            Some(Bug::SourcesKept) if is_current => {
                splice.summarized.truncate(1);
            }
            Some(Bug::TokensNotReturned) if is_current => {
                let gone =
                    outline.metas.iter().filter(|meta| splice.evicted.contains(&meta.sequence));
                let tokens: u64 = gone.map(|meta| u64::from(meta.tokens)).sum();
                *self.state().leaked_tokens.entry(at.clone()).or_default() += tokens;
            }
            _ => {}
        }
        let mut counters = now(self.store.splice(&at, self.access(access), &splice))?;
        self.archived_now(&at)?;
        if self.has(Bug::ClearedCountedAsEvicted) && is_current {
            let replaced = splice.replaced.len() as u64;
            *self.state().past.cleared.entry(at.clone()).or_default() += replaced;
        }
        if is_current && removes {
            self.ended(Bug::FlushUnnoticed, &at, outline.head.generation);
        }
        self.repair(&at, &mut counters);
        Ok(counters)
    }
}
