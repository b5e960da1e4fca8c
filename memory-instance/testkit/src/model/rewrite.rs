//! Summaries in the sequential model: the messages that they repeat, and writing them anew.

use std::collections::BTreeSet;

use memory_core::store::KEPT_RECEIPTS;

use super::archive::Count;
use super::{State, Stored, WindowRules};
use crate::history::{Item, Rewrote, Tag};
use crate::program::Kind;
use crate::summarizer::sources_in;

/// The record of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Receipt {
    pub(super) id: u128,
    pub(super) summary: Option<u128>,
    /// The last place that it names, or 0.
    pub(super) last: u64,
}

/// In place of the id of a summary that has none.
const NO_ID: u128 = 0;

impl WindowRules {
    /// The messages of agents that a message repeats, without tool results; `None` if its text does not say so.
    fn sources(&self, item: Item, kind: Kind) -> Option<BTreeSet<Tag>> {
        match item {
            _ if kind == Kind::Result => Some(BTreeSet::new()),
            Item::Message(tag) => Some([tag].into()),
            // The short text in place of a tool result.
            Item::Cleared(_) => Some(BTreeSet::new()),
            Item::Summary(_) => sources_in(&self.sent.get(&item)?.message.text()),
        }
    }

    /// Whether a new summary repeats all of these messages, apart from the erased ones if it replaces another summary.
    pub(super) fn is_summary_of<'s>(
        &self,
        summary: u128,
        of: impl IntoIterator<Item = &'s Stored>,
        erased: Option<&BTreeSet<Tag>>,
    ) -> bool {
        let of: Option<Vec<_>> =
            of.into_iter().map(|stored| self.sources(stored.item, stored.kind)).collect();
        let repeated = self.sources(Item::Summary(summary), Kind::Fact);
        let (Some(of), Some(repeated)) = (of, repeated) else {
            return true;
        };
        let is_kept = |tag: &Tag| erased.is_none_or(|erased| !erased.contains(tag));
        of.into_iter().flatten().filter(is_kept).collect::<BTreeSet<_>>() == repeated
    }
}

impl State {
    pub(super) fn keep_receipt(&mut self, receipt: Receipt) {
        self.receipts.insert(0, receipt);
        self.receipts.truncate(KEPT_RECEIPTS);
    }

    /// Whether these are the receipts, newest first.
    pub(super) fn receipts(&self, told: &[(u128, Option<u128>)]) -> bool {
        self.receipts.iter().map(|receipt| (receipt.id, receipt.summary)).eq(told.iter().copied())
    }

    /// Whether this may be the outcome for a summary that an erasure listed.
    pub(super) fn rewrote(&self, summary: u128, outcome: Rewrote) -> bool {
        let is_present = self.items.values().any(|one| one.item == Item::Summary(summary));
        match outcome {
            Rewrote::By(new) => self.rewritten.get(&new).is_some_and(|(old, _)| *old == summary),
            Rewrote::Removed | Rewrote::NotPresent => !is_present,
            Rewrote::NoOriginals if is_present => !self.has_originals(summary),
            // An agent has replaced its text, and so it has an id that is not known.
            Rewrote::NoOriginals => {
                self.items.values().any(|one| one.summary && summary_id(one) == NO_ID)
            }
        }
    }

    /// Whether certainly all messages that a summary replaced are archived, or were erased: also those of the
    /// summaries among them.
    fn has_originals(&self, summary: u128) -> bool {
        let mut open = vec![summary];
        while let Some(mut summary) = open.pop() {
            while let Some((old, receipt)) = self.rewritten.get(&summary) {
                if !self.receipts.iter().any(|kept| kept.id == *receipt) {
                    return false;
                }
                summary = *old;
            }
            let wrote = |id: Option<(u64, u128)>| id.is_some_and(|(_, id)| id == summary);
            let Some(removal) = self.archive.iter().find(|kept| wrote(kept.summary)) else {
                return false;
            };
            let messages = removal.messages.values();
            let earlier =
                messages.filter(|(one, count)| one.summary && *count == Count::Summarized);
            open.extend(earlier.map(|(one, _)| summary_id(one)));
            open.extend(&removal.erased_summaries);
        }
        true
    }
}

/// The id of a summary; none of one whose text an agent wrote.
pub(super) const fn summary_id(stored: &Stored) -> u128 {
    match stored.item {
        Item::Summary(id) => id,
        Item::Message(_) | Item::Cleared(_) => NO_ID,
    }
}
