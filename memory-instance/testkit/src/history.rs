//! The operations of a program's agents, and the answers that they received.

mod past;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memory_core::store::{Counters, NewMessage, Splice, Version};
use memory_core::{Message, Role, StoredMessage};

use crate::grants::{Grants, Sent};
use crate::linear::Operation;
use crate::link::Views;
use crate::program::Kind;
use crate::rollback::Effects;
use crate::violation::{Check, Violation};

pub use self::past::{Copied, Hit, Removed, Written};
pub(crate) use self::past::{Refusal, bytes_of, numbers};

/// A message of a program; unique.
pub type Tag = u32;

/// Properties of a message that are known when it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The message.
    pub tag: Tag,
    /// Its size.
    pub tokens: u32,
    /// Its kind: a result only if it answers a call.
    pub kind: Kind,
    /// Its bytes in an archive.
    pub bytes: u32,
}

/// The content of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Item {
    /// A message of an agent.
    Message(Tag),
    /// A summary, by its id.
    Summary(u128),
    /// The message in place of a tool result that a flush cleared, by its id.
    Cleared(u128),
}

/// The version that a conditional append expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The generation that was read.
    pub generation: u64,
    /// The newest message, with its place.
    pub newest: Option<(u64, Item)>,
}

impl Expected {
    /// A version that was read with these messages.
    pub(crate) fn at(version: Version, items: &[(u64, Item)]) -> Self {
        let generation = version.cursor().generation.number();
        Self { generation, newest: items.last().copied() }
    }
}

/// An operation on one memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Sends a batch; the same number means a retry of the same batch.
    Append {
        /// The number of the batch.
        batch: u32,
        /// Its messages.
        pieces: Vec<Piece>,
        /// The version at which alone it is appended.
        expected: Option<Expected>,
    },
    /// One request of a flush.
    Splice {
        /// The generation for which it was planned.
        generation: u64,
        /// The places that the summary replaces.
        summarized: Vec<u64>,
        /// The places that are evicted.
        evicted: Vec<u64>,
        /// The places that are taken back.
        withdrawn: Vec<u64>,
        /// The newest place that the planner saw.
        newest: Option<u64>,
        /// The messages in place of tool results, with their places.
        replaced: Vec<(u64, Written)>,
        /// The summary.
        summary: Option<Written>,
        /// The flush.
        receipt: Option<u128>,
    },
    /// Ensures the system prompt.
    Ensure {
        /// The number of the call.
        id: u32,
        /// The prompt.
        piece: Piece,
    },
    /// Removes everything; the same number means the same request.
    Clear(u32),
    /// Removes everything, and the archive.
    Purge(u32),
    /// Undoes the flush or the rewind with this receipt.
    Undo {
        /// The number of the call.
        id: u32,
        /// The receipt.
        receipt: u128,
    },
    /// Replaces the message at a place.
    Replace {
        /// The number of the call.
        id: u32,
        /// The place.
        place: u64,
        /// The new message. Its kind is that of the old one.
        piece: Piece,
    },
    /// Replaces all messages by a batch; the same number means a retry.
    ReplaceAll {
        /// The number of the batch.
        batch: u32,
        /// Its messages.
        pieces: Vec<Piece>,
        /// The version at which alone it is done.
        expected: Option<Expected>,
    },
    /// Erases the messages at these places, present and archived.
    Erase {
        /// The number of the call.
        id: u32,
        /// The places.
        places: Vec<u64>,
    },
    /// Reads the list of archived removals.
    Removals,
    /// Reads the archived messages of the removal with this number.
    Archived(u64),
    /// Searches for a word that all messages of agents contain.
    Search,
    /// A copy takes the state of the memory.
    Snapshot,
    /// A copy of the first memory becomes the memory, which does not exist.
    Begin {
        /// The copy.
        copy: u128,
        /// The version of the state that it took.
        version: u64,
        /// The part that it took.
        copied: Copied,
    },
    /// The same in one step: the copy takes the state that the first memory has now.
    Fork {
        /// The copy.
        copy: u128,
        /// The generation that the first memory must have.
        generation: u64,
        /// The place of the last message that it takes.
        at: u64,
    },
    /// Reads everything; with the turn, if this is its first read.
    Read(Option<u32>),
    /// Reads backward.
    Before {
        /// The position to read from; `None` for the end.
        position: Option<Position>,
        /// The most messages to return.
        limit: usize,
    },
    /// Reads a context window with this budget; with the turn, if this is its first read.
    Window(u64, Option<u32>),
    /// Reads the counters.
    Count,
    /// The server saves its state.
    Keep,
    /// The server rolls back to the last saved state.
    GoBack,
    /// The memory's TTL ends.
    Expire,
    /// An operation that certainly was not applied.
    Nothing,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The batch is stored.
    Appended {
        /// The place of its first message, if reported.
        first: Option<u64>,
        /// Whether it had been stored before.
        duplicate: bool,
        /// The counters after it.
        totals: Totals,
    },
    /// The flush is done.
    Spliced(Totals),
    /// The memory was changed under the flush, or is not at the expected version.
    Conflict,
    /// The prompt is stored: the change, and its place.
    Ensured(Ensured, u64),
    /// All messages were removed.
    Cleared,
    /// The removal was undone.
    Undone,
    /// The removal cannot be undone.
    NotUndone(Refusal),
    /// The message was replaced.
    Replaced,
    /// There is no message to replace.
    NotThere,
    /// The version of a state that a copy took.
    Version(u64),
    /// The places whose present messages were erased, and those whose archived ones were.
    Erased(Vec<u64>, Vec<u64>),
    /// The archived removals, newest first.
    Removals(Vec<Removed>),
    /// The archived messages of a removal.
    Archived(Vec<(u64, Item)>),
    /// The messages of agents that a search found.
    Found(Vec<Hit>),
    /// The content of places, and the generation if it was reported.
    Page(Vec<(u64, Item)>, Option<u64>),
    /// The content of the places before a position, and the rest of the page if it was reported.
    Before(Vec<(u64, Item)>, Option<Backward>),
    /// The messages of a window in their order; `None` for a summary.
    Window(Vec<Option<Tag>>),
    /// The counters.
    Counted(Totals),
    /// The operation was not applied.
    Nothing,
}

impl Answer {
    /// The content of places, if the answer has it.
    pub(crate) fn places(&self) -> Option<&[(u64, Item)]> {
        match self {
            Self::Page(places, _) | Self::Before(places, _) => Some(places),
            _ => None,
        }
    }

    /// The counters, if the answer has them.
    pub(crate) const fn totals(&self) -> Option<&Totals> {
        match self {
            Self::Appended { totals, .. } | Self::Spliced(totals) | Self::Counted(totals) => {
                Some(totals)
            }
            _ => None,
        }
    }
}

/// The position of a reader that pages backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The generation that was read.
    pub generation: u64,
    /// The place of the oldest message that was read.
    pub place: u64,
    /// That message.
    pub item: Item,
}

/// The rest of a page that was read backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backward {
    /// The generation of the page.
    pub generation: u64,
    /// The page has the newest messages, because the position was not valid.
    pub restarted: bool,
    /// There are older messages.
    pub more: bool,
}

/// The change that stored a prompt.
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
    /// Stored messages, summaries included.
    pub present: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Stored summaries.
    pub summaries: u64,
    /// Messages ever appended.
    pub appended: u64,
    /// Messages replaced by summaries.
    pub summarized: u64,
    /// Messages evicted.
    pub evicted: u64,
    /// Messages cleared.
    pub cleared: u64,
    /// Messages taken back.
    pub withdrawn: u64,
}

impl From<&Counters> for Totals {
    fn from(counters: &Counters) -> Self {
        Self {
            present: counters.present.messages,
            tokens: counters.present.tokens,
            summaries: counters.summaries,
            appended: counters.appended,
            summarized: counters.summarized,
            evicted: counters.evicted,
            cleared: counters.cleared,
            withdrawn: counters.withdrawn,
        }
    }
}

/// A time during which an agent certainly held the lease on a memory.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// The memory.
    pub key: usize,
    /// The agent.
    pub agent: usize,
    /// The token.
    pub token: u64,
    /// The start.
    pub from: u64,
    /// The end.
    pub to: u64,
}

/// An operation of a memory in the checker's form.
pub type Recorded = Operation<Call, Answer>;

/// Everything that was recorded. Times are counts of events, so no two are the same.
#[derive(Debug, Default)]
pub struct History {
    events: u64,
    operations: Vec<(usize, Recorded)>,
    /// Messages written under a lease, and its token.
    pub(crate) tokens: BTreeMap<Tag, u64>,
    /// Batches and clears that were sent in a turn, with that turn.
    pub(crate) turns: BTreeMap<u32, u32>,
    /// Certain holds.
    pub(crate) held: Vec<Held>,
    /// The explicit flushes of each memory: when they were called, and when they were answered.
    pub(crate) flushes: Vec<(usize, u64, Option<u64>)>,
    /// Messages that were reported as not applied.
    pub(crate) refused: Vec<Tag>,
    /// All grants of leases.
    pub(crate) grants: Grants,
    /// The messages that were sent to the store.
    pub(crate) sent: BTreeMap<Item, NewMessage>,
    /// The call that each result answers.
    pub(crate) answers: BTreeMap<Tag, Tag>,
    /// Applied writes, if the server may roll back.
    pub(crate) effects: Effects,
    /// The messages read up to each cursor, if the server may roll back.
    pub(crate) views: Views,
    /// Violations that were found immediately.
    pub(crate) violations: Vec<Violation>,
    /// One line per event, with its virtual time.
    pub(crate) trace: Vec<String>,
    /// The number of injected faults.
    pub(crate) faults: u64,
}

impl History {
    /// The next point in time.
    pub(crate) fn tick(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    /// The next point in time, with the clock's reading.
    pub(crate) fn now(&mut self) -> Sent {
        Sent { event: self.tick(), micros: virtual_time() }
    }

    /// The operations on this memory, in the order of their calls.
    pub(crate) fn of(&self, key: usize) -> Vec<Recorded> {
        let of_key = self.operations.iter().filter(|(of, _)| *of == key);
        of_key.map(|(_, operation)| operation.clone()).collect()
    }

    /// Records messages that are sent to the store, with the form of those that agents do not write.
    pub(crate) fn sent<'m>(
        &mut self,
        messages: impl IntoIterator<Item = &'m NewMessage>,
        unnumbered: fn(u128) -> Item,
    ) {
        let item = |new: &NewMessage| match tag_of(&new.message) {
            Some(tag) => Item::Message(tag),
            None => unnumbered(new.id.uuid().as_u128()),
        };
        self.sent.extend(messages.into_iter().map(|new| (item(new), new.clone())));
    }

    /// Records the start of an explicit flush.
    pub(crate) fn flush_began(&mut self, key: usize) -> usize {
        let called = self.tick();
        self.flushes.push((key, called, None));
        self.flushes.len() - 1
    }

    /// Records the end of an explicit flush.
    pub(crate) fn flush_ended(&mut self, index: usize) {
        let now = self.tick();
        if let Some((.., returned)) = self.flushes.get_mut(index) {
            *returned = Some(now);
        }
    }

    /// The number of operations.
    pub(crate) fn len(&self) -> usize {
        self.operations.len()
    }

    pub(crate) fn broken(&mut self, check: Check, what: String) {
        self.violations.push(Violation { check, what });
    }
}

/// Records events.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<History>);

impl Recorder {
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the start of an operation. Its outcome is unknown until it is answered.
    pub(crate) fn call(&self, key: usize, call: Call) -> usize {
        let mut history = self.history();
        let called = history.tick();
        history.trace.push(format!("{} k{key} {call:?}", virtual_time()));
        history.operations.push((key, Operation { call, called, returned: None }));
        history.operations.len() - 1
    }

    /// Records its answer.
    pub(crate) fn answer(&self, index: usize, answer: Answer) {
        let mut history = self.history();
        let at = history.tick();
        history.trace.push(format!("{} #{index} {answer:?}", virtual_time()));
        if let Some((_, operation)) = history.operations.get_mut(index) {
            operation.returned = Some((at, answer));
        }
    }

    /// Records that it was not applied, so that its messages must not be seen.
    pub(crate) fn refused(&self, index: usize) {
        let call = self.strike_out(index);
        if let Some(Call::Append { pieces, .. } | Call::ReplaceAll { pieces, .. }) = call {
            self.history().refused.extend(pieces.iter().map(|piece| piece.tag));
        }
    }

    /// Records that it was not applied, but may be applied when it is sent again.
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

/// The tag of a message, from its text or from the id of its call.
pub(crate) fn tag_of(message: &Message) -> Option<Tag> {
    if let Some(call) = message.tool_link().calls.first() {
        return call.id.strip_prefix('c').and_then(digits);
    }
    if *message.role() == Role::System && !message.text().starts_with('#') {
        return None;
    }
    tag_in(&message.text())
}

/// The tag at the beginning of a text.
pub(crate) fn tag_in(text: &str) -> Option<Tag> {
    text.strip_prefix('#').and_then(digits)
}

fn digits(text: &str) -> Option<Tag> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The content of this place.
pub(crate) fn item_of(stored: &StoredMessage) -> (u64, Item) {
    let place = stored.meta.sequence.number();
    let id = stored.meta.id.uuid().as_u128();
    let item = match tag_of(&stored.message) {
        Some(tag) => Item::Message(tag),
        None if stored.meta.summary => Item::Summary(id),
        None => Item::Cleared(id),
    };
    (place, item)
}

/// A flush's request as a call.
pub(crate) fn call_of(splice: &Splice) -> Call {
    let numbers = |places: &[memory_core::Sequence]| places.iter().map(|p| p.number()).collect();
    let written = |new: &NewMessage| Written {
        id: new.id.uuid().as_u128(),
        tokens: new.tokens,
        bytes: bytes_of(&new.message),
    };
    let replaced = splice.replaced.iter();
    Call::Splice {
        generation: splice.generation.number(),
        summarized: numbers(&splice.summarized),
        evicted: numbers(&splice.evicted),
        withdrawn: numbers(&splice.withdrawn),
        newest: splice.newest.map(|newest| newest.sequence.number()),
        replaced: replaced.map(|one| (one.sequence.number(), written(&one.message))).collect(),
        summary: splice.summary.as_ref().map(written),
        receipt: splice.receipt.as_ref().map(|receipt| receipt.id.as_u128()),
    }
}
