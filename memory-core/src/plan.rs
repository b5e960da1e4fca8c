//! Planning: units of calls and results, evictions, context windows, and the token counts behind them.
//!
//! Everything here is a pure function of stored metadata.

pub use crate::eviction::{
    EvictionGoal, EvictionPlan, plan_eviction, plan_fifo_eviction, plan_unit_eviction,
    plan_unit_fifo_eviction,
};
pub use crate::link::{AnswerItem, ToolLink, ToolRef};
pub use crate::pairing::{PairingError, check_pairing};
pub use crate::policy::{Block, Policy};
pub use crate::priority::{Class, ClassError};
pub use crate::unit::{Members, Unit, UnitClass, UnitState, Units};
pub use crate::usage::{Anchor, Calibration, Usage};
pub use crate::window::{
    ContextError, ContextPlan, ContextPlanner, LeftOut, NewestUnit, PrefixMark, StartPolicy, Step,
    SummaryRole, Trimmed, WindowAdvance, plan_context,
};
