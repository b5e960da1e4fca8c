//! A copy of a memory that applies the changes of a watcher, and checks them.

use std::collections::{BTreeMap, HashSet};

use memory_core::changes::Change;
use memory_core::store::MessageId;
use memory_core::{Sequence, StoredMessage};

/// The copy. A change that breaks the promises of a watcher panics.
#[derive(Debug, Default)]
pub struct Replica {
    messages: BTreeMap<Sequence, StoredMessage>,
    delivered: HashSet<MessageId>,
    last: Sequence,
    /// The restarts of the watcher.
    pub lags: usize,
    /// The messages that arrived, and the places that were removed.
    pub events: u64,
}

impl Replica {
    /// Applies a change.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Appended(messages) => {
                assert!(!messages.is_empty());
                for message in messages {
                    assert!(self.last < message.meta.sequence, "out of order: {:?}", message.meta);
                    self.last = message.meta.sequence;
                    self.deliver(message);
                }
            }
            Change::Removed(removal) => {
                assert!(removal.first <= removal.last);
                self.events += removal.last.number() - removal.first.number() + 1;
                self.last = self.last.max(removal.last);
                self.messages.retain(|place, _| !(removal.first..=removal.last).contains(place));
                if let Some(summary) = removal.summary {
                    assert_eq!(summary.meta.sequence, removal.first);
                    assert!(summary.meta.summary);
                    self.deliver((*summary).clone());
                }
            }
            Change::Replaced(message) => {
                assert!(message.meta.sequence <= self.last);
                self.deliver((*message).clone());
            }
            Change::Restored(messages) => {
                assert!(!messages.is_empty());
                for message in messages {
                    let place = message.meta.sequence;
                    assert!(place <= self.last);
                    assert!(!self.messages.contains_key(&place), "was not removed: {place}");
                    // It may have been delivered before it was removed.
                    self.delivered.remove(&message.meta.id);
                    self.deliver(message);
                }
            }
            Change::Cleared { last } => {
                let cleared = self.messages.keys().filter(|place| **place <= last).count();
                self.events += cleared as u64;
                self.messages.retain(|place, _| *place > last);
                self.last = self.last.max(last);
            }
            Change::Lagged => {
                *self = Self { lags: self.lags + 1, events: self.events, ..Self::default() }
            }
            other => panic!("an unknown change: {other:?}"),
        }
    }

    fn deliver(&mut self, message: StoredMessage) {
        self.events += 1;
        if message.meta.summary {
            // The undoing of a flush may bring an earlier summary back.
            self.delivered.remove(&message.meta.id);
        }
        assert!(self.delivered.insert(message.meta.id), "arrived twice: {:?}", message.meta);
        self.messages.insert(message.meta.sequence, message);
    }

    /// Whether the copy equals a read of the memory.
    #[must_use]
    pub fn equals(&self, messages: &[StoredMessage]) -> bool {
        self.messages.values().eq(messages)
    }
}
