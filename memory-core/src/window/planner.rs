//! Planning a window in steps, so that only the messages in it are read from a store.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;

use super::choose::{Candidate, Choice, Room, choose};
use super::{ContextError, ContextPlan, LeftOut, NewestUnit, StartPolicy, WindowOptions};
use crate::counters::Tally;
use crate::message::{Message, Role};
use crate::policy::Policy;
use crate::profile::{Profile, ProfileName};
use crate::render::fault::{Fault, is_planted};
use crate::render::{Cut, Input, Rendered, Repair, RepairKind, render};
use crate::stored::{MessageMeta, Sequence};
use crate::tokens::{TokenCounter, message_tokens};
use crate::unit::{UnitState, Units};

/// The most messages that are asked for at once in the search for one of the user.
const SEARCHED: usize = 64;
/// How often a window is filled again after its true size is known.
const REFILLS: usize = 2;
/// The tokens of the name of a tool, about.
const NAME: u64 = 5;
/// The tokens of the lines at the start and the end, about.
const INSERTED: u64 = 20;
/// Smaller budgets are used to the last token.
const SMALL: u64 = 1_000;
/// The tokens of the result that an open call gets, about.
const SYNTHETIC: u64 = 24;

/// Plans a context window without a store: it asks for the messages that it needs.
///
/// The window is planned by stored token counts, rendered, and planned again where the true size differs, so that it
/// is never over its budget. A history in the dialect of its API is rendered once.
///
/// ```
/// # use memory_core::{ContextPlanner, EstimateCounter, Message, MessageId, NewMessage, Policy, Step, WindowOptions};
/// # use memory_core::{Entry, Sequence};
/// # use jiff::Timestamp;
/// # let (policy, now) = (Policy::with_max_tokens(100), Timestamp::UNIX_EPOCH);
/// # let id = MessageId::new(uuid::Uuid::nil());
/// # let new = policy.admit(Entry::new(Message::user("hello")), id, now, &EstimateCounter);
/// # let stored = [new.stored_at(Sequence::new(1))];
/// # let metas: Vec<_> = stored.iter().map(|stored| stored.meta.clone()).collect();
/// let options = WindowOptions::new(1_000);
/// let mut planner = ContextPlanner::new(&metas, &policy, &options, &EstimateCounter, now);
/// let plan = loop {
///     match planner.step()? {
///         // Read the messages at these places from the store.
///         Step::Fetch(places) => {
///             for stored in stored.iter().filter(|stored| places.contains(&stored.meta.sequence)) {
///                 planner.add(stored.meta.sequence, stored.message.clone());
///             }
///         }
///         Step::Ready(plan) => break plan,
///     }
/// };
/// assert_eq!(plan.request.to_string(), r#"[{"role":"user","content":"hello"}]"#);
/// # Ok::<(), memory_core::ContextError>(())
/// ```
#[derive(Debug)]
pub struct ContextPlanner<'a> {
    metas: &'a [MessageMeta],
    options: &'a WindowOptions,
    profile: Cow<'a, Profile>,
    counter: &'a dyn TokenCounter,
    units: Units<'a>,
    candidates: Vec<Candidate<'a>>,
    /// For each meta its message, once it is known.
    messages: Vec<Option<Cow<'a, Message>>>,
    reminders: usize,
    /// The tokens of the system prompt of the options.
    system: u64,
    /// Room for the lines that the API may need at the start and the end.
    margin: u64,
    /// The tokens for units, once a rendered window was larger than planned.
    room: Option<u64>,
    /// Whether only what must be in the window is tried.
    is_minimal: bool,
    /// Whether the newest unit has its true cost.
    is_corrected: bool,
    /// How much smaller a rendered window was than planned.
    slack: u64,
    refills: usize,
    best: Option<Arc<ContextPlan>>,
    /// Why nothing of a unit can be sent, once that is known: it is not rendered again.
    dropped: Vec<Repair>,
}

/// The next step of a planner.
#[derive(Debug)]
pub enum Step {
    /// The messages at these places, in ascending order, by [`ContextPlanner::add`].
    Fetch(Vec<Sequence>),
    /// Nothing: this is the window.
    Ready(ContextPlan),
}

impl<'a> ContextPlanner<'a> {
    /// Plans a window over messages of which only the metadata are known, in ascending order of places. The counter
    /// must be the one of their stored counts.
    #[must_use]
    pub fn new(
        metas: &'a [MessageMeta],
        policy: &'a Policy,
        options: &'a WindowOptions,
        counter: &'a dyn TokenCounter,
        now: Timestamp,
    ) -> Self {
        let units = Units::group(metas, now, policy.open_call_timeout);
        let classes = units.classify(policy);
        let profile =
            options.profile.as_ref().map_or_else(|| Cow::Owned(Profile::default()), Cow::Borrowed);
        // Gemini's results name their tools.
        let per_result = if profile.name == ProfileName::Gemini { NAME } else { 0 };
        let candidates = units
            .iter()
            .zip(classes)
            .map(|(unit, class)| {
                let results = unit.messages().saturating_sub(1);
                let more = unit.unanswered() as u64 * SYNTHETIC + results * per_result;
                Candidate {
                    class,
                    first: metas.get(unit.first()).map_or(Sequence::ZERO, |meta| meta.sequence),
                    cost: unit.tokens().saturating_add(more),
                    is_void: false,
                }
            })
            .collect();
        let system = options.system.as_deref().filter(|text| !text.trim().is_empty());
        let system = system.map_or(0, |text| message_tokens(counter, &Message::system(text)));
        Self {
            metas,
            options,
            profile,
            counter,
            units,
            candidates,
            messages: vec![None; metas.len()],
            reminders: usize::try_from(policy.reminders_kept).unwrap_or(usize::MAX),
            system: system.into(),
            // In a small window each token counts, so that it is rather rendered twice.
            margin: if options.budget < SMALL { 0 } else { INSERTED },
            room: None,
            is_minimal: false,
            is_corrected: false,
            slack: 0,
            refills: 0,
            best: None,
            dropped: Vec::new(),
        }
    }

    /// Adds the message at a place.
    pub fn add(&mut self, place: Sequence, message: impl Into<Cow<'a, Message>>) {
        let position = self.metas.binary_search_by_key(&place, |meta| meta.sequence);
        if let Some(slot) = position.ok().and_then(|position| self.messages.get_mut(position)) {
            *slot = Some(message.into());
        }
    }

    /// Plans without the messages at these places, which cannot be read.
    pub fn give_up(&mut self, places: &[Sequence]) {
        let units = self.units.iter().zip(&mut self.candidates);
        for (unit, candidate) in units {
            let mut members = self.units.members(unit);
            candidate.is_void |= members.any(|meta| places.contains(&meta.sequence));
        }
    }

    /// Goes on: to the window, or to the messages that are needed for it.
    ///
    /// # Errors
    /// [`ContextError`].
    pub fn step(&mut self) -> Result<Step, ContextError> {
        loop {
            let choice = match self.choose() {
                Ok(choice) => choice,
                // A first window that fits is better than none.
                Err(error) => match self.take_best() {
                    Some(best) => return Ok(Step::Ready(best)),
                    None if self.is_minimal => return Err(error),
                    // Stored counts are not those of this API: the true size decides.
                    None => {
                        self.is_minimal = true;
                        continue;
                    }
                },
            };
            let missing = self.missing(&choice.included);
            if !missing.is_empty() {
                return Ok(Step::Fetch(missing));
            }
            let (included, pinned) = match self.pin(&choice) {
                Pinned::Fetch(places) => return Ok(Step::Fetch(places)),
                Pinned::Included(included, pinned) => (included, pinned),
            };
            let missing = self.missing(&included);
            if !missing.is_empty() {
                return Ok(Step::Fetch(missing));
            }
            if let Some(plan) = self.try_render(&choice, &included, pinned)? {
                return Ok(Step::Ready(plan));
            }
        }
    }

    fn take_best(&mut self) -> Option<ContextPlan> {
        self.best.take().map(Arc::unwrap_or_clone)
    }

    /// The tokens for tools and the answer.
    fn reserved(&self) -> u64 {
        if is_planted(Fault::ReserveForgotten) { 0 } else { self.options.reserved() }
    }

    /// The tokens for the request.
    fn allowed(&self) -> u64 {
        self.options.budget.saturating_sub(self.reserved())
    }

    /// The tokens of the system prompt of the options and of the reserve.
    fn used(&self) -> u64 {
        self.reserved().saturating_add(self.system)
    }

    /// The tokens for units.
    fn room(&self) -> u64 {
        let room = self.options.budget.saturating_sub(self.used()).saturating_add(self.slack);
        let room = room.saturating_sub(self.margin);
        self.room.map_or(room, |limit| limit.min(room))
    }

    fn choose(&self) -> Result<Choice, ContextError> {
        let (used, budget) = (self.used(), self.options.budget);
        if used > budget {
            return Err(ContextError::ReserveOverBudget { needed: used, budget });
        }
        let room = Room {
            tokens: self.room(),
            used,
            budget,
            may_cut: self.options.newest == NewestUnit::Truncate,
            is_minimal: self.is_minimal,
            reminders: self.reminders,
        };
        choose(&self.candidates, room)
    }

    /// The places of chosen messages that are not known.
    fn missing(&self, included: &[bool]) -> Vec<Sequence> {
        let mut missing = Vec::new();
        for (unit, _) in self.units.iter().zip(included).filter(|(_, included)| **included) {
            let mut members = self.units.members(unit);
            while let Some(position) = members.next_position() {
                self.note_missing(position, &mut missing);
            }
        }
        missing.sort_unstable();
        missing
    }

    fn note_missing(&self, position: usize, missing: &mut Vec<Sequence>) {
        if let (Some(None), Some(meta)) = (self.messages.get(position), self.metas.get(position)) {
            missing.push(meta.sequence);
        }
    }

    fn role_of(&self, position: usize) -> Option<&Role> {
        Some(self.messages.get(position)?.as_ref()?.role())
    }

    /// Makes the window start at a message of the user, as far as it fits.
    fn pin(&self, choice: &Choice) -> Pinned {
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
        // The latest message of the user before it: one that neither calls nor answers.
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
        let included = self.make_room(choice, found);
        included.map_or_else(as_is, |included| Pinned::Included(included, place))
    }

    /// The choice with this unit, without the oldest talk that it takes the place of.
    fn make_room(&self, choice: &Choice, pinned: usize) -> Option<Vec<bool>> {
        let room = self.room();
        let mut included = choice.included.clone();
        let mut tokens = choice.tokens.saturating_add(self.candidates.get(pinned)?.cost);
        *included.get_mut(pinned)? = true;
        if choice.cut.is_some() {
            // The newest unit is cut to what is left.
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

    /// Renders the chosen units; `None` if the choice has to be made again.
    fn try_render(
        &mut self,
        choice: &Choice,
        included: &[bool],
        pinned: Option<Sequence>,
    ) -> Result<Option<ContextPlan>, ContextError> {
        let positions = self.positions(included);
        let moved = self.moved(&positions);
        let is_whole = moved.is_empty() && self.is_all(&positions);
        let newest = choice.newest.and_then(|index| self.units.iter().nth(index)).copied();
        let mut cut = choice.cut.map(|_| {
            Cut::new(newest.map_or_else(Vec::new, |unit| {
                let mut places: Vec<_> =
                    self.units.members(&unit).map(|meta| meta.sequence).collect();
                places.sort_unstable();
                places
            }))
        });
        let allowed = self.allowed();
        let mut rendered = self.render(&positions, is_whole, cut.as_ref());
        while let Some(now) = &mut cut
            && rendered.tokens > allowed
            && now.cut_more(rendered.tokens - allowed, rendered.has_left)
        {
            rendered = self.render(&positions, is_whole, cut.as_ref());
        }
        // Each round finds at least one more.
        if self.find_void(&positions, &rendered, included) && self.newest_is_void(choice) {
            return Ok(None);
        }
        if rendered.tokens > allowed && !is_planted(Fault::OverBudget) {
            if let Some(best) = self.take_best() {
                return Ok(Some(best));
            }
            if !self.is_minimal {
                let units = self.candidates.iter().zip(included).filter(|(_, included)| **included);
                let planned: u64 = units.map(|(unit, _)| unit.cost).sum();
                match planned.checked_sub(rendered.tokens - allowed) {
                    Some(room) if choice.cut.is_none() => self.room = Some(room),
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
            // The required units are smaller than their stored counts say: there is room for more.
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
        if may_refill {
            self.refills += 1;
            self.slack = self.slack.saturating_add(slack);
            self.best = Some(Arc::new(plan));
            return Ok(None);
        }
        match self.take_best() {
            Some(best) if best.sequences.len() > plan.sequences.len() => Ok(Some(best)),
            _ => Ok(Some(plan)),
        }
    }

    /// Whether a window is the whole history as it was said: nothing before or between its messages was left out,
    /// removed or summarized, and no system prompt of one agent is before it.
    fn is_all(&self, positions: &[Position]) -> bool {
        let is_there = self
            .metas
            .iter()
            .zip(1..)
            .all(|(meta, number)| meta.sequence == Sequence::new(number) && !meta.is_summary());
        is_there && positions.len() == self.metas.len() && self.options.system.is_none()
    }

    /// Gives the newest unit the tokens that it really takes.
    fn correct(&mut self, choice: &Choice, included: &[bool], tokens: u64) {
        let units = self.candidates.iter().zip(included).filter(|(_, included)| **included);
        let planned: u64 = units.map(|(unit, _)| unit.cost).sum();
        let surplus = planned.saturating_sub(tokens.saturating_sub(self.system));
        if let Some(newest) = choice.newest.and_then(|index| self.candidates.get_mut(index)) {
            newest.cost = newest.cost.saturating_sub(surplus);
        }
        (self.is_minimal, self.is_corrected, self.room) = (false, true, None);
    }

    /// The error for what must be in the window and takes this many tokens.
    fn over_budget(&self, choice: &Choice, tokens: u64) -> ContextError {
        let budget = self.options.budget;
        let needed = tokens.saturating_add(self.options.reserved());
        let newest = choice.newest.and_then(|index| self.candidates.get(index));
        let critical: u64 = (self.candidates.iter())
            .filter(|unit| unit.class.priority.is_critical() && !unit.is_void)
            .map(|unit| unit.cost)
            .sum();
        let others = critical.saturating_add(self.used());
        match newest.filter(|unit| !unit.class.priority.is_critical()) {
            Some(unit) if critical == 0 || others <= budget => ContextError::NewestOverBudget {
                sequence: unit.first,
                tokens: needed.saturating_sub(others),
                is_cut: self.options.newest == NewestUnit::Truncate,
                needed,
                budget,
            },
            _ => ContextError::CriticalOverBudget { needed, budget },
        }
    }

    /// The messages of the units in the window, in order.
    fn positions(&self, included: &[bool]) -> Vec<Position> {
        let mut positions = Vec::new();
        for (unit, _) in self.units.iter().zip(included).filter(|(_, included)| **included) {
            let mut members = self.units.members(unit);
            while let Some(at) = members.next_position() {
                if at != unit.first() && is_planted(Fault::UnitTorn) {
                    continue;
                }
                positions.push(Position { at, is_open: unit.state() == UnitState::Open });
            }
        }
        positions
    }

    /// The messages that are before others of the window which they came behind: results behind their calls. With each
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

    fn render(&self, positions: &[Position], is_whole: bool, cut: Option<&Cut>) -> Rendered {
        let inputs: Vec<_> = positions
            .iter()
            .filter_map(|position| {
                let (meta, message) =
                    (self.metas.get(position.at)?, self.messages.get(position.at)?.as_ref()?);
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
        render(&inputs, system, &self.profile, self.counter, is_whole, cut)
    }

    /// Marks the units of which nothing was sent; whether there are any new ones.
    fn find_void(
        &mut self,
        positions: &[Position],
        rendered: &Rendered,
        included: &[bool],
    ) -> bool {
        let mut left_out = positions.iter().zip(&rendered.is_left_out);
        let mut found = false;
        let units = self.units.iter().zip(&mut self.candidates).zip(included);
        for ((unit, candidate), _) in units.filter(|(_, included)| **included) {
            let count = usize::try_from(unit.messages()).unwrap_or(usize::MAX);
            let is_void =
                left_out.by_ref().take(count).filter(|(_, left_out)| !**left_out).count() == 0;
            if is_void && !candidate.is_void {
                found = true;
                let about = |repair: &&Repair| {
                    let mut members = self.units.members(unit);
                    members.any(|meta| repair.sequence == Some(meta.sequence))
                };
                self.dropped.extend(rendered.repairs.iter().filter(about));
            }
            candidate.is_void |= is_void;
        }
        found
    }

    fn newest_is_void(&self, choice: &Choice) -> bool {
        let newest = choice.newest.and_then(|index| self.candidates.get(index));
        newest.is_some_and(|unit| unit.is_void)
    }

    fn plan(
        &self,
        rendered: Rendered,
        positions: &[Position],
        included: &[bool],
        choice: &Choice,
        pinned: Option<Sequence>,
    ) -> ContextPlan {
        let mut left_out = LeftOut::default();
        let units =
            self.units.iter().zip(&self.candidates).zip(included).zip(&choice.is_old_reminder);
        for (((unit, candidate), is_in), is_reminder) in units {
            let is_orphan = unit.state() == UnitState::Orphan;
            let part = match () {
                () if candidate.is_void && is_orphan => &mut left_out.orphans,
                () if candidate.is_void => &mut left_out.empty,
                () if *is_in => continue,
                () if *is_reminder => &mut left_out.reminders,
                () if is_planted(Fault::LeftOutNotCounted) => continue,
                () => &mut left_out.budget,
            };
            part.messages += unit.messages();
            part.tokens = part.tokens.saturating_add(unit.tokens());
        }
        let mut sequences = Vec::with_capacity(positions.len());
        let is_void: Vec<bool> = self.void_positions();
        for (position, is_out) in positions.iter().zip(&rendered.is_left_out) {
            let Some(meta) = self.metas.get(position.at) else { continue };
            if !is_out {
                sequences.push(meta.sequence);
            } else if !is_void.get(position.at).copied().unwrap_or(false) {
                // An empty message or a stray result within a unit.
                let is_orphan = !meta.link.results.is_empty();
                let part = if is_orphan { &mut left_out.orphans } else { &mut left_out.empty };
                add(part, meta);
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
        }
    }

    /// For each message whether it is in a unit of which nothing can be sent.
    fn void_positions(&self) -> Vec<bool> {
        let mut is_void = vec![false; self.metas.len()];
        for (unit, _) in self.units.iter().zip(&self.candidates).filter(|(_, c)| c.is_void) {
            let mut members = self.units.members(unit);
            while let Some(position) = members.next_position() {
                if let Some(is_void) = is_void.get_mut(position) {
                    *is_void = true;
                }
            }
        }
        is_void
    }
}

/// A message in a window.
#[derive(Debug, Clone, Copy)]
struct Position {
    /// The position of its metadata.
    at: usize,
    /// Whether its unit has a call that may still be answered.
    is_open: bool,
}

enum Pinned {
    Fetch(Vec<Sequence>),
    /// The units of the window, and the message that was added as its start.
    Included(Vec<bool>, Option<Sequence>),
}

const fn add(tally: &mut Tally, meta: &MessageMeta) {
    tally.messages += 1;
    tally.tokens = tally.tokens.saturating_add(meta.tokens as u64);
}
