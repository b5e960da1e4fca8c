//! A memory as rig's conversation memory.

use std::fmt;
use std::sync::Arc;

use memory_instance::{
    ContextWindow, MemoryError, MemoryInstance, MemoryManager, Message as StoredMessage,
    NewestUnit, Role, WindowOptions, WriteId,
};
use rig_core::id::ConversationId;
use rig_core::memory::{ConversationMemory, MemoryError as RigMemoryError};
use rig_core::message::Message;
use rig_core::wasm_compat::WasmBoxedFuture;

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
    /// gets messages as they were stored, so [`NewestUnit::Truncate`] has no effect.
    #[must_use]
    pub fn with_window(self, options: WindowOptions) -> Self {
        Self { window: Some(Arc::new(options.with_newest(NewestUnit::Error))), ..self }
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
        let options = match &self.window {
            Some(options) => WindowOptions::clone(options),
            None => WindowOptions::new(
                memory.resource().policy().map_err(MemoryError::from)?.max_tokens,
            ),
        };
        let window = whole_window(&memory, options).await?;
        Ok(rig_from_messages(&window.messages))
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

/// How many smaller windows are tried at most.
const ROUNDS: usize = 6;

/// A window whose stored messages fit the budget with everything that is in them.
///
/// A window counts what its own request has, and that has no reasoning of rig's messages, which rig sends again. So
/// smaller windows are tried, the largest that fits is returned, or one with at least three quarters of the budget. If
/// the newest messages alone do not fit, they are returned.
async fn whole_window(
    memory: &MemoryInstance,
    options: WindowOptions,
) -> Result<ContextWindow, MemoryError> {
    let allowed = options.budget.saturating_sub(options.reserved());
    let system =
        options.system.as_ref().map_or(0, |text| memory.count(&StoredMessage::system(text)));
    let whole = |window: &ContextWindow| {
        let messages = window.messages.iter().map(|message| memory.count(message));
        messages.fold(system, u64::saturating_add)
    };
    let mut over = memory.window(&options).await?;
    if whole(&over) <= allowed {
        return Ok(over);
    }
    let (mut best, mut low, mut high) = (None, 0, allowed);
    for _ in 0..ROUNDS {
        let limit = u64::midpoint(low, high);
        if limit == low {
            break;
        }
        let tools = options.tools.saturating_add(allowed.saturating_sub(limit));
        match memory.window(&options.clone().with_tools(tools)).await {
            Ok(window) if !starts_at_user(&window) => low = limit,
            Ok(window) if whole(&window) > allowed => (over, high) = (window, limit),
            Ok(window) => {
                let is_full = whole(&window) >= allowed / 4 * 3;
                (best, low) = (Some(window), limit);
                if is_full {
                    break;
                }
            }
            Err(MemoryError::Context { .. }) => low = limit,
            Err(error) => return Err(error),
        }
    }
    Ok(best.unwrap_or(over))
}

/// Whether the conversation starts at a message of the user, which many APIs require.
fn starts_at_user(window: &ContextWindow) -> bool {
    let mut roles = window.messages.iter().map(StoredMessage::role);
    roles.find(|role| !matches!(role, Role::System | Role::Developer)) == Some(&Role::User)
}

impl fmt::Debug for RigMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RigMemory").field("window", &self.window).finish_non_exhaustive()
    }
}

/// Dropping a future leaves the memory with all of a turn or with nothing of it, and cleared or not.
impl ConversationMemory for RigMemory {
    /// The newest turns of the conversation that fit the window, with the critical messages and the summary of what a
    /// flush removed. Calls come with their results. Empty for a conversation without messages.
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
