//! The location of every acknowledged message.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use memory_core::store::FlushReceipt;
use memory_instance::MemoryInstance;
use serde::Serialize;
use uuid::Uuid;

use super::load::{Part, id, id_in};
use super::summarizers::Given;

/// The outcomes of a memory's messages.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Account {
    pub(super) appended: u64,
    #[serde(rename = "summarised")]
    pub(super) summarized: u64,
    pub(super) evicted: u64,
    pub(super) left: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    #[serde(rename = "summarised_twice")]
    pub(super) summarized_twice: u64,
}

impl Account {
    pub(super) const fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.summarized_twice == 0
    }

    pub(super) const fn add(&mut self, other: &Self) {
        self.appended += other.appended;
        self.summarized += other.summarized;
        self.evicted += other.evicted;
        self.left += other.left;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.summarized_twice += other.summarized_twice;
    }
}

/// The results that appenders and flushers received.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The owner of the message at each place.
    owners: HashMap<u64, String>,
    /// In the order in which they were made: a memory has one flush at a time.
    receipts: BTreeMap<(jiff::Timestamp, Uuid), FlushReceipt>,
    duplicated: u64,
}

impl Ledger {
    pub(super) fn acknowledged(&mut self, parts: &[Part]) -> anyhow::Result<()> {
        for part in parts {
            anyhow::ensure!(part.places.len() == part.nanos.len(), "an append without a place");
            for (index, place) in part.places.iter().enumerate() {
                let owner = id(&part.name, part.first + index);
                self.duplicated += u64::from(self.owners.insert(*place, owner).is_some());
            }
        }
        Ok(())
    }

    pub(super) fn receipts(&mut self, receipts: impl IntoIterator<Item = FlushReceipt>) {
        for receipt in receipts {
            self.receipts.insert((receipt.started_at, receipt.id), receipt);
        }
    }

    /// Compares all results with the current content of the memory. All appenders and flushers must have
    /// ended.
    pub(super) async fn close(
        mut self,
        memory: &MemoryInstance,
        given: &Given,
    ) -> anyhow::Result<Account> {
        self.receipts(memory.receipts().await?);
        let counters = memory.counters().await?;
        let messages = memory.messages().await?;
        let mut account = Account {
            appended: self.owners.len() as u64,
            summarized: counters.summarized,
            evicted: counters.evicted,
            duplicated: self.duplicated + given.changed(),
            ..Account::default()
        };
        let removed = self.removed(given, &mut account);
        let mut seen: BTreeSet<u64> = BTreeSet::new();
        let mut ids: BTreeSet<String> = BTreeSet::new();
        for message in messages.iter().filter(|message| !message.meta.summary) {
            let (place, id) = (message.meta.sequence.number(), id_in(&message.message.text()));
            // It exists although a receipt says that it was removed, or it was never acknowledged at this
            // place.
            let stray = removed.contains(&place) || self.owners.get(&place) != Some(&id);
            account.duplicated += u64::from(stray || !ids.insert(id));
            seen.insert(place);
        }
        account.left = seen.len() as u64;
        let gone = |place: &&u64| !seen.contains(*place) && !removed.contains(*place);
        account.lost = self.owners.keys().filter(gone).count() as u64;
        anyhow::ensure!(
            counters.is_conserved()
                && counters.appended == account.appended
                && counters.summarized + counters.evicted == removed.len() as u64
                && counters.summaries <= 1,
            "the counters do not agree with the receipts: {counters:?}, {account:?}"
        );
        Ok(account)
    }

    /// The places that receipts account for. A summary is at the place of the first message that it replaces,
    /// and the next summary includes it; no other message is included twice.
    fn removed(&self, given: &Given, account: &mut Account) -> BTreeSet<u64> {
        let (mut removed, mut summaries) = (BTreeSet::new(), BTreeSet::new());
        let mut summed_up: BTreeSet<String> = BTreeSet::new();
        for receipt in self.receipts.values() {
            for (set, is_summary) in [(&receipt.summarized, true), (&receipt.evicted, false)] {
                for (first, last) in set.ranges() {
                    for place in first.number()..=last.number() {
                        if summaries.remove(&place) {
                            continue;
                        }
                        let again = !removed.insert(place);
                        // The summarizer read each acknowledged message at its place, once.
                        let text = given.at(place).filter(|_| is_summary);
                        let other = text.as_ref().is_some_and(|text| {
                            self.owners.get(&place) != Some(text) || !summed_up.insert(text.clone())
                        });
                        account.summarized_twice += u64::from(again || other);
                    }
                }
            }
            summaries.extend(receipt.summary.iter().map(|summary| summary.sequence.number()));
        }
        removed
    }
}
