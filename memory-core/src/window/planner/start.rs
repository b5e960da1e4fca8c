//! The start of a window: a user message.

use std::collections::HashSet;

use super::{ContextPlanner, Pinned};
use crate::message::Role;
use crate::render::bug::{RenderBug, is_planted};
use crate::unit::Unit;
use crate::window::choose::{Choice, ChoiceExtent};
use crate::window::options::StartPolicy;

/// The number of messages to request at once in the search for a user message.
const SEARCHED: usize = 64;

impl ContextPlanner<'_> {
    /// Makes the window start at a user message, as far as it fits.
    pub(super) fn pin(&self, choice: &Choice) -> Pinned {
        let as_is = || Pinned::Included(choice.included.clone(), None);
        if self.options.start == StartPolicy::Any || self.is_minimal {
            return as_is();
        }
        let is_talk = |index: &usize| self.candidates.is_talk(*index);
        let Some(first) = choice.included.iter().copied().find(is_talk) else {
            return as_is();
        };
        let starts_with_user = |index: usize| {
            let role = self.candidates.unit(index).and_then(|unit| self.role_of(unit.first()));
            role.map(|role| matches!(role, Role::User | Role::Other(_)))
        };
        if starts_with_user(first) == Some(true) {
            return as_is();
        }
        // The latest user message before it that neither calls nor answers.
        let mut unknown = Vec::new();
        let mut found = None;
        for index in (0..first).rev().filter(is_talk) {
            let Some(unit) = self.candidates.unit(index) else { continue };
            let is_plain = unit.messages() == 1
                && self.metas.get(unit.first()).is_some_and(|meta| meta.link.is_none());
            if !is_plain {
                continue;
            }
            match starts_with_user(index) {
                Some(true) if unknown.is_empty() => {
                    found = Some(index);
                    break;
                }
                Some(true) => break,
                Some(false) => {}
                None => {
                    self.note_missing(unit.first(), &mut unknown);
                    if unknown.len() >= SEARCHED {
                        break;
                    }
                }
            }
        }
        if !unknown.is_empty() {
            unknown.sort_unstable();
            return Pinned::Fetch(unknown);
        }
        let Some(found) = found else { return as_is() };
        let place = self.candidates.place(found);
        if let ChoiceExtent::Step { spare, .. } = choice.extent {
            let cost = self.candidates.cost(found);
            let reserved = self.steps.map_or(0, |steps| steps.pinned);
            // Now, not once the room is needed: the start is the same until the next step.
            if cost > spare && cost > reserved {
                return Pinned::Reserve(cost);
            }
        }
        let Some(mut included) = self.make_room(choice, found) else { return as_is() };
        let after = included.iter().copied().find(|index| *index > found && is_talk(index));
        if after.and_then(starts_with_user) == Some(true) {
            // The messages before this user message made room for the pinned one, so no pin is needed.
            included.retain(|index| *index != found);
            return Pinned::Included(included, None);
        }
        Pinned::Included(included, place)
    }

    /// The choice with this unit, without the oldest conversation that it replaces.
    fn make_room(&self, choice: &Choice, pinned: usize) -> Option<Vec<usize>> {
        let room = self.room();
        let mut included = choice.included.clone();
        let cost = self.candidates.cost(pinned);
        let mut tokens = choice.tokens.saturating_add(cost);
        included.insert(included.partition_point(|index| *index < pinned), pinned);
        if choice.cut.is_some() {
            // The newest unit is cut to the remaining room.
            return (cost <= room / 2).then_some(included);
        }
        if tokens > room {
            let critical: HashSet<_> = self.candidates.critical().collect();
            included.retain(|index| {
                let may_go = tokens > room
                    && *index > pinned
                    && self.candidates.unit(*index).is_some_and(Unit::is_conversation)
                    && !critical.contains(index)
                    && (choice.newest != Some(*index) || is_planted(RenderBug::PinDropsNewest));
                if may_go {
                    tokens = tokens.saturating_sub(self.candidates.cost(*index));
                }
                !may_go
            });
        }
        (tokens <= room).then_some(included)
    }
}
