//! The answers of reads: the head, pages and the outline of a memory.

use std::num::NonZeroUsize;

use jiff::Timestamp;
use serde::Serialize;

use super::{Counters, Cursor, Generation, MessageMeta};
use crate::lease::FencingToken;
use crate::stored::{Sequence, StoredMessage};

/// The state of a memory without its messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Head {
    /// Present messages, and what happened to all others.
    pub counters: Counters,
    /// Changes when messages are removed or replaced.
    pub generation: Generation,
    /// The number of writes so far.
    pub version: u64,
    /// The place of the newest message ever appended.
    pub last: Sequence,
    /// The newest token of a writer's lease.
    pub fence: FencingToken,
    /// The newest token of a flusher's lease.
    pub flush_fence: FencingToken,
    /// The size in tokens at which the next flush is worthwhile, as set by the last flush. A store keeps this number
    /// and does not interpret it.
    pub next_flush_at: Option<u64>,
    /// When the memory's TTL runs out.
    pub expires_at: Option<Timestamp>,
}

impl Head {
    /// Removes the mark of the last flush, so that the threshold decides again, unless flushes are
    /// [held](super::FLUSH_HELD).
    pub fn forget_flush_mark(&mut self) {
        self.next_flush_at = self.next_flush_at.filter(|mark| *mark == super::FLUSH_HELD);
    }
}

/// The range to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Read {
    /// The reader's position; `None` to begin at the start.
    pub after: Option<Cursor>,
    /// The most to return; `None` for all.
    pub limit: Option<PageLimit>,
}

/// How much a page has at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit {
    /// The most messages.
    pub messages: NonZeroUsize,
    /// The page ends with the message with which it has this many bytes in their stored form. So it has at least one
    /// message, and at most one beyond this size.
    pub bytes: u64,
}

impl PageLimit {
    /// Whether a page with this many messages and bytes has no room for another message.
    #[must_use]
    pub const fn is_reached(self, messages: usize, bytes: u64) -> bool {
        messages > 0 && (messages >= self.messages.get() || bytes >= self.bytes)
    }
}

impl From<NonZeroUsize> for PageLimit {
    /// This many messages of any size.
    fn from(messages: NonZeroUsize) -> Self {
        Self { messages, bytes: u64::MAX }
    }
}

/// A page of messages.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Page {
    /// The messages, in order.
    pub messages: Vec<StoredMessage>,
    /// The reader's new position: the last message of the page, or the first of a page that was read
    /// [backward](super::MemoryStore::read_before).
    pub cursor: Cursor,
    /// The page begins at the start, or backward at the end, because messages that were read before may have been
    /// removed.
    pub restarted: bool,
    /// There are more messages in the direction of the read.
    pub more: bool,
    /// Sequence numbers of messages that could not be decoded, ascending. They are skipped, so that one damaged
    /// message does not block the others, and remain until they are evicted or cleared.
    pub unreadable: Vec<Sequence>,
}

impl Page {
    /// A page without messages that ends at this cursor.
    #[must_use]
    pub const fn new(cursor: Cursor) -> Self {
        Self { messages: Vec::new(), cursor, restarted: false, more: false, unreadable: Vec::new() }
    }
}

/// A memory without the text of its messages.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Outline {
    /// The counters and state.
    pub head: Head,
    /// Everything but the text, in order.
    pub metas: Vec<MessageMeta>,
    /// Sequence numbers of messages whose metadata could not be decoded, ascending. Plans do not include them.
    pub unreadable: Vec<Sequence>,
}

impl Outline {
    /// The outline of these messages, in the order of their places.
    #[must_use]
    pub const fn new(head: Head, metas: Vec<MessageMeta>, unreadable: Vec<Sequence>) -> Self {
        Self { head, metas, unreadable }
    }

    /// The identity of this snapshot: its generation and its newest message.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        match self.metas.last() {
            Some(newest) => Cursor::at(self.head.generation, newest),
            None => Cursor::from(self.head.generation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_json() {
        let first = Sequence::new(3);
        let cursor = Cursor::unidentified(Generation::new(5), first);
        let page = Page {
            messages: vec![],
            cursor,
            restarted: false,
            more: true,
            unreadable: vec![first],
        };
        let json = serde_json::to_value(&page).unwrap();
        assert_eq!((&json["more"], &json["unreadable"][0]), (&true.into(), &3.into()));
        assert_eq!(serde_json::from_value::<Cursor>(json["cursor"].clone()).unwrap(), cursor);
    }
}
