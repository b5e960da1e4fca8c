//! Gauges of the memories that a process holds. They follow the counters that each write returns, without a read.

use std::sync::atomic::{AtomicU64, Ordering};

use memory_core::MemoryKey;
use memory_core::plan::Policy;
use memory_core::store::Counters;
use metrics::{Gauge, gauge};

use super::{PRIORITIES, PRIORITY_NAMES, priority_of};

/// The gauges of a resource: sums over its memories that this process holds.
pub(super) struct Gauges {
    used: Gauge,
    limit: Gauge,
    near: Gauge,
    over: Gauge,
    priorities: [Gauge; PRIORITIES],
}

/// The part of one memory in the gauges.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// One more than its tokens; 0 if it is not counted.
    tokens: AtomicU64,
    /// The messages of two priorities each, in 32 bits.
    messages: [AtomicU64; PRIORITIES / 2],
}

/// The state of a memory's budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fill {
    Free,
    /// 85 % or more, and less than all.
    Near,
    Over,
}

impl Fill {
    fn of(tokens: u64, budget: u64) -> Self {
        if tokens >= budget {
            Self::Over
        } else if u128::from(tokens) * 100 >= u128::from(budget) * 85 {
            Self::Near
        } else {
            Self::Free
        }
    }
}

impl Gauges {
    pub(super) fn new(project: &str, id: &str) -> Self {
        let of = |name: &'static str| gauge!(name, "project" => project.to_owned(), "memory_id" => id.to_owned());
        let labeled = |name: &'static str, label: &'static str, value: &'static str| gauge!(name, "project" => project.to_owned(), "memory_id" => id.to_owned(), label => value);
        Self {
            used: of("memory_tokens_used"),
            limit: of("memory_tokens_limit"),
            near: labeled("memory_budget_memories", "state", "near"),
            over: labeled("memory_budget_memories", "state", "over"),
            priorities: PRIORITY_NAMES
                .map(|name| labeled("memory_priority_distribution", "priority", name)),
        }
    }

    fn fill(&self, fill: Fill) -> Option<&Gauge> {
        match fill {
            Fill::Free => None,
            Fill::Near => Some(&self.near),
            Fill::Over => Some(&self.over),
        }
    }

    fn shift(&self, from: Option<u64>, to: Option<u64>, budget: u64) {
        shift(&self.used, from.unwrap_or(0), to.unwrap_or(0));
        shift(&self.limit, from.map_or(0, |_| budget), to.map_or(0, |_| budget));
        let fill = |tokens: Option<u64>| tokens.map_or(Fill::Free, |it| Fill::of(it, budget));
        let (from, to) = (fill(from), fill(to));
        if from != to {
            self.fill(from).into_iter().for_each(|gauge| gauge.decrement(1.0));
            self.fill(to).into_iter().for_each(|gauge| gauge.increment(1.0));
        }
    }
}

/// Moves a gauge by the difference.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn shift(gauge: &Gauge, from: u64, to: u64) {
    if to > from {
        gauge.increment((to - from) as f64);
    } else if from > to {
        gauge.decrement((from - to) as f64);
    }
}

/// The halves of a number.
const fn halves(packed: u64) -> [u64; 2] {
    [packed >> 32, packed & 0xFFFF_FFFF]
}

impl super::Telemetry {
    /// A memory has these counters now.
    pub(crate) fn holds(&self, held: &Held, counters: &Counters, policy: &Policy) {
        let mut messages = [0_u64; PRIORITIES];
        for (class, tally) in &counters.classes {
            let at = priority_of(class.priority, &class.content_type, policy);
            if let Some(sum) = messages.get_mut(at) {
                *sum = sum.saturating_add(tally.messages);
            }
        }
        self.replace(held, Some(counters.present.tokens), messages, policy.max_tokens);
    }

    /// The memory is no longer held, or was deleted.
    pub(crate) fn drops(&self, key: &MemoryKey, held: &Held, policy: &Policy) {
        self.forget_health(key);
        self.replace(held, None, [0; PRIORITIES], policy.max_tokens);
    }

    /// Each part is exchanged, so the sums are right also if several answers arrive at once.
    fn replace(&self, held: &Held, tokens: Option<u64>, messages: [u64; PRIORITIES], budget: u64) {
        let new = tokens.map_or(0, |tokens| tokens.saturating_add(1));
        let old = held.tokens.swap(new, Ordering::Relaxed);
        self.gauges.shift(old.checked_sub(1), tokens, budget);
        for ((part, new), gauges) in
            held.messages.iter().zip(messages.chunks(2)).zip(self.gauges.priorities.chunks(2))
        {
            let packed = new
                .iter()
                .fold(0, |packed, count| (packed << 32) | (*count).min(u64::from(u32::MAX)));
            let old = part.swap(packed, Ordering::Relaxed);
            if old != packed {
                for ((gauge, old), new) in gauges.iter().zip(halves(old)).zip(halves(packed)) {
                    shift(gauge, old, new);
                }
            }
        }
    }
}
