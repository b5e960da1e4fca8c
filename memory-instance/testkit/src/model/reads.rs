//! Complete reads and windows in the sequential model.

use std::collections::BTreeSet;

use super::{ModelPart, State, Stored};
use crate::history::{Item, Tag};
use crate::program::Kind;

impl State {
    pub(super) fn page(&mut self, places: &[(u64, Item)], generation: Option<u64>) -> bool {
        let there = self.items.iter().map(|(place, stored)| (*place, stored.item));
        let same = there.eq(places.iter().copied());
        let Some(generation) = generation else { return same };
        let may_be = self.generation.may_be(generation);
        self.generation = self.generation.read(generation);
        same && may_be
    }

    /// Whether a window may contain this. The order depends on places, which windows do not report; `check_windows`
    /// checks it.
    pub(super) fn is_window(
        &self,
        budget: u64,
        shown: &[Option<Tag>],
        without: Option<ModelPart>,
    ) -> bool {
        let any = |part| without == Some(part) || without == Some(ModelPart::Windows);
        let shows = |tag| shown.contains(&Some(tag));
        let are_here = || {
            let here: BTreeSet<Tag> = self.tags().map(|(tag, _)| tag).collect();
            let untagged = |stored: &&Stored| !matches!(stored.item, Item::Message(_));
            let most = self.items.values().filter(untagged).count();
            shown.iter().flatten().all(|tag| here.contains(tag))
                && shown.iter().filter(|one| one.is_none()).count() <= most
        };
        let has_critical =
            || self.tags().filter(|(_, kind)| *kind == Kind::Critical).all(|(tag, _)| shows(tag));
        (any(ModelPart::Windows) || are_here())
            && (any(ModelPart::Critical) || has_critical())
            && (any(ModelPart::Room) || !shown.is_empty() || !self.has_what_fits(budget))
    }

    fn tags(&self) -> impl Iterator<Item = (Tag, Kind)> {
        self.items.values().filter_map(|stored| match stored.item {
            Item::Message(tag) => Some((tag, stored.kind)),
            Item::Summary(_) | Item::Cleared(_) => None,
        })
    }

    /// Whether a window of this budget certainly contains a message. Open and incomplete calls are omitted, and so are
    /// messages before talk that does not fit, even important ones.
    fn has_what_fits(&self, budget: u64) -> bool {
        let fits = |stored: &Stored| u64::from(stored.tokens) <= budget;
        let newest = self.items.values().next_back();
        let is_alone = |stored: &Stored| !matches!(stored.kind, Kind::Call | Kind::Result);
        newest.is_some_and(|stored| is_alone(stored) && fits(stored))
            || self.items.values().any(|stored| match stored.item {
                Item::Message(_) => stored.kind == Kind::Critical,
                Item::Summary(_) => fits(stored),
                Item::Cleared(_) => false,
            })
    }
}
