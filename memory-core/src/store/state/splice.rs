//! The commit of a flush.

use jiff::Timestamp;

use super::archive::{DROPPED_AT_ONCE, Removal};
use super::{MemoryState, micros, raise_fence};
use crate::counters::Counters;
use crate::receipt::KEPT_RECEIPTS;
use crate::store::{Access, Replacement, Splice, StoreErrorKind};
use crate::stored::{MessageMeta, NewMessage, Sequence, StoredMessage};

/// Counts a removed message.
type Count = fn(&mut Counters, &MessageMeta);

impl MemoryState {
    /// [`MemoryStore::splice`](crate::MemoryStore::splice) at this time.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`], [`StoreErrorKind::Fenced`], and [`StoreErrorKind::Invalid`] for places that do
    /// not exist or are named twice, and for a [receipt](Splice::check_receipt) that an archive cannot use.
    pub fn splice(
        &mut self,
        access: Access,
        splice: &Splice,
        now: Timestamp,
    ) -> Result<Counters, StoreErrorKind> {
        self.change(now, |memory| memory.splice_alive(access, splice, now))
    }

    fn splice_alive(
        &mut self,
        access: Access,
        splice: &Splice,
        now: Timestamp,
    ) -> Result<Counters, StoreErrorKind> {
        if self.was_spliced(splice) {
            return Ok(self.head.counters.clone());
        }
        let (mut fence, mut flush_fence) = (self.head.fence, self.head.flush_fence);
        raise_fence(&mut flush_fence, splice.flusher)?;
        raise_fence(&mut fence, access.lease)?;
        if !self.holds(splice.cursor()) || !splice.withdrawn.is_empty() && self.has_newer(splice) {
            return Err(StoreErrorKind::Conflict);
        }
        self.check_places(splice)?;
        self.check_replacements(splice)?;
        splice.check_receipt()?;
        let metas =
            || self.messages.values().map(|message| message.meta.clone()).collect::<Vec<_>>();
        if splice.removed.is_some() && splice.removed != splice.clone().weighed(&metas()).removed {
            let problem = "the tallies of `Splice::removed` differ from those of the removed messages; compute them with `Splice::weighed`";
            return Err(StoreErrorKind::Invalid(problem.into()));
        }

        (self.head.fence, self.head.flush_fence) = (fence, flush_fence);
        let place = splice.summarized.first().copied();
        let changes = splice.changes();
        if splice.frees() {
            self.head.forget_flush_mark();
        }
        // Before the removals: a message may be closed and removed at once.
        for sequence in &splice.closed {
            if let Some(message) = self.messages.get_mut(sequence) {
                message.meta.closed = true;
            } else {
                debug_assert!(false, "the checked place {sequence} has no message to close");
            }
        }
        let count: [(&[Sequence], Count); 3] = [
            (&splice.summarized, Counters::summarize),
            (&splice.evicted, Counters::evict),
            (&splice.withdrawn, Counters::withdraw),
        ];
        let mut removed = Vec::new();
        for (places, count) in count {
            for sequence in places {
                if let Some(message) = self.messages.remove(sequence) {
                    count(&mut self.head.counters, &message.meta);
                    removed.push(message);
                } else {
                    debug_assert!(false, "the checked place {sequence} has no message to remove");
                }
            }
        }
        for Replacement { sequence, message } in &splice.replaced {
            removed.extend(self.replace_at(*sequence, message));
        }
        if let (Some(summary), Some(place)) = (&splice.summary, place) {
            self.head.counters.insert_summary(summary);
            let mut stored = summary.clone().stored_at(place);
            stored.meta.summary = true;
            self.messages.insert(place, stored);
        }
        if let Some(receipt) = &splice.receipt {
            self.receipts.push_front(receipt.clone());
            self.receipts.truncate(KEPT_RECEIPTS);
            self.head.next_flush_at = splice.next_flush_at;
        }
        if changes {
            self.head.generation = self.head.generation.after(micros(now), splice.spread());
        }
        self.head.version += 1;
        if let Some(retention) = splice.archive {
            let removal = Removal {
                cause: splice.cause(),
                receipt: splice.receipt.clone(),
                messages: removed,
                retention,
            };
            self.archive.add(removal, self.head.version, now);
        } else {
            self.archive.drop_overdue(DROPPED_AT_ONCE, now);
        }
        Ok(self.head.counters.clone())
    }

    /// Every place must exist and be named only once.
    fn check_places(&self, splice: &Splice) -> Result<(), StoreErrorKind> {
        if splice.summary.is_some() && splice.summarized.is_empty() {
            return Err(StoreErrorKind::Invalid(
                "a summary needs the places that it replaces".into(),
            ));
        }
        let mut removed: Vec<_> = splice.removed_places().collect();
        removed.sort_unstable();
        let twice = removed.windows(2).any(|pair| pair.first() == pair.last());
        let unknown = removed
            .iter()
            .chain(&splice.closed)
            .find(|sequence| !self.messages.contains_key(sequence));
        match (unknown, twice) {
            (Some(sequence), _) => {
                Err(StoreErrorKind::Invalid(format!("there is no message at place {sequence}")))
            }
            (None, true) => Err(StoreErrorKind::Invalid("a place is removed twice".into())),
            (None, false) => Ok(()),
        }
    }

    fn check_replacements(&self, splice: &Splice) -> Result<(), StoreErrorKind> {
        splice.check_replaced()?;
        for one in &splice.replaced {
            let Some(found) = self.messages.get(&one.sequence) else {
                let problem = format!("there is no message at place {}", one.sequence);
                return Err(StoreErrorKind::Invalid(problem));
            };
            one.check_against(&found.meta)?;
        }
        Ok(())
    }

    /// Replaces the message at a place, and returns the original.
    pub(super) fn replace_at(
        &mut self,
        place: Sequence,
        message: &NewMessage,
    ) -> Option<StoredMessage> {
        let found = self.messages.get_mut(&place)?;
        self.head.counters.replace(&found.meta, message);
        let mut new = message.clone().stored_at(place);
        (new.meta.closed, new.meta.summary) = (found.meta.closed, found.meta.summary);
        Some(std::mem::replace(found, new))
    }
}
