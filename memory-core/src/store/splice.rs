use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::generation::spread_of_splice;
use super::{Access, Cursor, Generation, Newest, Outline};
use crate::counters::Tally;
use crate::lease::LeaseProof;
use crate::priority::Class;
use crate::receipt::FlushReceipt;
use crate::stored::{MessageMeta, NewMessage, Sequence};

/// What a flush, or the closing of calls by hand, changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Splice {
    /// The generation that the plan was made from.
    pub generation: Generation,
    /// The newest message that the planner saw: if another is at its place now, or none, the store went
    /// back, and the places of the plan may be those of other messages. Default: none, and the generation
    /// alone is compared.
    #[serde(default)]
    pub newest: Option<Newest>,
    /// The places that the summary replaces, ascending.
    pub summarised: Vec<Sequence>,
    /// The places that are dropped, ascending.
    pub evicted: Vec<Sequence>,
    /// The summary; it stands at the first of the summarised places.
    pub summary: Option<NewMessage>,
    /// The places of messages whose open calls are given up, ascending. If there are any, the mark
    /// of the last flush is taken away: what it could not free may go now.
    pub closed: Vec<Sequence>,
    /// The record of the flush, kept with the last few.
    pub receipt: Option<FlushReceipt>,
    /// The size at which the next flush is worth its while, as the flusher measures it; kept only along
    /// with a receipt.
    pub next_flush_at: Option<u64>,
    /// The flusher's lease, named [`MemoryKey::flush_lease_name`](crate::MemoryKey::flush_lease_name): checked like that of a writer,
    /// and its tokens are fenced apart from those of writers.
    pub flusher: Option<LeaseProof>,
    /// What the messages weigh that are summarised and evicted, if the planner knows it from an outline of
    /// this generation, whose messages do not change: a store that would have to look for it may take it
    /// at its word. Default: nothing, and the store looks.
    #[serde(default)]
    pub removed: Option<Removed>,
    /// By what right.
    pub access: Access,
}

/// What the messages weigh that a [`Splice`] takes away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// All of them, by class; also the one at whose place the summary stands.
    pub classes: BTreeMap<Class, Tally>,
    /// How many of them are summaries.
    pub summaries: u64,
    /// How many of the others are summarised.
    pub summarised: u64,
    /// How many of the others are evicted.
    pub evicted: u64,
}

impl Removed {
    /// What these messages weigh, by the metas of an outline in their order.
    fn of(metas: &[MessageMeta], summarised: &[Sequence], evicted: &[Sequence]) -> Self {
        let mut removed = Self::default();
        for (places, summarises) in [(summarised, true), (evicted, false)] {
            let mut places = places.iter().peekable();
            for meta in metas {
                while places.next_if(|place| **place < meta.sequence).is_some() {}
                if places.next_if(|place| **place == meta.sequence).is_some() {
                    removed.add(meta, summarises);
                }
            }
        }
        removed
    }

    fn add(&mut self, meta: &MessageMeta, summarises: bool) {
        self.classes.entry(meta.class()).or_default().add(meta.tokens);
        let count = match (meta.is_summary(), summarises) {
            (true, _) => &mut self.summaries,
            (false, true) => &mut self.summarised,
            (false, false) => &mut self.evicted,
        };
        *count += 1;
    }
}

impl Splice {
    /// A splice of this generation that changes nothing yet.
    #[must_use]
    pub const fn new(generation: Generation) -> Self {
        Self {
            generation,
            newest: None,
            summarised: Vec::new(),
            evicted: Vec::new(),
            summary: None,
            closed: Vec::new(),
            receipt: None,
            next_flush_at: None,
            flusher: None,
            removed: None,
            access: Access::OPEN,
        }
    }

    /// A splice of this snapshot that changes nothing yet.
    #[must_use]
    pub fn of(outline: &Outline) -> Self {
        Self { newest: newest(&outline.metas), ..Self::new(outline.head.generation) }
    }

    /// The same, with what is removed weighed by the metas of the outline that it was planned from, and
    /// with the newest message of that.
    #[must_use]
    pub fn weighed(self, metas: &[MessageMeta]) -> Self {
        let removed = Some(Removed::of(metas, &self.summarised, &self.evicted));
        Self { removed, newest: newest(metas).or(self.newest), ..self }
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

    /// How far it moves the generation beyond the next: [`Generation::after`].
    #[must_use]
    pub fn spread(&self) -> u16 {
        spread_of_splice(self.receipt.as_ref().map(|receipt| receipt.id), &self.closed)
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

    proptest! {
        #[test]
        fn what_is_removed_is_weighed_message_by_message(
            messages in history(30),
            fates in prop::collection::vec(0..3_u8, 30),
        ) {
            let metas = metas(&messages);
            let mut splice = Splice::new(Generation::new(3));
            let mut expected = Removed::default();
            for (meta, fate) in metas.iter().zip(fates) {
                let count = match fate {
                    0 => continue,
                    1 => {
                        splice.summarised.push(meta.sequence);
                        &mut expected.summarised
                    }
                    _ => {
                        splice.evicted.push(meta.sequence);
                        &mut expected.evicted
                    }
                };
                *if meta.is_summary() { &mut expected.summaries } else { count } += 1;
                expected.classes.entry(meta.class()).or_default().add(meta.tokens);
            }
            // A place that is not in the outline weighs nothing.
            splice.evicted.push(Sequence::new(1_000));
            let weighed = splice.clone().weighed(&metas);
            prop_assert_eq!(weighed.removed, Some(expected));
            prop_assert_eq!(weighed.newest, newest(&metas));
            prop_assert_eq!(Splice { removed: None, newest: None, ..weighed }, splice);
        }
    }
}
