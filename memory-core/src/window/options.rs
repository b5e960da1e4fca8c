//! The options of a window.

use serde::{Deserialize, Serialize};

use crate::profile::Profile;

/// The content of a context window, and its API.
///
/// ```
/// use memory_core::profile::Profile;
/// use memory_core::WindowOptions;
/// use memory_core::plan::NewestUnit;
///
/// let options = WindowOptions::new(100_000)
///     .with_profile(Profile::for_model(Some("claude-sonnet-4-5")))
///     .with_system("You plan journeys.")
///     .with_tools(1_500)
///     .with_answer(4_000)
///     .with_newest(NewestUnit::Truncate);
/// assert_eq!(options.budget, 100_000);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WindowOptions {
    /// The most tokens of the request, with the system prompt, tools and answer.
    pub budget: u64,
    /// The API. Default: that of the resource, or OpenAI Chat Completions.
    pub profile: Option<Profile>,
    /// A system prompt that is not stored, such as that of one of several agents. It is counted, and comes before all
    /// others. Thinking that is bound to its exact prefix (Claude from 5.5) is then left out, because another agent
    /// may have had another prompt. Default: none.
    pub system: Option<String>,
    /// The action if the newest unit does not fit. Default: an error.
    pub newest: NewestUnit,
    /// Where the conversation of the window may start. Default: at a user message.
    pub start: StartPolicy,
    /// Tokens of the budget reserved for tool definitions. Default: 0.
    pub tools: u64,
    /// Tokens of the budget reserved for the answer, if the window of the model holds both. Default: 0.
    pub answer: u64,
    /// The role of the summaries that flushes write. Default: that of the resource, or user, because most APIs refuse
    /// a system message in the middle.
    pub summary_role: Option<SummaryRole>,
    /// How the start of the window moves as the memory grows. Default: that of the resource, or in steps.
    pub advance: Option<WindowAdvance>,
}

impl WindowOptions {
    /// A window of at most this many tokens.
    #[must_use]
    pub const fn new(budget: u64) -> Self {
        Self {
            budget,
            profile: None,
            system: None,
            newest: NewestUnit::Error,
            start: StartPolicy::User,
            tools: 0,
            answer: 0,
            summary_role: None,
            advance: None,
        }
    }

    /// Sets the API.
    #[must_use]
    pub fn with_profile(self, profile: Profile) -> Self {
        Self { profile: Some(profile), ..self }
    }

    /// Sets a system prompt that is not stored.
    #[must_use]
    pub fn with_system(self, prompt: impl Into<String>) -> Self {
        Self { system: Some(prompt.into()), ..self }
    }

    /// Sets the action if the newest unit does not fit.
    #[must_use]
    pub fn with_newest(self, newest: NewestUnit) -> Self {
        Self { newest, ..self }
    }

    /// Sets where the conversation of the window may start.
    #[must_use]
    pub fn with_start(self, start: StartPolicy) -> Self {
        Self { start, ..self }
    }

    /// Sets the tokens reserved for tool definitions.
    #[must_use]
    pub fn with_tools(self, tokens: u64) -> Self {
        Self { tools: tokens, ..self }
    }

    /// Sets the tokens reserved for the answer.
    #[must_use]
    pub fn with_answer(self, tokens: u64) -> Self {
        Self { answer: tokens, ..self }
    }

    /// The tokens reserved for tools and the answer together.
    #[must_use]
    pub const fn reserved(&self) -> u64 {
        self.tools.saturating_add(self.answer)
    }

    /// Sets the role of the summaries that flushes write.
    #[must_use]
    pub fn with_summary_role(self, role: SummaryRole) -> Self {
        Self { summary_role: Some(role), ..self }
    }

    /// Sets how the start of the window moves as the memory grows.
    #[must_use]
    pub fn with_advance(self, advance: WindowAdvance) -> Self {
        Self { advance: Some(advance), ..self }
    }
}

impl From<u64> for WindowOptions {
    fn from(budget: u64) -> Self {
        Self::new(budget)
    }
}

/// The role of summaries in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SummaryRole {
    /// A message of the user, which every API accepts anywhere.
    #[default]
    User,
    /// A system message, which most APIs move to the front.
    System,
    /// A message of the assistant.
    Assistant,
}

/// The action if the newest unit does not fit the budget beside the critical messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum NewestUnit {
    /// [`ContextError::NewestOverBudget`](crate::plan::ContextError::NewestOverBudget).
    #[default]
    Error,
    /// Its longest texts and results are cut, with the marker `[truncated]`, until it fits. If even short texts do
    /// not fit because there are too many, the last ones are left out. Arguments of calls are not cut; if that is not
    /// enough, the error is returned after all.
    Truncate,
}

/// Where the conversation of a window may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StartPolicy {
    /// At a user message. If the oldest unit that fits is none, the latest user message before it is added to the
    /// window, so that a long run of tools keeps its task.
    #[default]
    User,
    /// At any unit. APIs that require a user message first get an inserted line.
    Any,
}

/// How the start of a window moves as the memory grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[doc(alias = "prompt_cache")]
pub enum WindowAdvance {
    /// In steps of 20 % of the budget, so that providers' prompt caches hit. Between two steps the window only grows
    /// at its end: nothing before is removed or added, whatever its priority. Only a flush, a newer reminder or a
    /// changed calibration may change more. The steps are counted in tokens over the present messages, so every
    /// process finds the same ones. The window is on average 10 % of the budget smaller than a sliding one.
    ///
    /// Budgets under 1,000 tokens slide, because providers do not cache such short prompts.
    #[default]
    Stepped,
    /// With every message that does not fit: the window is always as full as possible, and its start differs in nearly
    /// every request.
    Sliding,
}
