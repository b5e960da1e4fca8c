//! The sequential model of a memory.

mod append;
mod archive;
mod backward;
mod copies;
mod edit;
mod known;
mod reads;
mod rewrite;
mod splice;
mod version;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use self::append::{Batch, Replaces};
use self::archive::Removal;
use self::known::Known;
use self::rewrite::Receipt;
use self::splice::Rules;
use self::version::IsCurrent;
use crate::history::{Answer, Call, Item, Piece, Recorded, Settings, Tag, Totals};
use crate::linear::Model;
use crate::program::Kind;
use crate::violation::Check;

pub(crate) use self::copies::Memories;
pub use self::window::WindowRules;

/// The state of the sequential memory.
#[derive(Debug, Clone, Default)]
pub struct SequentialMemory {
    known: Arc<Known>,
    /// The part of the answers that is ignored.
    without: Option<ModelPart>,
    /// The most bytes of the archive, if there is one.
    archive: Option<u64>,
    /// `None` if windows are not planned.
    windows: Option<Arc<WindowRules>>,
    state: State,
}

/// A message in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Stored {
    item: Item,
    tokens: u32,
    /// That of a summary is a fact.
    kind: Kind,
    summary: bool,
    bytes: u32,
    /// If they are not those with which it was sent.
    settings: Option<Settings>,
    /// Its settings were changed, so that it has another id.
    edited: bool,
    /// It is the ensured system prompt.
    prompt: bool,
}

impl From<&Piece> for Stored {
    fn from(piece: &Piece) -> Self {
        let Piece { tag, tokens, kind, bytes } = *piece;
        let item = Item::Message(tag);
        Self {
            item,
            tokens,
            kind,
            summary: false,
            bytes,
            settings: None,
            edited: false,
            prompt: false,
        }
    }
}

impl Stored {
    /// Whether no flush may remove it.
    fn is_critical(&self) -> bool {
        let kind = || self.kind == Kind::Critical;
        self.settings.map_or_else(kind, |settings| settings.priority == Some(0))
    }
}

/// A part of the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelPart {
    /// No other writes between the first read of a turn and its last write.
    Turns,
    /// Windows are those that the facade plans.
    Plan,
    /// The version of a window is that of its messages.
    WindowVersion,
    /// Windows contain critical messages.
    Critical,
    /// Windows are not empty if a message fits.
    Room,
    /// Windows.
    Windows,
    /// The counters.
    Totals,
    /// Searches.
    Search,
    /// The archive, and whether a removal can be undone.
    Archive,
    /// Priorities and content types.
    Settings,
    /// The messages that summaries repeat, and the outcomes of rewriting them.
    Summaries,
}

impl ModelPart {
    /// All parts.
    pub(crate) const ALL: [Self; 11] = [
        Self::Turns,
        Self::WindowVersion,
        Self::Plan,
        Self::Critical,
        Self::Room,
        Self::Windows,
        Self::Totals,
        Self::Search,
        Self::Archive,
        Self::Settings,
        Self::Summaries,
    ];

    /// The check that failed, if everything else can be explained.
    pub(crate) const fn check(self) -> Check {
        match self {
            Self::Turns => Check::TurnNotAtomic,
            Self::Plan => Check::WindowStale,
            Self::WindowVersion => Check::WindowVersion,
            Self::Critical => Check::WindowWithoutCritical,
            Self::Room => Check::WindowEmpty,
            Self::Windows => Check::WindowOfNothing,
            Self::Totals => Check::Counted,
            Self::Search => Check::SearchWrong,
            Self::Archive => Check::ArchiveWrong,
            Self::Settings => Check::SettingsWrong,
            Self::Summaries => Check::SummaryWrong,
        }
    }
}

#[derive(Debug, Clone, Default, Hash)]
struct State {
    /// The message at each place.
    items: BTreeMap<u64, Stored>,
    last: u64,
    totals: Totals,
    generation: KnownGeneration,
    /// Appended batches, with their places.
    batches: BTreeMap<u32, u64>,
    clears: BTreeSet<u32>,
    /// The newest receipts, newest first.
    receipts: Vec<Receipt>,
    /// Erased messages.
    erased: BTreeSet<Tag>,
    /// For each summary that was written anew, the one before and the receipt.
    rewritten: BTreeMap<u128, (u128, u128)>,
    /// The removals whose messages are kept, oldest first.
    archive: Vec<Arc<Removal>>,
    /// The turn that has read and will still write: no other write is allowed.
    turn: Option<u32>,
    /// Counters are not compared.
    any_totals: bool,
    /// The number of saves, rollbacks, erasures, edits without effect and ends of archives. It makes each of them change the state, so that the search does not
    /// move them before operations in flight.
    moves: usize,
    /// The number of rollbacks.
    rollbacks: usize,
    /// It is a copy of a memory that was rolled back.
    of_rolled_back: bool,
    /// The copy that made the memory.
    copy: Option<u128>,
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

    /// The knowledge after a change.
    const fn next(self) -> Self {
        match self {
            Self::Fresh => Self::After(0),
            Self::Known(number) | Self::After(number) => Self::After(number),
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
        let known = Arc::new(known);
        Self { known, without: None, archive: None, windows: None, state: State::default() }
    }

    /// The same memory, whose windows are planned by these rules.
    #[must_use]
    pub fn with_windows(&self, rules: Arc<WindowRules>) -> Self {
        Self { windows: Some(rules), ..self.clone() }
    }

    /// The same memory with an archive of at most this many bytes.
    #[must_use]
    pub fn with_archive(&self, max_bytes: Option<u64>) -> Self {
        Self { archive: max_bytes, ..self.clone() }
    }

    /// The same model, ignoring this part of the answers.
    #[must_use]
    pub fn without(&self, part: ModelPart) -> Self {
        Self { without: Some(part), ..self.clone() }
    }
}

impl State {
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

    /// Whether the ids of messages may be others than when they were read: a batch that is sent again after a rollback
    /// has new ones.
    const fn was_rolled_back(&self) -> bool {
        self.rollbacks > 0 || self.of_rolled_back
    }

    /// Deletes the memory. Since it was read, it was not changed: with this generation and this newest message ever, if
    /// that was present.
    fn delete(&mut self, generation: u64, newest: Option<u64>) -> bool {
        let is_there = Some(self.last).filter(|last| self.items.contains_key(last));
        let is_as_read = self.generation.may_be(generation) && is_there == newest;
        // A memory without writes is deleted in any case.
        let is_possible = self.last == 0 || is_as_read;
        self.expire();
        is_possible
    }

    /// The memory's TTL ends, or it is deleted.
    fn expire(&mut self) {
        let (moves, rollbacks) = (self.moves + 1, self.rollbacks + 1);
        *self = Self { moves, rollbacks, kept: self.kept.take(), ..Self::default() };
    }
}

impl Model for SequentialMemory {
    type Call = Call;
    type Answer = Answer;

    fn step(&self, call: &Call, answer: Option<&Answer>) -> Option<Self> {
        let mut whole = self.clone();
        let next = &mut whole.state;
        let ignores = |part| self.without == Some(part);
        let has_turns = !ignores(ModelPart::Turns);
        next.any_totals = ignores(ModelPart::Totals);
        let windows = self.windows.as_deref();
        let possible = match (call, answer) {
            (Call::Append { batch, pieces, expected }, answer) => {
                let (number, expected) = (*batch, expected.as_ref());
                let batch = Batch { number, pieces, expected, replaces: Replaces::Nothing };
                next.append(&self.known, &batch, answer)
            }
            (Call::ReplaceAll { batch, pieces, expected }, answer) => {
                let (number, expected) = (*batch, expected.as_ref());
                let replaces = Replaces::All { archive: self.archive };
                next.append(&self.known, &Batch { number, pieces, expected, replaces }, answer)
            }
            (Call::Replace { id, place, piece }, answer) => {
                next.replace(&self.known, (*id, *place), piece, (windows, answer))
            }
            (Call::Edit { id, place, edit }, answer) => {
                next.edit(&self.known, (*id, *place), *edit, (windows, answer))
            }
            (Call::Ensure { id, piece }, answer) => {
                next.ensure(&self.known, (*id, piece), (windows, answer))
            }
            (Call::Splice { .. }, answer) => {
                let summaries = windows.filter(|_| !ignores(ModelPart::Summaries));
                let rules = Rules { archive: self.archive, windows, summaries };
                next.splice(call, answer, rules)
            }
            (Call::Clear(id), None | Some(Answer::Cleared)) => {
                next.clear(&self.known, *id, self.archive)
            }
            (Call::Purge(id), None | Some(Answer::Cleared)) => next.clear(&self.known, *id, None),
            (Call::Undo { id, receipt }, answer) => {
                next.undo(&self.known, *id, *receipt, answer)
                    || ignores(ModelPart::Archive) && answer.is_some()
            }
            (Call::Erase { id, places }, answer) => {
                next.erase(places, answer) && next.may_write(&self.known, *id)
            }
            (Call::Removals | Call::Archived(_) | Call::Originals(_), Some(_))
                if ignores(ModelPart::Archive) =>
            {
                true
            }
            (Call::Search, Some(_)) if ignores(ModelPart::Search) => true,
            (Call::Settings, Some(_)) if ignores(ModelPart::Settings) => true,
            (Call::Rewrite(_), Some(_)) if ignores(ModelPart::Summaries) => true,
            (Call::Settings, Some(Answer::Settings(told))) => self.state.settings(told, windows),
            (Call::Receipts, Some(Answer::Receipts(told))) => self.state.receipts(told),
            (Call::Rewrite(summary), Some(Answer::Rewrote(outcome))) => {
                self.state.rewrote(*summary, *outcome)
            }
            (Call::Removals, Some(Answer::Removals(told))) => next.removals(told),
            (Call::Archived(number), Some(Answer::Archived(told))) => next.archived(*number, told),
            (Call::Originals(summary), Some(Answer::Archived(told))) => {
                self.state.originals(*summary, told)
            }
            (Call::Copied, Some(Answer::Nothing)) => self.state.last > 0,
            (Call::Search, Some(Answer::Found(told))) => next.found(told),
            (Call::Read(turn), Some(Answer::Page(places, generation))) => {
                let turn = turn.filter(|_| has_turns);
                next.begin(&self.known, turn) && next.page(places, *generation)
            }
            (Call::Before { position, limit }, Some(Answer::Before(places, page))) => {
                next.backward(position.as_ref(), *limit, places, *page)
            }
            (Call::Window(budget, turn), Some(Answer::Window(shown, end))) => {
                let turn = turn.filter(|_| has_turns);
                let rules = self.windows.as_deref();
                next.begin(&self.known, turn)
                    && self.state.is_window(*budget, (shown, *end), rules, self.without)
            }
            (Call::Window(budget, turn), Some(Answer::NoWindow)) => {
                let turn = turn.filter(|_| has_turns);
                let rules = self.windows.as_deref();
                next.begin(&self.known, turn)
                    && self.state.has_no_window(*budget, rules, self.without)
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
            (Call::Delete { generation, newest }, Some(Answer::Nothing)) => {
                next.delete(*generation, *newest)
            }
            (Call::EndArchives, Some(Answer::Nothing)) => {
                next.archive.clear();
                next.moves += 1;
                true
            }
            (Call::Rewind(expected), Some(Answer::Conflict)) => {
                self.state.is_at(expected).may_be(IsCurrent::No)
            }
            (Call::Rewind(expected), Some(Answer::Nothing)) => {
                self.state.is_at(expected).may_be(IsCurrent::Yes)
            }
            // Reads without an answer have no effect.
            (
                Call::Read(_)
                | Call::Before { .. }
                | Call::Window(..)
                | Call::Count
                | Call::Removals
                | Call::Archived(_)
                | Call::Originals(_)
                | Call::Copied
                | Call::Search
                | Call::Settings
                | Call::Receipts
                | Call::Rewrite(_)
                | Call::Rewind(_),
                None,
            )
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
