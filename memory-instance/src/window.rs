//! Context windows of a memory.

use std::borrow::Cow;
use std::collections::HashSet;

use memory_core::plan::{Anchor, ContextError, ContextPlan, ContextPlanner, LeftOut, Step, Usage};
use memory_core::request::Repair;
use memory_core::sibling::View;
use memory_core::store::{Cursor, StoreErrorKind, Version};
use memory_core::{Message, Request, Sequence, StoredMessage, WindowOptions};
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};
use tokio::time::Instant;

use crate::calibrations::Calibrated;
use crate::error::MemoryError;
use crate::inner::{ATTEMPTS, Inner};
use crate::instance::MemoryInstance;
use crate::telemetry::{Operation, note, operation, part, plan_span};

/// The request to send to a model, with its messages.
///
/// In JSON: `request`, `tokens`, `unchanged_tokens`, `repairs` and `left_out`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ContextWindow {
    /// The stored messages in the request, as they were appended, in the order of their units: results directly
    /// after their calls.
    pub messages: Vec<Message>,
    /// The tokens of the request, at most the budget.
    pub tokens: u64,
    /// The tokens at the start of the request, in whole messages, with which an earlier window of this memory in this
    /// process began too: the part that a provider's prompt cache can answer. 0 in the first window. The four newest windows
    /// that differ by more than half are compared, so agents with different prompts may take turns. A manager keeps 4 MiB of
    /// them: of thousands of memories with long windows, the first window after a long pause may report 0.
    pub unchanged_tokens: u64,
    /// The changes without which the provider would reject the request.
    pub repairs: Vec<Repair>,
    /// The messages that were left out, by reason.
    pub left_out: LeftOut,
    request: Request,
    anchor: Anchor,
}

impl ContextWindow {
    /// The history in the format of the API: `Serialize` it into the body of a request.
    #[must_use]
    pub const fn request(&self) -> &Request {
        &self.request
    }

    /// The history in the format of the API.
    #[must_use]
    pub fn into_request(self) -> Request {
        self.request
    }

    /// The version of the memory that this window shows, see [`MemoryInstance::append_if`].
    #[must_use]
    pub const fn version(&self) -> Version {
        Version::at_end(self.anchor.cursor)
    }

    /// Identifies this window when its usage is reported, see [`MemoryInstance::calibrate`].
    #[must_use]
    pub const fn anchor(&self) -> &Anchor {
        &self.anchor
    }
}

impl Serialize for ContextWindow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut window = serializer.serialize_struct("ContextWindow", 5)?;
        window.serialize_field("request", &self.request)?;
        window.serialize_field("tokens", &self.tokens)?;
        window.serialize_field("unchanged_tokens", &self.unchanged_tokens)?;
        window.serialize_field("repairs", &self.repairs)?;
        window.serialize_field("left_out", &self.left_out)?;
        window.end()
    }
}

impl MemoryInstance {
    /// The request to send to a model, within a budget of tokens: [`window`](Self::window) with default options.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use memory_instance::Message;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// memory.append(Message::system("You help customers.")).await?;
    /// for number in 0..100 {
    ///     memory.append(Message::user(format!("Question {number}"))).await?;
    /// }
    /// let window = memory.context(200).await?;
    /// assert!(window.tokens <= 200);
    /// // The system prompt and the newest messages.
    /// assert_eq!(window.messages[0].text(), "You help customers.");
    /// assert_eq!(window.messages.last().ok_or("empty")?.text(), "Question 99");
    /// println!("{}", serde_json::to_string(window.request())?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`window`](Self::window).
    ///
    /// # Cancel safety
    /// Reads have no effect.
    #[doc(alias = "build_context")]
    pub async fn context(&self, budget: u64) -> Result<ContextWindow, MemoryError> {
        let work = async { self.inner.window(&WindowOptions::new(budget)).await };
        operation!(&*self.inner, "context", work).await
    }

    /// The request to send to a model: the part of the memory that fits, in the format of the model's API.
    ///
    /// Critical messages come first, then the newest unit, then the others by priority and age. Tool calls are
    /// complete and answered. The messages keep the order of the memory. See
    /// [`plan_context`](memory_core::plan::plan_context) for the rules. Without a profile in the options, the resource's
    /// profile is used.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, Message, MemoryResource, WindowOptions};
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let manager = MemoryManager::builder().with_resource(MemoryResource::new("support", 8_000)).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// memory.append(Message::user("Where is my parcel?")).await?;
    /// let options = WindowOptions::new(8_000).with_system("You help customers.").with_answer(1_000);
    /// let window = memory.window(&options).await?;
    /// assert_eq!(
    ///     serde_json::to_string(window.request())?,
    ///     r#"[{"role":"system","content":"You help customers."},{"role":"user","content":"Where is my parcel?"}]"#,
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Context`] if the critical messages alone, or together with the newest unit, exceed the budget;
    /// [`MemoryError::Contended`] if other writers changed the memory during every attempt.
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn window(&self, options: &WindowOptions) -> Result<ContextWindow, MemoryError> {
        let work = async { self.inner.window(options).await };
        operation!(&*self.inner, "window", work).await
    }

    /// Makes later windows of this process smaller by the difference between the tokens that a provider reported for
    /// a window and those counted. Counts by another model's tokenizer, of tools, or of media are not exact; this
    /// makes a budget near the model's limit safe. Reports below the count have no effect. [`health`](Self::health)
    /// shows the calibration.
    ///
    /// State the tokens of tool definitions with [`WindowOptions::with_tools`]: providers report them too.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{Calibrated, MemoryManager, Message, MemoryResource, Usage};
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let manager = MemoryManager::builder().with_resource(MemoryResource::new("support", 8_000)).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// memory.append(Message::user("Where is my parcel?")).await?;
    /// let window = memory.context(8_000).await?;
    /// // Send it; the provider reports `usage` with its answer, see `Usage::from_json`.
    /// let usage = Usage::new(window.tokens + 25);
    /// assert_eq!(memory.calibrate(window.anchor(), usage).await?, Calibrated::Applied { excess: 25 });
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Store`]: the state of the memory is read to check that the window is not outdated.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the memory calibrated or not.
    pub async fn calibrate(
        &self,
        anchor: &Anchor,
        usage: Usage,
    ) -> Result<Calibrated, MemoryError> {
        let work = async {
            let head = self.inner.head().await?;
            if head.generation != anchor.cursor.generation {
                return Ok(Calibrated::Stale);
            }
            Ok(self.inner.calibrations.set(anchor, usage))
        };
        operation!(&*self.inner, "calibrate", work).await
    }
}

/// The error with the tokens of a calibration apart, and a budget that is enough: the excess grows with the budget.
fn uncalibrated(error: MemoryError, excess: u64, whole: u64) -> MemoryError {
    match error {
        MemoryError::Context { key, mut reason, .. } if whole > 0 => {
            reason.raise_needed(whole.saturating_sub(excess));
            MemoryError::Context { key, reason, calibrated: whole }
        }
        error => error,
    }
}

/// A plan of more messages occupies a core for a part of a millisecond.
const LONG_PLAN: usize = 1_000;

/// The operation, as named in errors.
const READ_CONTEXT: &str = "read the context of";

impl Inner {
    /// Plans and renders a window of the memory as it is now.
    pub(crate) async fn window(
        &self,
        options: &WindowOptions,
    ) -> Result<ContextWindow, MemoryError> {
        let started = Instant::now();
        let window = self.rendered(options).await;
        self.rules.telemetry.ended(Operation::Context, started, &window);
        if let Ok(window) = &window {
            note(|totals| {
                totals.messages += window.messages.len() as u64;
                totals.tokens = Some(window.tokens);
            });
        }
        window
    }

    async fn rendered(&self, options: &WindowOptions) -> Result<ContextWindow, MemoryError> {
        let options = self.rules.complete(options);
        let profile = options.profile.clone().unwrap_or_default();
        let model = profile.model.as_deref().or(self.rules.resource.model.as_deref());
        let (excess, whole) = self.calibrations.excess(profile.name, model, options.budget);
        // The provider's excess tokens are subtracted from the budget, like those of tools.
        let effective = if excess == 0 {
            Cow::Borrowed(&*options)
        } else {
            let tools = options.tools.saturating_add(excess);
            Cow::Owned(options.clone().into_owned().with_tools(tools))
        };
        let uncalibrated = |error| uncalibrated(error, excess, whole);
        let (snapshot, plan, messages) = if let Some(view) = self.view().await? {
            let plan = async { self.plan_from_view(&view, &effective) };
            let (plan, messages) = part(plan_span, plan).await.map_err(uncalibrated)?;
            (view.cursor(), plan, messages)
        } else {
            let plan = self.plan_from_store(&effective);
            part(plan_span, plan).await.map_err(uncalibrated)?
        };
        let unchanged_tokens =
            self.backend.prefixes.advance(&self.key, plan.prefix_mark(), plan.tokens);
        let ContextPlan { request, tokens, repairs, left_out, .. } = plan;
        let anchor = Anchor::new(
            snapshot,
            profile.name,
            model.map(str::to_owned),
            tokens.saturating_add(options.tools),
        );
        Ok(ContextWindow { messages, tokens, unchanged_tokens, repairs, left_out, request, anchor })
    }

    /// Plans a window with all messages at hand.
    fn plan_from_view(
        &self,
        view: &View,
        options: &WindowOptions,
    ) -> Result<(ContextPlan, Vec<Message>), MemoryError> {
        let (now, rules) = (self.backend.now(), &self.rules);
        let metas = view.metas();
        let messages = view.messages();
        let mut planner = view.planner(&rules.policy, options, &*rules.counter, now);
        let plan = match planner.step() {
            Ok(Step::Ready(plan)) => plan,
            Ok(Step::Fetch(_)) => {
                debug_assert!(false, "every message is at hand");
                return Err(self.contended(READ_CONTEXT));
            }
            Err(reason) => return Err(self.over_budget(reason)),
        };
        // Most places follow each other.
        let mut next = 0;
        let message = |place: &Sequence| {
            let at = match metas.get(next) {
                Some(meta) if meta.sequence == *place => next,
                _ => metas.binary_search_by_key(place, |meta| meta.sequence).ok()?,
            };
            next = at + 1;
            messages.get(at).cloned()
        };
        let messages = plan.sequences.iter().filter_map(message).collect();
        if metas.len() > LONG_PLAN {
            // Tasks that plan one long window after the other would occupy their cores for whole slices of the
            // scheduler, and threads that were woken for a write, of this process or another, would wait for the end of
            // each slice.
            std::thread::yield_now();
        }
        Ok((plan, messages))
    }

    /// Plans a window from metadata, and fetches only the messages in it.
    async fn plan_from_store(
        &self,
        options: &WindowOptions,
    ) -> Result<(Cursor, ContextPlan, Vec<Message>), MemoryError> {
        for _ in 0..ATTEMPTS {
            let outline = self.outline().await?;
            let snapshot = outline.cursor();
            self.backend.views.observe(&self.key, &outline.head);
            let planned = self.plan_window(&outline.metas, snapshot, options).await?;
            let Some((plan, mut found)) = planned else { continue };
            found.sort_unstable_by_key(|stored| stored.meta.sequence);
            let message = |place: &Sequence| {
                let at = found.binary_search_by_key(place, |stored| stored.meta.sequence).ok()?;
                found.get(at).map(|stored| stored.message.clone())
            };
            let messages = plan.sequences.iter().filter_map(message).collect();
            return Ok((snapshot, plan, messages));
        }
        Err(self.contended(READ_CONTEXT))
    }

    fn over_budget(&self, reason: ContextError) -> MemoryError {
        MemoryError::Context { key: self.key.clone(), reason, calibrated: 0 }
    }

    /// The plan and its messages; `None` if the memory was changed meanwhile.
    async fn plan_window(
        &self,
        metas: &[memory_core::store::MessageMeta],
        snapshot: Cursor,
        options: &WindowOptions,
    ) -> Result<Option<(ContextPlan, Vec<StoredMessage>)>, MemoryError> {
        let now = self.backend.now();
        let rules = &self.rules;
        let mut planner = ContextPlanner::new(metas, &rules.policy, options, &*rules.counter, now);
        let mut found: Vec<StoredMessage> = Vec::new();
        loop {
            let places = match planner.step() {
                Ok(Step::Ready(plan)) => return Ok(Some((plan, found))),
                Ok(Step::Fetch(places)) => places,
                Err(reason) => return Err(self.over_budget(reason)),
            };
            let messages = match self.store().fetch(&self.key, snapshot, &places).await {
                Ok(messages) => messages,
                Err(error) if error.kind() == &StoreErrorKind::Conflict => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            if messages.len() < places.len() {
                // Some messages cannot be decoded: plan a window without their units.
                let there: HashSet<_> = messages.iter().map(|found| found.meta.sequence).collect();
                let missing: Vec<_> =
                    places.into_iter().filter(|place| !there.contains(place)).collect();
                planner.give_up(&missing);
            }
            for stored in &messages {
                planner.add(stored.meta.sequence, stored.message.clone());
            }
            found.extend(messages);
        }
    }
}
