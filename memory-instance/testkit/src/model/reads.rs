//! Complete reads in the sequential model.

use super::State;
use crate::history::Item;

impl State {
    pub(super) fn page(&mut self, places: &[(u64, Item)], generation: Option<u64>) -> bool {
        let there = self.items.iter().map(|(place, stored)| (*place, stored.item));
        let same = there.eq(places.iter().copied());
        let Some(generation) = generation else { return same };
        let may_be = self.generation.may_be(generation);
        self.generation = self.generation.read(generation);
        same && may_be
    }
}
