//! A memory as the history of chat requests.

use std::fmt;

use genai::chat::{ChatMessage, ChatRequest, ChatResponse};
use memory_adapter::History;
use memory_instance::{Appended, MemoryError, MemoryInstance, WindowOptions, WriteId};

use crate::calls::answer_open_calls;
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
/// let request = chat.request().await?;
/// assert_eq!(request.system.as_deref(), Some("You help customers."));
/// assert_eq!(request.messages.len(), 1);
/// // let response = client.exec_chat("gpt-5-mini", request, None).await?;
/// // chat.append(&[answer_message(&response)]).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct GenaiMemory {
    memory: MemoryInstance,
    window: Option<WindowOptions>,
}

impl fmt::Debug for GenaiMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The system prompt of the window may be confidential.
        let budget = self.window.as_ref().map(|window| window.budget);
        let mut debug = f.debug_struct("GenaiMemory");
        debug.field("key", self.memory.key()).field("budget", &budget).finish_non_exhaustive()
    }
}

impl GenaiMemory {
    /// Makes requests from this memory.
    #[must_use]
    pub const fn new(memory: MemoryInstance) -> Self {
        Self { memory, window: None }
    }

    /// Sets the window of the requests. Default: the whole budget of the resource, in tokens.
    ///
    /// Genai renders the request from messages as they were stored, so a profile and
    /// [`NewestUnit::Truncate`](memory_instance::NewestUnit::Truncate) have no effect.
    #[must_use]
    pub fn with_window(self, options: WindowOptions) -> Self {
        Self { window: Some(options), ..self }
    }

    /// The memory.
    #[must_use]
    pub const fn memory(&self) -> &MemoryInstance {
        &self.memory
    }

    /// A request with the newest messages that fit the window, the critical ones and the summary of what a flush
    /// removed, which is a message of the user unless the window or the resource chooses another role. The system
    /// prompt is that of the window. Calls come with their results; a call without one is answered by a text that says
    /// so, which is not stored. Add tools, and send it.
    ///
    /// All messages of the memory are read. If the newest ones exceed the window by their reasoning and custom parts,
    /// they are in the request all the same.
    ///
    /// # Errors
    /// [`MemoryError::Store`], and [`MemoryError::Context`] if the critical and the newest messages do not fit.
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn request(&self) -> Result<ChatRequest, MemoryError> {
        let history = History::read(&self.memory, self.window.as_ref()).await?;
        let messages = answer_open_calls(genai_from_messages(&history.messages), &history);
        let system = self.window.as_ref().and_then(|window| window.system.clone());
        Ok(ChatRequest { system, ..messages.into() })
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
