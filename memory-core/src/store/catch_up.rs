//! A read of new messages that leaves out those that the reader already has.

use super::{MessageId, Page};
use crate::store::Cursor;
use crate::stored::Sequence;

/// The most batches that a reader names in one [`catch_up`](crate::MemoryStore::catch_up). Stores ignore others.
pub const MAX_KNOWN_BATCHES: usize = 32;

/// A batch that the reader appended itself and still has, so that the store need not return it.
///
/// A batch is stored as a whole, at contiguous places, and no two requests share ids. Within one generation no message
/// is removed or changed. The id of its newest message therefore identifies the whole batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KnownBatch {
    /// The place of its first message, as reported by the store that acknowledged it.
    pub first: Sequence,
    /// The place of its newest message.
    pub last: Sequence,
    /// The id of its newest message, as sent in the request that was acknowledged.
    pub id: MessageId,
}

impl KnownBatch {
    /// The batches that a store may confirm to a reader with this cursor: those after the cursor, in ascending order
    /// and without overlap; at most [`MAX_KNOWN_BATCHES`]. The others are left out.
    pub fn after(known: &[Self], after: Cursor) -> impl Iterator<Item = Self> {
        let mut end = after.sequence;
        let follows = move |batch: &Self| {
            let follows = batch.first > end && batch.last >= batch.first;
            end = if follows { batch.last } else { end };
            follows
        };
        known.iter().copied().filter(follows).take(MAX_KNOWN_BATCHES)
    }

    /// The number of its messages.
    #[must_use]
    pub const fn messages(&self) -> u64 {
        self.last.number().saturating_sub(self.first.number()).saturating_add(1)
    }

    /// Whether it has a message at this place.
    #[must_use]
    pub fn contains(&self, place: Sequence) -> bool {
        (self.first..=self.last).contains(&place)
    }
}

/// The messages after a cursor.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CaughtUp {
    /// The messages that the reader does not have. The [cursor](Page::cursor) is the position after these and after
    /// the confirmed batches.
    pub page: Page,
    /// The known batches that are stored as the reader knows them, in ascending order. Their messages belong to the
    /// snapshot and are not in the page. Empty if the page [restarted](Page::restarted).
    pub confirmed: Vec<KnownBatch>,
}

impl CaughtUp {
    /// A page without the messages of these batches.
    #[must_use]
    pub const fn new(page: Page, confirmed: Vec<KnownBatch>) -> Self {
        Self { page, confirmed }
    }
}

/// A complete page.
impl From<Page> for CaughtUp {
    fn from(page: Page) -> Self {
        Self::new(page, Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::store::Generation;

    fn batch(first: u64, last: u64) -> KnownBatch {
        let [first, last] = [first, last].map(Sequence::new);
        KnownBatch { first, last, id: MessageId::new(Uuid::nil()) }
    }

    #[test]
    fn only_ordered_batches_after_the_cursor_count() {
        let after = Cursor::unidentified(Generation::new(7), Sequence::new(3));
        let known = [batch(3, 4), batch(4, 5), batch(5, 6), batch(9, 8), batch(6, 6), batch(4, 9)];
        assert!(KnownBatch::after(&known, after).eq([batch(4, 5), batch(6, 6)]));
        let many: Vec<_> = (4..60).map(|place| batch(place, place)).collect();
        assert_eq!(KnownBatch::after(&many, after).count(), MAX_KNOWN_BATCHES);
        assert_eq!((batch(4, 6).messages(), batch(4, 4).messages()), (3, 1));
        assert!(batch(4, 6).contains(Sequence::new(6)) && !batch(4, 6).contains(Sequence::new(7)));
    }
}
