//! The identity of summaries and cleared results, whose ids change with their settings.

use std::collections::BTreeMap;

use super::{Answer, Call, Expected, Item, Recorded, Rewrote};

/// The first id of each such message that has another one.
#[derive(Debug, Default)]
pub(crate) struct Renames(BTreeMap<u128, u128>);

impl Renames {
    /// A message gets another id, and keeps its text.
    pub(crate) fn learn(&mut self, old: u128, new: u128) {
        let first = self.first(old);
        self.0.insert(new, first);
    }

    fn first(&self, id: u128) -> u128 {
        self.0.get(&id).copied().unwrap_or(id)
    }

    fn items(&self, places: &mut [(u64, Item)]) {
        for (_, item) in places {
            self.item(item);
        }
    }

    fn item(&self, item: &mut Item) {
        match item {
            Item::Message(_) => {}
            Item::Summary(id) | Item::Cleared(id) => *id = self.first(*id),
        }
    }

    fn version(&self, expected: &mut Expected) {
        if let Some((_, item)) = &mut expected.newest {
            self.item(item);
        }
    }

    /// The operation with the first ids.
    pub(crate) fn applied(&self, operation: &Recorded) -> Recorded {
        let mut operation = operation.clone();
        match &mut operation.call {
            Call::Append { expected: Some(expected), .. }
            | Call::ReplaceAll { expected: Some(expected), .. }
            | Call::Splice { expected: Some(expected), .. }
            | Call::Rewind(expected) => self.version(expected),
            Call::Before { position: Some(position), .. } => self.item(&mut position.item),
            Call::Rewrite(summary) | Call::Originals(summary) => *summary = self.first(*summary),
            _ => {}
        }
        match operation.returned.as_mut().map(|(_, answer)| answer) {
            Some(
                Answer::Page(places, _) | Answer::Before(places, _) | Answer::Archived(places),
            ) => self.items(places),
            Some(Answer::Receipts(receipts)) => {
                for summary in receipts.iter_mut().filter_map(|(_, summary)| summary.as_mut()) {
                    *summary = self.first(*summary);
                }
            }
            Some(Answer::Rewrote(Rewrote::By(id))) => *id = self.first(*id),
            _ => {}
        }
        operation
    }
}
