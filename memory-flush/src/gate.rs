//! Decides from counters whether a flush is due.

use memory_core::plan::Policy;
use memory_core::resource::FlushSettings;
use memory_core::store::{Counters, Tally};

use crate::strategy::target_of;

/// Whether a flush is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// A flush is due.
    Due,
    /// No flush is due.
    NotDue(NotDue),
}

impl Gate {
    /// Whether a flush is due.
    #[must_use]
    pub const fn is_due(self) -> bool {
        matches!(self, Self::Due)
    }
}

/// Why no flush is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotDue {
    /// There are fewer messages than [`FlushSettings::min_messages`], and the memory is within its budget.
    FewMessages,
    /// Messages and tokens are under the threshold.
    UnderThreshold,
    /// The last flush missed its target, and the memory has grown too little since.
    AwaitingGrowth,
}

impl NotDue {
    /// A short name for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FewMessages => "few_messages",
            Self::UnderThreshold => "under_threshold",
            Self::AwaitingGrowth => "awaiting_growth",
        }
    }
}

/// Decides after an append whether a flush is due: a few comparisons, the cheapest first.
///
/// - Memories with fewer than [`FlushSettings::min_messages`] messages are not flushed while they are within
///   [`Policy::max_tokens`] and [`Policy::message_limit`].
/// - A flush is due from [`FlushSettings::summarize_threshold`] of either limit on, unless the memory is already
///   within the target of a flush.
/// - After a flush that missed its target, a flush is due only from the size `next_flush_at` on, which
///   [`next_flush_at`] returned.
#[must_use]
pub fn flush_due(
    counters: &Counters,
    next_flush_at: Option<u64>,
    policy: &Policy,
    settings: &FlushSettings,
) -> Gate {
    let Tally { messages, tokens } = counters.present;
    let limit = policy.message_limit;
    let within = tokens <= policy.max_tokens && limit.is_none_or(|limit| messages <= limit);
    if messages < settings.min_messages && within {
        return Gate::NotDue(NotDue::FewMessages);
    }
    let reached = limit.is_some_and(|limit| messages >= settings.threshold_tokens(limit))
        || tokens >= settings.threshold_tokens(policy.max_tokens);
    // The shares of a tiny budget may round to the same number.
    if !reached || target_of(policy, settings).is_met_by(counters.present) {
        return Gate::NotDue(NotDue::UnderThreshold);
    }
    if next_flush_at.is_some_and(|at| size(counters.present, policy, settings) < at) {
        return Gate::NotDue(NotDue::AwaitingGrowth);
    }
    Gate::Due
}

/// The size from which the next flush is worthwhile, given the remainder of a flush (promise P11). `None` if the
/// remainder is within the target, so that the threshold decides.
///
/// Otherwise the memory must first grow by the hysteresis, threshold less target, of tokens or of messages, so that
/// ineffective flushes are rare. The limits shorten this growth to no less than a quarter of it: a memory that is
/// still within its budget is flushed again when it reaches the budget, and likewise for its
/// [`Policy::message_limit`].
///
/// The size is in tokens. Each message over the target counts as additional tokens, so that the hysteresis of
/// messages equals that of tokens at any message size: many tiny messages after a few large ones also make a flush
/// due. Up to the target neither counts.
#[must_use]
pub fn next_flush_at(left: Tally, policy: &Policy, settings: &FlushSettings) -> Option<u64> {
    if target_of(policy, settings).is_met_by(left) {
        return None;
    }
    let size = |tally| size(tally, policy, settings);
    let tokens = grown(left.tokens, policy.max_tokens, settings);
    let by_tokens = size(Tally { tokens, ..left });
    let by_messages = policy.message_limit.map_or(u64::MAX, |limit| {
        size(Tally { messages: grown(left.messages, limit, settings), ..left })
    });
    // If a message counts as less than a token, a few messages may not change the size.
    Some(by_tokens.min(by_messages).max(size(left).saturating_add(1)))
}

/// The tokens or messages at which the next flush is due, after a flush that left `left`.
fn grown(left: u64, limit: u64, settings: &FlushSettings) -> u64 {
    let hysteresis = hysteresis(limit, settings);
    let left = left.max(settings.target_tokens(limit));
    let at = left.saturating_add(hysteresis);
    if left >= limit {
        return at;
    }
    at.min(limit.max(left.saturating_add(hysteresis.div_ceil(4))))
}

/// The size of a memory as measured by [`next_flush_at`].
fn size(present: Tally, policy: &Policy, settings: &FlushSettings) -> u64 {
    let target = target_of(policy, settings);
    let tokens = present.tokens.max(target.tokens);
    let Some((limit, target)) = policy.message_limit.zip(target.messages) else {
        return tokens;
    };
    let over = u128::from(present.messages.saturating_sub(target));
    let weight = over * u128::from(hysteresis(policy.max_tokens, settings))
        / u128::from(hysteresis(limit, settings));
    tokens.saturating_add(u64::try_from(weight).unwrap_or(u64::MAX))
}

/// The distance from the target to the threshold of a limit; at least 1.
fn hysteresis(limit: u64, settings: &FlushSettings) -> u64 {
    settings.threshold_tokens(limit).saturating_sub(settings.target_tokens(limit)).max(1)
}

#[cfg(test)]
mod tests;
