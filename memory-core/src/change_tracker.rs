//! Finds the changes between two reads of a memory.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::changes::{Change, Removal, RemovalReason};
use crate::erasure::Erasure;
use crate::receipt::{FlushReceipt, SequenceSet};
use crate::store::{Cursor, Generation, Head, Outline, Page};
use crate::stored::{MessageId, Sequence, StoredMessage};

/// A watcher's knowledge of a memory: the present messages up to its cursor.
///
/// The watcher reads all messages after [`cursor`](Self::cursor) and passes the page to
/// [`advance`](Self::advance). If messages were removed or replaced, it reads the head, the receipts and all messages, in
/// this order, and passes them to [`compare`](Self::compare).
#[derive(Debug, Clone)]
pub struct ChangeTracker {
    state: State,
    cursor: Cursor,
    /// The last place whose fate was reported.
    last: Sequence,
    /// The messages ever cleared.
    cleared: u64,
    present: Vec<Place>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was reported yet.
    Starting,
    /// The messages before the cursor are not known.
    Lost,
    Following,
}

/// The messages were not only appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeedsComparison;

/// A place and its message; no id if it cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    sequence: Sequence,
    id: Option<MessageId>,
    summary: bool,
}

impl ChangeTracker {
    /// A watcher that begins at the start of the memory.
    #[must_use]
    pub const fn start() -> Self {
        Self {
            state: State::Starting,
            cursor: Cursor::unidentified(Generation::NONE, Sequence::ZERO),
            last: Sequence::ZERO,
            cleared: 0,
            present: Vec::new(),
        }
    }

    /// A watcher that has seen all changes up to this cursor of the memory that has this outline.
    #[must_use]
    pub fn resume(cursor: Cursor, outline: &Outline) -> Self {
        let mut present: Vec<_> = outline
            .metas
            .iter()
            .map(|meta| Place { sequence: meta.sequence, id: Some(meta.id), summary: meta.summary })
            .chain(outline.unreadable.iter().copied().map(unreadable_at))
            .filter(|place| place.sequence <= cursor.sequence)
            .collect();
        present.sort_unstable_by_key(|place| place.sequence);
        let is_known = match cursor.id {
            Some(id) => present
                .last()
                .is_some_and(|last| (last.sequence, last.id) == (cursor.sequence, Some(id))),
            None => cursor.sequence <= outline.head.last,
        };
        if cursor == Cursor::default() {
            // The memory did not exist, so there was nothing to miss.
            return Self { state: State::Following, ..Self::start() };
        }
        if cursor.generation == outline.head.generation && is_known {
            // Nothing was removed in this generation, so places without a message were empty before.
            let next = outline.metas.iter().map(|meta| meta.sequence);
            let next = next.chain(outline.unreadable.iter().copied());
            let next = next.filter(|place| *place > cursor.sequence).min();
            let last = next.map_or(outline.head.last, before);
            let cleared = outline.head.counters.cleared;
            return Self { state: State::Following, cursor, last, cleared, present };
        }
        Self { state: State::Lost, cursor, ..Self::start() }
    }

    /// The position up to which all changes were returned.
    #[must_use]
    pub const fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The cursor to read after; `None` to read everything.
    #[must_use]
    pub fn read_after(&self) -> Option<Cursor> {
        (self.state == State::Following).then_some(self.cursor)
    }

    /// Adds the page of all messages after the cursor.
    ///
    /// # Errors
    /// Messages were removed or replaced, or nothing was read before: [compare](Self::compare).
    pub fn advance(&mut self, page: Page) -> Result<Option<Change>, NeedsComparison> {
        // A store does not restart a reader that found nothing.
        let is_other = page.cursor.generation != self.cursor.generation;
        if page.restarted || is_other || self.state != State::Following {
            return Err(NeedsComparison);
        }
        for place in places(&page) {
            if self.present.last().is_none_or(|last| last.sequence < place.sequence) {
                self.present.push(place);
            }
        }
        self.follow(&page, self.last);
        Ok((!page.messages.is_empty()).then_some(Change::Appended(page.messages)))
    }

    /// The changes up to a page of the whole memory, with the head that was read first, and the receipts and erasures
    /// that were read in between; each with the position after it. `None` if messages were removed or replaced between
    /// these reads: read all of them again.
    #[must_use]
    pub fn compare(
        &mut self,
        page: &Page,
        receipts: &[FlushReceipt],
        erasures: &[Erasure],
        head: &Head,
    ) -> Option<Vec<(Change, Cursor)>> {
        if head.generation != page.cursor.generation {
            return None;
        }
        // Messages that came after the head was read are all present.
        let mut changes = Vec::new();
        let known = self.cursor;
        let is_earlier = page.cursor.generation <= self.cursor.generation
            || head.last < self.last
            || head.counters.cleared < self.cleared;
        if self.state == State::Lost || self.state == State::Following && is_earlier {
            changes.push(Change::Lagged);
            *self = Self::start();
        }
        let now = places(page);
        if head.counters.cleared > self.cleared {
            let last = last_cleared(&now, receipts, head.last);
            changes.push(Change::Cleared { last });
            self.present.retain(|place| place.sequence > last);
            self.last = self.last.max(last);
        }
        let mut messages = page.messages.iter().peekable();
        let reasons = Reasons::new(receipts, erasures);
        let mut from = Sequence::ZERO.plus(1);
        for (index, place) in now.iter().enumerate() {
            if index == 0 {
                self.gap(from..=before(place.sequence), None, &reasons, &mut changes);
            }
            let message = messages.next_if(|message| message.meta.sequence == place.sequence);
            from = place.sequence.plus(1);
            let until = now.get(index + 1).map_or(head.last, |next| before(next.sequence));
            let summary = message.and_then(|message| self.arrive(message, &reasons, &mut changes));
            self.gap(from..=until, summary, &reasons, &mut changes);
        }
        if now.is_empty() {
            self.gap(from..=head.last, None, &reasons, &mut changes);
        }
        self.state = State::Following;
        self.cleared = head.counters.cleared;
        self.present = now;
        self.follow(page, head.last);
        Some(self.with_positions(changes, known, page.cursor.generation))
    }

    /// The changes that a watcher with this knowledge reads up to the cursor, each with the position after it.
    ///
    /// A watcher that began at the start has seen everything up to the last message that was returned. One that
    /// continued has not: after only a part of the changes its copy has messages of two generations, so it lags if it is
    /// resumed there.
    fn with_positions(
        &self,
        changes: Vec<Change>,
        known: Cursor,
        generation: Generation,
    ) -> Vec<(Change, Cursor)> {
        let mut begins = known == Cursor::default();
        let mut position = if begins { known } else { BETWEEN };
        let mut changes: Vec<_> = changes
            .into_iter()
            .map(|change| {
                if change == Change::Lagged {
                    (position, begins) = (Cursor::default(), true);
                }
                if begins && let Some(newest) = newest_of(&change) {
                    position = Cursor::at(generation, &newest.meta);
                }
                (change, position)
            })
            .collect();
        if let Some((_, last)) = changes.last_mut() {
            *last = self.cursor;
        }
        changes
    }

    /// Moves the cursor to the end of this page of a memory whose last place this is.
    fn follow(&mut self, page: &Page, last: Sequence) {
        self.last = last.max(page.cursor.sequence);
        self.cursor = page.cursor;
        if page.cursor.id.is_none() {
            // No message is left whose id could be compared, but the places before are known.
            self.cursor = Cursor::unidentified(page.cursor.generation, self.last);
        }
    }

    /// Reports a present message that was not known, except a summary, which is returned.
    fn arrive(
        &self,
        message: &StoredMessage,
        reasons: &Reasons<'_>,
        changes: &mut Vec<Change>,
    ) -> Option<Arc<StoredMessage>> {
        let sequence = message.meta.sequence;
        let found = self.present.binary_search_by_key(&sequence, |place| place.sequence);
        let known = found.ok().and_then(|at| self.present.get(at));
        if known.is_some_and(|known| known.id == Some(message.meta.id)) {
            return None;
        }
        let is_new = known.is_none() && sequence > self.last;
        let is_undone = known.is_some_and(|known| reasons.undo(known, message));
        if is_undone {
            let (first, last, reason) = (sequence, sequence, RemovalReason::Undone);
            changes.push(Change::Removed(Removal { first, last, reason, summary: None }));
        }
        if is_undone || known.is_none() && !is_new {
            match changes.last_mut() {
                Some(Change::Restored(messages)) => messages.push(message.clone()),
                _ => changes.push(Change::Restored(vec![message.clone()])),
            }
            return None;
        }
        if message.meta.summary && (is_new || reasons.explain(message)) {
            return Some(Arc::new(message.clone()));
        }
        match changes.last_mut() {
            _ if !is_new => changes.push(Change::Replaced(Arc::new(message.clone()))),
            Some(Change::Appended(messages)) => messages.push(message.clone()),
            _ => changes.push(Change::Appended(vec![message.clone()])),
        }
        None
    }

    /// Reports the removed places of a range without present messages, and the summary before it.
    fn gap(
        &self,
        range: RangeInclusive<Sequence>,
        summary: Option<Arc<StoredMessage>>,
        reasons: &Reasons<'_>,
        changes: &mut Vec<Change>,
    ) {
        let mut removals: Vec<Removal> = Vec::new();
        removals.extend(summary.map(|summary| {
            let first = summary.meta.sequence;
            Removal {
                first,
                last: first,
                reason: RemovalReason::Summarized,
                summary: Some(summary),
            }
        }));
        let mut report = |first: Sequence, last: Sequence| {
            for (first, last, reason) in reasons.split(first, last) {
                match removals.last_mut().filter(|removal| removal.reason == reason) {
                    Some(removal) => removal.last = last,
                    None => removals.push(Removal { first, last, reason, summary: None }),
                }
            }
        };
        let (start, end) = range.into_inner();
        let from = self.present.partition_point(|place| place.sequence < start);
        let known = self.present.get(from..).unwrap_or_default();
        for place in known.iter().take_while(|place| place.sequence <= end) {
            report(place.sequence, place.sequence);
        }
        let unknown = start.max(self.last.plus(1));
        if unknown <= end {
            report(unknown, end);
        }
        changes.extend(removals.into_iter().map(Change::Removed));
    }
}

/// A position that no memory has: a watcher that is resumed there lags.
const BETWEEN: Cursor = Cursor::unidentified(Generation::NONE, Sequence::new(1));

/// The newest message that a change brings.
fn newest_of(change: &Change) -> Option<&StoredMessage> {
    match change {
        Change::Appended(messages) | Change::Restored(messages) => messages.last(),
        Change::Removed(removal) => removal.summary.as_deref(),
        Change::Replaced(message) => Some(message),
        Change::Cleared { .. } | Change::Lagged => None,
    }
}

fn before(sequence: Sequence) -> Sequence {
    Sequence::new(sequence.number().saturating_sub(1))
}

const fn unreadable_at(sequence: Sequence) -> Place {
    Place { sequence, id: None, summary: false }
}

/// The places of a page, ascending.
fn places(page: &Page) -> Vec<Place> {
    let readable = page.messages.iter().map(|StoredMessage { meta, .. }| Place {
        sequence: meta.sequence,
        id: Some(meta.id),
        summary: meta.summary,
    });
    let unreadable = page.unreadable.iter().copied().map(unreadable_at);
    let mut places: Vec<_> = readable.chain(unreadable).collect();
    if !page.unreadable.is_empty() {
        places.sort_unstable_by_key(|place| place.sequence);
    }
    places
}

/// The place before the first that is present or was flushed after the memory was cleared.
fn last_cleared(now: &[Place], receipts: &[FlushReceipt], last: Sequence) -> Sequence {
    let flushed = receipts.iter().flat_map(FlushReceipt::removed);
    let flushed = flushed.filter_map(|places| places.ranges().first()).map(|(first, _)| *first);
    let first = flushed.chain(now.first().map(|place| place.sequence)).min();
    first.map_or(last, before)
}

/// Why places were removed, by the receipts of flushes and the erasures, newest first.
struct Reasons<'a> {
    receipts: &'a [FlushReceipt],
    erasures: &'a [Erasure],
    /// The places at which a reason begins or ends, ascending.
    bounds: Vec<Sequence>,
}

impl<'a> Reasons<'a> {
    fn new(receipts: &'a [FlushReceipt], erasures: &'a [Erasure]) -> Self {
        let sets = receipts.iter().flat_map(FlushReceipt::removed);
        let sets = sets.chain(erasures.iter().map(|erasure| &erasure.present));
        let ranges = sets.flat_map(SequenceSet::ranges);
        let mut bounds: Vec<_> = ranges.flat_map(|(first, last)| [*first, last.plus(1)]).collect();
        bounds.sort_unstable();
        bounds.dedup();
        Self { receipts, erasures, bounds }
    }

    fn of(&self, place: Sequence) -> RemovalReason {
        // It was present then, and no message has its place since.
        if self.erasures.iter().any(|erasure| erasure.present.contains(place)) {
            return RemovalReason::Erased;
        }
        let reason = |receipt: &FlushReceipt| {
            if receipt.summarized.contains(place) {
                return Some(RemovalReason::Summarized);
            }
            if receipt.evicted.contains(place) {
                return Some(RemovalReason::Evicted);
            }
            receipt.withdrawn.contains(place).then_some(RemovalReason::Withdrawn)
        };
        self.receipts.iter().find_map(reason).unwrap_or(RemovalReason::Unknown)
    }

    /// Whether this summary was written by one of the flushes, or by one without a kept receipt. Otherwise it
    /// replaced an earlier summary.
    fn explain(&self, summary: &StoredMessage) -> bool {
        let StoredMessage { meta, .. } = summary;
        let written = self.receipts.iter().filter_map(|receipt| receipt.summary.as_ref());
        written.into_iter().any(|written| written.id == meta.id)
            || self.of(meta.sequence) == RemovalReason::Unknown
    }

    /// Whether the flush that wrote this known summary was undone: its place has a message that came before it.
    fn undo(&self, known: &Place, message: &StoredMessage) -> bool {
        // The newest receipt comes first.
        let written = |id: MessageId| {
            self.receipts.iter().position(|receipt| {
                receipt.summary.as_ref().is_some_and(|summary| summary.id == id)
            })
        };
        let is_older = || {
            let earlier = written(message.meta.id);
            earlier.is_some() && known.id.and_then(written).is_some_and(|at| earlier > Some(at))
        };
        known.summary && (!message.meta.summary || is_older())
    }

    /// The parts of a range that have one reason each.
    fn split(
        &self,
        first: Sequence,
        last: Sequence,
    ) -> impl Iterator<Item = (Sequence, Sequence, RemovalReason)> {
        let mut next = Some(first).filter(|first| *first <= last);
        std::iter::from_fn(move || {
            let from = next?;
            let at = self.bounds.partition_point(|bound| *bound <= from);
            let until = self.bounds.get(at).map_or(last, |bound| before(*bound).min(last));
            next = Some(until.plus(1)).filter(|next| *next <= last);
            Some((from, until, self.of(from)))
        })
    }
}

#[cfg(test)]
mod tests;
