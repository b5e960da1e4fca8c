//! Reads backward in the sequential model.

use super::{KnownGeneration, State};
use crate::history::{Backward, Item, Position};

impl State {
    /// Whether a page backward has these places and this report.
    pub(super) fn backward(
        &mut self,
        position: Option<&Position>,
        limit: usize,
        places: &[(u64, Item)],
        page: Option<Backward>,
    ) -> bool {
        let restarted = page.is_some_and(|page| page.restarted);
        let end = position.filter(|_| !restarted).map_or(u64::MAX, |position| position.place);
        let mut older = self.items.range(..end).rev().map(|(place, stored)| (*place, stored.item));
        let mut nearest: Vec<_> = older.by_ref().take(limit).collect();
        nearest.reverse();
        let more = older.next().is_some();
        if nearest != places {
            return false;
        }
        let Some(page) = page else { return true };
        let continues = match position {
            Some(position) if restarted => !self.certainly_holds(position),
            Some(position) => {
                let there = self.items.get(&position.place).map(|stored| stored.item);
                there == Some(position.item) && page.generation == position.generation
            }
            None => !restarted,
        };
        let may_be = self.generation.may_be(page.generation);
        self.generation = self.generation.read(page.generation);
        continues && may_be && more == page.more
    }

    /// Whether the store must accept this position. After a rollback it compares ids, which are no part of this state.
    const fn certainly_holds(&self, position: &Position) -> bool {
        let is_current = matches!(
            self.generation,
            KnownGeneration::Known(known) if known == position.generation
        );
        is_current && self.rollbacks == 0
    }
}
