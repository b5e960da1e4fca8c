//! The error within rig's memory errors.

use memory_instance::{ErrorCode, MemoryError, PreparedAppend};

/// Why an operation of a [`RigMemory`](crate::RigMemory) failed: the source of
/// [`rig_core::memory::MemoryError::Backend`]. The text starts with the stable code and never contains messages.
///
/// # Examples
///
/// ```
/// use memory_instance::{ErrorCode, MemoryManager};
/// use memory_rig::{ConversationError, RigMemory};
/// use rig_core::memory::{ConversationMemory, MemoryError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let memory = RigMemory::new(MemoryManager::builder().open("memory://").await?, "support");
/// let Err(MemoryError::Backend(source)) = memory.load(&"case-4711".into()).await else {
///     return Err("there is no resource `support`".into());
/// };
/// let error = source.downcast::<ConversationError>().map_err(|_| "another error")?;
/// assert_eq!(error.code(), ErrorCode::NotFound);
/// assert!(error.to_string().starts_with("not_found: "));
/// # Ok(()) }
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", .source.code())]
pub struct ConversationError {
    #[from]
    source: MemoryError,
}

impl ConversationError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.source.code()
    }

    /// The error of the memory.
    #[must_use]
    pub const fn memory_error(&self) -> &MemoryError {
        &self.source
    }

    /// The batch of an append that failed, to be [sent](memory_instance::MemoryInstance::send) again any number of
    /// times. `None` for other operations, and for a batch that no retry can store.
    #[must_use]
    pub fn into_prepared(self) -> Option<PreparedAppend> {
        self.source.into_prepared()
    }
}

impl From<ConversationError> for rig_core::memory::MemoryError {
    fn from(error: ConversationError) -> Self {
        Self::backend(error)
    }
}
