//! The part that the adapters share: which stored messages a request has.
//!
//! A library that calls models renders its requests itself, from its messages. So an adapter needs the stored messages
//! of a window, and no rendered request. The window is planned over substitutes of the messages, because a renderer
//! leaves out reasoning and provider blocks that another API wrote, and the adapters return them to the library that
//! stored them.

#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::print_stdout,
        clippy::print_stderr
    )
)]

mod counter;
mod plan;
mod substitute;

use std::collections::HashSet;

use memory_instance::{MemoryError, MemoryInstance, Message, WindowOptions};

use crate::plan::Planner;

/// The result of a call that will not be answered.
const NO_RESULT: &str = "[no result: the call was interrupted]";
/// The result of a call that may still be answered.
const NO_RESULT_YET: &str = "[no result yet]";

/// The stored messages of a request.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct History {
    /// The messages as they were appended, in the order of their units: results directly after their calls. Summaries
    /// of flushes have the role that the options choose.
    pub messages: Vec<Message>,
    /// The ids of the calls that may still be answered.
    awaited: HashSet<String>,
}

impl History {
    /// Reads the messages that fit the window with everything that is in them. Without options, the window is the
    /// whole budget of the resource.
    ///
    /// If the newest messages do not fit because of their reasoning or provider blocks alone, they are returned all
    /// the same, with as few others as possible.
    ///
    /// # Errors
    /// [`MemoryError::Store`], and [`MemoryError::Context`] if the critical and the newest messages do not fit.
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn read(
        memory: &MemoryInstance,
        options: Option<&WindowOptions>,
    ) -> Result<Self, MemoryError> {
        let stored = memory.messages().await?;
        let planner = Planner::new(memory, options, &stored)?;
        let window = planner.window().map_err(|reason| MemoryError::Context {
            key: memory.key().clone(),
            reason,
            calibrated: 0,
        })?;
        let awaited = if window.open_calls > 0 { planner.awaited() } else { HashSet::new() };
        Ok(Self { messages: window.messages, awaited })
    }

    /// The text of the result that a request needs for a call without one, as in requests of `memory-instance`.
    #[must_use]
    pub fn missing_result(&self, call_id: &str) -> &'static str {
        if self.awaited.contains(call_id) { NO_RESULT_YET } else { NO_RESULT }
    }
}
