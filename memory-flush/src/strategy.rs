//! The trait of flush strategies, and its input.

use std::fmt::Debug;
use std::sync::OnceLock;

use jiff::Timestamp;
use memory_core::plan::{EvictionGoal, EvictionPlan, Policy, UnitClass, Units, plan_unit_eviction};
use memory_core::resource::FlushSettings;
use memory_core::store::{MessageMeta, Replacement, Tally};

use crate::plan::FlushPlan;

/// Decides which messages a flush evicts and which it summarizes.
///
/// # Correctness
/// Pure: the plan depends on the input alone, without a clock, randomness or I/O, because a flush that loses a race
/// is planned again. A plan removes only whole units, and neither critical nor open ones;
/// [`validate_plan`](crate::validate_plan) refuses any other plan. It runs on the flushing task and must not block.
///
/// ```
/// use memory_flush::{FlushInput, FlushPlan, FlushStrategy};
///
/// /// Evicts everything except critical and open units.
/// #[derive(Debug)]
/// struct Forget;
///
/// impl FlushStrategy for Forget {
///     fn name(&self) -> &str {
///         "forget"
///     }
///
///     fn plan(&self, input: &FlushInput<'_>) -> FlushPlan {
///         let (units, classes) = input.units();
///         let evict = units
///             .iter()
///             .zip(classes)
///             .filter(|(unit, class)| !unit.is_pinned(class))
///             .flat_map(|(unit, _)| units.members(unit))
///             .map(|meta| meta.sequence)
///             .collect();
///         FlushPlan::new(input, evict, Vec::new())
///     }
/// }
/// ```
pub trait FlushStrategy: Debug + Send + Sync + 'static {
    /// The name in resources and receipts.
    fn name(&self) -> &str;

    /// Plans a flush.
    fn plan(&self, input: &FlushInput<'_>) -> FlushPlan;
}

/// The input of a plan: metadata only.
#[derive(Debug, Clone)]
pub struct FlushInput<'a> {
    /// The metadata of all messages, in ascending order of places.
    pub metas: &'a [MessageMeta],
    /// The rules of the memory.
    pub policy: &'a Policy,
    /// The settings of the strategy.
    pub settings: &'a FlushSettings,
    /// The goal of the flush.
    pub target: EvictionGoal,
    /// The current time, which decides which calls are abandoned.
    pub now: Timestamp,
    /// Messages whose tool results can be cleared, in their cleared form, in ascending order of places. Set by
    /// [`with_clearable`](Self::with_clearable). Default: none.
    pub clearable: &'a [Replacement],
    /// The units of the messages and their classes, once they were needed.
    pub(crate) units: OnceLock<(Units<'a>, Vec<UnitClass<'a>>)>,
}

impl<'a> FlushInput<'a> {
    /// The input of a flush to the target of the settings.
    #[must_use]
    pub fn new(
        metas: &'a [MessageMeta],
        policy: &'a Policy,
        settings: &'a FlushSettings,
        now: Timestamp,
    ) -> Self {
        let target = target_of(policy, settings);
        let units = OnceLock::new();
        Self { metas, policy, settings, target, now, clearable: &[], units }
    }

    /// Sets another target. An explicit flush uses it.
    #[must_use]
    pub fn with_target(mut self, target: EvictionGoal) -> Self {
        self.target = target;
        self
    }

    /// Adds the cleared forms of messages, as [`clear_message`](crate::clear_message) returns them for the messages at
    /// [`clear_candidates`](Self::clear_candidates), in ascending order of places.
    #[must_use]
    pub const fn with_clearable(mut self, clearable: &'a [Replacement]) -> Self {
        self.clearable = clearable;
        self
    }

    /// The messages as units, and the class of each unit. They are grouped once, with the first call; changes of
    /// the fields have no effect after it.
    #[must_use]
    pub fn units(&self) -> (&Units<'a>, &[UnitClass<'a>]) {
        let (units, classes) = self.units.get_or_init(|| {
            let units = Units::group(self.metas, self.now, self.policy.open_call_timeout);
            let classes = units.classify(self.policy);
            (units, classes)
        });
        (units, classes)
    }

    /// The messages before the flush.
    #[must_use]
    pub fn before(&self) -> Tally {
        tally(self.metas)
    }

    /// Plans an eviction to the target, and returns the goal that was used.
    ///
    /// If critical messages and open calls alone are over the target, it cannot be reached, and evicting everything
    /// else would not help. The target's share is then applied to the room above them: with a budget of 8,000, a
    /// target of 4,000 and 5,000 pinned tokens, the flush reduces the memory to 6,500. The plan still reports the
    /// shortfall.
    pub(crate) fn evict(
        &self,
        plan: impl Fn(&Units<'_>, &[UnitClass<'_>], EvictionGoal) -> EvictionPlan,
    ) -> (EvictionPlan, EvictionGoal) {
        let (units, classes) = self.units();
        let whole = plan(units, classes, self.target);
        let goal = self.reachable(whole.pinned);
        if goal == self.target {
            return (whole, goal);
        }
        let mut spared = plan(units, classes, goal);
        spared.shortfall = whole.shortfall;
        (spared, goal)
    }

    /// Plans an eviction by priority to the target.
    pub(crate) fn evict_by_priority(&self) -> (EvictionPlan, EvictionGoal) {
        self.evict(|units, classes, goal| plan_unit_eviction(units, classes, self.policy, goal))
    }

    fn reachable(&self, pinned: Tally) -> EvictionGoal {
        let Self { policy, target, .. } = self;
        EvictionGoal {
            tokens: above(pinned.tokens, target.tokens, policy.max_tokens),
            messages: target.messages.map(|messages| {
                above(pinned.messages, messages, policy.message_limit.unwrap_or(messages))
            }),
        }
    }
}

/// The target, or its share of the room above the pinned messages if those alone are over it.
fn above(pinned: u64, target: u64, limit: u64) -> u64 {
    if pinned <= target || limit == 0 {
        return target;
    }
    let room = limit.saturating_sub(pinned);
    let share = u128::from(room) * u128::from(target.min(limit)) / u128::from(limit);
    pinned.saturating_add(u64::try_from(share).unwrap_or(u64::MAX))
}

/// The target of the settings for a memory of this policy.
pub(crate) fn target_of(policy: &Policy, settings: &FlushSettings) -> EvictionGoal {
    EvictionGoal {
        tokens: settings.target_tokens(policy.max_tokens),
        messages: policy.message_limit.map(|limit| settings.target_tokens(limit)),
    }
}

/// Counts the messages and their tokens.
pub(crate) fn tally<'m>(metas: impl IntoIterator<Item = &'m MessageMeta>) -> Tally {
    let mut tally = Tally::default();
    for meta in metas {
        tally.add(meta.tokens);
    }
    tally
}
