//! A turn of an agent: windows before the prompt, the new messages after it.

use memory_core::store::Appended;
use memory_core::{Entry, WindowOptions};

use super::ResolvedMemories;
use crate::error::MemoryError;
use crate::instance::MemoryInstance;
use crate::prepared::PreparedAppend;
use crate::window::ContextWindow;

/// The reaction to a memory that fails during a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnFailure {
    /// The turn ends with the error.
    #[default]
    Fail,
    /// The turn continues with the other memories. The error is logged as a warning and is in the result.
    Continue,
}

/// A turn of an agent that has begun: the windows of its memories. Nothing is locked, so other agents may write
/// meanwhile; a turn that must not interleave with others uses [`MemoryInstance::exclusive`].
#[derive(Debug)]
#[non_exhaustive]
pub struct AgentTurn {
    /// The windows, in the order of the document.
    pub windows: Vec<AgentWindow>,
    /// The errors of memories without a window. Empty with [`OnFailure::Fail`].
    pub failures: Vec<MemoryError>,
    agent: String,
    writable: Vec<MemoryInstance>,
    on_failure: OnFailure,
}

/// The window of one memory in a turn.
#[derive(Debug)]
#[non_exhaustive]
pub struct AgentWindow {
    /// The memory.
    pub memory: MemoryInstance,
    /// Its window.
    pub window: ContextWindow,
}

/// The messages of a turn, ready to be appended to each memory. Sending it again is safe: each memory appends them once.
#[derive(Debug)]
#[non_exhaustive]
pub struct PreparedTurn {
    /// The errors of memories that cannot have the messages, such as one with a smaller budget. Empty with
    /// [`OnFailure::Fail`].
    pub failures: Vec<MemoryError>,
    agent: String,
    batches: Vec<(MemoryInstance, PreparedAppend)>,
    on_failure: OnFailure,
}

/// The result of the appends of a turn.
#[derive(Debug)]
#[non_exhaustive]
pub struct TurnOutcome {
    /// The memories that have the messages, in the order of the document.
    pub appended: Vec<Appended>,
    /// The errors of those that failed. Empty with [`OnFailure::Fail`].
    pub failures: Vec<MemoryError>,
}

impl OnFailure {
    /// Returns the error, or logs and keeps it.
    fn handle(
        self,
        agent: &str,
        error: MemoryError,
        failures: &mut Vec<MemoryError>,
    ) -> Result<(), MemoryError> {
        match self {
            Self::Fail => Err(error),
            Self::Continue => {
                tracing::warn!(agent, "the turn continues without a memory: {}", error.chain());
                failures.push(error);
                Ok(())
            }
        }
    }
}

impl ResolvedMemories {
    /// Begins a turn: reads the window of each memory, in the order of the document.
    ///
    /// The windows share the budget: each memory gets an equal part of what the ones before it left. The system prompt of
    /// the options is in the first window only. Two references to the same memory have one window.
    ///
    /// # Errors
    /// With [`OnFailure::Fail`] the first error of [`MemoryInstance::window`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn begin_turn(
        &self,
        options: &WindowOptions,
        on_failure: OnFailure,
    ) -> Result<AgentTurn, MemoryError> {
        let mut left = options.budget.saturating_sub(options.reserved());
        let (mut windows, mut failures) = (Vec::new(), Vec::new());
        let memories: Vec<_> = self.distinct().collect();
        for (memory, rest) in memories.iter().zip((1..=memories.len() as u64).rev()) {
            let mut part = options.clone().with_tools(0).with_answer(0);
            part.budget = left / rest;
            if !windows.is_empty() {
                part.system = None;
            }
            match memory.window(&part).await {
                Ok(window) => {
                    left = left.saturating_sub(window.tokens);
                    windows.push(AgentWindow { memory: (*memory).clone(), window });
                }
                Err(error) => on_failure.handle(&self.agent, error, &mut failures)?,
            }
        }
        let (agent, writable) = (self.agent.clone(), self.writable());
        Ok(AgentTurn { windows, failures, agent, writable, on_failure })
    }
}

impl AgentTurn {
    /// Appends the messages of the turn, such as the user's and the answer, to each memory that the agent may write:
    /// [`prepare`](Self::prepare) and [`send`](PreparedTurn::send). A memory without a window is written too. An agent
    /// without such a memory appends nothing.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare) and [`send`](PreparedTurn::send). To send the messages again after an error, use
    /// those.
    ///
    /// # Cancel safety
    /// Dropping the future leaves each memory with all of the messages or none, and may leave only some memories with
    /// them.
    pub async fn append<E: Into<Entry>>(
        &self,
        entries: impl IntoIterator<Item = E>,
    ) -> Result<TurnOutcome, MemoryError> {
        let mut prepared = self.prepare(entries)?;
        let earlier = std::mem::take(&mut prepared.failures);
        let TurnOutcome { appended, mut failures } = prepared.send().await?;
        failures.splice(..0, earlier);
        Ok(TurnOutcome { appended, failures })
    }

    /// Redacts, classifies and counts the messages for each memory that the agent may write. Nothing is sent.
    ///
    /// # Errors
    /// With [`OnFailure::Fail`] the first error of [`MemoryInstance::prepare`], such as [`MemoryError::TooLarge`].
    pub fn prepare<E: Into<Entry>>(
        &self,
        entries: impl IntoIterator<Item = E>,
    ) -> Result<PreparedTurn, MemoryError> {
        let entries: Vec<Entry> = entries.into_iter().map(Into::into).collect();
        let (mut batches, mut failures) = (Vec::new(), Vec::new());
        for memory in &self.writable {
            match memory.prepare(entries.iter().cloned()) {
                Ok(batch) => batches.push((memory.clone(), batch)),
                Err(error) => self.on_failure.handle(&self.agent, error, &mut failures)?,
            }
        }
        let (agent, on_failure) = (self.agent.clone(), self.on_failure);
        Ok(PreparedTurn { failures, agent, batches, on_failure })
    }
}

impl PreparedTurn {
    /// Appends the messages to each memory, in the order of the document.
    ///
    /// # Errors
    /// With [`OnFailure::Fail`] the first error of [`MemoryInstance::send`]; the memories before it have the messages.
    /// Send the turn again: no memory appends them twice.
    ///
    /// # Cancel safety
    /// Dropping the future leaves each memory with all of the messages or none. Send the turn again to complete it.
    pub async fn send(&self) -> Result<TurnOutcome, MemoryError> {
        let (mut appended, mut failures) = (Vec::new(), Vec::new());
        for (memory, batch) in &self.batches {
            match memory.send(batch).await {
                Ok(done) => appended.push(done),
                Err(error) => self.on_failure.handle(&self.agent, error, &mut failures)?,
            }
        }
        Ok(TurnOutcome { appended, failures })
    }
}
