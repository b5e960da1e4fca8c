//! Acknowledged batches, and checks that the store still has them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;

use memory_core::StoredMessage;
use memory_core::conformance::assert_counters;
use memory_core::store::{AppendOutcome, FlushReceipt};
use memory_instance::MemoryManager;

use crate::child::{TASKS, write_of};

/// The number of messages per batch.
pub(crate) const PARTS: u64 = 3;

/// A batch of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Batch {
    pub(crate) process: u32,
    pub(crate) task: u32,
    pub(crate) number: u64,
}

/// The outcomes of the kills of one scenario.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CrashTally {
    pub(crate) kills: u64,
    /// Batches that were acknowledged to the killed children.
    pub(crate) acknowledged: u64,
    /// Batches in flight, without an observed answer, that were applied.
    pub(crate) landed: u64,
    /// Batches in flight that were not applied.
    pub(crate) absent: u64,
    pub(crate) flushes: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) summarized_twice: u64,
}

impl AddAssign for CrashTally {
    fn add_assign(&mut self, other: Self) {
        self.kills += other.kills;
        self.acknowledged += other.acknowledged;
        self.landed += other.landed;
        self.absent += other.absent;
        self.flushes += other.flushes;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.summarized_twice += other.summarized_twice;
    }
}

/// All batches and receipts of a memory that children reported.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The sequence number of the first message of each acknowledged batch.
    first: BTreeMap<Batch, u64>,
    /// In the order in which they were made: one flush runs at a time, with the clock of one machine.
    receipts: BTreeMap<(jiff::Timestamp, uuid::Uuid), FlushReceipt>,
    pub(crate) tally: CrashTally,
}

impl Ledger {
    /// Records the lines of a child.
    pub(crate) fn hear(&mut self, process: u32, lines: &[String]) {
        for line in lines {
            if let Some(receipt) = line.strip_prefix("flushed ") {
                self.keep(serde_json::from_str(receipt).unwrap());
            }
            let words: Vec<_> = line.split(' ').collect();
            if let ["ack", task, number, first] = words[..] {
                let (task, number) = (task.parse().unwrap(), number.parse().unwrap());
                let first = first.parse().unwrap();
                self.first.insert(Batch { process, task, number }, first);
                self.tally.acknowledged += 1;
            }
        }
    }

    fn keep(&mut self, receipt: FlushReceipt) {
        self.receipts.insert((receipt.started_at, receipt.id), receipt);
    }

    /// The unacknowledged batch of each task, if the task lived to send it.
    fn pending(&self, process: u32) -> Vec<Batch> {
        let last = |task| {
            let ours =
                Batch { process, task, number: 0 }..Batch { process, task: task + 1, number: 0 };
            self.first.range(ours).next_back().map_or(0, |(batch, _)| batch.number)
        };
        (0..TASKS).map(|task| Batch { process, task, number: last(task) + 1 }).collect()
    }

    /// Checks a memory after a child was killed. All acknowledged batches are accounted for; each unacknowledged
    /// batch is stored completely or not at all; and the memory works: the batches are sent again under the same
    /// ids, and the memory is flushed, whatever leases the killed child has left.
    pub(crate) async fn check(&mut self, manager: &MemoryManager, process: u32, padding: usize) {
        self.tally.kills += 1;
        let memory = manager.memory("m", "k").unwrap();
        self.examine(manager, Some(process)).await;
        for batch in self.pending(process) {
            let there = present(&memory.messages().await.unwrap())
                .filter(|(_, found, _)| *found == batch)
                .count() as u64;
            let prepared = memory.prepare_as(write_of(batch), batch.messages(padding)).unwrap();
            let again = memory.send(&prepared).await.unwrap();
            match again.outcome {
                AppendOutcome::Appended { first } => {
                    assert_eq!(
                        there, 0,
                        "half of {batch:?}, or all of it, was there and forgotten"
                    );
                    self.first.insert(batch, first.number());
                    self.tally.absent += 1;
                }
                AppendOutcome::Duplicate { first } => {
                    let first = first.expect("the newest batch of its writer").number();
                    self.first.insert(batch, first);
                    self.tally.landed += 1;
                }
                AppendOutcome::Excluded => panic!("no message of {batch:?} is excluded"),
            }
            let third = memory.send(&prepared).await.unwrap().outcome;
            let first = Some(memory_core::Sequence::new(self.first[&batch]));
            assert_eq!(third, AppendOutcome::Duplicate { first }, "a retry has landed twice");
        }
        self.examine(manager, None).await;
        if let Some(receipt) = memory.perform_flush().await.unwrap() {
            self.keep(receipt);
        }
        self.examine(manager, None).await;
    }

    /// Accounts for every place of the memory. With a process, its unacknowledged batches may be stored.
    async fn examine(&mut self, manager: &MemoryManager, killed: Option<u32>) {
        let memory = manager.memory("m", "k").unwrap();
        for receipt in memory.receipts().await.unwrap() {
            self.keep(receipt);
        }
        let outline = manager.store().outline(memory.key()).await.unwrap();
        assert_counters(&outline);
        assert!(outline.unreadable.is_empty(), "{:?} cannot be read", outline.unreadable);
        let head = outline.head;
        let counters = &head.counters;
        assert_eq!(head, manager.store().head(memory.key()).await.unwrap());
        assert!(counters.summaries <= 1, "summaries pile up: {counters:?}");

        let removed = self.removed();
        let gone = counters.summarized + counters.evicted;
        assert_eq!(removed.len() as u64, gone, "receipts and counters differ: {counters:?}");
        self.tally.flushes = self.receipts.len() as u64;

        // The owner of each place.
        let mut owners: BTreeMap<u64, (Batch, u64)> = BTreeMap::new();
        for (&batch, &first) in &self.first {
            for part in 0..PARTS {
                if owners.insert(first + part, (batch, part)).is_some() {
                    self.tally.doubled += 1;
                }
            }
        }
        let mut found: BTreeMap<u64, (Batch, u64)> = BTreeMap::new();
        for (place, batch, part) in present(&memory.messages().await.unwrap()) {
            found.insert(place, (batch, part));
        }
        // A batch without an observed answer is stored completely and contiguously. A flush may have removed some
        // of its messages at the end.
        if let Some(process) = killed {
            for batch in self.pending(process) {
                let parts: Vec<_> =
                    found.iter().filter(|(_, (owner, _))| *owner == batch).collect();
                if let Some(&(&place, &(_, part))) = parts.first() {
                    let first = place - part;
                    for part in 0..PARTS {
                        owners.entry(first + part).or_insert((batch, part));
                    }
                }
            }
        }
        let distinct: BTreeSet<_> = found.values().collect();
        self.tally.doubled += (found.len() - distinct.len()) as u64;
        for (place, owner) in &owners {
            match (found.get(place), removed.contains(place)) {
                (Some(there), false) => {
                    assert_eq!(there, owner, "another message stands at {place}");
                }
                (None, true) => {}
                (None, false) => self.tally.lost += 1,
                (Some(_), true) => self.tally.doubled += 1,
            }
        }
        for (place, there) in &found {
            assert!(owners.contains_key(place), "{there:?} at {place} was never acknowledged");
        }
        let CrashTally { lost, doubled, summarized_twice, .. } = self.tally;
        assert_eq!((lost, doubled, summarized_twice), (0, 0, 0), "lost, doubled, summarized twice");

        // No gap: each number up to the last one belongs to one message, which is stored or accounted for.
        assert_eq!(head.last.number(), counters.appended);
        assert_eq!(found.len() as u64 + gone, counters.appended);
        if killed.is_none() {
            let all: Vec<u64> = owners.keys().copied().collect();
            assert_eq!(all, (1..=counters.appended).collect::<Vec<_>>(), "a number was left out");
        }
    }

    /// The places that receipts account for, each at most once. A summary is stored at the place of the first message
    /// that it replaces, and the next summary may include it.
    fn removed(&mut self) -> BTreeSet<u64> {
        let (mut removed, mut summaries) = (BTreeSet::new(), BTreeSet::new());
        for receipt in self.receipts.values() {
            let ranges = receipt.summarized.ranges().iter().chain(receipt.evicted.ranges());
            for (first, last) in ranges {
                for place in first.number()..=last.number() {
                    if !summaries.remove(&place) && !removed.insert(place) {
                        self.tally.summarized_twice += 1;
                    }
                }
            }
            summaries.extend(receipt.summary.as_ref().map(|summary| summary.sequence.number()));
        }
        removed
    }
}

/// The messages of children among these: place, batch and part.
fn present(messages: &[StoredMessage]) -> impl Iterator<Item = (u64, Batch, u64)> {
    messages.iter().filter(|message| !message.meta.summary).map(|message| {
        let text = message.message.text();
        let mut words = text.split(' ').map(|word| word.parse::<u64>().unwrap_or(u64::MAX));
        let mut next = || words.next().unwrap();
        let (process, task) = (next() as u32, next() as u32);
        (message.meta.sequence.number(), Batch { process, task, number: next() }, next())
    })
}
