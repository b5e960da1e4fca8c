//! A memory as it would be if one agent at a time used it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::history::{Answer, Call, Item, Piece, Recorded, Tag, Totals};
use crate::linear::Model;
use crate::violation::Check;

/// The state of the sequential memory.
#[derive(Debug, Clone, Default)]
pub struct SequentialMemory {
    known: Arc<Known>,
    /// What is left out of account.
    without: Option<Part>,
    state: State,
}

/// A part of the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The counters.
    Totals,
}

impl Part {
    /// All of them.
    pub(crate) const ALL: [Self; 1] = [Self::Totals];

    /// The check that failed, if everything else can be explained.
    pub(crate) const fn check(self) -> Check {
        match self {
            Self::Totals => Check::Counted,
        }
    }
}

/// Places that some answer told. A place is given once, so that an append whose own answer was lost
/// can only be where it was seen, and where nothing else was seen.
#[derive(Debug, Default)]
struct Known {
    place_of: HashMap<Tag, u64>,
    tag_at: HashMap<u64, Tag>,
}

impl Known {
    fn learn(&mut self, place: u64, tag: Tag) {
        self.place_of.insert(tag, place);
        self.tag_at.insert(place, tag);
    }

    fn allows(&self, place: u64, tag: Tag) -> bool {
        self.place_of.get(&tag).is_none_or(|known| *known == place)
            && self.tag_at.get(&place).is_none_or(|known| *known == tag)
    }
}

#[derive(Debug, Clone, Default, Hash)]
struct State {
    /// What stands where, its size, and whether it must never go.
    items: BTreeMap<u64, (Item, u32, bool)>,
    last: u64,
    totals: Totals,
    generation: Generation,
    /// Batches that were appended, and where.
    batches: BTreeMap<u32, u64>,
    clears: BTreeSet<u32>,
    newest_receipt: Option<u128>,
    /// Counters are not compared.
    any_totals: bool,
}

/// What is known of a number that the store chooses.
#[derive(Debug, Clone, Copy, Default, Hash)]
enum Generation {
    /// Nothing was written yet, so it is zero, unless a turn has begun.
    #[default]
    Fresh,
    /// It was read since it changed.
    Known(u64),
    /// It is greater than this.
    After(u64),
}

impl Generation {
    /// Whether it may be this number.
    const fn may_be(self, number: u64) -> bool {
        match self {
            Self::Fresh => true,
            Self::Known(known) => number == known,
            Self::After(before) => number > before,
        }
    }

    /// What is known once this number was read.
    const fn read(self, number: u64) -> Self {
        if number == 0 { self } else { Self::Known(number) }
    }
}

impl SequentialMemory {
    /// A memory that was never written, for the check of this history.
    #[must_use]
    pub fn for_history(history: &[Recorded]) -> Self {
        let mut known = Known::default();
        for operation in history {
            match (&operation.call, &operation.returned) {
                (_, Some((_, Answer::Page(places, _)))) => {
                    for (place, item) in places {
                        if let Item::Message(tag) = item {
                            known.learn(*place, *tag);
                        }
                    }
                }
                (
                    Call::Append { pieces, .. },
                    Some((_, Answer::Appended { first: Some(first), .. })),
                ) => {
                    for (place, piece) in (*first..).zip(pieces) {
                        known.learn(place, piece.tag);
                    }
                }
                _ => {}
            }
        }
        Self { known: Arc::new(known), without: None, state: State::default() }
    }

    /// The same, with this part of the answers left out of account.
    #[must_use]
    pub fn without(&self, part: Part) -> Self {
        Self { without: Some(part), ..self.clone() }
    }
}

impl State {
    fn append(
        &mut self,
        known: &Known,
        batch: u32,
        pieces: &[Piece],
        answer: Option<&Answer>,
    ) -> bool {
        let new = !self.batches.contains_key(&batch);
        let first = *self.batches.entry(batch).or_insert(self.last + 1);
        if new {
            for piece in pieces {
                self.last += 1;
                if !known.allows(self.last, piece.tag) {
                    return false;
                }
                self.items
                    .insert(self.last, (Item::Message(piece.tag), piece.tokens, piece.critical));
                self.totals.present += 1;
                self.totals.appended += 1;
                self.totals.tokens += u64::from(piece.tokens);
            }
            if matches!(self.generation, Generation::Fresh | Generation::Known(0)) {
                self.generation = Generation::After(0);
            }
        }
        match answer {
            None => true,
            // An append sends again by itself what it heard no answer to, so its own batch may
            // have been there before; the counters are then those of a later time.
            Some(Answer::Appended { first: told, duplicate: true, .. }) => {
                told.is_none_or(|told| told == first)
            }
            Some(Answer::Appended { first: told, duplicate: false, totals }) => {
                new && *told == Some(first) && self.may_count(totals)
            }
            Some(_) => false,
        }
    }

    fn splice(&mut self, splice: &Call, answer: Option<&Answer>) -> bool {
        let Call::Splice { generation, summarised, evicted, summary, receipt } = splice else {
            return false;
        };
        if receipt.is_some() && *receipt == self.newest_receipt {
            return answer.is_none_or(|answer| self.is_spliced(answer));
        }
        if answer == Some(&Answer::Conflict) {
            return !matches!(self.generation, Generation::Known(known) if known == *generation);
        }
        if matches!(self.generation, Generation::Fresh) || !self.generation.may_be(*generation) {
            // Without an answer: it came too late, and changed nothing.
            return answer.is_none();
        }
        for (places, counter) in [(summarised, true), (evicted, false)] {
            for place in places {
                let Some((item, tokens, critical)) = self.items.remove(place) else { return false };
                if critical {
                    return false;
                }
                self.totals.present -= 1;
                self.totals.tokens -= u64::from(tokens);
                match item {
                    Item::Summary(_) => self.totals.summaries -= 1,
                    Item::Message(_) if counter => self.totals.summarised += 1,
                    Item::Message(_) => self.totals.evicted += 1,
                }
            }
        }
        if let (Some((id, tokens)), Some(place)) = (summary, summarised.first()) {
            self.items.insert(*place, (Item::Summary(*id), *tokens, false));
            self.totals.present += 1;
            self.totals.summaries += 1;
            self.totals.tokens += u64::from(*tokens);
        }
        let changes = !(summarised.is_empty() && evicted.is_empty());
        self.generation =
            if changes { Generation::After(*generation) } else { Generation::Known(*generation) };
        if receipt.is_some() {
            self.newest_receipt = *receipt;
        }
        answer.is_none_or(|answer| self.is_spliced(answer))
    }

    fn may_count(&self, totals: &Totals) -> bool {
        self.any_totals || *totals == self.totals
    }

    fn is_spliced(&self, answer: &Answer) -> bool {
        matches!(answer, Answer::Spliced(totals) if self.may_count(totals))
    }

    fn clear(&mut self, id: u32) {
        if !self.clears.insert(id) {
            return;
        }
        self.items.clear();
        self.totals.cleared += self.totals.present - self.totals.summaries;
        self.totals.present = 0;
        self.totals.summaries = 0;
        self.totals.tokens = 0;
        self.newest_receipt = None;
        self.generation = match self.generation {
            Generation::Fresh => Generation::After(0),
            Generation::Known(number) | Generation::After(number) => Generation::After(number),
        };
    }

    fn page(&mut self, places: &[(u64, Item)], generation: u64) -> bool {
        let there = self.items.iter().map(|(place, (item, ..))| (*place, *item));
        let same = there.eq(places.iter().copied()) && self.generation.may_be(generation);
        self.generation = self.generation.read(generation);
        same
    }

    /// The messages of a window were all there at one time, in this order.
    fn window(&self, shown: &[Option<u32>]) -> bool {
        let there = self.items.values().map(|(item, ..)| match item {
            Item::Message(tag) => Some(*tag),
            Item::Summary(_) => None,
        });
        // A unit is shown at the place of its first message, so their order is the checks' affair.
        shown.iter().all(|one| there.clone().any(|other| other == *one))
    }
}

impl Model for SequentialMemory {
    type Call = Call;
    type Answer = Answer;

    fn step(&self, call: &Call, answer: Option<&Answer>) -> Option<Self> {
        let mut whole = self.clone();
        let next = &mut whole.state;
        next.any_totals = self.without == Some(Part::Totals);
        let possible = match (call, answer) {
            (Call::Append { batch, pieces }, answer) => {
                next.append(&self.known, *batch, pieces, answer)
            }
            (Call::Splice { .. }, answer) => next.splice(call, answer),
            (Call::Clear(id), None | Some(Answer::Cleared)) => {
                next.clear(*id);
                true
            }
            (Call::Read, Some(Answer::Page(places, generation))) => next.page(places, *generation),
            (Call::Window, Some(Answer::Window(shown))) => next.window(shown),
            (Call::Count, Some(Answer::Counted(totals))) => next.may_count(totals),
            // Reads without an answer have no effect.
            (Call::Read | Call::Window | Call::Count, None)
            | (Call::Nothing, Some(Answer::Nothing)) => true,
            _ => false,
        };
        possible.then_some(whole)
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.state.hash(&mut hasher);
        hasher.finish()
    }
}
