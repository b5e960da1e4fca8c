//! A memory as the history of chat requests.

use genai::chat::{ChatMessage, ChatRequest, ChatResponse, Usage as ChatUsage};
use memory_instance::{
    Appended, ContextWindow, MemoryError, MemoryInstance, Message, NewestUnit, Role, Usage,
    WindowOptions, WriteId,
};

use crate::read::genai_from_messages;
use crate::write::messages_from_genai;

/// A memory from which chat requests are made, and to which their messages are appended. Clones are cheap; any number
/// of tasks and processes may use one memory.
///
/// # Examples
///
/// ```
/// use genai::chat::ChatMessage;
/// use memory_genai::GenaiMemory;
/// use memory_instance::{MemoryManager, MemoryResource, WindowOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = MemoryManager::builder()
///     .with_resource(MemoryResource::new("support", 8_000))
///     .open("memory://")
///     .await?;
/// let window = WindowOptions::new(8_000).with_system("You help customers.").with_answer(1_000);
/// let chat = GenaiMemory::new(manager.memory("support", "case-4711")?).with_window(window);
///
/// chat.append(&[ChatMessage::user("Where is my parcel?")]).await?;
/// let request = chat.request().await?.request;
/// assert_eq!(request.system.as_deref(), Some("You help customers."));
/// assert_eq!(request.messages.len(), 1);
/// // let response = client.exec_chat("gpt-5-mini", request, None).await?;
/// // chat.append(&[answer_message(&response)]).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct GenaiMemory {
    memory: MemoryInstance,
    window: Option<WindowOptions>,
}

/// A chat request, and the window that it shows.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ChatWindow {
    /// The request: the system prompt of the options and the messages of the window. Add tools, and send it.
    pub request: ChatRequest,
    /// The window, such as for [`calibrate`](MemoryInstance::calibrate).
    pub window: ContextWindow,
}

impl GenaiMemory {
    /// Makes requests from this memory.
    #[must_use]
    pub const fn new(memory: MemoryInstance) -> Self {
        Self { memory, window: None }
    }

    /// Sets the window of the requests. Default: the whole budget of the resource, in tokens.
    ///
    /// Genai gets messages as they were stored, so [`NewestUnit::Truncate`] has no effect.
    #[must_use]
    pub fn with_window(self, options: WindowOptions) -> Self {
        Self { window: Some(options.with_newest(NewestUnit::Error)), ..self }
    }

    /// The memory.
    #[must_use]
    pub const fn memory(&self) -> &MemoryInstance {
        &self.memory
    }

    /// A request with the newest messages that fit the window, the critical ones and the summary of what a flush
    /// removed. Calls come with their results.
    ///
    /// # Errors
    /// As [`MemoryInstance::window`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn request(&self) -> Result<ChatWindow, MemoryError> {
        let options = match &self.window {
            Some(options) => options.clone(),
            None => WindowOptions::new(self.memory.resource().policy()?.max_tokens),
        };
        let system = options.system.clone();
        let window = whole_window(&self.memory, options).await?;
        let request = ChatRequest { system, ..genai_from_messages(&window.messages).into() };
        Ok(ChatWindow { request, window })
    }

    /// Appends messages contiguously, all or nothing, even if others append at the same time: a question, an answer, calls
    /// with their results, or a whole turn.
    ///
    /// # Errors
    /// As [`MemoryInstance::append_all`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves all messages appended or none. Appending them again after that may duplicate them;
    /// [`append_as`](Self::append_as) does not.
    pub async fn append(&self, messages: &[ChatMessage]) -> Result<Appended, MemoryError> {
        self.memory.append_all(messages_from_genai(messages)).await
    }

    /// Appends messages under an id that the caller chooses. Appending them again under the same id, from this process
    /// or another, has no effect.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_genai::GenaiMemory;
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use genai::chat::ChatMessage;
    /// use memory_instance::WriterId;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let chat = GenaiMemory::new(manager.memory("support", "case-4711")?);
    /// let job = 17;
    /// for _ in 0..2 {
    ///     let write = WriterId::named("jobs").write(job);
    ///     chat.append_as(write, &[ChatMessage::user("Where is my parcel?")]).await?;
    /// }
    /// assert_eq!(chat.memory().len().await?, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`MemoryInstance::send`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves all messages appended or none. Append them again under the same id.
    pub async fn append_as(
        &self,
        write: WriteId,
        messages: &[ChatMessage],
    ) -> Result<Appended, MemoryError> {
        let prepared = self.memory.prepare_as(write, messages_from_genai(messages))?;
        self.memory.send(&prepared).await
    }
}

/// The message to append for an answer: its content, with the reasoning that genai reports beside it.
#[must_use]
pub fn answer_message(response: &ChatResponse) -> ChatMessage {
    let message = ChatMessage::assistant(response.content.clone());
    if response.content.contains_reasoning_content() {
        return message;
    }
    message.with_reasoning_content(response.reasoning_content.clone())
}

/// The input tokens that the provider reported with an answer, for [`MemoryInstance::calibrate`]. `None` if it reported
/// none. The window must have been the whole input: append the question before the request is made.
#[must_use]
pub fn usage_from_genai(usage: &ChatUsage) -> Option<Usage> {
    u64::try_from(usage.prompt_tokens?).ok().map(Usage::new)
}

/// How many smaller windows are tried at most.
const ROUNDS: usize = 6;

/// A window whose stored messages fit the budget with everything that is in them.
///
/// A window counts what its own request has, and that has no reasoning of genai's messages, which genai sends again. So
/// smaller windows are tried, the largest that fits is returned, or one with at least three quarters of the budget. If
/// the newest messages alone do not fit, they are returned.
async fn whole_window(
    memory: &MemoryInstance,
    options: WindowOptions,
) -> Result<ContextWindow, MemoryError> {
    let allowed = options.budget.saturating_sub(options.reserved());
    let system = options.system.as_ref().map_or(0, |text| memory.count(&Message::system(text)));
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
    let mut roles = window.messages.iter().map(Message::role);
    roles.find(|role| !matches!(role, Role::System | Role::Developer)) == Some(&Role::User)
}
