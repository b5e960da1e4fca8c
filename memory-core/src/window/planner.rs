//! Planning a window in steps, so that only the messages in it are read from a store.

mod attempt;
mod start;

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;

use self::start::Pinned;
use super::choose::{Candidate, Choice, Room, choose};
use super::{ContextError, ContextPlan, NewestUnit, WindowOptions};
use crate::message::{Message, Role};
use crate::policy::Policy;
use crate::profile::{Profile, ProfileName};
use crate::render::Repair;
use crate::render::fault::{Fault, is_planted};
use crate::stored::{MessageMeta, Sequence};
use crate::tokens::{TokenCounter, message_tokens};
use crate::unit::Units;

/// Estimated tokens of a tool name.
const NAME: u64 = 5;
/// Estimated tokens of the lines inserted at the start and the end.
const INSERTED: u64 = 20;
/// Smaller budgets are used to the last token.
const SMALL: u64 = 1_000;
/// Estimated tokens of the synthetic result of an open call.
const SYNTHETIC: u64 = 24;

/// Plans a context window without a store: it requests the messages that it needs.
///
/// The window is planned by stored token counts, rendered, and planned again if the true size differs, so that it
/// never exceeds its budget. A history in the dialect of its API is rendered once.
///
/// ```
/// # use memory_core::{EstimateCounter, Message, WindowOptions};
/// # use memory_core::plan::{ContextPlanner, Policy, Step};
/// # use memory_core::store::{MessageId, NewMessage};
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
/// # Ok::<(), memory_core::plan::ContextError>(())
/// ```
#[derive(Debug)]
pub struct ContextPlanner<'a> {
    metas: &'a [MessageMeta],
    options: &'a WindowOptions,
    profile: Cow<'a, Profile>,
    counter: &'a dyn TokenCounter,
    units: Units<'a>,
    candidates: Vec<Candidate<'a>>,
    /// The message of each meta, once known.
    messages: Vec<Option<Cow<'a, Message>>>,
    reminders: usize,
    /// The tokens of the system prompt of the options.
    system: u64,
    /// Tokens for the lines that the API may need at the start and the end.
    margin: u64,
    /// The tokens for units, after a rendered window was larger than planned.
    room: Option<u64>,
    /// Whether only the required units are tried.
    is_minimal: bool,
    /// Whether the cost of the newest unit is exact.
    is_corrected: bool,
    /// The tokens by which a rendered window was smaller than planned.
    slack: u64,
    refills: usize,
    best: Option<Arc<ContextPlan>>,
    /// Why nothing of a unit can be sent, once known, so that it is not rendered again.
    dropped: Vec<Repair>,
}

/// The next step of a planner.
#[derive(Debug)]
pub enum Step {
    /// Fetch the messages at these places, in ascending order, and pass each to [`ContextPlanner::add`].
    Fetch(Vec<Sequence>),
    /// The window is complete.
    Ready(ContextPlan),
}

impl<'a> ContextPlanner<'a> {
    /// Plans a window over messages of which only the metadata is known, in ascending order of places. The counter
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
            // Small windows use every token, so they may be rendered twice.
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

    /// Adds the message at a place. A place that is not in the outline is ignored, because the message may have been
    /// appended since the outline was read.
    pub fn add(&mut self, place: Sequence, message: impl Into<Cow<'a, Message>>) {
        let position = self.metas.binary_search_by_key(&place, |meta| meta.sequence);
        if let Some(slot) = position.ok().and_then(|position| self.messages.get_mut(position)) {
            *slot = Some(message.into());
        }
    }

    /// Continues without the messages at these places, which cannot be read.
    pub fn give_up(&mut self, places: &[Sequence]) {
        let units = self.units.iter().zip(&mut self.candidates);
        for (unit, candidate) in units {
            let mut members = self.units.members(unit);
            candidate.is_void |= members.any(|meta| places.contains(&meta.sequence));
        }
    }

    /// Continues until the window is complete or messages are needed.
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
                    // Stored counts may differ from those of this API: the true size decides.
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

    /// The places of chosen messages that are not loaded yet.
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
}
