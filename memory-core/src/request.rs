//! Requests to a provider: how a window is changed to fit its rules, and the check of those rules.

pub use crate::check_request::{RequestError, RequestInput, RequestProblem, RequestRule};
pub use crate::render::{Repair, RepairKind};
