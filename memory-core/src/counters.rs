//! The counters that a store updates in the same atomic step as the data.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::{Deserialize, Serialize};

use crate::archive::{ArchivedRemoval, RemovalCause};
use crate::priority::{Class, Priority};
use crate::receipt::{FlushReceipt, SequenceSet};
use crate::stored::{MessageMeta, NewMessage};

/// A number of messages and of their tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Messages.
    pub messages: u64,
    /// Their tokens.
    pub tokens: u64,
}

impl Tally {
    /// Adds one message.
    pub const fn add(&mut self, tokens: u32) {
        self.messages = self.messages.saturating_add(1);
        self.tokens = self.tokens.saturating_add(tokens as u64);
    }

    /// Removes one message.
    pub const fn remove(&mut self, tokens: u32) {
        self.messages = self.messages.saturating_sub(1);
        self.tokens = self.tokens.saturating_sub(tokens as u64);
    }
}

/// The messages of a memory, and what happened to all messages ever appended.
///
/// Promise P1: `appended = present.messages - summaries + summarized + evicted + cleared + withdrawn` at all times.
/// Summaries are written by the memory itself and were never appended, so they are counted separately.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counters {
    /// Present messages, including summaries.
    pub present: Tally,
    /// Present messages by the class assigned on append. Empty classes are omitted.
    pub classes: BTreeMap<Class, Tally>,
    /// Present messages that are summaries.
    pub summaries: u64,
    /// Messages ever appended.
    pub appended: u64,
    /// Messages replaced by summaries.
    #[serde(rename = "summarised", alias = "summarized")]
    pub summarized: u64,
    /// Messages evicted.
    pub evicted: u64,
    /// Messages cleared.
    pub cleared: u64,
    /// Messages taken back: removed from the end to return to an earlier state.
    #[serde(default)]
    pub withdrawn: u64,
}

impl Counters {
    /// The counters of a memory that holds these messages and never held others. The present counts of any memory
    /// must equal those of its recount at all times (promise P10).
    #[must_use]
    pub fn recount<'a>(metas: impl IntoIterator<Item = &'a MessageMeta>) -> Self {
        let mut counters = Self::default();
        metas.into_iter().for_each(|meta| counters.hold(meta));
        counters
    }

    /// Counts a present message of a memory that begins with it, such as a fork.
    pub fn hold(&mut self, meta: &MessageMeta) {
        let count = if meta.is_summary() { &mut self.summaries } else { &mut self.appended };
        *count = count.saturating_add(1);
        self.enter(meta.class(), meta.tokens);
    }

    /// Counts an archived message of a memory that begins with it, as the removal counted it. Summaries and the originals
    /// of replaced messages do not count.
    pub fn hold_archived(&mut self, removal: &ArchivedRemoval, meta: &MessageMeta) {
        let place = meta.sequence;
        if meta.is_summary() || removal.has_original(place) {
            return;
        }
        let receipt = removal.receipt.as_ref();
        let is_in = |set: fn(&FlushReceipt) -> &SequenceSet| {
            receipt.is_some_and(|receipt| set(receipt).contains(place))
        };
        let count = match removal.cause {
            RemovalCause::Clear => &mut self.cleared,
            _ if is_in(|receipt| &receipt.summarized) => &mut self.summarized,
            _ if is_in(|receipt| &receipt.evicted) => &mut self.evicted,
            RemovalCause::Flush if receipt.is_none() => &mut self.evicted,
            _ => &mut self.withdrawn,
        };
        *count = count.saturating_add(1);
        self.appended = self.appended.saturating_add(1);
    }

    /// The tokens of all messages with priority 0, which no flush removes.
    #[must_use]
    pub fn critical_tokens(&self) -> u64 {
        let critical =
            self.classes.iter().filter(|(class, _)| class.priority == Some(Priority::CRITICAL));
        critical.map(|(_, tally)| tally.tokens).fold(0, u64::saturating_add)
    }

    /// Counts an added message.
    pub fn append(&mut self, message: &NewMessage) {
        self.appended = self.appended.saturating_add(1);
        self.enter(message.class(), message.tokens);
    }

    /// Counts an added summary.
    pub fn insert_summary(&mut self, summary: &NewMessage) {
        self.summaries = self.summaries.saturating_add(1);
        self.enter(summary.class(), summary.tokens);
    }

    /// Counts a message that replaces another; the lifetime counts do not change.
    pub fn replace(&mut self, old: &MessageMeta, new: &NewMessage) {
        self.leave_class(old);
        self.enter(new.class(), new.tokens);
    }

    /// Counts a message that a summary replaces.
    pub fn summarize(&mut self, meta: &MessageMeta) {
        if self.leave(meta) {
            self.summarized = self.summarized.saturating_add(1);
        }
    }

    /// Counts an evicted message.
    pub fn evict(&mut self, meta: &MessageMeta) {
        if self.leave(meta) {
            self.evicted = self.evicted.saturating_add(1);
        }
    }

    /// Counts a message that is taken back.
    pub fn withdraw(&mut self, meta: &MessageMeta) {
        if self.leave(meta) {
            self.withdrawn = self.withdrawn.saturating_add(1);
        }
    }

    /// Counts an original that returns to its place, where this message is now.
    pub fn put_back(&mut self, now: &MessageMeta, original: &MessageMeta) {
        self.leave_class(now);
        self.enter(original.class(), original.tokens);
    }

    /// Counts a message that returns after the removal with this receipt.
    pub fn restore(&mut self, meta: &MessageMeta, receipt: &FlushReceipt) {
        self.enter(meta.class(), meta.tokens);
        let place = meta.sequence;
        let count = if meta.is_summary() {
            self.summaries = self.summaries.saturating_add(1);
            return;
        } else if receipt.summarized.contains(place) {
            &mut self.summarized
        } else if receipt.evicted.contains(place) {
            &mut self.evicted
        } else {
            &mut self.withdrawn
        };
        *count = count.saturating_sub(1);
    }

    /// Counts all present messages as cleared.
    pub fn clear(&mut self) {
        let gone = self.present.messages.saturating_sub(self.summaries);
        self.cleared = self.cleared.saturating_add(gone);
        self.present = Tally::default();
        self.classes.clear();
        self.summaries = 0;
    }

    /// Whether every message ever appended is accounted for (promise P1).
    #[must_use]
    pub const fn is_conserved(&self) -> bool {
        // 128 bits, because the counters of a damaged store can have any value.
        self.appended as u128 + self.summaries as u128
            == self.present.messages as u128
                + self.summarized as u128
                + self.evicted as u128
                + self.cleared as u128
                + self.withdrawn as u128
    }

    /// Whether both count the same present messages.
    #[must_use]
    pub fn has_same_present(&self, other: &Self) -> bool {
        let present = |it: &Self| (it.present, it.summaries);
        present(self) == present(other) && self.classes == other.classes
    }

    fn enter(&mut self, class: Class, tokens: u32) {
        self.present.add(tokens);
        self.classes.entry(class).or_default().add(tokens);
    }

    /// Removes a message; returns whether it was an appended one, not a summary.
    fn leave(&mut self, meta: &MessageMeta) -> bool {
        self.leave_class(meta);
        let summary = meta.is_summary();
        if summary {
            self.summaries = self.summaries.saturating_sub(1);
        }
        !summary
    }

    fn leave_class(&mut self, meta: &MessageMeta) {
        self.present.remove(meta.tokens);
        match self.classes.entry(meta.class()) {
            Entry::Occupied(mut tally) => {
                tally.get_mut().remove(meta.tokens);
                if tally.get().messages == 0 {
                    tally.remove();
                }
            }
            // Only the counters of a damaged store lack the class of a message that is present.
            Entry::Vacant(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::message::Message;
    use crate::priority::ContentType;
    use crate::stored::{MessageId, Sequence};

    fn message(tokens: u32, priority: Option<u8>) -> NewMessage {
        NewMessage {
            id: MessageId::new(Uuid::nil()),
            message: Message::user("u"),
            tokens,
            priority: priority.map(Priority::new),
            content_type: ContentType::Conversation,
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn meta(message: &NewMessage) -> MessageMeta {
        message.clone().stored_at(Sequence::new(1)).meta
    }

    fn summary_meta(message: &NewMessage) -> MessageMeta {
        MessageMeta { summary: true, ..meta(message) }
    }

    fn tally(messages: u64, tokens: u64) -> Tally {
        Tally { messages, tokens }
    }

    #[test]
    fn counters_track_every_change() {
        let (talk, fact, summary) = (message(10, None), message(20, Some(1)), message(5, Some(2)));
        let mut counters = Counters::default();
        for message in [&talk, &talk, &talk, &fact] {
            counters.append(message);
        }
        assert_eq!((counters.present, counters.appended), (tally(4, 50), 4));
        assert_eq!(counters.classes[&talk.class()], tally(3, 30));

        counters.insert_summary(&summary);
        counters.summarize(&meta(&talk));
        counters.evict(&meta(&fact));
        assert_eq!(counters.present, tally(3, 25));
        assert_eq!((counters.summarized, counters.evicted, counters.summaries), (1, 1, 1));
        assert_eq!(counters.classes.get(&fact.class()), None, "empty classes are removed");
        assert!(counters.is_conserved());
        let mut metas = vec![meta(&talk), meta(&talk), summary_meta(&summary)];
        let held = Counters::recount(&metas);
        assert_eq!((held.present, &held.classes), (counters.present, &counters.classes));
        assert_eq!((held.summaries, held.appended), (1, 2));

        // A removed summary was never appended, so it adds to no lifetime count.
        counters.summarize(&metas.remove(2));
        assert_eq!((counters.summarized, counters.summaries), (1, 0));
        counters.insert_summary(&summary);
        counters.evict(&summary_meta(&summary));
        assert_eq!((counters.evicted, counters.summaries), (1, 0));
        assert!(counters.is_conserved());

        counters.insert_summary(&summary);
        let before = counters.clone();
        counters.replace(&summary_meta(&summary), &fact);
        assert_eq!(counters.classes.get(&summary.class()), None);
        assert_eq!(
            (counters.present, counters.classes[&fact.class()]),
            (tally(3, 40), tally(1, 20))
        );
        assert_eq!((counters.summaries, counters.appended), (before.summaries, before.appended));
        counters.replace(&summary_meta(&fact), &summary);
        assert_eq!(counters, before);

        counters.clear();
        let expected =
            Counters { appended: 4, summarized: 1, evicted: 1, cleared: 2, ..Counters::default() };
        assert_eq!(counters, expected, "the summary is not among the cleared");
        assert!(counters.is_conserved());
    }

    #[test]
    fn critical_tokens_are_those_of_priority_0() {
        let mut counters = Counters::default();
        assert_eq!(counters.critical_tokens(), 0);
        let fact = NewMessage { content_type: ContentType::ImportantFacts, ..message(20, Some(0)) };
        for message in [&message(10, None), &message(30, Some(0)), &fact, &message(40, Some(1))] {
            counters.append(message);
        }
        assert_eq!(counters.critical_tokens(), 50);
    }

    #[test]
    fn lost_or_extra_messages_break_conservation() {
        let whole = Counters {
            present: tally(2, 20),
            summaries: 1,
            appended: 15,
            summarized: 2,
            evicted: 3,
            cleared: 4,
            withdrawn: 5,
            ..Counters::default()
        };
        assert!(whole.is_conserved());
        for off in [
            Counters { present: tally(3, 20), ..whole.clone() },
            Counters { summaries: 2, ..whole.clone() },
            Counters { appended: 16, ..whole.clone() },
            Counters { summarized: 3, ..whole.clone() },
            Counters { evicted: 4, ..whole.clone() },
            Counters { cleared: 5, ..whole.clone() },
            Counters { withdrawn: 6, ..whole.clone() },
            Counters { summarized: u64::MAX, evicted: u64::MAX, ..whole.clone() },
        ] {
            assert!(!off.is_conserved(), "{off:?}");
        }
    }
}
