//! The erasure of messages, present and archived.

use jiff::Timestamp;

use super::archive::Kept;
use super::{MemoryState, PRUNED_AT_ONCE, micros, raise_fence};
use crate::erasure::{Erasable, ErasableRemoval, Erased, Erasure, ErasurePlan, KEPT_ERASURES};
use crate::receipt::SequenceSet;
use crate::store::{Access, Erase, StoreErrorKind};
use crate::stored::{MessageId, MessageMeta, Sequence, StoredMessage};

impl MemoryState {
    /// [`MemoryStore::erase`](crate::MemoryStore::erase) at this time.
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`], [`StoreErrorKind::Fenced`].
    pub fn erase(
        &mut self,
        access: Access,
        erase: &Erase,
        now: Timestamp,
    ) -> Result<Erased, StoreErrorKind> {
        erase.check()?;
        self.change(now, |memory| {
            if memory.earlier(erase.write)?.is_none() {
                let mut fence = memory.head.fence;
                raise_fence(&mut fence, access.lease)?;
                memory.head.fence = fence;
                memory.erase_new(erase, now);
            }
            let counters = memory.head.counters.clone();
            let recorded = memory.erasures.iter().find(|erasure| erasure.write == erase.write);
            let generation = memory.head.generation;
            // A later write of this writer may have been recorded, or the record was dropped.
            let erasure = recorded
                .cloned()
                .unwrap_or_else(|| Erasure::new(erase.write, &*erase.reason, now, generation));
            Ok(Erased::new(erasure, counters))
        })
    }

    fn erase_new(&mut self, erase: &Erase, now: Timestamp) {
        self.archive.drop_overdue(usize::MAX, now);
        let state = self.erasable(&erase.places);
        let plan = ErasurePlan::new(&erase.places, &state);
        plan.count(&mut self.head.counters);
        for meta in &plan.present {
            self.messages.remove(&meta.sequence);
        }
        for (index, removal) in &plan.removals {
            if let Some(kept) = self.archive.0.get_mut(*index) {
                kept.messages.retain(|stored| !erase.places.contains(stored.meta.sequence));
                kept.removal = removal.clone();
            }
        }
        for (index, receipt) in &plan.receipts {
            if let Some(kept) = self.receipts.get_mut(*index) {
                *kept = receipt.clone();
            }
        }
        self.wrote(erase.write, None, now, PRUNED_AT_ONCE);
        self.head.forget_flush_mark();
        self.head.generation = self.head.generation.after(micros(now), erase.spread());
        self.head.version += 1;
        let record = Erasure::new(erase.write, &*erase.reason, now, self.head.generation);
        self.erasures.push_front(plan.record(&erase.places, record));
        self.erasures.truncate(KEPT_ERASURES);
    }

    fn erasable(&self, places: &SequenceSet) -> Erasable {
        let is_found = |stored: &&StoredMessage| places.contains(stored.meta.sequence);
        let summary = |stored: &StoredMessage| -> Option<(Sequence, MessageId)> {
            let MessageMeta { sequence, id, summary, .. } = stored.meta;
            summary.then_some((sequence, id))
        };
        let removals = self.archive.0.iter().map(|Kept { removal, messages }| ErasableRemoval {
            removal: removal.clone(),
            found: messages
                .iter()
                .filter(is_found)
                .map(|stored| (stored.meta.clone(), stored.message.json_bytes()))
                .collect(),
            summaries: messages.iter().filter_map(summary).collect(),
        });
        let present = self.messages.values().filter(is_found);
        Erasable {
            last: self.head.last,
            present: present.map(|stored| stored.meta.clone()).collect(),
            summaries: self.messages.values().filter_map(summary).collect(),
            receipts: self.receipts.iter().cloned().collect(),
            removals: removals.collect(),
        }
    }

    /// [`MemoryStore::erasures`](crate::MemoryStore::erasures) at this time.
    #[must_use]
    pub fn erasures(&self, now: Timestamp) -> Vec<Erasure> {
        if !self.is_alive(now) {
            return Vec::new();
        }
        self.erasures.iter().cloned().collect()
    }
}
