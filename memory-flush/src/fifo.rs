//! Evicts the oldest messages first.

use memory_core::plan::plan_unit_fifo_eviction;

use crate::plan::FlushPlan;
use crate::strategy::{FlushInput, FlushStrategy};

/// Evicts the oldest units at any priority; critical units and open calls are kept.
#[doc(alias = "simple_fifo")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fifo;

impl FlushStrategy for Fifo {
    fn name(&self) -> &'static str {
        "fifo"
    }

    fn plan(&self, input: &FlushInput<'_>) -> FlushPlan {
        input.evict(plan_unit_fifo_eviction).0.into()
    }
}
