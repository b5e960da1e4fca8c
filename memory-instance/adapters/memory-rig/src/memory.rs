//! A memory as rig's conversation memory.

use std::fmt;
use std::sync::Arc;

use memory_adapter::History;
use memory_instance::{MemoryError, MemoryInstance, MemoryManager, WindowOptions, WriteId};
use rig_core::id::ConversationId;
use rig_core::memory::{ConversationMemory, MemoryError as RigMemoryError};
use rig_core::message::Message;
use rig_core::wasm_compat::WasmBoxedFuture;

use crate::calls::answer_open_calls;
use crate::error::ConversationError;
use crate::read::rig_from_messages;
use crate::write::messages_from_rig;

type Open = dyn Fn(&ConversationId) -> Result<MemoryInstance, MemoryError> + Send + Sync;

/// The memories of a resource as the [`ConversationMemory`] of agents of rig: one memory for each conversation. Clones
/// share the manager; any number of agents and processes may use one conversation.
///
/// # Examples
///
/// ```
/// use memory_instance::{MemoryManager, MemoryResource};
/// use memory_rig::RigMemory;
/// use rig_core::memory::ConversationMemory;
/// use rig_core::message::Message;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = MemoryManager::builder()
///     .with_resource(MemoryResource::new("support", 8_000))
///     .open("memory://")
///     .await?;
/// let memory = RigMemory::new(manager, "support");
/// let id = "case-4711".into();
/// let turn = vec![Message::user("Where is my parcel?"), Message::assistant("In Oslo.")];
/// memory.append(&id, turn.clone()).await?;
/// assert_eq!(memory.load(&id).await?, turn);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RigMemory {
    open: Arc<Open>,
    window: Option<Arc<WindowOptions>>,
}

impl RigMemory {
    /// The memories of this resource. Their keys are the ids of the conversations.
    #[must_use]
    pub fn new(manager: MemoryManager, resource: impl Into<String>) -> Self {
        let resource = resource.into();
        Self::from_fn(move |id| manager.memory(&resource, id.as_str()))
    }

    /// The memories that a function opens, such as one that renders the key template of an agent.
    ///
    /// # Examples
    ///
    /// ```
    /// use memory_instance::{KeyContext, MemoryManager, MemoryResource};
    /// use memory_rig::RigMemory;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let manager = MemoryManager::builder()
    ///     .with_resource(MemoryResource::new("support", 8_000))
    ///     .open("memory://")
    ///     .await?;
    /// let memory = RigMemory::from_fn(move |id| {
    ///     let context = KeyContext::new().with("conversation", id.as_str());
    ///     manager.memory_for("support", "chat-{{ conversation }}", &context)
    /// });
    /// # let _ = memory;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn from_fn(
        open: impl Fn(&ConversationId) -> Result<MemoryInstance, MemoryError> + Send + Sync + 'static,
    ) -> Self {
        Self { open: Arc::new(open), window: None }
    }

    /// Sets the window that [`load`](ConversationMemory::load) returns. Default: the whole budget of the resource, in tokens.
    ///
    /// The preamble, the tools, the prompt and the answer of the agent are in the same request, so set aside their
    /// tokens: [`with_system`](WindowOptions::with_system) takes the preamble, which is counted and not returned. Rig
    /// renders the request from messages as they were stored, so a profile and
    /// [`NewestUnit::Truncate`](memory_instance::NewestUnit::Truncate) have no effect.
    #[must_use]
    pub fn with_window(self, options: WindowOptions) -> Self {
        Self { window: Some(Arc::new(options)), ..self }
    }

    /// The memory of a conversation. No request is made.
    ///
    /// # Errors
    /// Those of the function, such as [`MemoryError::UnknownResource`].
    pub fn memory(&self, id: &ConversationId) -> Result<MemoryInstance, ConversationError> {
        Ok((self.open)(id)?)
    }

    /// Appends a turn under an id that the caller chooses. Appending it again under the same id, from this process
    /// or another, has no effect.
    ///
    /// # Examples
    ///
    /// ```
    /// use memory_instance::{MemoryManager, MemoryResource, WriterId};
    /// use memory_rig::RigMemory;
    /// use rig_core::message::Message;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// let memory = RigMemory::new(manager, "support");
    /// let (id, job) = ("case-4711".into(), 17);
    /// let turn = [Message::user("Where is my parcel?"), Message::assistant("In Oslo.")];
    /// for _ in 0..2 {
    ///     memory.append_as(&id, WriterId::named("jobs").write(job), &turn).await?;
    /// }
    /// assert_eq!(memory.memory(&id)?.len().await?, 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`append`](ConversationMemory::append).
    ///
    /// # Cancel safety
    /// Dropping the future leaves the turn appended or not, never half. Append it again under the same id.
    pub async fn append_as(
        &self,
        id: &ConversationId,
        write: WriteId,
        turn: &[Message],
    ) -> Result<(), ConversationError> {
        if turn.is_empty() {
            return Ok(());
        }
        let memory = self.memory(id)?;
        let prepared = memory.prepare_as(write, messages_from_rig(turn))?;
        memory.send(&prepared).await?;
        Ok(())
    }

    async fn load_window(&self, id: &ConversationId) -> Result<Vec<Message>, ConversationError> {
        let memory = self.memory(id)?;
        let history = History::read(&memory, self.window.as_deref()).await?;
        Ok(answer_open_calls(rig_from_messages(&history.messages), &history))
    }

    async fn append_turn(
        &self,
        id: &ConversationId,
        turn: &[Message],
    ) -> Result<(), ConversationError> {
        if turn.is_empty() {
            return Ok(());
        }
        self.memory(id)?.append_all(messages_from_rig(turn)).await?;
        Ok(())
    }

    async fn clear_messages(&self, id: &ConversationId) -> Result<(), ConversationError> {
        self.memory(id)?.clear().await?;
        Ok(())
    }
}

impl fmt::Debug for RigMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The system prompt of the window may be confidential.
        let budget = self.window.as_ref().map(|window| window.budget);
        f.debug_struct("RigMemory").field("budget", &budget).finish_non_exhaustive()
    }
}

/// Dropping a future leaves the memory with all of a turn or with nothing of it, and cleared or not.
impl ConversationMemory for RigMemory {
    /// The newest turns of the conversation that fit the window, with the critical messages and the summary of what a
    /// flush removed, which is a message of the user unless the window or the resource chooses another role. Calls
    /// come with their results; a call without one is answered by a text that says so, which is not stored. Empty for
    /// a conversation without messages.
    ///
    /// All messages of the memory are read. If the newest ones exceed the window by their reasoning and native items,
    /// they are returned all the same.
    fn load<'a>(
        &'a self,
        id: &'a ConversationId,
    ) -> WasmBoxedFuture<'a, Result<Vec<Message>, RigMemoryError>> {
        Box::pin(async move { Ok(self.load_window(id).await?) })
    }

    /// Appends a turn contiguously, all or nothing, even if other agents append at the same time.
    ///
    /// A retryable failure of the store is retried within the resource's `lock.failure_timeout`, without
    /// duplicates. If it fails all the same, [`ConversationError::into_prepared`] returns the batch to send again.
    fn append<'a>(
        &'a self,
        id: &'a ConversationId,
        messages: Vec<Message>,
    ) -> WasmBoxedFuture<'a, Result<(), RigMemoryError>> {
        Box::pin(async move { Ok(self.append_turn(id, &messages).await?) })
    }

    /// Removes all messages. An archive of the resource keeps them.
    fn clear<'a>(
        &'a self,
        id: &'a ConversationId,
    ) -> WasmBoxedFuture<'a, Result<(), RigMemoryError>> {
        Box::pin(async move { Ok(self.clear_messages(id).await?) })
    }
}
