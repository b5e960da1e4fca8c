//! Removals in the sequential model: flushes, rewinds and clears.

use std::collections::BTreeMap;

use memory_core::store::RemovalCause;

use super::archive::{Count, Removal};
use super::known::Known;
use super::rewrite::{Receipt, summary_id};
use super::version::IsCurrent;
use super::{KnownGeneration, State, Stored, WindowRules};
use crate::history::{Answer, Call, Expected, Item};
use crate::program::Kind;

/// The rules for a splice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'r> {
    /// The most bytes of the archive, if there is one.
    pub(super) archive: Option<u64>,
    pub(super) windows: Option<&'r WindowRules>,
    /// The same, if the texts of summaries are compared.
    pub(super) summaries: Option<&'r WindowRules>,
}

impl State {
    pub(super) fn splice(
        &mut self,
        splice: &Call,
        answer: Option<&Answer>,
        rules: Rules<'_>,
    ) -> bool {
        let Call::Splice {
            generation,
            summarized,
            evicted,
            withdrawn,
            newest,
            replaced,
            summary,
            receipt,
            expected,
            rewrites,
        } = splice
        else {
            return false;
        };
        let is_late = !withdrawn.is_empty() && self.items.keys().next_back().copied() > *newest;
        if receipt.is_some() && *receipt == self.receipts.first().map(|newest| newest.id) {
            return answer.is_none_or(|answer| self.is_spliced(answer));
        }
        if answer == Some(&Answer::Conflict) {
            // The store compares ids of messages too, which are no part of this state: a batch that is sent
            // again has new ones.
            return self.was_rolled_back()
                || is_late
                || !matches!(self.generation, KnownGeneration::Known(known) if known == *generation);
        }
        if matches!(self.generation, KnownGeneration::Fresh) || !self.generation.may_be(*generation)
        {
            // Without an answer: it came too late, and changed nothing.
            return answer.is_none();
        }
        let is_other = |expected: &Expected| !self.is_at(expected).may_be(IsCurrent::Yes);
        if is_late || expected.as_ref().is_some_and(is_other) {
            return answer.is_none();
        }
        if self.turn.is_some() {
            return false;
        }
        let mut messages = BTreeMap::new();
        let removed = [
            (summarized, Count::Summarized),
            (evicted, Count::Evicted),
            (withdrawn, Count::Withdrawn),
        ];
        for (places, count) in removed {
            for place in places {
                let Some(stored) = self.take(*place, count) else { return false };
                if stored.is_critical() && count != Count::Withdrawn && !rewrites {
                    return false;
                }
                messages.insert(*place, (stored, count));
            }
        }
        for (place, new) in replaced {
            let Some(stored) = self.items.get_mut(place) else { return false };
            messages.insert(*place, (*stored, Count::Original));
            self.totals.tokens -= u64::from(stored.tokens);
            self.totals.tokens += u64::from(new.tokens);
            // It keeps its priority and its content type.
            *stored = Stored {
                item: Item::Cleared(new.id),
                tokens: new.tokens,
                bytes: new.bytes,
                settings: rules.windows.and_then(|rules| rules.settings(stored)),
                ..*stored
            };
        }
        let written = summary.as_ref().zip(summarized.first().copied());
        if let Some((new, place)) = written {
            let of = messages.values().filter(|(_, count)| *count == Count::Summarized);
            let mut of = of.map(|(stored, _)| stored);
            let erased = rewrites.then_some(&self.erased);
            if !rules.summaries.is_none_or(|rules| rules.is_summary_of(new.id, of.clone(), erased))
            {
                return false;
            }
            // One that is written anew keeps its priority and its content type.
            let old = of.next().filter(|_| *rewrites);
            if let (Some(old), Some(receipt)) = (old, receipt) {
                self.rewritten.insert(new.id, (summary_id(old), *receipt));
            }
            let stored = Stored {
                item: Item::Summary(new.id),
                tokens: new.tokens,
                kind: Kind::Fact,
                summary: true,
                bytes: new.bytes,
                settings: old.and_then(|old| rules.windows?.settings(old)),
                edited: false,
                prompt: false,
            };
            self.put(place, stored);
            self.totals.summaries += 1;
        }
        self.generation = if messages.is_empty() {
            KnownGeneration::Known(*generation)
        } else {
            KnownGeneration::After(*generation)
        };
        if let Some(id) = *receipt {
            let summary = written.map(|(new, _)| new.id);
            let last = messages.keys().next_back().copied().unwrap_or_default();
            self.keep_receipt(Receipt { id, summary, last });
        }
        let is_withdrawal = summarized.is_empty() && evicted.is_empty() && replaced.is_empty();
        let removal = Removal {
            number: None,
            cause: if is_withdrawal { RemovalCause::Withdrawal } else { RemovalCause::Flush },
            receipt: *receipt,
            summary: written.map(|(new, place)| (place, new.id)),
            replaced: replaced.iter().map(|(place, new)| (*place, new.id)).collect(),
            messages,
            erased: Vec::new(),
            erased_summaries: Vec::new(),
        };
        self.archive(removal, rules.archive.filter(|_| !rewrites));
        answer.is_none_or(|answer| self.is_spliced(answer))
    }

    /// `archive` is the most bytes of the archive; `None` keeps nothing, and removes the archive.
    pub(super) fn clear(&mut self, known: &Known, id: u32, archive: Option<u64>) -> bool {
        if !self.clears.insert(id) {
            return true;
        }
        self.may_write(known, id) && {
            self.remove_all(archive);
            true
        }
    }

    /// Removes all messages.
    pub(super) fn remove_all(&mut self, archive: Option<u64>) {
        let messages = std::mem::take(&mut self.items);
        self.totals.cleared += self.totals.present - self.totals.summaries;
        self.totals.present = 0;
        self.totals.summaries = 0;
        self.totals.tokens = 0;
        self.receipts.clear();
        self.generation = self.generation.next();
        if archive.is_none() {
            self.archive.clear();
        }
        let removal = Removal {
            number: None,
            cause: RemovalCause::Clear,
            receipt: None,
            summary: None,
            replaced: Vec::new(),
            messages: messages.into_iter().map(|(at, one)| (at, (one, Count::Cleared))).collect(),
            erased: Vec::new(),
            erased_summaries: Vec::new(),
        };
        self.archive(removal, archive);
    }

    /// Adds a message at a place, which is free.
    pub(super) fn put(&mut self, place: u64, stored: Stored) {
        self.totals.present += 1;
        self.totals.tokens += u64::from(stored.tokens);
        self.items.insert(place, stored);
    }

    /// Removes and counts the message at a place.
    pub(super) fn take(&mut self, place: u64, count: Count) -> Option<Stored> {
        let stored = self.items.remove(&place)?;
        self.totals.present -= 1;
        self.totals.tokens -= u64::from(stored.tokens);
        match self.totals.count(count) {
            _ if stored.summary => self.totals.summaries -= 1,
            Some(counter) => *counter += 1,
            None => {}
        }
        Some(stored)
    }
}
