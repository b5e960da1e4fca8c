use std::collections::{BTreeMap, HashMap, HashSet};

use crate::history::{Answer, Call, Item, Recorded, Tag};
use crate::rollback::Rollbacks;

/// Facts from the whole history, which prune orders that the search would reject later.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Before the first rollback, and after each one.
    places: Vec<Places>,
    /// Places whose messages may have been replaced.
    replaced: HashSet<u64>,
    /// Batches and clears that were sent in a turn, with that turn.
    pub(super) turn_of: BTreeMap<u32, u32>,
    /// The newest write of each turn that was certainly applied.
    pub(super) last_of: BTreeMap<u32, u32>,
}

/// Places that some answer reported. Until a rollback a place is assigned once, unless its message is replaced. So an append whose own answer was lost
/// can only be where it was seen, and where no other message was seen.
#[derive(Debug, Default)]
struct Places {
    place_of: HashMap<Tag, u64>,
    tag_at: HashMap<u64, Tag>,
}

impl Known {
    pub(super) fn of(history: &[Recorded], turns: &BTreeMap<u32, u32>) -> Self {
        let rollbacks = Rollbacks::of(history);
        let replaced = history.iter().filter_map(|operation| match &operation.call {
            Call::Replace { place, .. } => Some(*place),
            _ => None,
        });
        let replaced = replaced.collect();
        let mut known = Self { turn_of: turns.clone(), replaced, ..Self::default() };
        for operation in history {
            let Some((at, answer)) = &operation.returned else { continue };
            // With a rollback meanwhile the answer may be about the state before it or after it.
            let Some(epoch) = rollbacks.before(operation.called, *at) else { continue };
            for (place, item) in answer.places().unwrap_or_default() {
                if let Item::Message(tag) = item {
                    known.learn(epoch, *place, *tag);
                }
            }
            if let (
                Call::Append { pieces, .. } | Call::ReplaceAll { pieces, .. },
                Answer::Appended { first: Some(first), .. },
            ) = (&operation.call, answer)
            {
                for (place, piece) in (*first..).zip(pieces) {
                    known.learn(epoch, place, piece.tag);
                }
            }
        }
        known.learn_turns(history);
        known
    }

    fn learn_turns(&mut self, history: &[Recorded]) {
        for operation in history {
            let write = match (&operation.call, &operation.returned) {
                (Call::Clear(id), Some(_)) => Some(id),
                // An unanswered append whose messages were seen counts as answered.
                (Call::Append { batch, pieces, .. }, returned) => {
                    let seen = || pieces.iter().any(|one| self.was_seen(one.tag));
                    (returned.is_some() || seen()).then_some(batch)
                }
                _ => None,
            };
            if let Some(write) = write
                && let Some(turn) = self.turn_of.get(write)
            {
                self.last_of.insert(*turn, *write);
            }
        }
    }

    fn learn(&mut self, epoch: usize, place: u64, tag: Tag) {
        if self.places.len() <= epoch {
            self.places.resize_with(epoch + 1, Places::default);
        }
        if let Some(places) = self.places.get_mut(epoch) {
            places.place_of.insert(tag, place);
            if !self.replaced.contains(&place) {
                places.tag_at.insert(place, tag);
            }
        }
    }

    fn was_seen(&self, tag: Tag) -> bool {
        self.places.iter().any(|places| places.place_of.contains_key(&tag))
    }

    /// Whether a message may get this place after this number of rollbacks.
    pub(super) fn allows(&self, epoch: usize, place: u64, tag: Tag) -> bool {
        let Some(places) = self.places.get(epoch) else { return true };
        places.place_of.get(&tag).is_none_or(|known| *known == place)
            && places.tag_at.get(&place).is_none_or(|known| *known == tag)
    }
}
