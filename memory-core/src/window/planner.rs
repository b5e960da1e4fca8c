//! Planning a window in steps, so that only the messages in it are read from a store.

mod attempt;
mod start;
mod texts;

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;

use self::texts::Texts;
use super::candidates::Candidates;
use super::choose::{Choice, Room};
use super::steps::Steps;
use super::{ContextError, ContextPlan, NewestUnit, WindowAdvance, WindowOptions};
use crate::message::{Message, Role};
use crate::policy::Policy;
use crate::profile::{Profile, ProfileName};
use crate::render::Repair;
use crate::render::bug::{RenderBug, is_planted};
use crate::stored::{MessageMeta, Sequence};
use crate::tokens::{TokenCounter, message_tokens};
use crate::unit::Units;

/// Estimated tokens of a tool name.
const NAME: u64 = 5;
/// Estimated tokens of the lines inserted at the start and the end.
const INSERTED: u64 = 20;
/// Smaller budgets are used to the last token.
const SMALL: u64 = 1_000;

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
    candidates: Candidates<'a>,
    texts: Texts<'a>,
    /// The tokens of the system prompt of the options.
    system: u64,
    /// Tokens for the lines that the API may need at the start and the end.
    margin: u64,
    /// The tokens for units, after a rendered window was larger than planned.
    room: Option<u64>,
    /// The steps of the start, unless it slides.
    steps: Option<Steps>,
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
#[expect(
    clippy::large_enum_variant,
    reason = "a plan is moved once, and a box would be one more allocation for each window"
)]
pub enum Step {
    /// Fetch the messages at these places, in ascending order, and pass each to [`ContextPlanner::add`].
    Fetch(Vec<Sequence>),
    /// The window is complete.
    Ready(ContextPlan),
}

/// A choice with its start.
enum Pinned {
    Fetch(Vec<Sequence>),
    /// The units of the window, and the message that was added as its start.
    Included(Vec<usize>, Option<Sequence>),
    /// The message needs this room, more than is reserved for it in a window that starts at a step.
    Reserve(u64),
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
        Self::plan_over(units, Texts::none_of(metas), policy, options, counter)
    }

    /// Plans a window over messages that are all in memory: `messages` in the order of `metas`, in ascending order of
    /// places. The counter must be the one of their stored counts.
    ///
    /// The planner then needs nothing more, unless there are fewer messages than metadata.
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
    /// # let stored = new.stored_at(Sequence::new(1));
    /// # let (metas, messages) = ([stored.meta], [stored.message]);
    /// let options = WindowOptions::new(1_000);
    /// let mut planner =
    ///     ContextPlanner::with_messages(&metas, &messages, &policy, &options, &EstimateCounter, now);
    /// let Step::Ready(plan) = planner.step()? else { panic!("all messages are there") };
    /// assert_eq!(plan.request.to_string(), r#"[{"role":"user","content":"hello"}]"#);
    /// # Ok::<(), memory_core::plan::ContextError>(())
    /// ```
    #[must_use]
    pub fn with_messages(
        metas: &'a [MessageMeta],
        messages: &'a [Message],
        policy: &'a Policy,
        options: &'a WindowOptions,
        counter: &'a dyn TokenCounter,
        now: Timestamp,
    ) -> Self {
        let units = Units::group(metas, now, policy.open_call_timeout);
        Self::plan_over(units, Texts::all(metas, messages), policy, options, counter)
    }

    /// Plans a window over messages that are all in memory and are grouped already. The cost depends on the
    /// window and on the units that are not plain conversation, not on the number of messages.
    pub(crate) fn with_units(
        units: Units<'a>,
        messages: &'a [Message],
        policy: &Policy,
        options: &'a WindowOptions,
        counter: &'a dyn TokenCounter,
    ) -> Self {
        let texts = Texts::all(units.metas(), messages);
        Self::plan_over(units, texts, policy, options, counter)
    }

    fn plan_over(
        units: Units<'a>,
        texts: Texts<'a>,
        policy: &Policy,
        options: &'a WindowOptions,
        counter: &'a dyn TokenCounter,
    ) -> Self {
        let metas = units.metas();
        let profile =
            options.profile.as_ref().map_or_else(|| Cow::Owned(Profile::default()), Cow::Borrowed);
        // Gemini's results name their tools.
        let per_result = if profile.name == ProfileName::Gemini { NAME } else { 0 };
        let system = options.system.as_deref().filter(|text| !text.trim().is_empty());
        let system = system.map_or(0, |text| message_tokens(counter, &Message::system(text)));
        let mut planner = Self {
            metas,
            options,
            profile,
            counter,
            candidates: Candidates::new(metas, units, policy, per_result),
            texts,
            system: system.into(),
            // Small windows use every token, so they may be rendered twice.
            margin: if options.budget < SMALL { 0 } else { INSERTED },
            room: None,
            steps: None,
            is_minimal: false,
            is_corrected: false,
            slack: 0,
            refills: 0,
            best: None,
            dropped: Vec::new(),
        };
        let is_stepped = options.advance.unwrap_or_default() == WindowAdvance::Stepped
            && options.budget >= SMALL
            && !is_planted(RenderBug::StartSlides);
        planner.steps = is_stepped
            .then(|| Steps::size(options.budget, planner.room()))
            .flatten()
            .map(|size| Steps { size, shorter_by: 0, pinned: 0, is_forced: false });
        planner
    }

    /// Adds the message at a place. A place that is not in the outline is ignored, because the message may have been
    /// appended since the outline was read.
    pub fn add(&mut self, place: Sequence, message: impl Into<Cow<'a, Message>>) {
        self.texts.add(self.metas, place, message.into());
    }

    /// Continues without the messages at these places, which cannot be read.
    pub fn give_up(&mut self, places: &[Sequence]) {
        let places: HashSet<_> = places.iter().collect();
        for index in 0..self.candidates.len() {
            let Some(unit) = self.candidates.unit(index) else { continue };
            let mut members = self.candidates.units.members(unit);
            if members.any(|meta| places.contains(&meta.sequence)) {
                self.candidates.set_void(index);
            }
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
                Pinned::Reserve(tokens) => {
                    if let Some(steps) = &mut self.steps {
                        steps.pinned = tokens;
                    }
                    continue;
                }
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
        if is_planted(RenderBug::ReserveForgotten) { 0 } else { self.options.reserved() }
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
            steps: self.steps,
        };
        self.candidates.choose(room)
    }

    /// Starts at a step although everything seems to fit.
    const fn force_steps(&mut self) {
        if let Some(steps) = &mut self.steps {
            steps.is_forced = true;
        }
    }

    /// Starts at a later step, because a window was too large by this many tokens. The next mark would have led to the
    /// same start.
    fn shorten(&mut self, shorter_by: u64, tokens: u64) {
        if let Some(steps) = &mut self.steps {
            steps.shorter_by = shorter_by.saturating_add(tokens.div_ceil(steps.size).max(1));
            steps.is_forced = true;
        }
    }

    /// The places of chosen messages that are not loaded yet.
    fn missing(&self, included: &[usize]) -> Vec<Sequence> {
        let mut missing = Vec::new();
        if self.texts.is_complete() {
            return missing;
        }
        for unit in included.iter().filter_map(|index| self.candidates.unit(*index)) {
            let mut members = self.candidates.units.members(unit);
            while let Some(position) = members.next_position() {
                self.note_missing(position, &mut missing);
            }
        }
        missing.sort_unstable();
        missing
    }

    fn note_missing(&self, position: usize, missing: &mut Vec<Sequence>) {
        if self.texts.get(position).is_none() {
            missing.extend(self.metas.get(position).map(|meta| meta.sequence));
        }
    }

    fn role_of(&self, position: usize) -> Option<&Role> {
        Some(self.texts.get(position)?.role())
    }
}
