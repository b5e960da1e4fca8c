use std::collections::{BTreeMap, HashMap};

use crate::history::{Answer, Call, Item, Recorded, Tag};
use crate::rollback::Rollbacks;

/// What a whole history says, to keep the search from orders that it would refuse later.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Before the server went back for the first time, and since each time that it did.
    places: Vec<Places>,
    /// Batches and clears that were sent in a turn, and in which.
    pub(super) turn_of: BTreeMap<u32, u32>,
    /// The newest write of each turn that is certain to have had its effect.
    pub(super) last_of: BTreeMap<u32, u32>,
}

/// Places that some answer told. Until the server goes back a place is given once, so that an append whose
/// own answer was lost can only be where it was seen, and where nothing else was seen.
#[derive(Debug, Default)]
struct Places {
    place_of: HashMap<Tag, u64>,
    tag_at: HashMap<u64, Tag>,
}

impl Known {
    pub(super) fn of(history: &[Recorded], turns: &BTreeMap<u32, u32>) -> Self {
        let rollbacks = Rollbacks::of(history);
        let mut known = Self { turn_of: turns.clone(), ..Self::default() };
        for operation in history {
            let Some((at, answer)) = &operation.returned else { continue };
            // With a rollback meanwhile the answer may be about the state before it or after it.
            let Some(epoch) = rollbacks.before(operation.called, *at) else { continue };
            match (&operation.call, answer) {
                (_, Answer::Page(places, _)) => {
                    for (place, item) in places {
                        if let Item::Message(tag) = item {
                            known.learn(epoch, *place, *tag);
                        }
                    }
                }
                (Call::Append { pieces, .. }, Answer::Appended { first: Some(first), .. }) => {
                    for (place, piece) in (*first..).zip(pieces) {
                        known.learn(epoch, place, piece.tag);
                    }
                }
                _ => {}
            }
        }
        known.learn_turns(history);
        known
    }

    fn learn_turns(&mut self, history: &[Recorded]) {
        for operation in history {
            let write = match (&operation.call, &operation.returned) {
                (Call::Clear(id), Some(_)) => Some(id),
                // One without an answer that was seen is as good as one with.
                (Call::Append { batch, pieces }, returned) => {
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
            places.tag_at.insert(place, tag);
        }
    }

    fn was_seen(&self, tag: Tag) -> bool {
        self.places.iter().any(|places| places.place_of.contains_key(&tag))
    }

    /// Whether a message may get this place when the server has gone back so often.
    pub(super) fn allows(&self, epoch: usize, place: u64, tag: Tag) -> bool {
        let Some(places) = self.places.get(epoch) else { return true };
        places.place_of.get(&tag).is_none_or(|known| *known == place)
            && places.tag_at.get(&place).is_none_or(|known| *known == tag)
    }
}
