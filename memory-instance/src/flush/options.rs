//! The options of one flush.

use std::sync::Arc;

use memory_core::plan::EvictionGoal;
use memory_core::resource::FlushSettings;
use memory_core::store::{FLUSH_HELD, Head, Tally};
use memory_flush::FlushStrategy;

use super::algorithm::Trigger;
use crate::error::MemoryError;
use crate::inner::Inner;

/// How one explicit flush differs from those of the resource. By default it does not: it flushes at once, with the
/// resource's strategy, down to the resource's target.
///
/// ```
/// use memory_instance::FlushOptions;
///
/// // Evict the oldest messages down to 2,000 tokens, if the memory holds at least 90 % of its budget.
/// let options = FlushOptions::new().with_strategy("fifo").with_target_tokens(2_000).only_from(0.9);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FlushOptions {
    strategy: Option<String>,
    goal: Option<Goal>,
    condition: Condition,
}

/// A goal in place of the resource's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    Tokens(u64),
    FreedPercent(u8),
}

/// When a flush takes place.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum Condition {
    #[default]
    Always,
    Due,
    From(f64),
}

impl FlushOptions {
    /// The options of [`perform_flush`](crate::MemoryInstance::perform_flush).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Plans with this strategy: `fifo`, `priority`, `hybrid_summary`, `clear_tool_results`, or a
    /// [registered](crate::ManagerBuilder::with_strategy) one. The resource's other settings hold.
    #[must_use]
    pub fn with_strategy(mut self, name: impl Into<String>) -> Self {
        self.strategy = Some(name.into());
        self
    }

    /// Reduces the memory to at most this many tokens, if its critical messages and open calls allow it. Any number of
    /// messages may remain.
    #[must_use]
    pub const fn with_target_tokens(mut self, tokens: u64) -> Self {
        self.goal = Some(Goal::Tokens(tokens));
        self
    }

    /// Frees at least this share of the memory's tokens, from 1 to 100 percent, if its critical messages and open calls
    /// allow it. Any number of messages may remain.
    #[must_use]
    pub const fn with_freed_percent(mut self, percent: u8) -> Self {
        self.goal = Some(Goal::FreedPercent(percent));
        self
    }

    /// Flushes only if a flush is due, as after an append: see
    /// [`FlushingStrategy::summarize_threshold`](memory_core::resource::FlushingStrategy::summarize_threshold).
    #[must_use]
    pub const fn only_if_due(mut self) -> Self {
        self.condition = Condition::Due;
        self
    }

    /// Flushes only if the memory holds at least this share of its token budget or of its message limit, over 0 and at
    /// most 1, and no [undone](crate::MemoryInstance::undo_flush) flush holds it.
    #[must_use]
    pub const fn only_from(mut self, share: f64) -> Self {
        self.condition = Condition::From(share);
        self
    }
}

/// A flush to be planned.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) trigger: Trigger,
    pub(super) strategy: Arc<dyn FlushStrategy>,
    settings: Option<Box<FlushSettings>>,
    goal: Option<Goal>,
    condition: Condition,
}

impl Order {
    /// A flush of the resource after an append.
    pub(super) fn due(inner: &Inner) -> Self {
        Self::plain(inner, Trigger::Due, Condition::Due)
    }

    fn plain(inner: &Inner, trigger: Trigger, condition: Condition) -> Self {
        let strategy = Arc::clone(&inner.rules.strategy);
        Self { trigger, strategy, settings: None, goal: None, condition }
    }

    /// An explicit flush.
    ///
    /// # Errors
    /// [`MemoryError::Options`] for an unknown strategy, or a share or number that is out of range.
    pub(super) fn explicit(inner: &Inner, options: &FlushOptions) -> Result<Self, MemoryError> {
        let refused =
            |reason| MemoryError::Options { operation: "flush", key: inner.key.clone(), reason };
        let FlushOptions { strategy, goal, condition } = options;
        if let Condition::From(share) = condition
            && !(*share > 0.0 && *share <= 1.0)
        {
            return Err(refused(format!(
                "the threshold {share} is not a share; set it over 0 and at most 1"
            )));
        }
        if let Some(Goal::FreedPercent(percent)) = goal
            && !(1..=100).contains(percent)
        {
            return Err(refused(format!("{percent} percent cannot be freed; set 1 to 100")));
        }
        let mut order = Self::plain(inner, Trigger::Explicit, *condition);
        order.goal = *goal;
        if let Some(name) = strategy {
            let (strategy, settings) = inner.rules.other_strategy(name).map_err(refused)?;
            (order.strategy, order.settings) = (strategy, Some(Box::new(settings)));
        }
        Ok(order)
    }

    /// The settings of the strategy.
    pub(super) fn settings<'o>(&'o self, inner: &'o Inner) -> &'o FlushSettings {
        self.settings.as_deref().unwrap_or(&inner.rules.settings)
    }

    /// Whether a memory of this head is to be flushed.
    pub(super) fn applies_to(&self, inner: &Inner, head: &Head) -> bool {
        let policy = &inner.rules.policy;
        let Tally { messages, tokens } = head.counters.present;
        match self.condition {
            Condition::Always => true,
            Condition::Due => inner.is_due(head),
            Condition::From(_) if head.next_flush_at == Some(FLUSH_HELD) => false,
            Condition::From(share) => {
                let mut settings = inner.rules.settings;
                settings.summarize_threshold = share;
                tokens >= settings.threshold_tokens(policy.max_tokens)
                    || policy
                        .message_limit
                        .is_some_and(|limit| messages >= settings.threshold_tokens(limit))
            }
        }
    }

    /// The goal for a memory of this size; `None` for the target of the settings.
    pub(super) fn goal(&self, before: impl FnOnce() -> Tally) -> Option<EvictionGoal> {
        self.goal.map(|goal| match goal {
            Goal::Tokens(tokens) => EvictionGoal::tokens(tokens),
            Goal::FreedPercent(percent) => {
                let before = before();
                let freed = u128::from(before.tokens) * u128::from(percent);
                let freed = u64::try_from(freed.div_ceil(100)).unwrap_or(u64::MAX);
                EvictionGoal::tokens(before.tokens.saturating_sub(freed))
            }
        })
    }
}
