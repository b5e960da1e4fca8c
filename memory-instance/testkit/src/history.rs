//! The operations of a program's agents, and the answers that they received.

mod answer;
mod call;
mod caller;
mod item;
mod past;
mod recorder;
mod renames;
mod settings;

use std::collections::BTreeMap;

use memory_core::store::{NewMessage, Replace, WriteId, WriterId};

pub use self::answer::{Answer, Backward, Ensured, Totals};
pub use self::call::{Call, Expected, Position};
pub(crate) use self::call::{REWRITE, call_of};
pub(crate) use self::caller::Caller;
pub use self::item::{Item, Piece, Tag};
pub(crate) use self::item::{item_of, tag_in, tag_of};
pub use self::past::{Copied, Hit, Removed, Written};
pub(crate) use self::past::{Refusal, bytes_of, numbers};
pub(crate) use self::recorder::Recorder;
pub(crate) use self::renames::Renames;
pub use self::settings::{Edit, Rewrote, Settings, Type};
use crate::grants::{Grants, Sent};
use crate::linear::Operation;
use crate::link::Views;
use crate::rollback::{Effects, Rollbacks};
use crate::run::elapsed_micros;
use crate::violation::{Check, Violation};

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

/// An operation on the memory with this number.
#[derive(Debug)]
struct OfMemory {
    key: usize,
    caller: Caller,
    operation: Recorded,
}

/// Everything that was recorded. Times are counts of events, so no two are the same.
#[derive(Debug, Default)]
pub struct History {
    events: u64,
    operations: Vec<OfMemory>,
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
    /// Summaries and cleared results that got other ids.
    pub(crate) renames: Renames,
    /// The call that each result answers.
    pub(crate) answers: BTreeMap<Tag, Tag>,
    /// Applied writes, if the server may roll back.
    pub(crate) effects: Effects,
    /// The messages read up to each cursor, if the server may roll back.
    pub(crate) views: Views,
    /// The numbers of requests that no agent numbered.
    unnumbered: BTreeMap<(WriterId, u64), u32>,
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
        Sent { event: self.tick(), micros: elapsed_micros() }
    }

    /// The operations on this memory, in the order of their calls.
    pub(crate) fn of(&self, key: usize) -> Vec<Recorded> {
        self.with_callers(key).map(|(_, operation)| self.renames.applied(operation)).collect()
    }

    /// The same with their callers.
    pub(crate) fn with_callers(&self, key: usize) -> impl Iterator<Item = (Caller, &Recorded)> {
        let of_key = self.operations.iter().filter(move |one| one.key == key);
        of_key.map(|one| (one.caller, &one.operation))
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
        for new in messages {
            // A later request with the same text only changes its settings.
            self.sent.entry(item(new)).or_insert_with(|| new.clone());
        }
    }

    /// Records a replacement that is sent. One that keeps a text without a number gives its message another id, because
    /// agents write no such texts.
    pub(crate) fn replacing(&mut self, replace: &Replace) {
        let new = &replace.message;
        self.sent([new], Item::Cleared);
        if tag_of(&new.message).is_none() {
            let [old, new] = [replace.replaced, new.id].map(|id| id.uuid().as_u128());
            self.renames.learn(old, new);
        }
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

    /// Whether all writes of this memory were answered before this time, apart from these operations.
    pub(crate) fn is_quiet(&self, key: usize, since: u64, apart_from: &[usize]) -> bool {
        let mut others = self.operations.iter().enumerate().filter(|(index, one)| {
            one.key == key && !one.operation.call.is_read() && !apart_from.contains(index)
        });
        others.all(|(_, one)| matches!(one.operation.returned, Some((at, _)) if at < since))
    }

    /// The number of a request that no agent numbered. It is the same when the request is sent again.
    pub(crate) fn id_of(&mut self, write: WriteId) -> u32 {
        let next = u32::try_from(self.unnumbered.len()).unwrap_or_default();
        *self.unnumbered.entry((write.writer, write.number)).or_insert(u32::MAX - next)
    }

    /// Operations that represent additional effects of those on this memory.
    pub(crate) fn repeated(
        &self,
        key: usize,
        operations: &[Recorded],
        rollbacks: &Rollbacks,
    ) -> Vec<Recorded> {
        let all = self.operations.iter().enumerate().filter(|(_, one)| one.key == key);
        let numbered = all.map(|(number, _)| number).zip(operations);
        self.effects.repeated(numbered, rollbacks)
    }

    /// The number of operations.
    pub(crate) fn len(&self) -> usize {
        self.operations.len()
    }

    pub(crate) fn broken(&mut self, check: Check, what: String) {
        self.violations.push(Violation { check, what });
    }
}
