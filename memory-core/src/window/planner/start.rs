//! The start of a window: a user message.

use super::ContextPlanner;
use crate::message::Role;
use crate::render::fault::{Fault, is_planted};
use crate::stored::Sequence;
use crate::window::choose::Choice;
use crate::window::options::StartPolicy;

/// The number of messages to request at once in the search for a user message.
const SEARCHED: usize = 64;

pub(super) enum Pinned {
    Fetch(Vec<Sequence>),
    /// The units of the window, and the message that was added as its start.
    Included(Vec<bool>, Option<Sequence>),
}

impl ContextPlanner<'_> {
    /// Makes the window start at a user message, as far as it fits.
    pub(super) fn pin(&self, choice: &Choice) -> Pinned {
        let as_is = || Pinned::Included(choice.included.clone(), None);
        if self.options.start == StartPolicy::Any || self.is_minimal {
            return as_is();
        }
        let is_talk = |index: usize| {
            self.candidates.get(index).is_some_and(|unit| unit.class.conversation && !unit.is_void)
        };
        let is_in = |index: usize| choice.included.get(index).copied().unwrap_or(false);
        let count = self.candidates.len();
        let Some(first) = (0..count).find(|index| is_in(*index) && is_talk(*index)) else {
            return as_is();
        };
        let starts_with_user = |index: usize| {
            let unit = self.units.iter().nth(index);
            let role = unit.and_then(|unit| self.role_of(unit.first()));
            role.map(|role| matches!(role, Role::User | Role::Other(_)))
        };
        if starts_with_user(first) == Some(true) {
            return as_is();
        }
        // The latest user message before it that neither calls nor answers.
        let mut unknown = Vec::new();
        let mut found = None;
        for index in (0..first).rev().filter(|index| is_talk(*index)) {
            let Some(unit) = self.units.iter().nth(index) else { continue };
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
        let place = self.candidates.get(found).map(|unit| unit.first);
        let Some(mut included) = self.make_room(choice, found) else { return as_is() };
        let after =
            (found + 1..count).find(|index| included.get(*index) == Some(&true) && is_talk(*index));
        if after.and_then(starts_with_user) == Some(true) {
            // What was before this user message made room for the pinned one, so no pin is needed.
            if let Some(pinned) = included.get_mut(found) {
                *pinned = false;
            } else {
                debug_assert!(false, "the found unit {found} is not among the candidates");
            }
            return Pinned::Included(included, None);
        }
        Pinned::Included(included, place)
    }

    /// The choice with this unit, without the oldest conversation that it replaces.
    fn make_room(&self, choice: &Choice, pinned: usize) -> Option<Vec<bool>> {
        let room = self.room();
        let mut included = choice.included.clone();
        let mut tokens = choice.tokens.saturating_add(self.candidates.get(pinned)?.cost);
        *included.get_mut(pinned)? = true;
        if choice.cut.is_some() {
            // The newest unit is cut to the remaining room.
            return (self.candidates.get(pinned)?.cost <= room / 2).then_some(included);
        }
        let units = self.candidates.iter().zip(&mut included).enumerate();
        for (index, (unit, included)) in units {
            if tokens <= room {
                break;
            }
            let may_go = *included
                && index > pinned
                && unit.class.conversation
                && !unit.class.priority.is_critical()
                && (choice.newest != Some(index) || is_planted(Fault::PinDropsNewest));
            if may_go {
                *included = false;
                tokens = tokens.saturating_sub(unit.cost);
            }
        }
        (tokens <= room).then_some(included)
    }
}
