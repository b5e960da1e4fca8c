//! Whether a flush is due, from counters alone.

use memory_core::{Counters, FlushSettings, Policy, Tally};

use crate::strategy::target_of;

/// Whether a flush is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It is.
    Due,
    /// It is not.
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
    /// There are fewer messages than [`FlushSettings::min_messages`], and within the budget.
    FewMessages,
    /// Messages and tokens are under the threshold.
    UnderThreshold,
    /// The last flush could not come down to its target, and little has come since.
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

/// Decides whether a flush is due, after an append: a few comparisons, the cheapest first.
///
/// - Fewer messages than [`FlushSettings::min_messages`] are not flushed while they are within
///   [`Policy::max_tokens`] and [`Policy::message_limit`].
/// - A flush is due from [`FlushSettings::summarize_threshold`] of either limit on, unless the
///   memory is within the target of a flush already.
/// - After a flush that could not come down to its target, only from the size `next_flush_at` on,
///   which [`next_flush_at`] has told.
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
    // The ratios of a tiny budget may round to the same number.
    if !reached || target_of(policy, settings).is_met_by(counters.present) {
        return Gate::NotDue(NotDue::UnderThreshold);
    }
    if next_flush_at.is_some_and(|at| size(counters.present, policy, settings) < at) {
        return Gate::NotDue(NotDue::AwaitingGrowth);
    }
    Gate::Due
}

/// The size from which on the next flush is worth its while, given what a flush left (promise
/// P11): `None` where it is within the target, so that the threshold decides.
///
/// Else the memory must grow by the hysteresis first, threshold less target, of tokens or of messages,
/// so that flushes which cannot help stay rare. The limits cut that short, down to a quarter of it: a
/// memory that is still within its budget is flushed again when it has reached it, and so is one within
/// its [`Policy::message_limit`].
///
/// The size is in tokens. Each message over the target counts as so many more tokens that the hysteresis
/// of messages is as large as that of tokens, whatever messages weigh: many tiny messages after a few
/// large ones make a flush due as well. Up to the target neither counts.
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
    // Where a message counts as less than a token, a few of them may not show.
    Some(by_tokens.min(by_messages).max(size(left).saturating_add(1)))
}

/// How far tokens or messages must come, of which a flush left so many, to make the next one due.
fn grown(left: u64, limit: u64, settings: &FlushSettings) -> u64 {
    let hysteresis = hysteresis(limit, settings);
    let left = left.max(settings.target_tokens(limit));
    let at = left.saturating_add(hysteresis);
    if left >= limit {
        return at;
    }
    at.min(limit.max(left.saturating_add(hysteresis.div_ceil(4))))
}

/// The size of a memory, as [`next_flush_at`] measures it.
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

/// The way from the target to the threshold of a limit; at least 1.
fn hysteresis(limit: u64, settings: &FlushSettings) -> u64 {
    settings.threshold_tokens(limit).saturating_sub(settings.target_tokens(limit)).max(1)
}

#[cfg(test)]
mod tests;
