//! The archive in the sequential model: kept removals, undoing and erasing them, and searches.

use std::collections::BTreeMap;
use std::sync::Arc;

use memory_core::store::RemovalCause;

use super::known::Known;
use super::rewrite::summary_id;
use super::{State, Stored};
use crate::history::{Answer, Hit, Item, Refusal, Removed, Tag, Totals};

/// The counter of a removed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Count {
    Summarized,
    Evicted,
    Withdrawn,
    Cleared,
    /// None: another message took its place.
    Original,
}

/// A removal whose messages are kept.
#[derive(Debug, Clone, Hash)]
pub(super) struct Removal {
    /// The store's number, once it was read.
    pub(super) number: Option<u64>,
    pub(super) cause: RemovalCause,
    pub(super) receipt: Option<u128>,
    /// The place of the summary and its id.
    pub(super) summary: Option<(u64, u128)>,
    /// The messages in place of the originals, with their ids.
    pub(super) replaced: Vec<(u64, u128)>,
    pub(super) messages: BTreeMap<u64, (Stored, Count)>,
    /// The places of erased messages.
    pub(super) erased: Vec<u64>,
    /// The ids of the summaries among them.
    pub(super) erased_summaries: Vec<u128>,
}

impl Removal {
    fn bytes(&self) -> u64 {
        self.messages.values().map(|(stored, _)| u64::from(stored.bytes)).sum()
    }

    fn messages(&self) -> impl Iterator<Item = (u64, Item)> {
        self.messages.iter().map(|(place, (stored, _))| (*place, stored.item))
    }
}

impl Totals {
    /// The counter of messages that were removed so.
    pub(super) const fn count(&mut self, count: Count) -> Option<&mut u64> {
        Some(match count {
            Count::Summarized => &mut self.summarized,
            Count::Evicted => &mut self.evicted,
            Count::Withdrawn => &mut self.withdrawn,
            Count::Cleared => &mut self.cleared,
            Count::Original => return None,
        })
    }
}

impl State {
    /// Keeps a removal, if there is an archive and it is not too large alone, and drops the oldest ones beyond its most
    /// bytes.
    pub(super) fn archive(&mut self, removal: Removal, most: Option<u64>) {
        let Some(most) = most.filter(|_| !removal.messages.is_empty()) else { return };
        if removal.bytes() <= most {
            self.archive.push(Arc::new(removal));
        }
        let mut bytes: u64 = self.archive.iter().map(|kept| kept.bytes()).sum();
        while bytes > most {
            bytes -= self.archive.remove(0).bytes();
        }
    }

    /// Undoes a removal, or refuses that for a reason.
    pub(super) fn undo(
        &mut self,
        known: &Known,
        id: u32,
        receipt: u128,
        answer: Option<&Answer>,
    ) -> bool {
        match (self.check_undo(receipt), answer) {
            (Ok(_), Some(Answer::NotUndone(_))) => false,
            (Ok(index), _) => {
                if !self.may_write(known, id) {
                    return false;
                }
                let removal = self.archive.remove(index);
                self.restore(&removal);
                true
            }
            // Without an answer it was refused.
            (Err(_), None) => true,
            (Err(reason), Some(Answer::NotUndone(told))) => *told == reason,
            (Err(_), Some(_)) => false,
        }
    }

    fn check_undo(&self, receipt: u128) -> Result<usize, Refusal> {
        let is_it = |kept: &Arc<Removal>| kept.receipt == Some(receipt);
        let index = self.archive.iter().rposition(is_it).ok_or(Refusal::NotArchived)?;
        let (Some(removal), later) = (self.archive.get(index), self.archive.get(index + 1..))
        else {
            return Err(Refusal::NotArchived);
        };
        let later = later.unwrap_or_default();
        if later.iter().any(|later| later.cause == RemovalCause::Clear) {
            return Err(Refusal::Cleared);
        }
        if !removal.erased.is_empty() {
            return Err(Refusal::Erased);
        }
        let was_removed =
            |place: &u64| later.iter().any(|later| later.messages.contains_key(place));
        if let Some((place, id)) = &removal.summary {
            match self.items.get(place) {
                Some(found) if found.item == Item::Summary(*id) => {}
                Some(found) if found.summary && !was_removed(place) => {
                    return Err(Refusal::SummaryReplaced);
                }
                _ => return Err(Refusal::SummaryRemoved),
            }
        }
        for (place, id) in &removal.replaced {
            match self.items.get(place) {
                Some(found) if found.item == Item::Cleared(*id) => {}
                Some(_) if !was_removed(place) => return Err(Refusal::ReplacementReplaced),
                _ => return Err(Refusal::ReplacementRemoved),
            }
        }
        // All prompts of a program have one name.
        let is_prompt = |(stored, _): &(Stored, Count)| stored.prompt;
        if removal.messages.values().any(is_prompt) && self.items.values().any(|one| one.prompt) {
            return Err(Refusal::PromptPresent);
        }
        Ok(index)
    }

    fn restore(&mut self, removal: &Removal) {
        if let Some((place, _)) = removal.summary {
            self.take(place, Count::Original);
        }
        for (place, (stored, count)) in &removal.messages {
            if let Some(now) = self.items.remove(place) {
                self.totals.present -= 1;
                self.totals.tokens -= u64::from(now.tokens);
            } else if stored.summary {
                self.totals.summaries += 1;
            } else if let Some(counter) = self.totals.count(*count) {
                *counter -= 1;
            }
            self.put(*place, *stored);
        }
        self.generation = self.generation.next();
    }

    /// Erases messages, present and archived.
    pub(super) fn erase(&mut self, places: &[u64], answer: Option<&Answer>) -> bool {
        let found = |place: &&u64| self.items.contains_key(place);
        let present: Vec<u64> = places.iter().filter(found).copied().collect();
        for place in &present {
            let taken = self.take(*place, Count::Withdrawn);
            self.erased.extend(taken.and_then(|stored| tag(&stored)));
        }
        let mut archived: Vec<u64> = Vec::new();
        for kept in &mut self.archive {
            let is_here = |place: &&u64| kept.messages.contains_key(place);
            let here: Vec<u64> = places.iter().filter(is_here).copied().collect();
            if here.is_empty() {
                continue;
            }
            let kept = Arc::make_mut(kept);
            for place in here {
                archived.push(place);
                kept.erased.push(place);
                let Some((stored, count)) = kept.messages.remove(&place) else { continue };
                self.erased.extend(tag(&stored));
                if stored.summary {
                    kept.erased_summaries.push(summary_id(&stored));
                }
                let counter = self.totals.count(count).filter(|_| !stored.summary);
                if let Some(counter) = counter {
                    *counter -= 1;
                    self.totals.withdrawn += 1;
                }
            }
            kept.erased.sort_unstable();
            kept.erased.dedup();
        }
        archived.sort_unstable();
        archived.dedup();
        self.generation = self.generation.next();
        self.moves += 1;
        match answer {
            None => true,
            Some(Answer::Erased(was_present, was_archived)) => {
                (was_present, was_archived) == (&present, &archived)
            }
            Some(_) => false,
        }
    }

    /// Whether the archive has these removals, newest first. Learns their numbers.
    pub(super) fn removals(&mut self, told: &[Removed]) -> bool {
        if told.len() != self.archive.len() {
            return false;
        }
        for (kept, told) in self.archive.iter_mut().rev().zip(told) {
            let is_it = kept.number.is_none_or(|number| number == told.number)
                && (kept.cause, kept.receipt) == (told.cause, told.receipt)
                && kept.messages.keys().eq(&told.places)
                && kept.erased == told.erased;
            if !is_it {
                return false;
            }
            if kept.number.is_none() {
                Arc::make_mut(kept).number = Some(told.number);
            }
        }
        true
    }

    /// Whether the removal with this number has these messages. Its number was read before. After a rollback another
    /// removal may have the number, which was not read.
    pub(super) fn archived(&self, number: u64, told: &[(u64, Item)]) -> bool {
        let is_it = |kept: &&Arc<Removal>| kept.messages().eq(told.iter().copied());
        match self.archive.iter().find(|kept| kept.number == Some(number)) {
            Some(kept) => is_it(&kept),
            None if told.is_empty() => true,
            None => {
                let mut unread = self.archive.iter().filter(|kept| kept.number.is_none());
                self.was_rolled_back() && unread.any(|kept| is_it(&kept))
            }
        }
    }

    /// Whether these are the archived messages that a summary replaced.
    pub(super) fn originals(&self, summary: u128, told: &[(u64, Item)]) -> bool {
        let is_it = |kept: &&Arc<Removal>| kept.summary.is_some_and(|(_, id)| id == summary);
        let kept = self.archive.iter().find(is_it);
        // It may have got another id since the agent read it.
        let archived = self.archive.iter().flat_map(|kept| kept.messages.values());
        let mut all = archived.map(|(stored, _)| stored).chain(self.items.values());
        if told.is_empty() && all.any(|one| one.edited && one.item == Item::Summary(summary)) {
            return true;
        }
        let messages = kept.into_iter().flat_map(|kept| &kept.messages);
        let originals = messages.filter(|(_, (_, count))| *count == Count::Summarized);
        originals.map(|(place, (stored, _))| (*place, stored.item)).eq(told.iter().copied())
    }

    /// Whether a search finds these messages of agents, and no others.
    pub(super) fn found(&self, told: &[Hit]) -> bool {
        let hit = |archived| {
            move |(place, stored): (&u64, &Stored)| match stored.item {
                Item::Message(tag) if !stored.summary => {
                    Some(Hit { place: *place, archived, tag: Some(tag) })
                }
                _ => None,
            }
        };
        let kept = self.archive.iter().flat_map(|kept| &kept.messages);
        let kept = kept.map(|(place, (stored, _))| (place, stored)).filter_map(hit(true));
        let mut hits: Vec<Hit> = self.items.iter().filter_map(hit(false)).chain(kept).collect();
        hits.sort_unstable();
        let is_same = |(hit, told): (&Hit, &Hit)| {
            (hit.place, hit.archived) == (told.place, told.archived)
                && told.tag.is_none_or(|tag| hit.tag == Some(tag))
        };
        hits.len() == told.len() && hits.iter().zip(told).all(is_same)
    }
}

const fn tag(stored: &Stored) -> Option<Tag> {
    match stored.item {
        Item::Message(tag) => Some(tag),
        Item::Summary(_) | Item::Cleared(_) => None,
    }
}
