mod cases;

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroUsize;

use jiff::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::store::{
    Access, Append, Clear, Erase, MemoryState, MessageId, NewMessage, Newest, Read, Replace,
    Restore, Retention, Splice, SummaryRecord, WriterId,
};
use crate::{ContentType, Message};

#[derive(Debug, Clone)]
enum Step {
    Append(u64),
    /// Summarizes or evicts the present messages whose index has its bit set.
    Flush {
        summarized: u16,
        evicted: u16,
    },
    Replace(usize),
    /// Takes this many of the newest messages back.
    Withdraw(usize),
    /// Undoes one of the removals in the archive, if it can be undone.
    Restore(usize),
    /// Erases what is or was at one of the present places.
    Erase(usize),
    Clear,
    ClearToArchive,
    /// The TTL ends.
    Expire,
    Save,
    GoBack,
    /// The watcher reads; this many messages are appended between its reads.
    Look(u64),
    /// Another process continues from the cursor.
    Resume,
    /// The watcher reads and returns only this many changes, then another process continues.
    Stop(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..4_u64).prop_map(Step::Append),
        4 => (any::<u16>(), any::<u16>())
            .prop_map(|(summarized, evicted)| Step::Flush { summarized, evicted }),
        2 => any::<usize>().prop_map(Step::Replace),
        2 => (1..4_usize).prop_map(Step::Withdraw),
        4 => prop_oneof![4 => Just(0), 1 => any::<usize>()].prop_map(Step::Restore),
        2 => any::<usize>().prop_map(Step::Erase),
        1 => Just(Step::Clear),
        1 => Just(Step::ClearToArchive),
        1 => Just(Step::Expire),
        1 => Just(Step::Save),
        1 => Just(Step::GoBack),
        6 => (0..3_u64).prop_map(Step::Look),
        1 => Just(Step::Resume),
        2 => (0..4_usize).prop_map(Step::Stop),
    ];
    prop::collection::vec(step, 1..60)
}

/// A memory, and a copy that applies what a watcher reports.
#[derive(Default)]
struct World {
    memory: MemoryState,
    saved: MemoryState,
    writes: u64,
    copy: BTreeMap<Sequence, StoredMessage>,
    /// The same by `Change::apply`.
    applied: BTreeMap<Sequence, StoredMessage>,
    /// The ids that were delivered since the copy was discarded.
    delivered: HashSet<MessageId>,
    /// The places whose fate was reported.
    reported: HashSet<u64>,
    /// The true reasons since the memory began, for places that no rollback touched.
    reasons: BTreeMap<Sequence, RemovalReason>,
    lags: usize,
    may_lag: bool,
}

impl World {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(i64::try_from(self.writes).unwrap()).unwrap()
    }

    fn message(&mut self) -> NewMessage {
        self.writes += 1;
        NewMessage {
            id: MessageId::new(Uuid::from_u128(self.writes.into())),
            message: Message::user(format!("{}", self.writes)),
            tokens: 1,
            priority: None,
            content_type: ContentType::Conversation,
            created_at: self.now(),
        }
    }

    fn writer(&mut self) -> crate::store::WriteId {
        self.writes += 1;
        WriterId::new(u128::from(self.writes)).write(1)
    }

    fn metas(&self) -> Vec<crate::store::MessageMeta> {
        self.memory.outline(self.now()).metas
    }

    fn flush(&mut self, summarized: u16, evicted: u16) {
        let metas = self.metas();
        let of = |bits: u16| {
            let chosen = metas.iter().enumerate().filter(move |(at, _)| bits >> (at % 16) & 1 == 1);
            chosen.map(|(_, meta)| meta.sequence).collect::<Vec<_>>()
        };
        let (summarized, evicted) = (of(summarized), of(evicted & !summarized));
        let mut splice = Splice::new(self.memory.head(self.now()).generation);
        splice.newest = metas.last().map(|meta| Newest { sequence: meta.sequence, id: meta.id });
        splice.archive = Some(Retention::forever());
        self.writes += 1;
        let mut receipt =
            FlushReceipt::new(Uuid::from_u128(self.writes.into()), "test", self.now());
        receipt.summarized = summarized.iter().copied().collect();
        receipt.evicted = evicted.iter().copied().collect();
        if let Some(first) = summarized.first() {
            let summary = self.message();
            receipt.summary = Some(SummaryRecord::new(summary.id, *first, 1, "test"));
            splice.summary = Some(summary);
        }
        if summarized.is_empty() && evicted.is_empty() {
            return;
        }
        for (places, reason) in
            [(&summarized, RemovalReason::Summarized), (&evicted, RemovalReason::Evicted)]
        {
            self.reasons.extend(places.iter().map(|place| (*place, reason)));
        }
        (splice.summarized, splice.evicted, splice.receipt) = (summarized, evicted, Some(receipt));
        let now = self.now();
        self.memory.splice(Access::OPEN, &splice, now).unwrap();
    }

    fn withdraw(&mut self, count: usize) {
        let now = self.now();
        let mut splice = Splice::of(&self.memory.outline(now));
        let metas = self.metas();
        let withdrawn = metas.iter().skip(metas.len().saturating_sub(count));
        splice.withdrawn = withdrawn.map(|meta| meta.sequence).collect();
        if splice.withdrawn.is_empty() {
            return;
        }
        self.writes += 1;
        let now = self.now();
        let mut receipt = FlushReceipt::new(Uuid::from_u128(self.writes.into()), "test", now);
        receipt.withdrawn = splice.withdrawn.iter().copied().collect();
        let reason = RemovalReason::Withdrawn;
        self.reasons.extend(splice.withdrawn.iter().map(|place| (*place, reason)));
        (splice.receipt, splice.archive) = (Some(receipt), Some(Retention::forever()));
        self.memory.splice(Access::OPEN, &splice, now).unwrap();
    }

    fn restore(&mut self, which: usize) {
        let removals = self.memory.removals(None, NonZeroUsize::MAX, self.now());
        let Some(removal) = removals.get(which % removals.len().max(1)) else { return };
        let Some(receipt) = &removal.receipt else { return };
        let restore = Restore { write: self.writer(), receipt: receipt.id };
        let now = self.now();
        if self.memory.restore(Access::OPEN, &restore, now).is_ok() {
            self.reasons.retain(|place, _| !removal.places.contains(*place));
        }
    }

    fn erase(&mut self, which: usize) {
        let metas = self.metas();
        let Some(meta) = metas.get(which % metas.len().max(1)) else { return };
        let places = [meta.sequence].into_iter().collect();
        let erase = Erase { write: self.writer(), places, reason: "test".into() };
        let now = self.now();
        self.memory.erase(Access::OPEN, &erase, now).unwrap();
        self.reasons.insert(meta.sequence, RemovalReason::Erased);
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Append(count) => {
                let messages = (0..count).map(|_| self.message()).collect();
                let append = Append { write: self.writer(), messages, ttl: None, expected: None };
                let now = self.now();
                self.memory.append(Access::OPEN, &append, now).unwrap();
            }
            Step::Flush { summarized, evicted } => self.flush(summarized, evicted),
            Step::Replace(which) => {
                let metas = self.metas();
                let Some(old) = metas.get(which % metas.len().max(1)) else { return };
                let (sequence, replaced) = (old.sequence, old.id);
                let (message, write) = (self.message(), self.writer());
                let (replace, now) = (Replace { write, sequence, replaced, message }, self.now());
                self.memory.replace(Access::OPEN, &replace, now).unwrap();
            }
            Step::Withdraw(count) => self.withdraw(count),
            Step::Restore(which) => self.restore(which),
            Step::Erase(which) => self.erase(which),
            Step::Clear => {
                let (write, now) = (self.writer(), self.now());
                self.memory.clear(Access::OPEN, &Clear::new(write), now).unwrap();
            }
            Step::ClearToArchive => {
                let archive = Some(Retention::forever());
                let clear = Clear { archive, ..Clear::new(self.writer()) };
                let now = self.now();
                self.memory.clear(Access::OPEN, &clear, now).unwrap();
            }
            Step::Expire => {
                self.memory = MemoryState::default();
                self.reasons.clear();
                self.may_lag = true;
            }
            Step::Save => self.saved = self.memory.clone(),
            Step::GoBack => {
                self.memory = self.saved.clone();
                // Messages that were removed since are back, and arrive again.
                let copy: HashSet<_> = self.copy.values().map(|stored| stored.meta.id).collect();
                self.delivered.retain(|id| copy.contains(id));
                // Places are given twice from here on.
                self.reasons.clear();
                self.may_lag = true;
            }
            Step::Look(_) | Step::Resume | Step::Stop(_) => {}
        }
    }

    /// The changes that the watcher reads; this many messages are appended between its reads.
    fn read(&mut self, tracker: &mut ChangeTracker, late: u64) -> Vec<(Change, Cursor)> {
        let now = self.now();
        let page = self.memory.read(Read { after: tracker.read_after(), limit: None }, now);
        match tracker.advance(page) {
            Ok(change) => change.map(|change| (change, tracker.cursor())).into_iter().collect(),
            Err(NeedsComparison) => {
                let (head, receipts) = (self.memory.head(now), self.memory.receipts(now));
                let erasures = self.memory.erasures(now);
                if late > 0 {
                    self.take(&Step::Append(late));
                }
                let page = self.memory.read(Read::default(), self.now());
                match tracker.compare(&page, &receipts, &erasures, &head) {
                    Some(changes) => changes,
                    // The append began the memory.
                    None => self.read(tracker, 0),
                }
            }
        }
    }

    /// The watcher returns only some of the changes that it reads; returns the position after them.
    fn stop(
        &mut self,
        tracker: &mut ChangeTracker,
        returned: usize,
    ) -> Result<Cursor, TestCaseError> {
        let mut cursor = tracker.cursor();
        let changes = self.read(tracker, 0);
        if returned >= changes.len() {
            cursor = tracker.cursor();
        }
        for (change, after) in changes.into_iter().take(returned) {
            self.apply(change)?;
            cursor = after;
        }
        // A watcher that continues does not report the places before that are empty: its copy has no messages there.
        let present: HashSet<_> = self.metas().iter().map(|meta| meta.sequence.number()).collect();
        let last = self.memory.head(self.now()).last.number();
        self.reported.extend((1..=last).filter(|place| !present.contains(place)));
        Ok(cursor)
    }

    fn look(&mut self, tracker: &mut ChangeTracker, late: u64) -> Result<(), TestCaseError> {
        for (change, _) in self.read(tracker, late) {
            self.apply(change)?;
        }
        let now = self.now();
        let present = self.memory.read(Read::default(), now).messages;
        prop_assert_eq!(self.copy.values().cloned().collect::<Vec<_>>(), present);
        prop_assert_eq!(&self.applied, &self.copy);
        for place in 1..=self.memory.head(now).last.number() {
            prop_assert!(self.reported.contains(&place), "the fate of {} is unknown", place);
        }
        Ok(())
    }

    fn deliver(&mut self, message: StoredMessage) -> Result<(), TestCaseError> {
        if message.meta.summary {
            // The undoing of a flush may bring an earlier summary back.
            self.delivered.remove(&message.meta.id);
        }
        prop_assert!(self.delivered.insert(message.meta.id), "{:?} arrived twice", message.meta);
        self.reported.insert(message.meta.sequence.number());
        self.copy.insert(message.meta.sequence, message);
        Ok(())
    }

    fn apply(&mut self, change: Change) -> Result<(), TestCaseError> {
        change.clone().apply(&mut self.applied);
        match change {
            Change::Appended(messages) => {
                prop_assert!(!messages.is_empty());
                for message in messages {
                    let newest = self.copy.keys().next_back();
                    prop_assert!(newest.is_none_or(|newest| *newest < message.meta.sequence));
                    self.deliver(message)?;
                }
            }
            Change::Removed(Removal { first, last, reason, summary }) => {
                prop_assert!(first <= last);
                if reason == RemovalReason::Undone {
                    let undone = self.copy.get(&first);
                    let is_summary = undone.is_some_and(|undone| undone.meta.summary);
                    prop_assert!(first == last && is_summary, "{first} was undone: {undone:?}");
                }
                for place in first.number()..=last.number() {
                    let removed = self.copy.remove(&Sequence::new(place)).is_some();
                    let is_news = self.reported.insert(place) || removed;
                    let truth = self.reasons.get(&Sequence::new(place));
                    if is_news
                        && reason != RemovalReason::Unknown
                        && let Some(truth) = truth
                    {
                        prop_assert_eq!(reason, *truth, "of {}", place);
                    }
                }
                if let Some(summary) = summary {
                    prop_assert_eq!(summary.meta.sequence, first);
                    prop_assert!(summary.meta.summary && reason == RemovalReason::Summarized);
                    self.deliver(Arc::unwrap_or_clone(summary))?;
                }
            }
            Change::Replaced(message) => {
                self.deliver(Arc::unwrap_or_clone(message))?;
            }
            Change::Restored(messages) => {
                prop_assert!(!messages.is_empty());
                for message in messages {
                    prop_assert!(!self.copy.contains_key(&message.meta.sequence));
                    self.delivered.remove(&message.meta.id);
                    self.deliver(message)?;
                }
            }
            Change::Cleared { last } => {
                self.copy.retain(|place, _| *place > last);
                self.reported.extend(1..=last.number());
            }
            Change::Lagged => {
                self.copy.clear();
                self.delivered.clear();
                self.reported.clear();
                self.lags += 1;
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn copy_equals_the_memory(steps in steps()) {
        let mut world = World::default();
        let mut tracker = ChangeTracker::start();
        for step in steps.iter().chain([&Step::Look(0)]) {
            world.take(step);
            let before = match step {
                Step::Resume => Some(tracker.cursor()),
                Step::Stop(returned) => Some(world.stop(&mut tracker, *returned)?),
                _ => None,
            };
            if let Some(before) = before {
                tracker = ChangeTracker::resume(before, &world.memory.outline(world.now()));
                world.may_lag |= before.generation != world.memory.head(world.now()).generation;
            }
            match step {
                Step::Look(late) => world.look(&mut tracker, *late)?,
                Step::Resume => world.look(&mut tracker, 0)?,
                _ => {}
            }
        }
        prop_assert!(world.may_lag || world.lags == 0, "a watcher that follows never lags");
    }
}
