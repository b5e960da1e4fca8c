//! Plans evictions, from metadata alone.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::counters::Tally;
use crate::policy::Policy;
use crate::priority::Priority;
use crate::receipt::Shortfall;
use crate::stored::{MessageMeta, Sequence};
use crate::unit::{Unit, UnitClass, UnitState, Units};

/// The goal of an eviction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvictionGoal {
    /// The most tokens to leave.
    pub tokens: u64,
    /// The most messages to leave, if limited.
    pub messages: Option<u64>,
}

impl EvictionGoal {
    /// At most this many tokens, and any number of messages.
    #[must_use]
    pub const fn tokens(tokens: u64) -> Self {
        Self { tokens, messages: None }
    }

    /// Whether this remainder meets the goal.
    #[must_use]
    pub fn is_met_by(&self, left: Tally) -> bool {
        left.tokens <= self.tokens && self.messages.is_none_or(|limit| left.messages <= limit)
    }
}

/// The messages to evict, and the effect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EvictionPlan {
    /// The places to evict, ascending.
    pub evict: Vec<Sequence>,
    /// The number of evicted units.
    pub units: u64,
    /// The tokens that are freed.
    pub tokens_freed: u64,
    /// The messages that remain.
    pub left: Tally,
    /// The part of `left` that cannot be evicted now: critical units and open calls.
    pub pinned: Tally,
    /// Why the goal is missed, if it is.
    pub shortfall: Option<Shortfall>,
    /// The evicted messages by priority.
    pub by_priority: BTreeMap<Priority, Tally>,
}

/// Plans an eviction to meet a goal.
///
/// - Critical units and open calls are kept, and units are kept or evicted as a whole.
/// - First the block limits: a block whose units hold more than its [`limit`] loses its oldest units until it is
///   within the limit. Units that cannot be evicted count towards the limit.
/// - Then the goal: the highest priority number first, the oldest first within a priority. Without priority blocks,
///   age alone decides.
///
/// Nothing more is evicted once limits and goal are met. Total and pure: the same arguments give the same plan.
/// Linear in the number of messages. `metas` is in ascending order of places.
///
/// [`limit`]: crate::plan::Block::limit
#[must_use]
pub fn plan_eviction(
    metas: &[MessageMeta],
    policy: &Policy,
    goal: EvictionGoal,
    now: Timestamp,
) -> EvictionPlan {
    let units = Units::group(metas, now, policy.open_call_timeout);
    let classes = units.classify(policy);
    plan_unit_eviction(&units, &classes, policy, goal)
}

/// Plans like [`plan_eviction`] over units that are grouped and classified already.
#[must_use]
pub fn plan_unit_eviction(
    units: &Units<'_>,
    classes: &[UnitClass<'_>],
    policy: &Policy,
    goal: EvictionGoal,
) -> EvictionPlan {
    let mut draft = Draft::new(units.metas(), units, classes);
    draft.enforce_limits(policy);
    let order = if policy.blocks.is_empty() { Order::Age } else { Order::Priority };
    draft.pursue(goal, order);
    draft.finish(goal)
}

/// Plans like [`plan_eviction`] without priority blocks: the oldest units first, whatever their priority. Critical
/// units and open calls are kept.
#[must_use]
pub fn plan_fifo_eviction(
    metas: &[MessageMeta],
    policy: &Policy,
    goal: EvictionGoal,
    now: Timestamp,
) -> EvictionPlan {
    let units = Units::group(metas, now, policy.open_call_timeout);
    let classes = units.classify(policy);
    plan_unit_fifo_eviction(&units, &classes, goal)
}

/// Plans like [`plan_fifo_eviction`] over units that are grouped and classified already.
#[must_use]
pub fn plan_unit_fifo_eviction(
    units: &Units<'_>,
    classes: &[UnitClass<'_>],
    goal: EvictionGoal,
) -> EvictionPlan {
    let mut draft = Draft::new(units.metas(), units, classes);
    draft.pursue(goal, Order::Age);
    draft.finish(goal)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Age,
    Priority,
}

/// A plan under construction.
struct Draft<'u, 'a> {
    metas: &'a [MessageMeta],
    units: &'u Units<'a>,
    classes: &'u [UnitClass<'a>],
    /// The units that may be evicted, oldest first.
    candidates: Vec<(&'u Unit, &'u UnitClass<'a>)>,
    gone: Vec<bool>,
    critical: bool,
    open: bool,
    plan: EvictionPlan,
}

impl<'u, 'a> Draft<'u, 'a> {
    fn new(metas: &'a [MessageMeta], units: &'u Units<'a>, classes: &'u [UnitClass<'a>]) -> Self {
        let mut draft = Self {
            metas,
            units,
            classes,
            candidates: Vec::with_capacity(units.len()),
            gone: vec![false; metas.len()],
            critical: false,
            open: false,
            plan: EvictionPlan::default(),
        };
        for (unit, class) in units.iter().zip(classes) {
            draft.plan.left.messages += unit.messages();
            draft.plan.left.tokens = draft.plan.left.tokens.saturating_add(unit.tokens());
            let critical = class.priority.is_critical();
            let open = unit.state() == UnitState::Open;
            if critical || open {
                draft.critical |= critical;
                draft.open |= open && !critical;
                draft.plan.pinned.messages += unit.messages();
                draft.plan.pinned.tokens = draft.plan.pinned.tokens.saturating_add(unit.tokens());
            } else {
                draft.candidates.push((unit, class));
            }
        }
        draft
    }

    fn enforce_limits(&mut self, policy: &Policy) {
        if policy.blocks.iter().all(|block| block.limit.is_none()) {
            return;
        }
        // The tokens by which each block exceeds its limit.
        let mut held = vec![0_u64; policy.blocks.len()];
        for (unit, class) in self.units.iter().zip(self.classes) {
            let Some(block) = class.block else { continue };
            let held = held.get_mut(block);
            debug_assert!(held.is_some(), "a unit has a block that the policy does not have");
            if let Some(held) = held {
                *held = held.saturating_add(unit.tokens());
            }
        }
        let mut over: Vec<u64> = policy
            .blocks
            .iter()
            .zip(held)
            .map(|(block, held)| block.limit.map_or(0, |limit| held.saturating_sub(limit)))
            .collect();
        let candidates = std::mem::take(&mut self.candidates);
        for (unit, class) in candidates {
            match class.block.and_then(|block| over.get_mut(block)) {
                Some(over) if *over > 0 => {
                    *over = over.saturating_sub(unit.tokens());
                    self.evict(unit, class);
                }
                _ => self.candidates.push((unit, class)),
            }
        }
    }

    fn pursue(&mut self, goal: EvictionGoal, order: Order) {
        if goal.is_met_by(self.plan.left) {
            return;
        }
        let mut candidates = std::mem::take(&mut self.candidates);
        if order == Order::Priority {
            // A stable sort keeps the oldest first within a priority.
            candidates.sort_by_key(|(_, class)| Reverse(class.priority));
        }
        for (unit, class) in candidates {
            if goal.is_met_by(self.plan.left) {
                break;
            }
            self.evict(unit, class);
        }
    }

    fn evict(&mut self, unit: &Unit, class: &UnitClass<'_>) {
        let mut members = self.units.members(unit);
        while let Some(position) = members.next_position() {
            let gone = self.gone.get_mut(position);
            debug_assert!(gone.is_some(), "a unit has a message beyond those that were grouped");
            if let Some(gone) = gone {
                *gone = true;
            }
        }
        let plan = &mut self.plan;
        plan.units += 1;
        plan.tokens_freed = plan.tokens_freed.saturating_add(unit.tokens());
        plan.left.messages -= unit.messages();
        plan.left.tokens = plan.left.tokens.saturating_sub(unit.tokens());
        let tally = plan.by_priority.entry(class.priority).or_default();
        tally.messages += unit.messages();
        tally.tokens = tally.tokens.saturating_add(unit.tokens());
    }

    fn finish(mut self, goal: EvictionGoal) -> EvictionPlan {
        self.plan.evict = self
            .metas
            .iter()
            .zip(&self.gone)
            .filter_map(|(meta, gone)| gone.then_some(meta.sequence))
            .collect();
        if !goal.is_met_by(self.plan.left) {
            self.plan.shortfall = Some(match (self.critical, self.open) {
                (true, true) => Shortfall::CriticalAndOpenCalls,
                (false, true) => Shortfall::OpenCalls,
                (_, false) => Shortfall::Critical,
            });
        }
        self.plan
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testkit::{history, metas, now, policy};

    fn goal() -> impl Strategy<Value = EvictionGoal> {
        (0..1_500_u64, prop::option::of(0..40_u64))
            .prop_map(|(tokens, messages)| EvictionGoal { tokens, messages })
    }

    /// This goal requires no eviction, so only limits cause evictions.
    const ANYTHING: EvictionGoal = EvictionGoal::tokens(u64::MAX);

    /// The units with their classes and whether the plan evicts them; panics if the plan splits a unit.
    fn fates<'a>(
        units: &Units<'a>,
        policy: &Policy,
        plan: &EvictionPlan,
    ) -> Vec<(Unit, UnitClass<'a>, bool)> {
        let gone = |meta: &MessageMeta| plan.evict.contains(&meta.sequence);
        let fate = |unit: &Unit| {
            let members: Vec<_> = units.members(unit).map(gone).collect();
            assert!(members.iter().all(|gone| *gone == members[0]), "a unit was split");
            members[0]
        };
        units
            .iter()
            .zip(units.classify(policy))
            .map(|(unit, class)| (*unit, class, fate(unit)))
            .collect()
    }

    fn group<'a>(metas: &'a [MessageMeta], policy: &Policy) -> Units<'a> {
        Units::group(metas, now(), policy.open_call_timeout)
    }

    proptest! {
        #[test]
        fn keeps_pinned_units_and_whole_units(
            history in history(40), policy in policy(), goal in goal(), fifo in any::<bool>(),
        ) {
            let metas = metas(&history);
            let planner = if fifo { plan_fifo_eviction } else { plan_eviction };
            let plan = planner(&metas, &policy, goal, now());
            for (unit, class, gone) in fates(&group(&metas, &policy), &policy, &plan) {
                prop_assert!(!(gone && class.priority.is_critical()), "critical");
                prop_assert!(!(gone && unit.state() == UnitState::Open), "open");
            }
        }

        #[test]
        fn goal_is_met_or_all_evictable_evicted(
            history in history(40), policy in policy(), goal in goal(), fifo in any::<bool>(),
        ) {
            let metas = metas(&history);
            let planner = if fifo { plan_fifo_eviction } else { plan_eviction };
            let plan = planner(&metas, &policy, goal, now());
            let met = plan.left.tokens <= goal.tokens
                && goal.messages.is_none_or(|messages| plan.left.messages <= messages);
            prop_assert_eq!(plan.shortfall.is_none(), met);
            if let Some(shortfall) = plan.shortfall {
                let units = group(&metas, &policy);
                let left: Vec<_> =
                    fates(&units, &policy, &plan).into_iter().filter(|(_, _, gone)| !gone).collect();
                let critical = left.iter().any(|(_, class, _)| class.priority.is_critical());
                let open = left.iter().any(|(unit, class, _)| {
                    unit.state() == UnitState::Open && !class.priority.is_critical()
                });
                prop_assert!(left.iter().all(|(unit, class, _)| unit.is_pinned(class)));
                let expected = match (critical, open) {
                    (true, true) => Shortfall::CriticalAndOpenCalls,
                    (true, false) => Shortfall::Critical,
                    (false, _) => Shortfall::OpenCalls,
                };
                prop_assert_eq!(shortfall, expected);
                prop_assert_eq!(plan.left, plan.pinned);
            }
        }

        #[test]
        fn plan_totals_equal_a_recount(
            history in history(40), policy in policy(), goal in goal(), fifo in any::<bool>(),
        ) {
            let metas = metas(&history);
            let planner = if fifo { plan_fifo_eviction } else { plan_eviction };
            let plan = planner(&metas, &policy, goal, now());
            prop_assert!(plan.evict.is_sorted_by(|a, b| a < b));
            let (mut gone, mut left) = (Tally::default(), Tally::default());
            for meta in &metas {
                let part = if plan.evict.contains(&meta.sequence) { &mut gone } else { &mut left };
                part.add(meta.tokens);
            }
            prop_assert_eq!(plan.left, left);
            prop_assert_eq!(plan.tokens_freed, gone.tokens);
            let mut by_priority = BTreeMap::<_, Tally>::new();
            let mut pinned = Tally::default();
            let mut evicted = 0;
            for (unit, class, gone) in fates(&group(&metas, &policy), &policy, &plan) {
                let tally = if gone {
                    evicted += 1;
                    by_priority.entry(class.priority).or_default()
                } else if unit.is_pinned(&class) {
                    &mut pinned
                } else {
                    continue;
                };
                tally.messages += unit.messages();
                tally.tokens += unit.tokens();
            }
            prop_assert_eq!(plan.by_priority, by_priority);
            prop_assert_eq!(plan.pinned, pinned);
            prop_assert_eq!(plan.units, evicted);
        }

        #[test]
        fn over_limit_blocks_lose_only_oldest_units(
            history in history(40), policy in policy(),
        ) {
            let metas = metas(&history);
            let plan = plan_eviction(&metas, &policy, ANYTHING, now());
            let units = group(&metas, &policy);
            let fates = fates(&units, &policy, &plan);
            prop_assert!(fates.iter().all(|(_, class, gone)| !gone || class.block.is_some()));
            for (index, block) in policy.blocks.iter().enumerate() {
                let of_block = fates.iter().filter(|(_, class, _)| class.block == Some(index));
                let (gone, left): (Vec<_>, Vec<_>) = of_block.partition(|(_, _, gone)| *gone);
                let Some(limit) = block.limit else {
                    prop_assert!(gone.is_empty());
                    continue;
                };
                let held: u64 = left.iter().map(|(unit, _, _)| unit.tokens()).sum();
                let oldest_left = left
                    .iter()
                    .find(|(unit, class, _)| !unit.is_pinned(class))
                    .map(|(unit, _, _)| unit.first());
                prop_assert!(held <= limit || oldest_left.is_none(), "over its limit");
                if let Some((newest, _, _)) = gone.last() {
                    prop_assert!(held + newest.tokens() > limit, "one more than needed");
                    prop_assert!(oldest_left.is_none_or(|oldest| newest.first() < oldest));
                }
            }
        }

        #[test]
        fn evicts_by_priority_then_age_minimally(
            history in history(40), policy in policy(), goal in goal(), fifo in any::<bool>(),
        ) {
            let metas = metas(&history);
            let units = group(&metas, &policy);
            let by_age = fifo || policy.blocks.is_empty();
            let (planner, for_limits): (fn(&_, &_, _, _) -> _, _) = if fifo {
                (plan_fifo_eviction, EvictionPlan::default())
            } else {
                (plan_eviction, plan_eviction(&metas, &policy, ANYTHING, now()))
            };
            let plan = planner(&metas, &policy, goal, now());
            prop_assert!(for_limits.evict.iter().all(|place| plan.evict.contains(place)));
            // In the order of eviction for the goal; units that were evicted for limits are skipped.
            let gone_before = |unit: &Unit| for_limits.evict.contains(&metas[unit.first()].sequence);
            let mut order: Vec<_> = fates(&units, &policy, &plan)
                .into_iter()
                .filter(|(unit, class, _)| !unit.is_pinned(class) && !gone_before(unit))
                .collect();
            if !by_age {
                order.sort_by_key(|(unit, class, _)| (Reverse(class.priority), unit.first()));
            }
            let taken = order.iter().take_while(|(_, _, gone)| *gone).count();
            prop_assert!(order[taken..].iter().all(|(_, _, gone)| !gone), "out of order");
            if let Some((last, _, _)) = order[..taken].last() {
                let put_back = Tally {
                    messages: plan.left.messages + last.messages(),
                    tokens: plan.left.tokens + last.tokens(),
                };
                prop_assert!(!goal.is_met_by(put_back), "one more than needed");
            }
        }
    }

    #[test]
    fn open_critical_call_counts_as_critical() {
        let policy = Policy::with_max_tokens(100);
        let open = |priority| {
            let call = crate::Message::calls([crate::dialect::ToolCall::function("a", "f", "{}")]);
            let entry = crate::Entry::new(call).with_priority(Priority::new(priority));
            let id = crate::store::MessageId::new(uuid::Uuid::nil());
            policy.admit(entry, id, now(), &crate::EstimateCounter)
        };
        let shortfall = |calls: &[u8]| {
            let stored = calls
                .iter()
                .zip(1..)
                .map(|(priority, number)| open(*priority).stored_at(Sequence::new(number)).meta);
            let metas: Vec<_> = stored.collect();
            plan_eviction(&metas, &policy, EvictionGoal::tokens(0), now()).shortfall
        };
        assert_eq!(shortfall(&[0]), Some(Shortfall::Critical));
        assert_eq!(shortfall(&[1]), Some(Shortfall::OpenCalls));
        assert_eq!(shortfall(&[0, 1]), Some(Shortfall::CriticalAndOpenCalls));
        assert_eq!(shortfall(&[]), None);
    }

    #[test]
    fn fifo_evicts_oldest_except_critical() {
        let message = |number: u64, priority| {
            let entry = crate::Entry::new(crate::Message::user("u")).with_priority(priority);
            let id = crate::store::MessageId::new(uuid::Uuid::from_u128(number.into()));
            let new = Policy::with_max_tokens(100).admit(entry, id, now(), &crate::EstimateCounter);
            crate::store::NewMessage { tokens: 10, ..new }.stored_at(Sequence::new(number)).meta
        };
        let priorities =
            [Priority::IMPORTANT, Priority::CRITICAL, Priority::new(9), Priority::OPTIONAL];
        let metas: Vec<_> = (1..).zip(priorities).map(|(number, p)| message(number, p)).collect();
        let policy = Policy::with_max_tokens(100);
        let plan = plan_fifo_eviction(&metas, &policy, EvictionGoal::tokens(20), now());
        assert_eq!(plan.evict, [1, 3].map(Sequence::new));
        assert_eq!((plan.units, plan.tokens_freed), (2, 20));
        assert_eq!(plan.left, Tally { messages: 2, tokens: 20 });
        assert_eq!(plan.pinned, Tally { messages: 1, tokens: 10 });
        let one = Tally { messages: 1, tokens: 10 };
        assert_eq!(plan.by_priority, [(Priority::IMPORTANT, one), (Priority::new(9), one)].into());
        assert_eq!(plan.shortfall, None);
        let all = plan_fifo_eviction(&metas, &policy, EvictionGoal::tokens(9), now());
        assert_eq!((all.evict.len(), all.shortfall), (3, Some(Shortfall::Critical)));
    }

    #[test]
    fn goal_bound_is_inclusive() {
        let goal = EvictionGoal { tokens: 10, messages: Some(2) };
        let met = |messages, tokens| goal.is_met_by(Tally { messages, tokens });
        assert!(met(2, 10));
        assert!(!met(3, 10) && !met(2, 11));
        assert!(EvictionGoal::tokens(10).is_met_by(Tally { messages: 99, tokens: 10 }));
    }
}
