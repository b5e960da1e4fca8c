//! What can go wrong with a memory, in terms that a caller can act on.

#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use memory_core::{
    Applied, ContextError, Durability, KeyError, LimitError, MemoryKey, MessageError,
    ResourceError, StoreError, StoreErrorKind, cut_error_text,
};
use memory_lock::{LockError, LockErrorKind, LostReason};

use crate::append::PreparedAppend;
use crate::template::TemplateError;

/// Why an operation on a memory failed.
///
/// The text names what was attempted, the memory and the mend; message contents never appear.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lease on the memory could not be had.
    #[error(transparent)]
    Lock(Box<LeaseFailure>),
    /// The lease ran out or was taken under the operation. What it had in flight was fenced off.
    #[error("the lease on {key} was lost ({reason}); read again and start over")]
    LeaseLost {
        /// The memory.
        key: MemoryKey,
        /// How.
        reason: LostReason,
    },
    /// A session was kept beyond the turn that it belongs to.
    #[error("{operation} {key}: the turn has ended; begin another with `exclusive`")]
    TurnEnded {
        /// What was attempted.
        operation: &'static str,
        /// The memory.
        key: MemoryKey,
    },
    /// A call within a turn that would have waited for that turn to end.
    #[error(
        "{operation} {key}: this is called within a turn on the same memory and would wait for its own end; go through the session of the turn, or call it when the turn has ended"
    )]
    OwnTurn {
        /// What was attempted.
        operation: &'static str,
        /// The memory.
        key: MemoryKey,
    },
    /// The place of the leases cannot be opened.
    #[error(transparent)]
    OpenLeases(Box<OpenLeasesFailure>),
    /// The store gave no answer in time; it goes by the resource's `lock.failure_timeout`.
    #[error(
        "{operation} {key}: no definite answer within {waited:?}; the store may be down or overloaded, and the same write may be sent again"
    )]
    TimedOut {
        /// What was attempted.
        operation: &'static str,
        /// The memory.
        key: MemoryKey,
        /// How long.
        waited: Duration,
    },
    /// A batch or message that cannot be kept.
    #[error(
        "append to {key}: message {index} has {tokens} tokens, more than the whole budget ({budget}); shorten it, or raise max_tokens"
    )]
    TooLarge {
        /// The memory.
        key: MemoryKey,
        /// Which message of the batch, from 0.
        index: usize,
        /// Its size.
        tokens: u32,
        /// The resource's budget.
        budget: u64,
    },
    /// A batch or message that is over one of the resource's limits, whatever its tokens.
    #[error("append to {key}: {reason}")]
    Limit {
        /// The memory.
        key: MemoryKey,
        /// Which limit, and how much there was.
        reason: LimitError,
    },
    /// A batch without a message.
    #[error("append to {key}: the batch is empty; give it at least one message")]
    EmptyBatch {
        /// The memory.
        key: MemoryKey,
    },
    /// A write through a handle that may only read.
    #[error("{operation} {key}: this handle is read-only; open the memory read-write")]
    ReadOnly {
        /// What was attempted.
        operation: &'static str,
        /// The memory.
        key: MemoryKey,
    },
    /// No window fits the budget.
    #[error("context of {key}: {reason}")]
    Context {
        /// The memory.
        key: MemoryKey,
        /// Why.
        reason: ContextError,
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
    /// A flush plan of the user's own that would break a promise.
    #[error("flush {key} with strategy `{strategy}`: {problem}")]
    Plan {
        /// The memory.
        key: MemoryKey,
        /// The strategy.
        strategy: String,
        /// Which promise, and where.
        problem: String,
    },
    /// Code that a flush called panicked: a strategy, a summarizer's name, a token counter, a store. Flushes
    /// are tried again after growing pauses; appends are not affected. The panic's text is not kept, because it
    /// may quote a message.
    #[error("{operation} {key}: {culprit} panicked; fix it, or take another")]
    Panicked {
        /// What was attempted.
        operation: &'static str,
        /// The memory.
        key: MemoryKey,
        /// What panicked.
        culprit: String,
    },
    /// The manager was shut down by [`MemoryManager::shutdown`](crate::MemoryManager::shutdown): it begins no
    /// flush and no turn, and what had not ended within the grace was given up.
    #[error("{operation} {key}: the manager is shut down; do it through another manager")]
    ShutDown {
        /// What was attempted.
        operation: &'static str,
        /// The memory.
        key: MemoryKey,
        /// Whether it may have had its effect.
        applied: Applied,
    },
    /// Others changed the memory each time before the operation could end.
    #[error(
        "{operation} {key}: others changed the memory {attempts} times in a row; try again later"
    )]
    Contended {
        /// What was attempted.
        operation: &'static str,
        /// The memory.
        key: MemoryKey,
        /// How often.
        attempts: u32,
    },
    /// The resource contradicts itself.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// The key template gives no key.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The rendered key is not one.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Not a message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// No resource has this id.
    #[error("no resource has the id `{id}`; there are: {known}")]
    UnknownResource {
        /// The id.
        id: String,
        /// The ids that there are.
        known: String,
    },
    /// The resource names a strategy that nobody registered.
    #[error(
        "resource `{resource}`: flushing_strategy.type: `{strategy}` is not known; choose fifo, priority or hybrid_summary, or register your own"
    )]
    UnknownStrategy {
        /// The resource.
        resource: String,
        /// The strategy.
        strategy: String,
    },
    /// The resource asks for more than the store gives.
    #[error(
        "resource `{resource}`: persistence.durability: the store gives `{given}`, not `{wanted}`; open it with a durable setting, or lower this"
    )]
    NotDurable {
        /// The resource.
        resource: String,
        /// What it asks for.
        wanted: String,
        /// What the store gives.
        given: String,
    },
    /// The store looks leases up at one place, and those it was given are kept at another: it would
    /// refuse every write under one of them.
    #[error(
        "the store looks leases up at `{store}`, but they are kept at `{leases}`; give it the lease backend of its own place, or open it with checks of tokens alone"
    )]
    LeasesElsewhere {
        /// Where the store looks.
        store: String,
        /// Where they are.
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
    /// The URL names no store that this build knows.
    #[error("store URL `{url}`: {problem}")]
    Url {
        /// The URL, without a password.
        url: String,
        /// What is wrong with it, and the mend.
        problem: String,
    },
    /// An append that failed, with what is needed to send it again.
    #[error(transparent)]
    Append(Box<AppendFailure>),
}

/// A lease that could not be had.
#[derive(Debug)]
#[non_exhaustive]
pub struct LeaseFailure {
    /// The memory.
    pub key: MemoryKey,
    /// Why.
    pub reason: LockError,
    /// Whether what was to be done under it may be there nevertheless, from an earlier attempt.
    pub applied: Applied,
    /// How long the turn of another may last, if turns were waited for.
    pub max_turn: Option<Duration>,
}

/// A place of leases that could not be opened.
#[derive(Debug)]
#[non_exhaustive]
pub struct OpenLeasesFailure {
    /// The store's URL, without a password.
    pub url: String,
    /// Why.
    pub reason: LockError,
}

/// An append that failed. It reads as its reason.
#[derive(Debug)]
#[non_exhaustive]
pub struct AppendFailure {
    /// Why.
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

/// The source is the driver's error: the words of the reason are in the text already.
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
    /// Whether the write may be there nevertheless.
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

    /// The batch of a failed append. [`send`](crate::MemoryInstance::send) it again: it is never
    /// appended twice.
    #[must_use]
    pub fn into_prepared(self) -> Option<PreparedAppend> {
        match self {
            Self::Append(failure) => Some(failure.prepared),
            _ => None,
        }
    }

    /// Whether a stale lease was the reason.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        match self {
            Self::Store(error) => matches!(error.kind(), StoreErrorKind::Fenced { .. }),
            Self::Append(failure) => failure.reason.is_fenced(),
            Self::LeaseLost { .. } | Self::TurnEnded { .. } => true,
            _ => false,
        }
    }

    /// Whether the server does not accept the user or the password, or gives the user too few rights: at the
    /// store or at the leases.
    #[must_use]
    pub fn is_authentication(&self) -> bool {
        match self {
            Self::Store(error) => matches!(error.kind(), StoreErrorKind::Authentication(_)),
            Self::Lock(failure) => *failure.reason.kind() == LockErrorKind::Authentication,
            Self::Append(failure) => failure.reason.is_authentication(),
            _ => false,
        }
    }

    /// What the store said, if it was the store.
    #[must_use]
    pub fn store_kind(&self) -> Option<&StoreErrorKind> {
        match self {
            Self::Store(error) => Some(error.kind()),
            Self::Append(failure) => failure.reason.store_kind(),
            _ => None,
        }
    }

    /// Whether the same call may succeed when it is made again, as it stands. An append that is
    /// [`Unknown`](Applied::Unknown) is repeated by [`send`](crate::MemoryInstance::send).
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

    /// Whether a shutdown ended it, of the manager or of its leases.
    pub(crate) fn is_shut_down(&self) -> bool {
        match self {
            Self::ShutDown { .. } => true,
            Self::LeaseLost { reason, .. } => *reason == LostReason::ShutDown,
            Self::Lock(failure) => matches!(failure.reason.kind(), LockErrorKind::ShutDown),
            _ => false,
        }
    }

    /// The same, where an earlier attempt may have been applied and its answer was lost.
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

    /// The same, of a batch that its caller may have sent before. A writer that was forgotten is all that
    /// leaves open what became of it then.
    pub(crate) fn with_earlier_sends(self) -> Self {
        match self.store_kind() {
            Some(StoreErrorKind::WriterForgotten { .. }) => self.possibly_applied(),
            _ => self,
        }
    }

    /// This error and what caused it, down to the driver's own words, in one line for a log; 4 KiB at the most.
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

/// The name of a durability as resources write it.
pub(crate) fn durability_name(durability: Durability) -> String {
    serde_json::to_value(durability)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}
