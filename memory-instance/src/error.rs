//! Errors of a memory's operations.

#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use memory_core::limits::LimitError;
use memory_core::plan::ContextError;
use memory_core::sibling::cut_error_text;
use memory_core::store::{Applied, Durability, StoreError, StoreErrorKind};
use memory_core::{KeyError, MemoryKey, MessageError, ResourceError};
use memory_lock::{LockError, LockErrorKind, LostReason};

use crate::prepared::PreparedAppend;
use crate::template::TemplateError;

/// Why an operation on a memory failed.
///
/// The text names the operation, the memory and the remedy; it never contains message contents.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The store refused the operation or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lease on the memory could not be acquired.
    #[error(transparent)]
    Lock(Box<LeaseFailure>),
    /// The lease expired or was taken during the operation. The store refused the operation's later writes.
    #[error("the lease on {key} was lost ({reason}); read again and start over")]
    LeaseLost {
        /// The memory.
        key: MemoryKey,
        /// How the lease was lost.
        reason: LostReason,
    },
    /// A session was used after its turn had ended.
    #[error("{operation} {key}: the turn has ended; begin another with `exclusive`")]
    TurnEnded {
        /// The attempted operation.
        operation: &'static str,
        /// The memory.
        key: MemoryKey,
    },
    /// A call within a turn that would have waited for the same turn to end.
    #[error(
        "{operation} {key}: this is called within a turn on the same memory and would wait for its own end; go through the session of the turn, or call it when the turn has ended"
    )]
    OwnTurn {
        /// The attempted operation.
        operation: &'static str,
        /// The memory.
        key: MemoryKey,
    },
    /// The lease backend could not be opened.
    #[error(transparent)]
    OpenLeases(Box<OpenLeasesFailure>),
    /// The store did not answer within the resource's `lock.failure_timeout`.
    #[error(
        "{operation} {key}: no definite answer within {waited:?}; the store may be down or overloaded, and the same write may be sent again"
    )]
    TimedOut {
        /// The attempted operation.
        operation: &'static str,
        /// The memory.
        key: MemoryKey,
        /// How long the operation waited.
        waited: Duration,
    },
    /// A message that is larger than the whole budget.
    #[error(
        "append to {key}: message {index} has {tokens} tokens, more than the whole budget ({budget}); shorten it, or raise max_tokens"
    )]
    TooLarge {
        /// The memory.
        key: MemoryKey,
        /// The index of the message in its batch, from 0.
        index: usize,
        /// The size of the message.
        tokens: u32,
        /// The resource's budget.
        budget: u64,
    },
    /// A batch or message that exceeds one of the resource's limits, independent of its tokens.
    #[error("append to {key}: {reason}")]
    Limit {
        /// The memory.
        key: MemoryKey,
        /// The limit, and the actual amount.
        reason: LimitError,
    },
    /// An empty batch.
    #[error("append to {key}: the batch is empty; give it at least one message")]
    EmptyBatch {
        /// The memory.
        key: MemoryKey,
    },
    /// A write through a read-only handle.
    #[error("{operation} {key}: this handle is read-only; open the memory read-write")]
    ReadOnly {
        /// The attempted operation.
        operation: &'static str,
        /// The memory.
        key: MemoryKey,
    },
    /// No context window fits the budget.
    #[error(
        "context of {key}: {reason}{}",
        if *.calibrated == 0 {
            String::new()
        } else {
            format!(" ({calibrated} tokens of it are what the provider reported above the count, see `calibrate`)")
        }
    )]
    Context {
        /// The memory.
        key: MemoryKey,
        /// The cause.
        reason: ContextError,
        /// The tokens by which [`calibrate`](crate::MemoryInstance::calibrate) makes windows smaller; 0 without a
        /// calibration.
        calibrated: u64,
    },
    /// No open call has this id.
    #[error(
        "close call `{call}` of {key}: no open call has this id; `health` counts those that are open"
    )]
    NoOpenCall {
        /// The memory.
        key: MemoryKey,
        /// The id.
        call: String,
    },
    /// A plan of a custom flush strategy that violates an invariant.
    #[error("flush {key} with strategy `{strategy}`: {problem}")]
    Plan {
        /// The memory.
        key: MemoryKey,
        /// The strategy.
        strategy: String,
        /// The invariant, and where it is violated.
        problem: String,
    },
    /// Code that a flush called panicked: a strategy, a summarizer, a token counter or a store. Automatic flushes
    /// are retried after growing pauses; appends are not affected. The panic's message is discarded because it
    /// may quote a message.
    #[error("{operation} {key}: {culprit} panicked; fix it, or take another")]
    Panicked {
        /// The attempted operation.
        operation: &'static str,
        /// The memory.
        key: MemoryKey,
        /// The code that panicked.
        culprit: String,
    },
    /// The manager was shut down by [`MemoryManager::shutdown`](crate::MemoryManager::shutdown): it starts no
    /// flush and no turn, and the work that had not ended within the grace period was abandoned.
    #[error("{operation} {key}: the manager is shut down; do it through another manager")]
    ShutDown {
        /// The attempted operation.
        operation: &'static str,
        /// The memory.
        key: MemoryKey,
        /// Whether the operation may have been applied.
        applied: Applied,
    },
    /// Other writers changed the memory during every attempt.
    #[error(
        "{operation} {key}: other writers changed the memory {attempts} times in a row; try again later"
    )]
    Contended {
        /// The attempted operation.
        operation: &'static str,
        /// The memory.
        key: MemoryKey,
        /// The number of attempts.
        attempts: u32,
    },
    /// The resource is inconsistent.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// The key template yields no key.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The rendered key is not a valid key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Not a valid message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// No resource has this id.
    #[error("no resource has the id `{id}`; known resources: {known}")]
    UnknownResource {
        /// The id.
        id: String,
        /// The ids of all resources.
        known: String,
    },
    /// The resource names a strategy that is not registered.
    #[error(
        "resource `{resource}`: flushing_strategy.type: `{strategy}` is not known; choose fifo, priority or hybrid_summary, or register a custom strategy"
    )]
    UnknownStrategy {
        /// The resource.
        resource: String,
        /// The strategy.
        strategy: String,
    },
    /// The resource needs more durability than the store provides.
    #[error(
        "resource `{resource}`: persistence.durability: the store provides `{given}`, not `{wanted}`; open it with a durable setting, or lower this"
    )]
    NotDurable {
        /// The resource.
        resource: String,
        /// The durability that the resource needs.
        wanted: String,
        /// The durability that the store provides.
        given: String,
    },
    /// The store checks leases in one place and the given leases are kept in another: the store would refuse
    /// every write under one of them.
    #[error(
        "the store checks leases at `{store}`, but they are kept at `{leases}`; give it the lease backend of its own place, or open it with checks of tokens alone"
    )]
    LeasesElsewhere {
        /// Where the store checks leases.
        store: String,
        /// Where the leases are kept.
        leases: String,
    },
    /// The tokenizer is not part of this build.
    #[error(
        "resource `{resource}`: the tokenizer `{tokenizer}` needs the feature `tiktoken`; enable it, or set `tokenizer: estimate`"
    )]
    NoTokenizer {
        /// The resource.
        resource: String,
        /// The tokenizer.
        tokenizer: &'static str,
    },
    /// The URL is not valid, or names no store that this build supports.
    #[error("store URL `{url}`: {problem}")]
    Url {
        /// The URL, without a password.
        url: String,
        /// The problem and the remedy.
        problem: String,
    },
    /// A failed append, with the batch to send again.
    #[error(transparent)]
    Append(Box<AppendFailure>),
}

/// A lease that could not be acquired.
#[derive(Debug)]
#[non_exhaustive]
pub struct LeaseFailure {
    /// The memory.
    pub key: MemoryKey,
    /// The cause.
    pub reason: LockError,
    /// Whether the operation may have been applied by an earlier attempt.
    pub applied: Applied,
    /// The maximum duration of another holder's turn, if the operation waited for turns.
    pub max_turn: Option<Duration>,
}

/// A lease backend that could not be opened.
#[derive(Debug)]
#[non_exhaustive]
pub struct OpenLeasesFailure {
    /// The store's URL, without a password.
    pub url: String,
    /// The cause.
    pub reason: LockError,
}

/// A failed append. Its text is that of its reason.
#[derive(Debug)]
#[non_exhaustive]
pub struct AppendFailure {
    /// The cause.
    pub reason: MemoryError,
    /// The batch, under the id by which the store recognizes it.
    pub prepared: PreparedAppend,
}

impl From<LeaseFailure> for MemoryError {
    fn from(failure: LeaseFailure) -> Self {
        Self::Lock(Box::new(failure))
    }
}

impl From<AppendFailure> for MemoryError {
    fn from(failure: AppendFailure) -> Self {
        Self::Append(Box::new(failure))
    }
}

impl fmt::Display for LeaseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "take the lease on {}: {}", self.key, self.reason)?;
        match (self.reason.kind(), self.max_turn) {
            (LockErrorKind::WaitTimeout { .. }, Some(max_turn)) => {
                write!(f, "; a turn may last {max_turn:?} (`lock.max_turn`)")
            }
            _ => Ok(()),
        }
    }
}

/// The source is the driver's error, because the text already contains the reason's text.
impl Error for LeaseFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason.source()
    }
}

impl fmt::Display for OpenLeasesFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "open the leases of {}: {}", self.url, self.reason)
    }
}

impl Error for OpenLeasesFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason.source()
    }
}

impl fmt::Display for AppendFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl Error for AppendFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason.source()
    }
}

impl MemoryError {
    /// Whether the write may have been applied.
    #[must_use]
    pub fn applied(&self) -> Applied {
        match self {
            Self::Store(error) => error.applied(),
            Self::TimedOut { .. } | Self::LeaseLost { .. } | Self::Panicked { .. } => {
                Applied::Unknown
            }
            Self::ShutDown { applied, .. } => *applied,
            Self::Lock(failure) => failure.applied,
            Self::Append(failure) => failure.reason.applied(),
            _ => Applied::No,
        }
    }

    /// The batch of a failed append. [`send`](crate::MemoryInstance::send) it again: it is never appended twice.
    #[must_use]
    pub fn into_prepared(self) -> Option<PreparedAppend> {
        match self {
            Self::Append(failure) => Some(failure.prepared),
            _ => None,
        }
    }

    /// Whether the operation was refused because its lease is stale.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        match self {
            Self::Store(error) => matches!(error.kind(), StoreErrorKind::Fenced { .. }),
            Self::Append(failure) => failure.reason.is_fenced(),
            Self::LeaseLost { .. } | Self::TurnEnded { .. } => true,
            _ => false,
        }
    }

    /// Whether the server of the store or of the leases rejects the user or the password, or the user lacks
    /// permissions.
    #[must_use]
    pub fn is_authentication(&self) -> bool {
        match self {
            Self::Store(error) => matches!(error.kind(), StoreErrorKind::Authentication(_)),
            Self::Lock(failure) => *failure.reason.kind() == LockErrorKind::Authentication,
            Self::Append(failure) => failure.reason.is_authentication(),
            _ => false,
        }
    }

    /// The kind of the store's error, if the store was the cause.
    #[must_use]
    pub fn store_kind(&self) -> Option<&StoreErrorKind> {
        match self {
            Self::Store(error) => Some(error.kind()),
            Self::Append(failure) => failure.reason.store_kind(),
            _ => None,
        }
    }

    /// Whether the same call may succeed when it is repeated unchanged. Repeat an append that is
    /// [`Unknown`](Applied::Unknown) with [`send`](crate::MemoryInstance::send).
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Lock(failure) => failure.reason.is_retryable(),
            Self::OpenLeases(failure) => failure.reason.is_retryable(),
            Self::Append(failure) => failure.reason.is_retryable(),
            Self::TimedOut { .. } | Self::Contended { .. } => true,
            _ => false,
        }
    }

    /// Whether a shutdown of the manager or of its leases ended the operation.
    pub(crate) fn is_shut_down(&self) -> bool {
        match self {
            Self::ShutDown { .. } => true,
            Self::LeaseLost { reason, .. } => *reason == LostReason::ShutDown,
            Self::Lock(failure) => matches!(failure.reason.kind(), LockErrorKind::ShutDown),
            _ => false,
        }
    }

    /// The same error, if an earlier attempt may have been applied and its answer was lost.
    pub(crate) fn possibly_applied(self) -> Self {
        match self {
            Self::Store(error) => Self::Store(error.possibly_applied()),
            Self::Lock(failure) => {
                Self::Lock(Box::new(LeaseFailure { applied: Applied::Unknown, ..*failure }))
            }
            Self::Append(failure) => {
                let AppendFailure { reason, prepared } = *failure;
                AppendFailure { reason: reason.possibly_applied(), prepared }.into()
            }
            other => other,
        }
    }

    /// The same error for a batch that its caller may have sent before. Only a forgotten writer leaves open
    /// whether such an earlier attempt was applied.
    pub(crate) fn with_earlier_sends(self) -> Self {
        match self.store_kind() {
            Some(StoreErrorKind::WriterForgotten { .. }) => self.possibly_applied(),
            _ => self,
        }
    }

    /// This error and its causes, including the driver's text, in one line for a log; at most 4 KiB.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        cut_error_text(text)
    }
}

/// The name of a durability in resources.
pub(crate) fn durability_name(durability: Durability) -> String {
    serde_json::to_value(durability)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}
