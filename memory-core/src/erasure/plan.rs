//! The changes of an erasure, computed from what the store found: the same for each store.

use std::collections::{BTreeSet, HashSet};

use super::{AffectedSummary, Erasure, Evidence};
use crate::archive::{ArchivedRemoval, RemovalCause};
use crate::counters::Counters;
use crate::receipt::{FlushReceipt, SequenceSet};
use crate::stored::{MessageId, MessageMeta, Sequence};
use crate::undone::receipts_in_effect;

/// The state of a memory, as far as an erasure of some places needs it.
#[derive(Debug, Default)]
pub struct Erasable {
    /// The last place that the memory assigned.
    pub last: Sequence,
    /// The present messages at the places to erase.
    pub present: Vec<MessageMeta>,
    /// The places and ids of all present summaries.
    pub summaries: Vec<(Sequence, MessageId)>,
    /// The kept receipts, newest first.
    pub receipts: Vec<FlushReceipt>,
    /// The removals whose retention has not ended, oldest first.
    pub removals: Vec<ErasableRemoval>,
}

/// An archived removal, as far as an erasure of some places needs it.
#[derive(Debug)]
pub struct ErasableRemoval {
    /// The removal.
    pub removal: ArchivedRemoval,
    /// Its messages at the places to erase, with the bytes of each.
    pub found: Vec<(MessageMeta, u64)>,
    /// The places and ids of all its summaries.
    pub summaries: Vec<(Sequence, MessageId)>,
}

/// The changes of an erasure.
#[derive(Debug, Default)]
pub struct ErasurePlan {
    /// The present messages that are erased.
    pub present: Vec<MessageMeta>,
    /// The removals that change: the index in [`Erasable::removals`], and the removal after the erasure.
    pub removals: Vec<(usize, ArchivedRemoval)>,
    /// The receipts that change: the index in [`Erasable::receipts`], and the receipt after the erasure.
    pub receipts: Vec<(usize, FlushReceipt)>,
    /// The archived messages that are no longer counted as summarized, evicted or cleared.
    pub moved: Moved,
    archived: Vec<Sequence>,
    summaries: Vec<AffectedSummary>,
}

/// Archived messages by the counter that they leave; all are counted as withdrawn afterwards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// They were summarized.
    pub summarized: u64,
    /// They were evicted.
    pub evicted: u64,
    /// They were cleared.
    pub cleared: u64,
}

impl Moved {
    /// All of them.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.summarized.saturating_add(self.evicted).saturating_add(self.cleared)
    }

    /// The message leaves the counter of its removal. A removal by a flush without a receipt does not say how the
    /// message was counted, so it stays counted as it was.
    fn add(&mut self, meta: &MessageMeta, removal: &ArchivedRemoval) {
        if meta.is_summary() {
            return;
        }
        let count = match (removal.cause, &removal.receipt) {
            (RemovalCause::Clear, _) => &mut self.cleared,
            (RemovalCause::Flush, Some(receipt)) if receipt.summarized.contains(meta.sequence) => {
                &mut self.summarized
            }
            (RemovalCause::Flush, Some(receipt)) if receipt.evicted.contains(meta.sequence) => {
                &mut self.evicted
            }
            _ => return,
        };
        *count = count.saturating_add(1);
    }
}

impl ErasurePlan {
    /// The plan to erase the messages at these places.
    #[must_use]
    pub fn new(places: &SequenceSet, state: &Erasable) -> Self {
        let mut plan = Self { present: state.present.clone(), ..Self::default() };
        let mut erased: HashSet<MessageId> = plan.present.iter().map(|meta| meta.id).collect();
        for ErasableRemoval { found, .. } in &state.removals {
            erased.extend(found.iter().map(|(meta, _)| meta.id));
        }
        let (summaries, repeating) = affected(places, state, &erased);
        plan.summaries = summaries;
        let may_quote = |receipt: &FlushReceipt| {
            let names = |set: &SequenceSet| set.meets(places);
            receipt.summary.as_ref().is_some_and(|summary| repeating.contains(&summary.id))
                || receipt.removed().into_iter().any(names)
        };
        for (index, kept) in state.removals.iter().enumerate() {
            plan.erase_archived(index, kept, may_quote);
        }
        for (index, receipt) in state.receipts.iter().enumerate() {
            if may_quote(receipt)
                && let Some(without) = without_texts(receipt)
            {
                plan.receipts.push((index, without));
            }
        }
        plan
    }

    fn erase_archived(
        &mut self,
        index: usize,
        ErasableRemoval { removal, found, .. }: &ErasableRemoval,
        may_quote: impl Fn(&FlushReceipt) -> bool,
    ) {
        let receipt = removal.receipt.as_ref();
        let without =
            receipt.filter(|it| !found.is_empty() || may_quote(it)).and_then(without_texts);
        // With its summary, the original whose place it has is erased.
        if found.is_empty() && without.is_none() {
            return;
        }
        let mut after = removal.clone();
        for (meta, bytes) in found {
            self.moved.add(meta, removal);
            self.archived.push(meta.sequence);
            after.messages = after.messages.saturating_sub(1);
            after.tokens = after.tokens.saturating_sub(meta.tokens.into());
            after.bytes = after.bytes.saturating_sub(*bytes);
        }
        let gone: SequenceSet = found.iter().map(|(meta, _)| meta.sequence).collect();
        after.places = removal.places.without(&gone);
        after.erased = removal.erased.union(&gone);
        if without.is_some() {
            after.receipt = without;
        }
        self.removals.push((index, after));
    }

    /// Counts the erased messages as withdrawn.
    pub fn count(&self, counters: &mut Counters) {
        for meta in &self.present {
            counters.withdraw(meta);
        }
        let Moved { summarized, evicted, cleared } = self.moved;
        counters.summarized = counters.summarized.saturating_sub(summarized);
        counters.evicted = counters.evicted.saturating_sub(evicted);
        counters.cleared = counters.cleared.saturating_sub(cleared);
        counters.withdrawn = counters.withdrawn.saturating_add(self.moved.total());
    }

    /// The record of the erasure of these places: `record` with all its other fields.
    #[must_use]
    pub fn record(self, places: &SequenceSet, record: Erasure) -> Erasure {
        let messages = self.present.len().saturating_add(self.archived.len());
        let present: SequenceSet = self.present.iter().map(|meta| meta.sequence).collect();
        let archived: SequenceSet = self.archived.into_iter().collect();
        Erasure {
            not_found: places.without(&present).without(&archived),
            present,
            archived,
            messages: u64::try_from(messages).unwrap_or(u64::MAX),
            summaries: self.summaries,
            ..record
        }
    }
}

/// The receipt without the reason that a summarizer gave, which may quote a message; `None` if it has none.
fn without_texts(receipt: &FlushReceipt) -> Option<FlushReceipt> {
    let mut without = receipt.clone();
    without.summary.as_mut()?.fallback.take()?;
    Some(without)
}

/// The summaries that remain and were written from messages at these places, or may have been; and the ids of all such
/// summaries, also of those that do not remain.
fn affected(
    places: &SequenceSet,
    state: &Erasable,
    erased: &HashSet<MessageId>,
) -> (Vec<AffectedSummary>, HashSet<MessageId>) {
    let archived =
        state.removals.iter().flat_map(|ErasableRemoval { removal, summaries, .. }| {
            summaries.iter().map(|(sequence, id)| (*sequence, *id, Some(removal.number)))
        });
    let present = state.summaries.iter().map(|(sequence, id)| (*sequence, *id, None));
    let remaining: Vec<_> =
        archived.chain(present).filter(|(_, id, _)| !erased.contains(id)).collect();
    // A flush that was undone wrote no summary that remains.
    let removals = state.removals.iter().map(|kept| &kept.removal);
    let mut receipts = receipts_in_effect(&state.receipts, removals, &state.present);
    receipts.reverse();

    let asked: BTreeSet<_> = places.iter().filter(|place| *place <= state.last).collect();
    let mut tainted = asked.clone();
    let (mut written, mut replaced) = (HashSet::new(), BTreeSet::new());
    let named: HashSet<_> =
        receipts.iter().filter_map(|receipt| Some(receipt.summary.as_ref()?.id)).collect();
    for receipt in &receipts {
        let is_tainted = tainted.iter().any(|place| receipt.summarized.contains(*place));
        if let Some(summary) = receipt.summary.as_ref().filter(|_| is_tainted) {
            written.insert(summary.id);
            tainted.insert(summary.sequence);
            replaced.insert(summary.sequence);
        }
    }
    let is_explained = |place: Sequence| {
        let named = |receipt: &FlushReceipt| {
            receipt.removed().into_iter().any(|removed| removed.contains(place))
        };
        let cleared = |kept: &ErasableRemoval| {
            let ErasableRemoval { removal, .. } = kept;
            removal.cause == RemovalCause::Clear && removal.places.contains(place)
        };
        state.present.iter().any(|meta| meta.sequence == place && !meta.is_summary())
            || receipts.iter().any(named)
            || state.removals.iter().any(cleared)
    };
    let unexplained = asked.iter().rev().copied().find(|place| !is_explained(*place));
    let mut found: Vec<_> = remaining
        .into_iter()
        .filter_map(|(sequence, id, removal)| {
            // A summary has the first of the places that it replaced, and so does one that was written from it.
            let evidence = if written.contains(&id) {
                Evidence::Receipt
            } else if unexplained.is_some_and(|place| sequence <= place)
                // A message that replaced such a summary has another id.
                || replaced.contains(&sequence) && !named.contains(&id)
            {
                Evidence::Place
            } else {
                return None;
            };
            Some(AffectedSummary { evidence, ..AffectedSummary::new(sequence, id, removal) })
        })
        .collect();
    found.sort_unstable_by_key(|summary| {
        (summary.sequence, summary.removal.is_none(), summary.removal)
    });
    written.extend(found.iter().map(|summary| summary.id));
    (found, written)
}
