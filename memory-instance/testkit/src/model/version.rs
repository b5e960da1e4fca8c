//! Versions of the sequential memory.

use super::{KnownGeneration, State};
use crate::history::Expected;

/// Whether the memory is at an expected version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IsCurrent {
    Yes,
    No,
    /// The store compares what is no part of this state: a generation that no answer reported, or the ids of messages,
    /// which a batch that is sent again gets anew.
    Maybe,
}

impl IsCurrent {
    pub(super) fn may_be(self, current: Self) -> bool {
        self == current || self == Self::Maybe
    }
}

impl State {
    pub(super) fn is_at(&self, expected: &Expected) -> IsCurrent {
        let stored = self.items.iter().next_back();
        let newest = stored.map(|(place, stored)| (*place, stored.item));
        if newest != expected.newest {
            return IsCurrent::No;
        }
        // Without a message ever, a memory is at the version of an absent one.
        if self.last == 0 && expected.generation == 0 {
            return IsCurrent::Yes;
        }
        // Its id may be another one than at the expected version.
        let is_edited = stored.is_some_and(|(_, stored)| stored.edited);
        let is_last = newest.is_some_and(|(place, _)| place == self.last);
        let by_generation = match self.generation {
            _ if is_last && !is_edited => IsCurrent::Yes,
            KnownGeneration::Known(known) if known == expected.generation => IsCurrent::Yes,
            _ if is_last => IsCurrent::Maybe,
            other if other.may_be(expected.generation) => IsCurrent::Maybe,
            _ => IsCurrent::No,
        };
        if by_generation == IsCurrent::Yes && self.was_rolled_back() {
            return IsCurrent::Maybe;
        }
        by_generation
    }
}
