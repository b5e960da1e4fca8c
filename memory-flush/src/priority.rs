//! Evicts the least important messages first.

use crate::plan::FlushPlan;
use crate::strategy::{FlushInput, FlushStrategy};

/// Evicts the units that exceed the limits of the priority blocks, then the least important units, the oldest first
/// within a priority; see [`plan_eviction`](memory_core::plan::plan_eviction).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PriorityEviction;

impl FlushStrategy for PriorityEviction {
    fn name(&self) -> &'static str {
        "priority"
    }

    fn plan(&self, input: &FlushInput<'_>) -> FlushPlan {
        input.evict_by_priority().0.into()
    }
}
