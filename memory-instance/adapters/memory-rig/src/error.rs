//! The error within rig's memory errors.

use std::error::Error;
use std::fmt;

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
#[derive(Debug)]
pub struct ConversationError(MemoryError);

impl ConversationError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.0.code()
    }

    /// The error of the memory.
    #[must_use]
    pub const fn memory_error(&self) -> &MemoryError {
        &self.0
    }

    /// The batch of an append that failed, to be [sent](memory_instance::MemoryInstance::send) again any number of
    /// times. `None` for other operations, and for a batch that no retry can store.
    #[must_use]
    pub fn into_prepared(self) -> Option<PreparedAppend> {
        self.0.into_prepared()
    }
}

impl fmt::Display for ConversationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code(), self.0)
    }
}

impl Error for ConversationError {
    /// The source of the error of the memory, whose text is in that of this error.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl From<MemoryError> for ConversationError {
    fn from(error: MemoryError) -> Self {
        Self(error)
    }
}

impl From<ConversationError> for rig_core::memory::MemoryError {
    fn from(error: ConversationError) -> Self {
        Self::backend(error)
    }
}
