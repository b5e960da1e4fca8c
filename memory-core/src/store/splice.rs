use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::generation::spread_of_splice;
use super::{
    Cursor, Generation, Newest, Outline, RemovalCause, Replace, Retention, StoreErrorKind,
};
use crate::counters::Tally;
use crate::lease::LeaseProof;
use crate::priority::Class;
use crate::receipt::{FlushReceipt, SequenceSet};
use crate::stored::{MessageMeta, NewMessage, Sequence};

/// The changes of a flush, of closing calls explicitly, or of taking back the newest messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Splice {
    /// The generation that the plan was made from.
    pub generation: Generation,
    /// The newest message that the planner saw. If its place now holds another message or none, the store rolled
    /// back, and the planned places may hold other messages. Default: `None`, which compares the generation alone.
    #[serde(default)]
    pub newest: Option<Newest>,
    /// The places that the summary replaces, ascending.
    #[serde(rename = "summarised")]
    pub summarized: Vec<Sequence>,
    /// The places that are evicted, ascending.
    pub evicted: Vec<Sequence>,
    /// The places of the newest messages, which are taken back, ascending. If there are any, no message may have been
    /// appended since the snapshot, and the mark of the last flush is removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withdrawn: Vec<Sequence>,
    /// Messages that are replaced in their places, ascending, as by [`MemoryStore::replace`](crate::MemoryStore::replace):
    /// the place, whether its call is closed, and the lifetime counts stay. A place is neither removed nor closed by the same
    /// splice. If there are any, the mark of the last flush is removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<Replacement>,
    /// The summary, stored at the first of the summarized places.
    pub summary: Option<NewMessage>,
    /// The places of messages whose open calls are abandoned, ascending. If there are any, the mark of the last flush
    /// is removed, because messages that it had to keep can be freed now.
    pub closed: Vec<Sequence>,
    /// The record of the flush, kept with the most recent ones.
    pub receipt: Option<FlushReceipt>,
    /// The size in tokens at which the next flush is worthwhile, as measured by the flusher; kept only together with
    /// a receipt.
    pub next_flush_at: Option<u64>,
    /// The flusher's lease, named [`MemoryKey::flush_lease_name`](crate::MemoryKey::flush_lease_name). It is checked
    /// like a writer's lease; tokens of flushers and of writers are fenced separately.
    pub flusher: Option<LeaseProof>,
    /// The tallies of the summarized, evicted and withdrawn messages, if the planner knows them from an outline of this
    /// generation, whose messages do not change. A store that would have to look them up may trust these. Default:
    /// `None`, and the store looks them up.
    #[serde(default)]
    pub removed: Option<Removed>,
    /// Keeps the removed messages and the originals of replaced ones in the archive; `None` keeps nothing. The
    /// [receipt](Self::receipt), by which they can be restored, must then name the removed and replaced places and the
    /// summary. Without a receipt they can only be read.
    #[serde(default)]
    pub archive: Option<Retention>,
}

/// A message that takes the place of another one in a [`Splice`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replacement {
    /// The place of the message that is replaced.
    pub sequence: Sequence,
    /// The new message. It needs a new id, and makes and answers the same calls.
    pub message: NewMessage,
}

impl Replacement {
    /// Validates the replacement against the stored message, within the store's atomic step.
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`] if both have one id, or make or answer different calls.
    pub fn check_against(&self, found: &MessageMeta) -> Result<(), StoreErrorKind> {
        if self.message.id == found.id {
            return Err(Replace::same_id());
        }
        if found.link != self.message.message.tool_link() {
            return Err(Replace::other_link(self.sequence));
        }
        Ok(())
    }
}

/// The tallies of the messages that a [`Splice`] removes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Removed {
    /// All removed messages by class, including the one whose place the summary takes.
    pub classes: BTreeMap<Class, Tally>,
    /// The number of removed summaries.
    pub summaries: u64,
    /// The number of summarized messages that are not summaries.
    #[serde(rename = "summarised")]
    pub summarized: u64,
    /// The number of evicted messages that are not summaries.
    pub evicted: u64,
    /// The number of withdrawn messages that are not summaries.
    #[serde(default)]
    pub withdrawn: u64,
}

impl Removed {
    /// Computes the tallies of a splice from the metas of an outline, which are in ascending order.
    fn of(metas: &[MessageMeta], splice: &Splice) -> Self {
        let mut removed = Self::default();
        removed.summarized = removed.add(metas, &splice.summarized);
        removed.evicted = removed.add(metas, &splice.evicted);
        removed.withdrawn = removed.add(metas, &splice.withdrawn);
        removed
    }

    /// Adds the messages at these places, and returns how many of them are not summaries.
    fn add(&mut self, metas: &[MessageMeta], places: &[Sequence]) -> u64 {
        let mut places = places.iter().peekable();
        let mut originals = 0;
        for meta in metas {
            while places.next_if(|place| **place < meta.sequence).is_some() {}
            if places.next_if(|place| **place == meta.sequence).is_some() {
                self.classes.entry(meta.class()).or_default().add(meta.tokens);
                *if meta.is_summary() { &mut self.summaries } else { &mut originals } += 1;
            }
        }
        originals
    }
}

impl Splice {
    /// A splice of this generation without changes.
    #[must_use]
    pub const fn new(generation: Generation) -> Self {
        Self {
            generation,
            newest: None,
            summarized: Vec::new(),
            evicted: Vec::new(),
            withdrawn: Vec::new(),
            replaced: Vec::new(),
            summary: None,
            closed: Vec::new(),
            receipt: None,
            next_flush_at: None,
            flusher: None,
            removed: None,
            archive: None,
        }
    }

    /// A splice of this snapshot without changes.
    #[must_use]
    pub fn of(outline: &Outline) -> Self {
        Self { newest: newest(&outline.metas), ..Self::new(outline.head.generation) }
    }

    /// Adds the tallies of the removed messages and the newest message, from the metas of the outline that the splice
    /// was planned from.
    #[must_use]
    pub fn weighed(self, metas: &[MessageMeta]) -> Self {
        let removed = Some(Removed::of(metas, &self));
        Self { removed, newest: newest(metas).or(self.newest), ..self }
    }

    /// The places of all messages that it removes, in no order.
    pub fn removed_places(&self) -> impl Iterator<Item = Sequence> {
        self.summarized.iter().chain(&self.evicted).chain(&self.withdrawn).copied()
    }

    /// Whether it removes, replaces or closes a message, and so changes the generation.
    #[must_use]
    pub fn changes(&self) -> bool {
        !(self.closed.is_empty() && self.replaced.is_empty())
            || self.removed_places().next().is_some()
    }

    /// Whether it removes the mark of the last flush, because another flush can free messages that this one had to
    /// keep.
    #[must_use]
    pub const fn frees(&self) -> bool {
        !(self.closed.is_empty() && self.withdrawn.is_empty() && self.replaced.is_empty())
    }

    /// Why it removes or replaces messages.
    #[must_use]
    pub const fn cause(&self) -> RemovalCause {
        if self.summarized.is_empty() && self.evicted.is_empty() && self.replaced.is_empty() {
            RemovalCause::Withdrawal
        } else {
            RemovalCause::Flush
        }
    }

    /// Validates the replaced places without looking at stored messages.
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`] if they do not ascend, or one of them is also removed or closed.
    pub fn check_replaced(&self) -> Result<(), StoreErrorKind> {
        let invalid = |problem: &str| Err(StoreErrorKind::Invalid(problem.into()));
        if !self.replaced.is_sorted_by(|a, b| a.sequence < b.sequence) {
            return invalid("the replaced places of a splice must ascend");
        }
        let is_replaced = |place: &Sequence| {
            self.replaced.binary_search_by_key(place, |one| one.sequence).is_ok()
        };
        if self.removed_places().chain(self.closed.iter().copied()).any(|one| is_replaced(&one)) {
            return invalid("a place is replaced, and removed or closed; name it once");
        }
        Ok(())
    }

    /// Whether the receipt of a splice with an archive names what the splice removes, replaces and writes, so that it can be
    /// undone.
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`].
    pub fn check_receipt(&self) -> Result<(), StoreErrorKind> {
        let Some(receipt) = self.receipt.as_ref().filter(|_| self.archive.is_some()) else {
            return Ok(());
        };
        let set = |places: &[Sequence]| places.iter().copied().collect::<SequenceSet>();
        let named = receipt.summary.as_ref().map(|summary| (summary.id, summary.sequence));
        let place = self.summarized.first().copied();
        let written = self.summary.as_ref().zip(place).map(|(summary, place)| (summary.id, place));
        let replaced = self.replaced.iter().map(|one| (one.sequence, one.message.id));
        let is_complete = receipt.summarized == set(&self.summarized)
            && receipt.evicted == set(&self.evicted)
            && receipt.withdrawn == set(&self.withdrawn)
            && receipt.replaced.iter().map(|one| (one.sequence, one.id)).eq(replaced)
            && named == written;
        if is_complete {
            return Ok(());
        }
        let problem = "the receipt of a splice with an archive must name the removed and replaced places and the summary";
        Err(StoreErrorKind::Invalid(problem.into()))
    }

    /// The snapshot that it was planned from.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        let start = Cursor::from(self.generation);
        self.newest.map_or(start, |Newest { sequence, id }| Cursor {
            sequence,
            id: Some(id),
            ..start
        })
    }

    /// The distance beyond the next generation, as used by [`Generation::after`].
    #[must_use]
    pub fn spread(&self) -> u16 {
        let replaced = self.replaced.iter().map(|one| one.sequence);
        // Without a receipt only the places differ between two changes.
        let lists = [&self.summarized, &self.evicted, &self.withdrawn, &self.closed];
        let places = lists.into_iter().flatten().copied().chain(replaced);
        spread_of_splice(self.receipt.as_ref().map(|receipt| receipt.id), places)
    }
}

fn newest(metas: &[MessageMeta]) -> Option<Newest> {
    metas.last().map(MessageMeta::newest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testkit::{history, metas};

    /// A server that rolled back may make two such changes to one generation, at one time of its clock.
    #[test]
    fn places_tell_splices_without_receipts_apart() {
        let spread = |place| {
            let evicted = vec![Sequence::new(place)];
            Splice { evicted, ..Splice::new(Generation::NONE) }.spread()
        };
        let spreads: std::collections::HashSet<_> = (1..=64).map(spread).collect();
        assert!(spreads.len() > 55);
    }

    proptest! {
        #[test]
        fn removed_tallies_equal_a_recount(
            messages in history(30),
            fates in prop::collection::vec(0..4_u8, 30),
        ) {
            let metas = metas(&messages);
            let mut splice = Splice::new(Generation::new(3));
            let mut expected = Removed::default();
            for (meta, fate) in metas.iter().zip(fates) {
                let count = match fate {
                    0 => continue,
                    1 => {
                        splice.summarized.push(meta.sequence);
                        &mut expected.summarized
                    }
                    2 => {
                        splice.withdrawn.push(meta.sequence);
                        &mut expected.withdrawn
                    }
                    _ => {
                        splice.evicted.push(meta.sequence);
                        &mut expected.evicted
                    }
                };
                *if meta.is_summary() { &mut expected.summaries } else { count } += 1;
                expected.classes.entry(meta.class()).or_default().add(meta.tokens);
            }
            // A place that is not in the outline adds nothing.
            splice.evicted.push(Sequence::new(1_000));
            let weighed = splice.clone().weighed(&metas);
            prop_assert_eq!(weighed.removed, Some(expected));
            prop_assert_eq!(weighed.newest, newest(&metas));
            prop_assert_eq!(Splice { removed: None, newest: None, ..weighed }, splice);
        }
    }
}
