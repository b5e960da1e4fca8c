//! Context windows: the messages to send to a model, within a budget.

mod candidates;
mod choose;
mod options;
mod planner;
mod prefix;
mod steps;
mod trim;

use serde::Serialize;

pub use self::options::{NewestUnit, StartPolicy, SummaryRole, WindowAdvance, WindowOptions};
pub use self::planner::{ContextPlanner, Step};
pub use self::prefix::PrefixMark;
pub use self::trim::{Trimmed, plan_context, trim_messages};
use crate::counters::Tally;
use crate::render::{Repair, Request};
use crate::stored::Sequence;

/// A context window: the request to send to a model.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ContextPlan {
    /// The history in the form of the API.
    pub request: Request,
    /// The places of the stored messages in it, in the order of their units: results directly behind their calls.
    pub sequences: Vec<Sequence>,
    /// The tokens of the request, at most the budget less the reserve. The system prompt of the options is counted.
    pub tokens: u64,
    /// The changes that the request needed.
    pub repairs: Vec<Repair>,
    /// The messages that were left out, by reason.
    pub left_out: LeftOut,
    /// The tokens of each message of the request.
    message_tokens: Vec<u32>,
}

impl ContextPlan {
    /// Identifies the messages of the request, to find what a later one has in common with it.
    #[must_use]
    pub fn prefix_mark(&self) -> PrefixMark {
        let messages = self.message_tokens.iter().fold(0_u64, |sum, one| sum + u64::from(*one));
        let system = self.tokens.saturating_sub(messages);
        PrefixMark::new(&self.request, system, &self.message_tokens)
    }
}

/// The messages that a context window leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct LeftOut {
    /// Units that did not fit the budget, and the conversation before them.
    pub budget: Tally,
    /// Messages without content, and those of which the API accepts nothing.
    pub empty: Tally,
    /// Results whose call was removed, never existed, or is answered already.
    pub orphans: Tally,
    /// Reminders before the newest ones.
    pub reminders: Tally,
}

impl LeftOut {
    /// The total of all reasons.
    #[must_use]
    pub fn total(&self) -> Tally {
        let Self { budget, empty, orphans, reminders } = self;
        let mut total = Tally::default();
        for part in [budget, empty, orphans, reminders] {
            total.messages = total.messages.saturating_add(part.messages);
            total.tokens = total.tokens.saturating_add(part.tokens);
        }
        total
    }
}

/// Why there is no context window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// The critical content alone does not fit.
    #[error(
        "the critical messages alone take {needed} tokens, over the budget of {budget}: raise the \
         budget to {needed} or more, or give some of them a lower priority"
    )]
    CriticalOverBudget {
        /// The tokens of the critical units, of lines that the API needs, of the system prompt of the options and of the
        /// reserve.
        needed: u64,
        /// The tokens that were allowed.
        budget: u64,
    },
    /// The system prompt of the options, and the tokens for tools and the answer, do not fit.
    #[error(
        "the system prompt of the options and the tokens for tools and the answer take {needed} tokens, over the \
         budget of {budget}: raise the budget above {needed}, or leave fewer tokens for tools and the answer"
    )]
    ReserveOverBudget {
        /// The tokens of the system prompt, of the tools with what calibration added, and of the answer.
        needed: u64,
        /// The tokens that were allowed.
        budget: u64,
    },
    /// The newest unit does not fit beside the critical content.
    #[error(
        "the newest unit, from message {sequence} on, takes {tokens} tokens{} and does not fit the budget of {budget} \
         beside the critical messages: raise the budget to {needed} or more{}",
        if *.is_cut { " with its texts cut" } else { "" },
        if *.is_cut { "" } else { ", or choose to truncate it" }
    )]
    NewestOverBudget {
        /// The first message of the unit.
        sequence: Sequence,
        /// The tokens of the unit in the request.
        tokens: u64,
        /// Whether its texts were cut already, so that the rest is arguments of calls and what frames them.
        is_cut: bool,
        /// The tokens of the unit, of the critical content, of the system prompt of the options and of the reserve.
        needed: u64,
        /// The tokens that were allowed.
        budget: u64,
    },
}

impl ContextError {
    /// Raises the number of tokens that the window needs.
    pub fn raise_needed(&mut self, tokens: u64) {
        match self {
            Self::CriticalOverBudget { needed, .. }
            | Self::ReserveOverBudget { needed, .. }
            | Self::NewestOverBudget { needed, .. } => *needed = needed.saturating_add(tokens),
        }
    }
}

#[cfg(test)]
mod tests;
