//! The options of a window.

use serde::{Deserialize, Serialize};

use crate::profile::Profile;

/// The content of a context window, and its API.
///
/// ```
/// use memory_core::profile::Profile;
/// use memory_core::{NewestUnit, WindowOptions};
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
    /// A system prompt that is not stored, such as that of one of several agents. It is counted, and is before all
    /// others. Thinking that is bound to the exact text before it (Claude from 5.5) is left out beside it, because
    /// another agent may have had another prompt. Default: none.
    pub system: Option<String>,
    /// The action if the newest unit does not fit. Default: an error.
    pub newest: NewestUnit,
    /// Where the talk of the window may start. Default: at a message of the user.
    pub start: StartPolicy,
    /// Tokens of the budget that are left for the definitions of tools. Default: 0.
    pub tools: u64,
    /// Tokens of the budget that are left for the answer, where the window of the model holds both. Default: 0.
    pub answer: u64,
    /// The role of the summaries that flushes write. Default: that of the resource, or user, because a system message
    /// in the middle is refused by most APIs.
    pub summary_role: Option<SummaryRole>,
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
        }
    }

    /// For this API.
    #[must_use]
    pub fn with_profile(self, profile: Profile) -> Self {
        Self { profile: Some(profile), ..self }
    }

    /// With a system prompt that is not stored.
    #[must_use]
    pub fn with_system(self, prompt: impl Into<String>) -> Self {
        Self { system: Some(prompt.into()), ..self }
    }

    /// The action if the newest unit does not fit.
    #[must_use]
    pub fn with_newest(self, newest: NewestUnit) -> Self {
        Self { newest, ..self }
    }

    /// Where the talk of the window may start.
    #[must_use]
    pub fn with_start(self, start: StartPolicy) -> Self {
        Self { start, ..self }
    }

    /// Tokens that are left for the definitions of tools.
    #[must_use]
    pub fn with_tools(self, tokens: u64) -> Self {
        Self { tools: tokens, ..self }
    }

    /// Tokens that are left for the answer.
    #[must_use]
    pub fn with_answer(self, tokens: u64) -> Self {
        Self { answer: tokens, ..self }
    }

    /// The tokens that are left for tools and the answer together.
    #[must_use]
    pub const fn reserved(&self) -> u64 {
        self.tools.saturating_add(self.answer)
    }

    /// The role of the summaries that flushes write.
    #[must_use]
    pub fn with_summary_role(self, role: SummaryRole) -> Self {
        Self { summary_role: Some(role), ..self }
    }
}

impl From<u64> for WindowOptions {
    fn from(budget: u64) -> Self {
        Self::new(budget)
    }
}

/// The role of the summaries that flushes write, in a window.
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
    /// [`ContextError::NewestOverBudget`](crate::ContextError::NewestOverBudget).
    #[default]
    Error,
    /// Its longest texts and results are cut, with the marker `[truncated]`, until it fits. Where there are so many
    /// that even short ones do not fit, the last ones are left out. Arguments of calls are not cut; where that is not
    /// enough there is the error after all.
    Truncate,
}

/// Where the talk of a window may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StartPolicy {
    /// At a message of the user. If the oldest unit that fits is none, the latest message of the user before it is in
    /// the window as well, so that a long run of tools keeps its task.
    #[default]
    User,
    /// At any unit. APIs that require a message of the user first get a line in its place.
    Any,
}
