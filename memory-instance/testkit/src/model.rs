//! The sequential model of a memory.

mod backward;
mod known;
mod version;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use self::known::Known;
use self::version::IsCurrent;
use crate::history::{Answer, Call, Ensured, Expected, Item, Piece, Recorded, Tag, Totals};
use crate::linear::Model;
use crate::program::Kind;
use crate::violation::Check;

/// The state of the sequential memory.
#[derive(Debug, Clone, Default)]
pub struct SequentialMemory {
    known: Arc<Known>,
    /// The part of the answers that is ignored.
    without: Option<ModelPart>,
    state: State,
}

/// A part of the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelPart {
    /// No other writes between the first read of a turn and its last write.
    Turns,
    /// Windows contain critical messages.
    Critical,
    /// Windows are not empty if a message fits.
    Room,
    /// Windows.
    Windows,
    /// The counters.
    Totals,
}

impl ModelPart {
    /// All parts.
    pub(crate) const ALL: [Self; 5] =
        [Self::Turns, Self::Critical, Self::Room, Self::Windows, Self::Totals];

    /// The check that failed, if everything else can be explained.
    pub(crate) const fn check(self) -> Check {
        match self {
            Self::Turns => Check::TurnNotAtomic,
            Self::Critical => Check::WindowWithoutCritical,
            Self::Room => Check::WindowEmpty,
            Self::Windows => Check::WindowOfNothing,
            Self::Totals => Check::Counted,
        }
    }
}

#[derive(Debug, Clone, Default, Hash)]
struct State {
    /// The content of each place, its size, and its kind; a summary counts as a fact.
    items: BTreeMap<u64, (Item, u32, Kind)>,
    last: u64,
    totals: Totals,
    generation: KnownGeneration,
    /// Appended batches, with their places.
    batches: BTreeMap<u32, u64>,
    clears: BTreeSet<u32>,
    /// The place of the ensured system prompt.
    prompt: Option<u64>,
    newest_receipt: Option<u128>,
    /// The turn that has read and will still write: no other write is allowed.
    turn: Option<u32>,
    /// Counters are not compared.
    any_totals: bool,
    /// The number of saves and rollbacks. It makes each of them change the state, so that the search does not move
    /// them before operations in flight.
    moves: usize,
    /// The number of rollbacks.
    rollbacks: usize,
    /// The last saved state.
    kept: Option<Arc<Self>>,
}

/// Knowledge about a number that the store chooses.
#[derive(Debug, Clone, Copy, Default, Hash)]
enum KnownGeneration {
    /// Nothing was written yet, so it is zero, unless a turn has started.
    #[default]
    Fresh,
    /// It was read since it changed.
    Known(u64),
    /// It is greater than this.
    After(u64),
}

impl KnownGeneration {
    /// Whether it may be this number.
    const fn may_be(self, number: u64) -> bool {
        match self {
            Self::Fresh => true,
            Self::Known(known) => number == known,
            Self::After(before) => number > before,
        }
    }

    /// The knowledge after this number was read.
    const fn read(self, number: u64) -> Self {
        if number == 0 { self } else { Self::Known(number) }
    }
}

impl SequentialMemory {
    /// A memory that was never written, to check this history.
    #[must_use]
    ///
    /// `turns` contains the turn of each batch and clear that was sent in one.
    pub fn for_history(history: &[Recorded], turns: &BTreeMap<u32, u32>) -> Self {
        let known = Known::of(history, turns);
        Self { known: Arc::new(known), without: None, state: State::default() }
    }

    /// The same model, ignoring this part of the answers.
    #[must_use]
    pub fn without(&self, part: ModelPart) -> Self {
        Self { without: Some(part), ..self.clone() }
    }
}

impl State {
    fn append(
        &mut self,
        known: &Known,
        batch: u32,
        pieces: &[Piece],
        expected: Option<&Expected>,
        answer: Option<&Answer>,
    ) -> bool {
        let new = !self.batches.contains_key(&batch);
        if let Some(expected) = expected.filter(|_| new) {
            let is_current = self.is_at(expected);
            match answer {
                Some(Answer::Conflict) => return is_current.may_be(IsCurrent::No),
                // Without an answer: it came too late, and changed nothing.
                None if is_current == IsCurrent::No => return true,
                _ if !is_current.may_be(IsCurrent::Yes) => return false,
                _ => {}
            }
        }
        let first = *self.batches.entry(batch).or_insert(self.last + 1);
        if new {
            if !self.may_write(known, batch) {
                return false;
            }
            for piece in pieces {
                self.last += 1;
                if !known.allows(self.rollbacks, self.last, piece.tag) {
                    return false;
                }
                self.items.insert(self.last, (Item::Message(piece.tag), piece.tokens, piece.kind));
                self.totals.present += 1;
                self.totals.appended += 1;
                self.totals.tokens += u64::from(piece.tokens);
            }
            if matches!(self.generation, KnownGeneration::Fresh | KnownGeneration::Known(0)) {
                self.generation = KnownGeneration::After(0);
            }
        }
        match answer {
            None => true,
            // An append itself resends an unanswered request, so its own batch may already be stored; the counters are
            // then those of a later time.
            Some(Answer::Appended { first: told, duplicate: true, .. }) => {
                told.is_none_or(|told| told == first)
            }
            Some(Answer::Appended { first: told, duplicate: false, totals }) => {
                new && *told == Some(first) && self.may_count(totals)
            }
            Some(_) => false,
        }
    }

    /// One step, although it is a turn: no reader sees the prompt missing or twice.
    fn ensure(&mut self, known: &Known, id: u32, piece: &Piece, answer: Option<&Answer>) -> bool {
        let there = self.prompt.and_then(|place| Some((place, *self.items.get(&place)?)));
        let (necessary, place) = match there {
            Some((place, (Item::Message(tag), ..))) if tag == piece.tag => {
                (Ensured::Unchanged, place)
            }
            Some((place, _)) => (Ensured::Replaced, place),
            None => (Ensured::Appended, self.last + 1),
        };
        if answer.is_some_and(|answer| *answer != Answer::Ensured(necessary, place)) {
            return false;
        }
        let number = match self.generation {
            KnownGeneration::Fresh => 0,
            KnownGeneration::Known(number) | KnownGeneration::After(number) => number,
        };
        match necessary {
            Ensured::Unchanged => return true,
            Ensured::Replaced => {
                let old = self.items.get(&place).map_or(0, |(_, tokens, _)| *tokens);
                self.totals.tokens -= u64::from(old);
                self.generation = KnownGeneration::After(number);
            }
            Ensured::Appended => {
                self.last = place;
                self.prompt = Some(place);
                self.totals.present += 1;
                self.totals.appended += 1;
                if number == 0 {
                    self.generation = KnownGeneration::After(0);
                }
            }
        }
        self.totals.tokens += u64::from(piece.tokens);
        self.items.insert(place, (Item::Message(piece.tag), piece.tokens, piece.kind));
        self.may_write(known, id)
    }

    fn splice(&mut self, splice: &Call, answer: Option<&Answer>) -> bool {
        let Call::Splice { generation, summarized, evicted, withdrawn, newest, summary, receipt } =
            splice
        else {
            return false;
        };
        let is_late = !withdrawn.is_empty() && self.items.keys().next_back().copied() > *newest;
        if receipt.is_some() && *receipt == self.newest_receipt {
            return answer.is_none_or(|answer| self.is_spliced(answer));
        }
        if answer == Some(&Answer::Conflict) {
            // The store compares ids of messages too, which are no part of this state: a batch that is sent
            // again has new ones.
            return self.rollbacks > 0
                || is_late
                || !matches!(self.generation, KnownGeneration::Known(known) if known == *generation);
        }
        if matches!(self.generation, KnownGeneration::Fresh) || !self.generation.may_be(*generation)
        {
            // Without an answer: it came too late, and changed nothing.
            return answer.is_none();
        }
        if is_late {
            return answer.is_none();
        }
        if self.turn.is_some() {
            return false;
        }
        for place in withdrawn {
            let Some((item, tokens, _)) = self.items.remove(place) else { return false };
            self.prompt = self.prompt.filter(|prompt| prompt != place);
            self.totals.present -= 1;
            self.totals.tokens -= u64::from(tokens);
            match item {
                Item::Summary(_) => self.totals.summaries -= 1,
                Item::Message(_) => self.totals.withdrawn += 1,
            }
        }
        for (places, counter) in [(summarized, true), (evicted, false)] {
            for place in places {
                let Some((item, tokens, kind)) = self.items.remove(place) else { return false };
                if kind == Kind::Critical {
                    return false;
                }
                self.totals.present -= 1;
                self.totals.tokens -= u64::from(tokens);
                match item {
                    Item::Summary(_) => self.totals.summaries -= 1,
                    Item::Message(_) if counter => self.totals.summarized += 1,
                    Item::Message(_) => self.totals.evicted += 1,
                }
            }
        }
        if let (Some((id, tokens)), Some(place)) = (summary, summarized.first()) {
            self.items.insert(*place, (Item::Summary(*id), *tokens, Kind::Fact));
            self.totals.present += 1;
            self.totals.summaries += 1;
            self.totals.tokens += u64::from(*tokens);
        }
        let changes = !(summarized.is_empty() && evicted.is_empty() && withdrawn.is_empty());
        self.generation = if changes {
            KnownGeneration::After(*generation)
        } else {
            KnownGeneration::Known(*generation)
        };
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

    /// Starts a turn with its first read, unless another turn has read and will still write.
    fn begin(&mut self, known: &Known, turn: Option<u32>) -> bool {
        let Some(turn) = turn.filter(|turn| known.last_of.contains_key(turn)) else { return true };
        self.turn.replace(turn).is_none()
    }

    /// Whether this write may be applied now. The last write of a turn ends it.
    fn may_write(&mut self, known: &Known, write: u32) -> bool {
        let Some(going) = self.turn else { return true };
        if known.turn_of.get(&write) != Some(&going) {
            return false;
        }
        if known.last_of.get(&going) == Some(&write) {
            self.turn = None;
        }
        true
    }

    fn clear(&mut self, known: &Known, id: u32) -> bool {
        if !self.clears.insert(id) {
            return true;
        }
        if !self.may_write(known, id) {
            return false;
        }
        self.items.clear();
        self.prompt = None;
        self.totals.cleared += self.totals.present - self.totals.summaries;
        self.totals.present = 0;
        self.totals.summaries = 0;
        self.totals.tokens = 0;
        self.newest_receipt = None;
        self.generation = match self.generation {
            KnownGeneration::Fresh => KnownGeneration::After(0),
            KnownGeneration::Known(number) | KnownGeneration::After(number) => {
                KnownGeneration::After(number)
            }
        };
        true
    }

    /// The server keeps its state.
    fn keep(&mut self) {
        self.moves += 1;
        self.kept = Some(Arc::new(Self { kept: None, ..self.clone() }));
    }

    /// The server rolls back to the saved state, or to the empty one.
    fn go_back(&mut self) {
        let (moves, rollbacks) = (self.moves + 1, self.rollbacks + 1);
        let state = self.kept.as_deref().cloned().unwrap_or_default();
        *self = Self { moves, rollbacks, kept: self.kept.take(), ..state };
    }

    /// The memory's TTL ends.
    fn expire(&mut self) {
        let (moves, rollbacks) = (self.moves + 1, self.rollbacks + 1);
        *self = Self { moves, rollbacks, kept: self.kept.take(), ..Self::default() };
    }

    fn page(&mut self, places: &[(u64, Item)], generation: Option<u64>) -> bool {
        let there = self.items.iter().map(|(place, (item, ..))| (*place, *item));
        let same = there.eq(places.iter().copied());
        let Some(generation) = generation else { return same };
        let may_be = self.generation.may_be(generation);
        self.generation = self.generation.read(generation);
        same && may_be
    }

    /// Whether a window may contain this. The order depends on places, which windows do not report; `check_windows`
    /// checks it.
    fn is_window(&self, budget: u64, shown: &[Option<Tag>], without: Option<ModelPart>) -> bool {
        let any = |part| without == Some(part) || without == Some(ModelPart::Windows);
        let shows = |tag| shown.contains(&Some(tag));
        let are_here = || {
            let here: BTreeSet<Tag> = self.tags().map(|(tag, _)| tag).collect();
            let summaries = shown.iter().filter(|one| one.is_none()).count();
            shown.iter().flatten().all(|tag| here.contains(tag))
                && u64::try_from(summaries).is_ok_and(|count| count <= self.totals.summaries)
        };
        let has_critical =
            || self.tags().filter(|(_, kind)| *kind == Kind::Critical).all(|(tag, _)| shows(tag));
        (any(ModelPart::Windows) || are_here())
            && (any(ModelPart::Critical) || has_critical())
            && (any(ModelPart::Room) || !shown.is_empty() || !self.has_what_fits(budget))
    }

    fn tags(&self) -> impl Iterator<Item = (Tag, Kind)> {
        self.items.values().filter_map(|(item, _, kind)| match item {
            Item::Message(tag) => Some((*tag, *kind)),
            Item::Summary(_) => None,
        })
    }

    /// Whether a window of this budget certainly contains a message. Open and incomplete calls are omitted, and so are
    /// messages before talk that does not fit, even important ones.
    fn has_what_fits(&self, budget: u64) -> bool {
        let fits = |tokens: &u32| u64::from(*tokens) <= budget;
        let newest = self.items.values().next_back();
        let is_alone = |kind: &Kind| !matches!(kind, Kind::Call | Kind::Result);
        newest.is_some_and(|(_, tokens, kind)| is_alone(kind) && fits(tokens))
            || self.items.values().any(|(item, tokens, kind)| match item {
                Item::Message(_) => *kind == Kind::Critical,
                Item::Summary(_) => fits(tokens),
            })
    }
}

impl Model for SequentialMemory {
    type Call = Call;
    type Answer = Answer;

    fn step(&self, call: &Call, answer: Option<&Answer>) -> Option<Self> {
        let mut whole = self.clone();
        let next = &mut whole.state;
        let has_turns = self.without != Some(ModelPart::Turns);
        next.any_totals = self.without == Some(ModelPart::Totals);
        let possible = match (call, answer) {
            (Call::Append { batch, pieces, expected }, answer) => {
                next.append(&self.known, *batch, pieces, expected.as_ref(), answer)
            }
            (Call::Ensure { id, piece }, answer) => next.ensure(&self.known, *id, piece, answer),
            (Call::Splice { .. }, answer) => next.splice(call, answer),
            (Call::Clear(id), None | Some(Answer::Cleared)) => next.clear(&self.known, *id),
            (Call::Read(turn), Some(Answer::Page(places, generation))) => {
                let turn = turn.filter(|_| has_turns);
                next.begin(&self.known, turn) && next.page(places, *generation)
            }
            (Call::Before { position, limit }, Some(Answer::Before(places, page))) => {
                next.backward(position.as_ref(), *limit, places, *page)
            }
            (Call::Window(budget, turn), Some(Answer::Window(shown))) => {
                let turn = turn.filter(|_| has_turns);
                next.begin(&self.known, turn) && self.state.is_window(*budget, shown, self.without)
            }
            (Call::Count, Some(Answer::Counted(totals))) => next.may_count(totals),
            (Call::Keep, Some(Answer::Nothing)) => {
                next.keep();
                true
            }
            (Call::GoBack, Some(Answer::Nothing)) => {
                next.go_back();
                true
            }
            (Call::Expire, Some(Answer::Nothing)) => {
                next.expire();
                true
            }
            // Reads without an answer have no effect.
            (Call::Read(_) | Call::Before { .. } | Call::Window(..) | Call::Count, None)
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
