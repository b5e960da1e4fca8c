//! What the agents of a program asked, and what they were answered.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memory_core::{Counters, Message, Role, Splice, StoredMessage};

use crate::grants::{Grants, Sent};
use crate::linear::Operation;
use crate::link::Views;
use crate::program::Kind;
use crate::rollback::Effects;
use crate::violation::{Check, Violation};

/// A message of a program; no two have the same.
pub type Tag = u32;

/// What is told about a message when it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Which message.
    pub tag: Tag,
    /// Its size.
    pub tokens: u32,
    /// What it is: a result only if it answers a call.
    pub kind: Kind,
}

/// What stands at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Item {
    /// A message of an agent.
    Message(Tag),
    /// A summary, by its id.
    Summary(u128),
}

/// An operation on one memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Sends a batch; the same number means the same batch, sent again.
    Append {
        /// Which batch.
        batch: u32,
        /// Its messages.
        pieces: Vec<Piece>,
    },
    /// One request of a flush, as it was sent.
    Splice {
        /// The generation that it was planned for.
        generation: u64,
        /// The places that the summary replaces.
        summarised: Vec<u64>,
        /// The places that are dropped.
        evicted: Vec<u64>,
        /// The summary and its size.
        summary: Option<(u128, u32)>,
        /// The flush.
        receipt: Option<u128>,
    },
    /// Makes sure of the system prompt.
    Ensure {
        /// Which call.
        id: u32,
        /// The prompt.
        piece: Piece,
    },
    /// Removes everything; the same number means the same request.
    Clear(u32),
    /// Reads everything; if it is the first look of a turn, of which.
    Read(Option<u32>),
    /// Reads a context window of at most so many tokens; if it is the first look of a turn, of which.
    Window(u64, Option<u32>),
    /// Reads the counters.
    Count,
    /// The server keeps its state.
    Keep,
    /// The server goes back to the state that it kept last.
    GoBack,
    /// What certainly had no effect.
    Nothing,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The batch is there.
    Appended {
        /// From which place on, where told.
        first: Option<u64>,
        /// It had been there before.
        duplicate: bool,
        /// The counters after it.
        totals: Totals,
    },
    /// The flush is done.
    Spliced(Totals),
    /// The memory was changed under the flush.
    Conflict,
    /// The prompt is there: what was necessary, and its place.
    Ensured(Ensured, u64),
    /// Everything is gone.
    Cleared,
    /// What stood where, and in which generation, where that was told.
    Page(Vec<(u64, Item)>, Option<u64>),
    /// The messages of a window in their order; `None` for a summary.
    Window(Vec<Option<Tag>>),
    /// The counters.
    Counted(Totals),
    /// That it had no effect.
    Nothing,
}

/// The change that was necessary so that a prompt is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    /// Nothing.
    Unchanged,
    /// It was appended.
    Appended,
    /// It took the place of another text.
    Replaced,
}

/// The counters of a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Totals {
    /// Messages that are there, summaries included.
    pub present: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Summaries that are there.
    pub summaries: u64,
    /// Messages ever appended.
    pub appended: u64,
    /// Messages replaced by summaries.
    pub summarised: u64,
    /// Messages evicted.
    pub evicted: u64,
    /// Messages cleared.
    pub cleared: u64,
}

impl From<&Counters> for Totals {
    fn from(counters: &Counters) -> Self {
        Self {
            present: counters.present.messages,
            tokens: counters.present.tokens,
            summaries: counters.summaries,
            appended: counters.appended,
            summarised: counters.summarised,
            evicted: counters.evicted,
            cleared: counters.cleared,
        }
    }
}

/// A time during which somebody was sure to hold the lease on a memory.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// Of which memory.
    pub key: usize,
    /// By which agent.
    pub agent: usize,
    /// The token.
    pub token: u64,
    /// From when.
    pub from: u64,
    /// To when.
    pub to: u64,
}

/// An operation of a memory, as the checker takes it.
pub type Recorded = Operation<Call, Answer>;

/// Everything that was recorded. Times are counts of events, so no two are the same.
#[derive(Debug, Default)]
pub struct History {
    events: u64,
    operations: Vec<(usize, Recorded)>,
    /// Messages written under a lease, and its token.
    pub(crate) tokens: BTreeMap<Tag, u64>,
    /// Batches and clears that were sent in a turn, and in which.
    pub(crate) turns: BTreeMap<u32, u32>,
    /// Certain holds.
    pub(crate) held: Vec<Held>,
    /// Messages whose sender was told for certain that they are not there.
    pub(crate) refused: Vec<Tag>,
    /// What leases were granted to whom.
    pub(crate) grants: Grants,
    /// Which result answers which call.
    pub(crate) answers: BTreeMap<Tag, Tag>,
    /// Writes that took effect, where the server may go back.
    pub(crate) effects: Effects,
    /// What was read up to each cursor, where the server may go back.
    pub(crate) views: Views,
    /// Broken promises that were seen at once.
    pub(crate) violations: Vec<Violation>,
    /// A line for everything that happened, with its virtual time.
    pub(crate) trace: Vec<String>,
    /// How many faults were injected.
    pub(crate) faults: u64,
}

impl History {
    /// The next point in time.
    pub(crate) fn tick(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    /// The next point in time, and what the clock says there.
    pub(crate) fn now(&mut self) -> Sent {
        Sent { event: self.tick(), micros: virtual_time() }
    }

    /// The operations on this memory, in the order of their calls.
    pub(crate) fn of(&self, key: usize) -> Vec<Recorded> {
        let of_key = self.operations.iter().filter(|(of, _)| *of == key);
        of_key.map(|(_, operation)| operation.clone()).collect()
    }

    /// How many operations there are.
    pub(crate) fn len(&self) -> usize {
        self.operations.len()
    }

    pub(crate) fn broken(&mut self, check: Check, what: String) {
        self.violations.push(Violation { check, what });
    }
}

/// Takes down what happens.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<History>);

impl Recorder {
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation begins. Until it is answered nobody knows what became of it.
    pub(crate) fn call(&self, key: usize, call: Call) -> usize {
        let mut history = self.history();
        let called = history.tick();
        history.trace.push(format!("{} k{key} {call:?}", virtual_time()));
        history.operations.push((key, Operation { call, called, returned: None }));
        history.operations.len() - 1
    }

    /// It is answered.
    pub(crate) fn answer(&self, index: usize, answer: Answer) {
        let mut history = self.history();
        let at = history.tick();
        history.trace.push(format!("{} #{index} {answer:?}", virtual_time()));
        if let Some((_, operation)) = history.operations.get_mut(index) {
            operation.returned = Some((at, answer));
        }
    }

    /// It certainly had no effect, and must not be seen anywhere.
    pub(crate) fn refused(&self, index: usize) {
        if let Some(Call::Append { pieces, .. }) = self.strike_out(index) {
            self.history().refused.extend(pieces.iter().map(|piece| piece.tag));
        }
    }

    /// It certainly had no effect, but may have one when it is sent again.
    pub(crate) fn strike_out(&self, index: usize) -> Option<Call> {
        let mut history = self.history();
        let at = history.tick();
        history.trace.push(format!("{} #{index} not applied", virtual_time()));
        let (_, operation) = history.operations.get_mut(index)?;
        operation.returned = Some((at, Answer::Nothing));
        Some(std::mem::replace(&mut operation.call, Call::Nothing))
    }

    pub(crate) fn note(&self, line: impl fmt::Display) {
        self.history().trace.push(format!("{} {line}", virtual_time()));
    }
}

/// Microseconds since the program began.
fn virtual_time() -> u64 {
    crate::run::elapsed_micros()
}

/// Which message this is, by its text or by the id of its call.
pub(crate) fn tag_of(message: &Message) -> Option<Tag> {
    let digits = |text: &str| {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    if let Some(call) = message.tool_link().calls.first() {
        return call.id.strip_prefix('c').and_then(digits);
    }
    if *message.role() == Role::System && !message.text().starts_with('#') {
        return None;
    }
    message.text().strip_prefix('#').and_then(digits)
}

/// What stands at this place.
pub(crate) fn item_of(stored: &StoredMessage) -> (u64, Item) {
    let place = stored.meta.sequence.number();
    let item = match tag_of(&stored.message) {
        Some(tag) if !stored.meta.summary => Item::Message(tag),
        _ => Item::Summary(stored.meta.id.uuid().as_u128()),
    };
    (place, item)
}

/// A flush's request as a call.
pub(crate) fn call_of(splice: &Splice) -> Call {
    let numbers = |places: &[memory_core::Sequence]| places.iter().map(|p| p.number()).collect();
    Call::Splice {
        generation: splice.generation.number(),
        summarised: numbers(&splice.summarised),
        evicted: numbers(&splice.evicted),
        summary: splice
            .summary
            .as_ref()
            .map(|summary| (summary.id.uuid().as_u128(), summary.tokens)),
        receipt: splice.receipt.as_ref().map(|receipt| receipt.id.as_u128()),
    }
}
