//! Which units are in a window, by priority and age.

use super::ContextError;
use crate::priority::ContentType;
use crate::render::fault::{Fault, is_planted};
use crate::stored::Sequence;
use crate::unit::UnitClass;

/// One unit, as input of the choice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) class: UnitClass<'a>,
    pub(super) first: Sequence,
    /// Its tokens, known or estimated.
    pub(super) cost: u64,
    /// Whether it is known that nothing of it can be sent.
    pub(super) is_void: bool,
}

/// The units of a window.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) included: Vec<bool>,
    /// For each unit whether it is an older reminder, which no window includes.
    pub(super) is_old_reminder: Vec<bool>,
    pub(super) tokens: u64,
    /// The newest unit, if it has to be cut to fit.
    pub(super) cut: Option<usize>,
    /// The newest unit that can be sent.
    pub(super) newest: Option<usize>,
}

/// The room for units.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// The tokens for units.
    pub(super) tokens: u64,
    /// The tokens of the system prompt and of the reserve.
    pub(super) used: u64,
    /// For error messages.
    pub(super) budget: u64,
    pub(super) may_cut: bool,
    /// Whether to choose the critical units and the newest one only, however large they are.
    pub(super) is_minimal: bool,
    pub(super) reminders: usize,
}

/// Chooses greedily: critical units and the newest one, then those with the lowest priority number, the newest first
/// within a priority. Once a conversation unit does not fit, all conversation before it is left out.
pub(super) fn choose(units: &[Candidate<'_>], room: Room) -> Result<Choice, ContextError> {
    let is_old_reminder = old_reminders(units, room.reminders);
    let sendable = |index: usize, unit: &Candidate<'_>| {
        !unit.is_void && !is_old_reminder.get(index).copied().unwrap_or(false)
    };
    let newest = units.iter().enumerate().rev().find(|(index, unit)| sendable(*index, unit));
    let newest = newest.map(|(index, _)| index);
    let mut included = vec![false; units.len()];
    debug_assert_eq!(is_old_reminder.len(), units.len(), "one entry for each unit");
    let mut optional = Vec::with_capacity(units.len());
    let mut critical = 0_u64;
    for (index, (unit, included)) in units.iter().zip(&mut included).enumerate() {
        if !sendable(index, unit) {
            continue;
        }
        if unit.class.priority.is_critical() && !is_planted(Fault::CriticalOptional) {
            *included = true;
            critical = critical.saturating_add(unit.cost);
        } else {
            optional.push(index);
        }
    }
    let over = |needed: u64| needed.saturating_add(room.used);
    if critical > room.tokens && !room.is_minimal {
        let is_newest = newest.and_then(|index| included.get(index)).copied().unwrap_or(false);
        if !(room.may_cut && is_newest) {
            let needed = over(critical);
            return Err(ContextError::CriticalOverBudget { needed, budget: room.budget });
        }
    }
    let mut tokens = critical;
    let mut cut = None;
    let forced = newest.filter(|_| !is_planted(Fault::NewestOptional));
    if let Some((index, unit)) = forced.and_then(|index| Some((index, units.get(index)?))) {
        if let Some(included) = included.get_mut(index)
            && !std::mem::replace(included, true)
        {
            tokens = tokens.saturating_add(unit.cost);
        }
        if tokens > room.tokens && (room.may_cut || !room.is_minimal) {
            if !room.may_cut {
                return Err(ContextError::NewestOverBudget {
                    sequence: unit.first,
                    tokens: unit.cost,
                    is_cut: false,
                    needed: over(tokens),
                    budget: room.budget,
                });
            }
            cut = Some(index);
            return Ok(Choice { included, is_old_reminder, tokens, cut, newest });
        }
    }
    if room.is_minimal {
        return Ok(Choice { included, is_old_reminder, tokens, cut, newest });
    }
    // A stable sort: the newest first within a priority.
    optional.reverse();
    optional.sort_by_key(|index| units.get(*index).map(|unit| unit.class.priority));
    // Conversation before this unit is left out.
    let mut talk_from = 0;
    for index in optional {
        let Some((unit, included)) = units.get(index).zip(included.get_mut(index)) else {
            debug_assert!(false, "an optional unit has no index {index}");
            continue;
        };
        if *included {
            continue;
        }
        let fits = tokens.checked_add(unit.cost).is_some_and(|sum| sum <= room.tokens);
        let is_behind_hole = index < talk_from && !is_planted(Fault::TalkWithHoles);
        if fits && !(unit.class.conversation && is_behind_hole) {
            tokens += unit.cost;
            *included = true;
        } else if unit.class.conversation {
            talk_from = talk_from.max(index);
        }
    }
    Ok(Choice { included, is_old_reminder, tokens, cut, newest })
}

/// The reminders before the newest ones. Only the most recent of repeated reminders are relevant.
fn old_reminders(units: &[Candidate<'_>], kept: usize) -> Vec<bool> {
    let mut seen = 0;
    let mut old: Vec<bool> = units
        .iter()
        .rev()
        .map(|unit| {
            let is_reminder = is_reminder(unit.class.content_type) && !unit.is_void;
            seen += usize::from(is_reminder);
            is_reminder && seen > kept && !is_planted(Fault::OldRemindersKept)
        })
        .collect();
    old.reverse();
    old
}

const fn is_reminder(content_type: &ContentType) -> bool {
    matches!(content_type, ContentType::Reminder)
}
