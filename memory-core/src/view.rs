//! The messages of one memory that a process has read, up to a cursor.

mod own_batch;

use std::num::NonZeroUsize;
use std::ops::Range;

pub use self::own_batch::OwnBatch;
use crate::message::Message;
use crate::store::{Cursor, Page};
use crate::stored::{MessageMeta, Sequence, StoredMessage};

/// The part of a memory that a process has read: the metadata and the decoded messages up to a cursor.
///
/// A view is a cache that is never believed: a reader asks the store for the page after the view's
/// [cursor](Self::cursor), and [applies](Self::apply) it. The store begins the page at the start again if anything but
/// an append happened since, so the view equals the memory at the time of the read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    cursor: Cursor,
    metas: Vec<MessageMeta>,
    /// In the order of `metas`.
    messages: Vec<Message>,
    unreadable: Vec<Sequence>,
    bytes: usize,
}

impl View {
    /// The position up to which the memory was read.
    #[must_use]
    pub const fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The metadata of the messages, in order.
    #[must_use]
    pub fn metas(&self) -> &[MessageMeta] {
        &self.metas
    }

    /// The messages, in the order of their metadata.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The bytes of heap memory that the view occupies, apart from unused capacity.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether this page changes the view: it has messages, or begins at the start again.
    #[must_use]
    pub fn is_changed_by(&self, page: &Page) -> bool {
        page.restarted || page.cursor != self.cursor
    }

    /// Adds the page that the store returned for this view's cursor. A page that begins at the start replaces the
    /// view.
    pub fn apply(&mut self, page: Page) {
        if page.restarted {
            *self = Self::default();
        }
        self.cursor = page.cursor;
        self.bytes += page.unreadable.len() * size_of::<Sequence>();
        self.unreadable.extend(page.unreadable);
        self.metas.reserve(page.messages.len());
        self.messages.reserve(page.messages.len());
        for StoredMessage { meta, message } in page.messages {
            self.bytes += size_of::<MessageMeta>() + size_of::<Message>();
            self.bytes += meta.heap_bytes() + message.heap_bytes();
            self.metas.push(meta);
            self.messages.push(message);
        }
    }

    /// All messages as one page.
    #[must_use]
    pub fn whole(&self) -> Page {
        let mut page = Page::new(self.cursor);
        page.messages = self.stored(0, self.metas.len());
        page.unreadable.clone_from(&self.unreadable);
        page
    }

    /// At most `limit` messages after a cursor. `None` if only the store can answer: the cursor is not known to be
    /// valid here, or messages cannot be decoded.
    #[must_use]
    pub fn page(&self, after: Option<Cursor>, limit: Option<NonZeroUsize>) -> Option<Page> {
        let start = match after {
            None => Cursor::from(self.cursor.generation),
            Some(after) => after,
        };
        let from = self.around(start)?.end;
        let all = self.metas.len();
        let to = limit.map_or(all, |limit| from.saturating_add(limit.get()).min(all));
        let mut page = Page::new(start);
        page.more = to < all;
        page.messages = self.stored(from, to);
        if let Some(last) = page.messages.last() {
            page.cursor = Cursor::at(start.generation, &last.meta);
        }
        Some(page)
    }

    /// The nearest `limit` messages before a cursor, or the newest. `None` as for [`page`](Self::page).
    #[must_use]
    pub fn page_before(&self, before: Option<Cursor>, limit: NonZeroUsize) -> Option<Page> {
        let generation = self.cursor.generation;
        let to = match before {
            None if self.unreadable.is_empty() => self.metas.len(),
            None => return None,
            Some(before) => self.around(before)?.start,
        };
        let from = to.saturating_sub(limit.get());
        let mut page = Page::new(before.unwrap_or(generation.into()));
        page.more = from > 0;
        page.messages = self.stored(from, to);
        if let Some(first) = page.messages.first() {
            page.cursor = Cursor::at(generation, &first.meta);
        }
        Some(page)
    }

    /// The range between the messages before a cursor and those after it: its own message, or nothing if that was
    /// removed. `None` if the cursor is not known to be valid here, or messages cannot be decoded.
    fn around(&self, cursor: Cursor) -> Option<Range<usize>> {
        if !self.unreadable.is_empty() || cursor.generation != self.cursor.generation {
            return None;
        }
        if let Some(id) = cursor.id {
            let at =
                self.metas.binary_search_by_key(&cursor.sequence, |meta| meta.sequence).ok()?;
            self.metas.get(at).filter(|meta| meta.id == id)?;
            return Some(at..at + 1);
        }
        let is_known = cursor.sequence <= self.cursor.sequence;
        let count = |is_counted: fn(Sequence, Sequence) -> bool| {
            self.metas.partition_point(|meta| is_counted(meta.sequence, cursor.sequence))
        };
        is_known.then(|| count(|place, end| place < end)..count(|place, end| place <= end))
    }

    fn stored(&self, from: usize, to: usize) -> Vec<StoredMessage> {
        let metas = self.metas.get(from..to).unwrap_or_default();
        let messages = self.messages.get(from..to).unwrap_or_default();
        debug_assert_eq!(metas.len(), messages.len(), "each message has its metadata");
        let pairs = metas.iter().zip(messages);
        pairs.map(|(meta, message)| StoredMessage::new(meta.clone(), message.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ContentType;
    use crate::store::{Generation, MessageId};

    fn message(place: u64) -> StoredMessage {
        let id = MessageId::new(Uuid::from_u128(place.into()));
        let meta = MessageMeta::new(
            Sequence::new(place),
            id,
            ContentType::Conversation,
            jiff::Timestamp::UNIX_EPOCH,
        );
        StoredMessage::new(meta, Message::user(format!("message {place}")))
    }

    fn page(generation: u64, places: std::ops::RangeInclusive<u64>) -> Page {
        let messages: Vec<_> = places.map(message).collect();
        let generation = Generation::new(generation);
        let last = messages.last().map(|last| Cursor::at(generation, &last.meta));
        let mut page = Page::new(last.unwrap_or(Cursor::from(generation)));
        page.messages = messages;
        page
    }

    #[test]
    fn pages_extend_or_replace() {
        let mut view = View::default();
        view.apply(page(7, 1..=3));
        let three = view.bytes();
        view.apply(page(7, 4..=5));
        assert_eq!(view.whole(), page(7, 1..=5));
        assert!(view.bytes() > three && three > 3 * size_of::<StoredMessage>());
        let same = Page::new(view.cursor());
        assert!(!view.is_changed_by(&same) && view.is_changed_by(&page(7, 6..=6)));
        let mut restarted = page(8, 2..=2);
        restarted.restarted = true;
        assert!(view.is_changed_by(&restarted));
        view.apply(restarted);
        assert_eq!(view.whole(), page(8, 2..=2));
    }

    #[test]
    fn pages_are_those_of_a_store() {
        let mut view = View::default();
        view.apply(page(7, 1..=5));
        let cursor = |place| Cursor::at(Generation::new(7), &message(place).meta);
        let two = NonZeroUsize::new(2);
        let next = view.page(Some(cursor(2)), two).unwrap();
        assert!(next.more && next.cursor == cursor(4));
        assert_eq!(next.messages, page(7, 3..=4).messages);
        let last = view.page(Some(cursor(4)), two).unwrap();
        assert!(!last.more && last.cursor == cursor(5));
        assert_eq!(view.page(None, None).unwrap(), page(7, 1..=5));
        let end = view.page(Some(cursor(5)), None).unwrap();
        assert_eq!(end, Page::new(cursor(5)));
        assert_eq!(view.page_before(None, two.unwrap()).unwrap().messages, page(7, 4..=5).messages);
        let middle = view.page_before(Some(cursor(4)), two.unwrap()).unwrap();
        assert!(middle.more && middle.cursor == cursor(2));
        assert_eq!(middle.messages, page(7, 2..=3).messages);
        let unidentified = Some(Cursor { id: None, ..cursor(4) });
        assert_eq!(view.page_before(unidentified, two.unwrap()), Some(middle));
        let first = view.page_before(Some(cursor(2)), two.unwrap()).unwrap();
        assert!(!first.more && first.cursor == cursor(1));
        let nothing = view.page_before(Some(cursor(1)), two.unwrap());
        assert_eq!(nothing, Some(Page::new(cursor(1))));
        let other = Cursor { id: Some(message(3).meta.id), ..cursor(2) };
        assert_eq!(view.page_before(Some(other), two.unwrap()), None);
        // Another generation, another message at the place, a place beyond.
        assert_eq!(
            view.page(Some(Cursor { generation: Generation::new(6), ..cursor(2) }), None),
            None
        );
        assert_eq!(
            view.page(Some(Cursor { id: Some(message(3).meta.id), ..cursor(2) }), None),
            None
        );
        let beyond = Cursor::unidentified(Generation::new(7), Sequence::new(6));
        assert_eq!(view.page(Some(beyond), None), None);
    }
}
