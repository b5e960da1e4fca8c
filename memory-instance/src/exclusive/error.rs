//! The error of an exclusive turn.

use std::fmt;

use memory_core::lease::FencingToken;
use memory_lock::LostReason;

use crate::error::MemoryError;

/// A turn that did not start, or that lost its lease. It is an error whatever the turn returned. `Debug` shows
/// only whether there is an output.
///
/// `?` into `anyhow::Error` or `Box<dyn Error + Send + Sync>` needs `T: Send + Sync + 'static`; otherwise use
/// [`without_output`](Self::without_output).
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ExclusiveError<T> {
    /// The turn did not start.
    #[error(transparent)]
    Begin(Box<MemoryError>),
    /// The lease was lost before the turn ended. Other writers may have written meanwhile, and the store refused
    /// the turn's later writes.
    #[error("the lease was lost during the turn ({reason}); read again and start over")]
    Lost {
        /// How the lease was lost.
        reason: LostReason,
        /// The fencing token of the lease.
        fence: FencingToken,
        /// The output of the turn, if it completed. Its side effects did happen.
        output: Option<T>,
    },
}

impl<T> ExclusiveError<T> {
    /// The same error without the output of the turn.
    #[must_use]
    pub fn without_output(self) -> ExclusiveError<()> {
        match self {
            Self::Begin(error) => ExclusiveError::Begin(error),
            Self::Lost { reason, fence, output } => {
                ExclusiveError::Lost { reason, fence, output: output.map(|_| ()) }
            }
        }
    }

    /// Whether the same turn may succeed when it is repeated unchanged. This is false once the lease was lost:
    /// check first which of the turn's effects were applied.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Begin(error) => error.is_retryable(),
            Self::Lost { .. } => false,
        }
    }
}

impl<T> fmt::Debug for ExclusiveError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(error) => f.debug_tuple("Begin").field(error).finish(),
            Self::Lost { reason, fence, output } => f
                .debug_struct("Lost")
                .field("reason", reason)
                .field("fence", fence)
                .field("has_output", &output.is_some())
                .finish(),
        }
    }
}
