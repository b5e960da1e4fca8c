//! One attempt: renders the chosen units and compares them with the budget.

use std::sync::Arc;

use super::ContextPlanner;
use crate::counters::Tally;
use crate::render::bug::{RenderBug, is_planted};
use crate::render::{Cut, Extent, Input, Rendered, Repair, RepairKind, render};
use crate::stored::{MessageMeta, Sequence};
use crate::unit::{Unit, UnitState};
use crate::window::choose::{Choice, ChoiceExtent};
use crate::window::options::NewestUnit;
use crate::window::{ContextError, ContextPlan, LeftOut};

/// How often a window is filled again after its true size is known.
const REFILLS: usize = 2;

/// A message in a window.
#[derive(Debug, Clone, Copy)]
struct Position {
    /// The position of its metadata.
    at: usize,
    unit: usize,
    /// Whether its unit has a call that may still be answered.
    is_open: bool,
}

impl ContextPlanner<'_> {
    /// Renders the chosen units; `None` if the units must be chosen again.
    pub(super) fn try_render(
        &mut self,
        choice: &Choice,
        included: &[usize],
        pinned: Option<Sequence>,
    ) -> Result<Option<ContextPlan>, ContextError> {
        let positions = self.positions(included);
        let moved = self.moved(&positions);
        let extent = match () {
            () if self.metas.is_empty() => Extent::Nothing,
            () if moved.is_empty() && self.is_all(&positions) => Extent::Whole,
            () => Extent::Part,
        };
        let newest = choice.newest.and_then(|index| self.candidates.unit(index)).copied();
        let mut cut = choice.cut.map(|_| {
            Cut::new(newest.map_or_else(Vec::new, |unit| {
                let mut places: Vec<_> =
                    self.candidates.units.members(&unit).map(|meta| meta.sequence).collect();
                places.sort_unstable();
                places
            }))
        });
        let allowed = self.allowed();
        let mut rendered = self.render(&positions, extent, cut.as_ref());
        while let Some(now) = &mut cut
            && rendered.tokens > allowed
            && rendered.has_left
        {
            now.cut_more(rendered.tokens - allowed);
            rendered = self.render(&positions, extent, cut.as_ref());
        }
        // Each round finds at least one more.
        if self.find_void(&positions, &rendered, included) && self.newest_is_void(choice) {
            return Ok(None);
        }
        if rendered.tokens > allowed && !is_planted(RenderBug::OverBudget) {
            if let Some(best) = self.take_best() {
                return Ok(Some(best));
            }
            if !self.is_minimal {
                let over = rendered.tokens - allowed;
                let planned: u64 = included.iter().map(|unit| self.candidates.cost(*unit)).sum();
                match (choice.extent, planned.checked_sub(over)) {
                    (ChoiceExtent::Whole, _)
                        if self.steps.is_some_and(|steps| !steps.is_forced) =>
                    {
                        self.force_steps();
                    }
                    (ChoiceExtent::Step { shorter_by, .. }, _) => self.shorten(shorter_by, over),
                    (_, Some(room)) if choice.cut.is_none() => self.room = Some(room),
                    _ => self.is_minimal = true,
                }
                return Ok(None);
            }
            return Err(self.over_budget(choice, rendered.tokens));
        }
        let slack = allowed.saturating_sub(rendered.tokens);
        let is_sent = |index: usize| rendered.is_left_out.get(index) == Some(&false);
        let moved = moved.into_iter().filter(|(index, _)| is_sent(*index));
        let moved = moved.map(|(_, sequence)| Repair {
            kind: RepairKind::ResultMoved,
            sequence: Some(sequence),
        });
        for repair in self.dropped.iter().copied().chain(moved) {
            if !rendered.repairs.contains(&repair) {
                let repairs = &mut rendered.repairs;
                let after = repairs.partition_point(|before| before.sequence <= repair.sequence);
                repairs.insert(after, repair);
            }
        }
        let plan = self.plan(rendered, &positions, included, choice, pinned);
        let is_cut = cut.as_ref().is_some_and(Cut::has_cut);
        let is_needed_only = self.is_minimal || choice.cut.is_some();
        if is_needed_only && !is_cut && !self.is_corrected {
            // The required units are smaller than their stored counts: there is room for more.
            self.correct(choice, included, plan.tokens);
            self.best = Some(Arc::new(plan));
            return Ok(None);
        }
        let may_refill = self.refills < REFILLS
            && self.room.is_none()
            && !self.is_minimal
            && choice.cut.is_none()
            && plan.left_out.budget.messages > 0
            && slack > allowed / 8
            && slack
                > allowed.saturating_sub(self.system).saturating_sub(choice.tokens) + allowed / 16;
        let more = self.refill(choice, slack);
        if may_refill && more > 0 {
            self.refills += 1;
            self.slack = self.slack.saturating_add(more);
            self.best = Some(Arc::new(plan));
            return Ok(None);
        }
        match self.take_best() {
            Some(best) if best.sequences.len() > plan.sequences.len() => Ok(Some(best)),
            _ => Ok(Some(plan)),
        }
    }

    /// Whether a window is the complete history: nothing before or between its messages was left out, removed or
    /// summarized, and no agent-specific system prompt precedes it.
    fn is_all(&self, positions: &[Position]) -> bool {
        let is_there = |(meta, number): (&MessageMeta, u64)| {
            meta.sequence == Sequence::new(number) && !meta.is_summary()
        };
        // Most windows are a small part of a long history, which is not visited for them.
        positions.len() == self.metas.len()
            && self.options.system.is_none()
            && self.metas.iter().zip(1..).all(is_there)
    }

    /// The tokens by which to fill a window again that turned out to be this much smaller than allowed.
    fn refill(&self, choice: &Choice, slack: u64) -> u64 {
        match (choice.extent, self.steps) {
            (ChoiceExtent::Step { .. }, Some(steps)) => {
                // Only what the counts were too high by, and in parts, because it grows with the messages.
                let unused = self.room().saturating_sub(choice.tokens);
                let part = (steps.size / 2).max(1);
                slack.saturating_sub(unused) / part * part
            }
            _ => slack,
        }
    }

    /// Sets the newest unit's cost to its true tokens.
    fn correct(&mut self, choice: &Choice, included: &[usize], tokens: u64) {
        let planned: u64 = included.iter().map(|unit| self.candidates.cost(*unit)).sum();
        let surplus = planned.saturating_sub(tokens.saturating_sub(self.system));
        debug_assert!(
            choice.newest.is_none_or(|index| index < self.candidates.len()),
            "the newest unit is a candidate"
        );
        if let Some(newest) = choice.newest {
            let cost = self.candidates.cost(newest).saturating_sub(surplus);
            self.candidates.correct(newest, cost);
        }
        (self.is_minimal, self.is_corrected, self.room) = (false, true, None);
    }

    /// The error for required units that take this many tokens.
    fn over_budget(&self, choice: &Choice, tokens: u64) -> ContextError {
        let budget = self.options.budget;
        let needed = tokens.saturating_add(self.options.reserved());
        let critical: u64 =
            (self.candidates.critical()).map(|unit| self.candidates.cost(unit)).sum();
        let others = critical.saturating_add(self.used());
        let newest =
            choice.newest.filter(|newest| self.candidates.critical().all(|c| c != *newest));
        match newest.and_then(|newest| self.candidates.place(newest)) {
            Some(sequence) if critical == 0 || others <= budget => ContextError::NewestOverBudget {
                sequence,
                tokens: needed.saturating_sub(others),
                is_cut: self.options.newest == NewestUnit::Truncate,
                needed,
                budget,
            },
            _ => ContextError::CriticalOverBudget { needed, budget },
        }
    }

    /// The messages of the units in the window, in order.
    fn positions(&self, included: &[usize]) -> Vec<Position> {
        let mut positions = Vec::new();
        for index in included.iter().copied() {
            let Some(unit) = self.candidates.unit(index) else { continue };
            let mut members = self.candidates.units.members(unit);
            while let Some(at) = members.next_position() {
                if at != unit.first() && is_planted(RenderBug::UnitTorn) {
                    continue;
                }
                let is_open = self.candidates.state(index) == Some(UnitState::Open);
                positions.push(Position { at, unit: index, is_open });
            }
        }
        positions
    }

    /// The messages that the window moves before messages that they followed: results behind their calls. Each with
    /// its number in the window.
    fn moved(&self, positions: &[Position]) -> Vec<(usize, Sequence)> {
        let mut least = usize::MAX;
        let mut moved = Vec::new();
        for (index, position) in positions.iter().enumerate().rev() {
            if position.at > least {
                moved.extend(self.metas.get(position.at).map(|meta| (index, meta.sequence)));
            }
            least = least.min(position.at);
        }
        moved.reverse();
        moved
    }

    fn render(&self, positions: &[Position], extent: Extent, cut: Option<&Cut>) -> Rendered {
        let inputs: Vec<_> = positions
            .iter()
            .filter_map(|position| {
                let (meta, message) = (self.metas.get(position.at)?, self.texts.get(position.at)?);
                let input = Input {
                    sequence: Some(meta.sequence),
                    tokens: Some(meta.tokens.into()),
                    is_awaited: position.is_open,
                    ..Input::new(message)
                };
                Some(if meta.summary {
                    input.as_summary(self.options.summary_role.unwrap_or_default())
                } else {
                    input
                })
            })
            .collect();
        let system = self.options.system.as_deref();
        render(&inputs, system, &self.profile, self.counter, extent, cut)
    }

    /// Marks the units of which nothing was sent; returns whether there are new ones.
    fn find_void(
        &mut self,
        positions: &[Position],
        rendered: &Rendered,
        included: &[usize],
    ) -> bool {
        let mut left_out = positions.iter().zip(&rendered.is_left_out);
        let mut found = false;
        for index in included.iter().copied() {
            let Some(unit) = self.candidates.unit(index).copied() else { continue };
            let count = usize::try_from(unit.messages()).unwrap_or(usize::MAX);
            let is_void =
                left_out.by_ref().take(count).filter(|(_, left_out)| !**left_out).count() == 0;
            if is_void && self.candidates.set_void(index) {
                found = true;
                let about = |repair: &&Repair| {
                    let mut members = self.candidates.units.members(&unit);
                    members.any(|meta| repair.sequence == Some(meta.sequence))
                };
                self.dropped.extend(rendered.repairs.iter().filter(about));
            }
        }
        found
    }

    fn newest_is_void(&self, choice: &Choice) -> bool {
        choice.newest.is_some_and(|newest| self.candidates.is_void(newest))
    }

    fn plan(
        &self,
        rendered: Rendered,
        positions: &[Position],
        included: &[usize],
        choice: &Choice,
        pinned: Option<Sequence>,
    ) -> ContextPlan {
        let mut left_out = self.left_out(included, choice);
        let mut sequences = Vec::with_capacity(positions.len());
        for (position, is_out) in positions.iter().zip(&rendered.is_left_out) {
            let Some(meta) = self.metas.get(position.at) else {
                debug_assert!(false, "position {} of a window has no metadata", position.at);
                continue;
            };
            if !is_out {
                sequences.push(meta.sequence);
            } else if !self.candidates.is_void(position.unit) {
                // An empty message or a stray result within a unit.
                let is_orphan = !meta.link.results.is_empty();
                let part = if is_orphan { &mut left_out.orphans } else { &mut left_out.empty };
                add(part, Tally { messages: 1, tokens: meta.tokens.into() });
            }
        }
        let mut repairs = rendered.repairs;
        if pinned.is_some() {
            repairs.insert(0, Repair { kind: RepairKind::StartPinned, sequence: pinned });
        }
        ContextPlan {
            request: rendered.request,
            sequences,
            tokens: rendered.tokens,
            repairs,
            left_out,
            message_tokens: rendered.message_tokens,
        }
    }

    /// The units that are left out as a whole, by reason.
    fn left_out(&self, included: &[usize], choice: &Choice) -> LeftOut {
        let tally = |unit: &Unit| Tally { messages: unit.messages(), tokens: unit.tokens() };
        let mut left_out = LeftOut::default();
        // All others are over the budget: they are not visited, because there may be many.
        let mut known = Tally::default();
        for index in self.candidates.void() {
            let Some(unit) = self.candidates.unit(*index) else { continue };
            let is_orphan = self.candidates.state(*index) == Some(UnitState::Orphan);
            let part = if is_orphan { &mut left_out.orphans } else { &mut left_out.empty };
            add(part, tally(unit));
            add(&mut known, tally(unit));
        }
        let is_sendable = |unit: &&usize| !self.candidates.is_void(**unit);
        for unit in included.iter().filter(is_sendable) {
            add(&mut known, self.candidates.unit(*unit).map(tally).unwrap_or_default());
        }
        for unit in choice.old_reminders.iter().filter(is_sendable) {
            let tally = self.candidates.unit(*unit).map(tally).unwrap_or_default();
            add(&mut left_out.reminders, tally);
            add(&mut known, tally);
        }
        if !is_planted(RenderBug::LeftOutNotCounted) {
            let all = self.candidates.all();
            left_out.budget.messages = all.messages.saturating_sub(known.messages);
            left_out.budget.tokens = all.tokens.saturating_sub(known.tokens);
        }
        left_out
    }
}

const fn add(tally: &mut Tally, more: Tally) {
    tally.messages += more.messages;
    tally.tokens = tally.tokens.saturating_add(more.tokens);
}
