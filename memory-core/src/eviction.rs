//! What to evict, from metadata alone.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::counters::Tally;
use crate::policy::Policy;
use crate::priority::Priority;
use crate::receipt::Shortfall;
use crate::stored::{MessageMeta, Sequence};
use crate::unit::{Unit, UnitClass, UnitState, Units};

/// How far to come down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvictionGoal {
    /// At most this many tokens are to be left.
    pub tokens: u64,
    /// At most this many messages are to be left, if that matters.
    pub messages: Option<u64>,
}

impl EvictionGoal {
    /// At most this many tokens, in any number of messages.
    #[must_use]
    pub const fn tokens(tokens: u64) -> Self {
        Self { tokens, messages: None }
    }

    /// Whether this much is within the goal.
    #[must_use]
    pub fn is_met_by(&self, left: Tally) -> bool {
        left.tokens <= self.tokens && self.messages.is_none_or(|limit| left.messages <= limit)
    }
}

/// What to evict, and what that brings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EvictionPlan {
    /// The places to evict, ascending.
    pub evict: Vec<Sequence>,
    /// How many units they are.
    pub units: u64,
    /// How many tokens they free.
    pub tokens_freed: u64,
    /// What is left.
    pub left: Tally,
    /// Of what is left, what cannot be evicted now: critical units and open calls.
    pub pinned: Tally,
    /// Why the goal is missed, if it is.
    pub shortfall: Option<Shortfall>,
    /// What is evicted, by priority.
    pub by_priority: BTreeMap<Priority, Tally>,
}

/// Plans what to evict to come down to a goal.
///
/// - Critical units and open calls stay, and units stay whole.
/// - First the limits of the blocks: a block whose units hold more than its [`limit`] loses its
///   oldest ones until it is within. What cannot be evicted counts.
/// - Then the goal: the highest priority number first, the oldest first among equals. Without
///   priority blocks age alone decides.
///
/// Nothing is evicted once limits and goal are met. Total and pure: the same arguments give the same
/// plan. Linear in the number of messages. `metas` is in ascending order of places.
///
/// [`limit`]: crate::Block::limit
#[must_use]
pub fn plan_eviction(
    metas: &[MessageMeta],
    policy: &Policy,
    goal: EvictionGoal,
    now: Timestamp,
) -> EvictionPlan {
    let units = Units::group(metas, now, policy.open_call_timeout);
    let classes = units.classify(policy);
    let mut draft = Draft::new(metas, &units, &classes);
    draft.enforce_limits(policy);
    let order = if policy.blocks.is_empty() { Order::Age } else { Order::Priority };
    draft.pursue(goal, order);
    draft.finish(goal)
}

/// Plans as [`plan_eviction`] does without priority blocks: the oldest units first, whatever their
/// priority, except that critical units and open calls stay.
#[must_use]
pub fn plan_fifo_eviction(
    metas: &[MessageMeta],
    policy: &Policy,
    goal: EvictionGoal,
    now: Timestamp,
) -> EvictionPlan {
    let units = Units::group(metas, now, policy.open_call_timeout);
    let classes = units.classify(policy);
    let mut draft = Draft::new(metas, &units, &classes);
    draft.pursue(goal, Order::Age);
    draft.finish(goal)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Age,
    Priority,
}

/// A plan in the making.
struct Draft<'u, 'a> {
    metas: &'a [MessageMeta],
    units: &'u Units<'a>,
    classes: &'u [UnitClass<'a>],
    /// What may still be evicted, oldest first.
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
        // By how much each block is over its limit.
        let mut held = vec![0_u64; policy.blocks.len()];
        for (unit, class) in self.units.iter().zip(self.classes) {
            if let Some(held) = class.block.and_then(|block| held.get_mut(block)) {
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
            // Stable: the oldest first among equals.
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
            if let Some(gone) = self.gone.get_mut(position) {
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
