//! The messages of one memory that a process has read, up to a cursor.

mod own_batch;

use std::num::NonZeroUsize;
use std::ops::Range;

pub use self::own_batch::OwnBatch;
use jiff::Timestamp;

use crate::message::Message;
use crate::plan::ContextPlanner;
use crate::policy::Policy;
use crate::store::{Cursor, Page};
use crate::stored::{MessageMeta, Sequence, StoredMessage};
use crate::tokens::TokenCounter;
use crate::unit::{Grouping, Units};
use crate::window::WindowOptions;

/// The part of a memory that a process has read: the metadata and the decoded messages up to a cursor.
///
/// A view is a cache that is never believed: a reader asks the store for the page after the view's
/// [cursor](Self::cursor), and [applies](Self::apply) it. The store begins the page at the start again if anything but
/// an append happened since, so the view equals the memory at the time of the read.
#[derive(Debug, Clone, Default)]
pub struct View {
    cursor: Cursor,
    metas: Vec<MessageMeta>,
    /// In the order of `metas`.
    messages: Vec<Message>,
    unreadable: Vec<Sequence>,
    /// The units of the messages, so that a window groups only what is new.
    grouping: Grouping,
    bytes: usize,
}

/// The place of a cursor in a view.
enum Position {
    /// Between the messages before it and those after it: its own message, or nothing.
    At(Range<usize>),
    /// It is of another generation, or its message was lost in a rollback.
    Over,
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

    /// Whether a message of the memory cannot be decoded, and is missing here.
    #[must_use]
    pub const fn has_damage(&self) -> bool {
        !self.unreadable.is_empty()
    }

    /// The bytes of heap memory that the view occupies, apart from unused capacity.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes + self.grouping.heap_bytes()
    }

    /// Plans a window of its messages. The counter must be the one of their stored counts.
    pub fn planner<'a>(
        &'a self,
        policy: &Policy,
        options: &'a WindowOptions,
        counter: &'a dyn TokenCounter,
        now: Timestamp,
    ) -> ContextPlanner<'a> {
        let units = Units::grouped(&self.metas, &self.grouping, now, policy.open_call_timeout);
        ContextPlanner::with_units(units, &self.messages, policy, options, counter)
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
        // A long memory must not move with the first message after it was read.
        let spare = if self.metas.is_empty() { page.messages.len() / 8 } else { 0 };
        self.metas.reserve(page.messages.len() + spare);
        self.messages.reserve(page.messages.len() + spare);
        for StoredMessage { meta, message } in page.messages {
            self.bytes += size_of::<MessageMeta>() + size_of::<Message>();
            self.bytes += meta.heap_bytes() + message.heap_bytes();
            self.metas.push(meta);
            self.messages.push(message);
        }
        self.grouping.extend(&self.metas);
    }

    /// All messages as one page.
    #[must_use]
    pub fn whole(&self) -> Page {
        let mut page = Page::new(self.cursor);
        page.messages = self.stored(0, self.metas.len());
        page.unreadable.clone_from(&self.unreadable);
        page
    }

    /// At most `limit` messages after a cursor, as the store returns them: from the start, if the cursor is over. `None` if
    /// only the store can answer: the cursor is without an id and after the view, or messages cannot be decoded.
    #[must_use]
    pub fn page(&self, after: Option<Cursor>, limit: Option<NonZeroUsize>) -> Option<Page> {
        let start = match after {
            None => Cursor::from(self.cursor.generation),
            Some(after) => after,
        };
        let (from, start, restarted) = match self.position(start)? {
            Position::At(range) => (range.end, start, false),
            Position::Over => (0, self.cursor.generation.into(), start != Cursor::default()),
        };
        let all = self.metas.len();
        let to = limit.map_or(all, |limit| from.saturating_add(limit.get()).min(all));
        let mut page = Page::new(start);
        page.restarted = restarted;
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
        let all = self.metas.len();
        let (to, start, restarted) = match before {
            None if self.has_damage() => return None,
            None => (all, generation.into(), false),
            Some(before) => match self.position(before)? {
                Position::At(range) => (range.start, before, false),
                Position::Over => (all, generation.into(), true),
            },
        };
        let from = to.saturating_sub(limit.get());
        let mut page = Page::new(start);
        page.restarted = restarted;
        page.more = from > 0;
        page.messages = self.stored(from, to);
        if let Some(first) = page.messages.first() {
            page.cursor = Cursor::at(generation, &first.meta);
        }
        Some(page)
    }

    /// The place of a cursor. `None` if it is not known here, or messages cannot be decoded.
    fn position(&self, cursor: Cursor) -> Option<Position> {
        if self.has_damage() {
            return None;
        }
        if cursor.generation != self.cursor.generation {
            return Some(Position::Over);
        }
        let Some(id) = cursor.id else {
            let is_known = cursor.sequence <= self.cursor.sequence;
            let count = |is_counted: fn(Sequence, Sequence) -> bool| {
                self.metas.partition_point(|meta| is_counted(meta.sequence, cursor.sequence))
            };
            let range = count(|place, end| place < end)..count(|place, end| place <= end);
            return is_known.then_some(Position::At(range));
        };
        let at = self.metas.binary_search_by_key(&cursor.sequence, |meta| meta.sequence).ok();
        let own = at.filter(|at| self.metas.get(*at).is_some_and(|meta| meta.id == id));
        Some(own.map_or(Position::Over, |at| Position::At(at..at + 1)))
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
    use jiff::SignedDuration;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::plan::UnitState;
    use crate::store::{Generation, MessageId};
    use crate::testkit::{history, now, policy};
    use crate::{ContentType, EstimateCounter};

    /// The state and the places of each unit.
    fn units_of(units: &Units<'_>) -> Vec<(UnitState, Vec<Sequence>)> {
        let with_messages = units.iter().enumerate().filter(|(_, unit)| unit.messages() > 0);
        let places = with_messages.map(|(index, unit)| {
            let places = units.members(unit).map(|meta| meta.sequence).collect();
            (units.state_of(index).unwrap(), places)
        });
        places.collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn grown_view_has_the_window_of_its_messages(
            history in history(40), sizes in prop::collection::vec(1..12_usize, 40),
            policy in policy(), budget in 30..3_000_u64, minutes in -5..15_i64,
        ) {
            let mut view = View::default();
            let (mut left, mut sizes) = (history.as_slice(), sizes.into_iter());
            while let Some((next, rest)) = left.split_at_checked(sizes.next().unwrap_or(1).min(left.len()))
                && !next.is_empty()
            {
                let mut page = Page::new(Cursor::at(Generation::new(7), &next[next.len() - 1].meta));
                page.messages = next.to_vec();
                view.apply(page);
                left = rest;
                let now = now() + SignedDuration::from_mins(minutes);
                let whole = Units::group(view.metas(), now, policy.open_call_timeout);
                let grown = Units::grouped(view.metas(), &view.grouping, now, policy.open_call_timeout);
                prop_assert_eq!(units_of(&grown), units_of(&whole));
                prop_assert_eq!(grown.totals(), whole.totals());
                let (metas, messages) = (view.metas(), view.messages());
                let options = WindowOptions::new(budget);
                let counter = &EstimateCounter;
                let mut plan = ContextPlanner::with_messages(metas, messages, &policy, &options, counter, now);
                let of_view = view.planner(&policy, &options, counter, now).step();
                prop_assert_eq!(format!("{of_view:?}"), format!("{:?}", plan.step()));
            }
        }
    }

    fn message(place: u64) -> StoredMessage {
        let id = MessageId::new(Uuid::from_u128(place.into()));
        let meta = MessageMeta::new(
            Sequence::new(place),
            id,
            ContentType::Conversation,
            Timestamp::UNIX_EPOCH,
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
        // Another generation, and another message at the place: from the start, or the newest.
        let other = Cursor { id: Some(message(3).meta.id), ..cursor(2) };
        for over in [Cursor { generation: Generation::new(6), ..cursor(2) }, other] {
            let first = view.page(Some(over), two).unwrap();
            assert!(first.restarted && first.more && first.cursor == cursor(2));
            let newest = view.page_before(Some(over), two.unwrap()).unwrap();
            assert!(newest.restarted && newest.more && newest.cursor == cursor(4));
        }
        // Only the store knows the newest place.
        let beyond = Cursor::unidentified(Generation::new(7), Sequence::new(6));
        assert_eq!(view.page(Some(beyond), None), None);
    }
}
