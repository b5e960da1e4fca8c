//! Which units are in a window, by priority and age.

use std::cmp::Reverse;

use super::ContextError;
use super::candidates::Candidates;
use super::steps::{Mark, Steps};
use crate::priority::Priority;
use crate::render::bug::{RenderBug, is_planted};

/// The units of a window.
#[derive(Debug)]
pub(super) struct Choice {
    /// The units, ascending.
    pub(super) included: Vec<usize>,
    /// The older reminders, ascending, which no window includes.
    pub(super) old_reminders: Vec<usize>,
    pub(super) tokens: u64,
    /// The newest unit, if it has to be cut to fit.
    pub(super) cut: Option<usize>,
    /// The newest unit that can be sent.
    pub(super) newest: Option<usize>,
    pub(super) extent: ChoiceExtent,
}

/// How far back a window reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChoiceExtent {
    /// Everything that can be sent.
    Whole,
    /// To the last step, less this many steps.
    Step {
        /// The steps by which it is shorter.
        shorter_by: u64,
        /// The tokens that neither a unit takes nor what follows until the next step may take.
        spare: u64,
    },
    /// As far as it fits.
    Full,
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
    /// The steps of the start, unless it slides.
    pub(super) steps: Option<Steps>,
}

impl Candidates<'_> {
    /// Chooses greedily: critical units and the newest one, then those with the lowest priority number, the newest
    /// first within a priority. Once a conversation unit does not fit, all conversation before it is left out.
    pub(super) fn choose(&self, room: Room) -> Result<Choice, ContextError> {
        let old_reminders = self.old_reminders(self.len());
        let is_sendable =
            |unit: usize| !self.is_void(unit) && old_reminders.binary_search(&unit).is_err();
        let newest = (0..self.len()).rev().find(|unit| is_sendable(*unit));
        let recent_from = self.recent_from(self.len());
        let mut included = Vec::new();
        let mut critical = 0_u64;
        for special in self.special().iter().filter(|special| is_sendable(special.unit)) {
            let is_critical = self.priority(special, recent_from).is_critical();
            if is_critical && !is_planted(RenderBug::CriticalOptional) {
                included.push(special.unit);
                critical = critical.saturating_add(self.cost(special.unit));
            }
        }
        let over = |needed: u64| needed.saturating_add(room.used);
        if critical > room.tokens && !room.is_minimal {
            let is_newest = newest.is_some_and(|newest| included.last() == Some(&newest));
            if !(room.may_cut && is_newest) {
                let needed = over(critical);
                return Err(ContextError::CriticalOverBudget { needed, budget: room.budget });
            }
        }
        let mut tokens = critical;
        let mut choice = Choice {
            included: Vec::new(),
            old_reminders: Vec::new(),
            tokens,
            cut: None,
            newest,
            extent: ChoiceExtent::Full,
        };
        if let Some(newest) = newest.filter(|_| !is_planted(RenderBug::NewestOptional)) {
            // It is behind all critical units, or one of them.
            if included.last() != Some(&newest) {
                included.push(newest);
                tokens = tokens.saturating_add(self.cost(newest));
            }
            if tokens > room.tokens && (room.may_cut || !room.is_minimal) {
                if !room.may_cut {
                    return Err(ContextError::NewestOverBudget {
                        sequence: self.place(newest).unwrap_or_default(),
                        tokens: self.cost(newest),
                        is_cut: false,
                        needed: over(tokens),
                        budget: room.budget,
                    });
                }
                choice.cut = Some(newest);
            }
        }
        if choice.cut.is_none() && !room.is_minimal {
            let old: u64 = old_reminders.iter().map(|unit| self.cost(*unit)).sum();
            let is_whole = self.sendable_tokens().saturating_sub(old) <= room.tokens;
            let steps = room.steps.filter(|steps| steps.is_forced || !is_whole);
            if let Some((mut chosen, extent)) =
                steps.and_then(|steps| self.to_step(&included, room.tokens, steps))
            {
                chosen.retain(|unit| is_sendable(*unit));
                (included, choice.extent) = (chosen, extent);
            } else {
                let left = room.tokens.saturating_sub(tokens);
                let end = End { unit: self.len(), position: self.metas.len() };
                (included, _) = self.fill(&included, left, end, &old_reminders);
                choice.extent = if is_whole { ChoiceExtent::Whole } else { ChoiceExtent::Full };
            }
            tokens = included.iter().map(|unit| self.cost(*unit)).sum();
            included.sort_unstable();
        }
        Ok(Choice { included, old_reminders, tokens, ..choice })
    }

    /// The units of a window that starts at a step: those that were chosen when the history ended at the last mark,
    /// with room for what follows until the next one, and everything since. `None` if that is not possible.
    ///
    /// Nothing before the mark depends on what follows it, so the window only grows until the next mark.
    fn to_step(
        &self,
        required: &[usize],
        room: u64,
        steps: Steps,
    ) -> Option<(Vec<usize>, ChoiceExtent)> {
        let mark = Mark::new(self, steps.size)?;
        let end = End { unit: mark.unit, position: mark.position };
        let old_reminders = self.old_reminders(mark.unit);
        let before: Vec<_> = required.iter().copied().filter(|unit| *unit < mark.unit).collect();
        let cost = |unit: &usize| self.cost_before(*unit, mark.position);
        let required: u64 = before.iter().map(cost).sum();
        let usable = steps.usable(room);
        for shorter_by in steps.shorter_by.. {
            let reserve = steps.size.checked_mul(shorter_by)?.checked_add(mark.reserve)?;
            let left = usable.checked_sub(reserve)?.checked_sub(required)?;
            let left = left.checked_sub(steps.pinned)?;
            let (mut chosen, left) = self.fill(&before, left, end, &old_reminders);
            chosen.extend((mark.unit..self.len()).filter(|unit| !self.is_void(*unit)));
            let tokens: u64 = chosen.iter().map(|unit| self.cost(*unit)).sum();
            // The units behind the mark may need more than their messages, such as synthetic results.
            if tokens <= room {
                let spare = left.saturating_add(steps.pinned);
                return Some((chosen, ChoiceExtent::Step { shorter_by, spare }));
            }
        }
        None
    }

    /// Adds the optional units before `end` that fit. Returns all, and the tokens that are left.
    fn fill(
        &self,
        required: &[usize],
        mut left: u64,
        end: End,
        old_reminders: &[usize],
    ) -> (Vec<usize>, u64) {
        let is_open = |unit: usize| {
            !self.is_void(unit)
                && old_reminders.binary_search(&unit).is_err()
                && required.binary_search(&unit).is_err()
        };
        let now = if is_planted(RenderBug::RecencyFromEnd) { self.len() } else { end.unit };
        let recent_from = self.recent_from(now).min(end.unit);
        let mut special: Vec<_> = (self.special().iter())
            .filter(|special| special.unit < end.unit && is_open(special.unit))
            .map(|special| (self.priority(special, recent_from), Reverse(special.unit)))
            .collect();
        special.sort_unstable();
        let mut special = special.into_iter().peekable();
        let plain = |from: usize, end: usize| {
            (from..end).rev().filter(|unit| self.is_plain(*unit) && is_open(*unit))
        };
        let (recent, historical) = self.talk_priorities();
        let mut streams = [
            (recent, plain(recent_from, end.unit).peekable()),
            (historical, plain(0, recent_from).peekable()),
        ];
        let mut is_done = [false; 2];
        let mut chosen = required.to_vec();
        // Conversation before this unit is left out.
        let mut talk_from = 0;
        loop {
            // The next unit of each source, the one with the lowest priority number and the newest first.
            let mut next: Option<(Rank, Option<usize>)> = special.peek().map(|rank| (*rank, None));
            for (index, (priority, units)) in streams.iter_mut().enumerate() {
                if is_done.get(index) != Some(&false) {
                    continue;
                }
                let rank = units.peek().map(|unit| (*priority, Reverse(*unit)));
                if let Some(rank) = rank.filter(|rank| next.is_none_or(|(best, _)| *rank < best)) {
                    next = Some((rank, Some(index)));
                }
            }
            let Some(((_, Reverse(unit)), source)) = next else { break };
            match source.and_then(|index| streams.get_mut(index)) {
                Some((_, units)) => units.next().is_some(),
                None => special.next().is_some(),
            };
            let is_talk = self.unit(unit).is_some_and(crate::unit::Unit::is_conversation);
            let is_behind_hole = unit < talk_from && !is_planted(RenderBug::TalkWithHoles);
            let rest = left.checked_sub(self.cost_before(unit, end.position));
            match rest.filter(|_| !(is_talk && is_behind_hole)) {
                Some(rest) => {
                    left = rest;
                    chosen.push(unit);
                }
                None if is_talk => {
                    talk_from = talk_from.max(unit);
                    // The rest of this source is older.
                    if let Some(is_done) = source.and_then(|index| is_done.get_mut(index)) {
                        *is_done = !is_planted(RenderBug::TalkWithHoles);
                    }
                }
                None => {}
            }
        }
        (chosen, left)
    }
}

/// The order of units: by priority, then the newest first.
type Rank = (Priority, Reverse<usize>);

/// The end of a history.
#[derive(Debug, Clone, Copy)]
struct End {
    unit: usize,
    position: usize,
}
