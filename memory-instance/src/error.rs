//! Errors of a memory's operations.

mod classify;
mod lease;
#[cfg(test)]
mod tests;
mod write;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use memory_core::limits::LimitError;
use memory_core::plan::ContextError;
use memory_core::store::{Applied, StoreError};
use memory_core::{KeyError, MemoryKey, MessageError, ResourceError};
use memory_lock::LostReason;

pub use self::lease::{LeaseError, OpenLeasesError};
pub use self::write::WriteError;
use self::write::{own_turn_text, timed_out_text};
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
    Lock(Box<LeaseError>),
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
    #[error("{}", own_turn_text(operation, key))]
    OwnTurn {
        /// The attempted operation.
        operation: &'static str,
        /// The memory.
        key: MemoryKey,
    },
    /// The lease backend could not be opened.
    #[error(transparent)]
    OpenLeases(Box<OpenLeasesError>),
    /// The store did not answer within the resource's `lock.failure_timeout`.
    #[error("{}", timed_out_text(operation, key, *waited))]
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
    /// A message, or all messages of a batch, that the caller or the privacy policy of the resource excludes, in an
    /// operation that would have to store it.
    #[error(
        "{operation} {key}: the message is excluded by its entry or by privacy_policy.non_persistable_message_types; erase the old message, or change the policy"
    )]
    Excluded {
        /// The attempted operation.
        operation: &'static str,
        /// The memory.
        key: MemoryKey,
    },
    /// Options that are out of range or refer to something unknown.
    #[error("{operation} {key}: {reason}")]
    Options {
        /// The attempted operation.
        operation: &'static str,
        /// The memory.
        key: MemoryKey,
        /// The problem and the remedy.
        reason: String,
    },
    /// An operation that cannot be executed as it was requested.
    #[error("{operation}: {reason}")]
    Operation {
        /// The attempted operation.
        operation: &'static str,
        /// The problem and the remedy.
        reason: String,
    },
    /// More memories match than an operation may remove. None was changed.
    #[error(
        "{operation} `{pattern}` of resource `{resource}`: more than {most} memories match; name fewer by a longer text, or raise max_keys"
    )]
    TooManyKeys {
        /// The attempted operation.
        operation: &'static str,
        /// The resource.
        resource: String,
        /// The pattern of the keys.
        pattern: String,
        /// The most memories.
        most: usize,
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
            format!(" ({calibrated} tokens of it are calibration: the provider reported more than were counted; see `calibrate`)")
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
    #[error("{operation} {key}: {culprit} panicked; fix it, or replace it")]
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
    #[error("{operation} {key}: the manager is shut down; open another manager")]
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
    /// No agent has this id.
    #[error("no agent has the id `{id}`; known agents: {known}")]
    UnknownAgent {
        /// The id.
        id: String,
        /// The ids of all agents.
        known: String,
    },
    /// Two resources have the same id, or ids that differ only in case.
    #[error(
        "two resources have the ids `{id}` and `{other}`; ids differ in more than case, so rename or remove one of the two"
    )]
    DuplicateResource {
        /// The id of the first resource.
        id: String,
        /// The id of the second resource.
        other: String,
    },
    /// Two agents have the same id.
    #[error("two agents have the id `{id}`; rename or remove one of the two")]
    DuplicateAgent {
        /// The id.
        id: String,
    },
    /// The resource has no template of keys.
    #[error(
        "resource `{resource}` has no `key`; add a template such as {{{{ session.id }}}}, or open the memory with a key"
    )]
    NoKey {
        /// The resource.
        resource: String,
    },
    /// The resource names a strategy that is not registered.
    #[error(
        "resource `{resource}`: flushing_strategy.type: `{strategy}` is not known; choose fifo, priority, hybrid_summary or clear_tool_results, or register a custom strategy"
    )]
    UnknownStrategy {
        /// The resource.
        resource: String,
        /// The strategy.
        strategy: String,
    },
    /// A registered strategy has a name that receipts use for something else.
    #[error(
        "a strategy cannot be named `{strategy}`: receipts of rewritten summaries have that name; return another name from `FlushStrategy::name`"
    )]
    ReservedStrategy {
        /// The name.
        strategy: String,
    },
    /// The resource needs more durability than the store provides.
    #[error(
        "resource `{resource}`: persistence.durability: the store provides `{given}`, not `{wanted}`; open it with a more durable setting, or lower `durability`"
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
        "the store checks leases at `{store}`, but they are kept at `{leases}`; give the manager a lease backend at the place of the store, or open the store with `TokenChecks::TokensAlone`"
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
    Append(Box<AppendError>),
}

/// A failed append. Its text is that of its reason.
#[derive(Debug)]
#[non_exhaustive]
pub struct AppendError {
    /// The cause.
    pub reason: WriteError,
    /// The batch, under the id by which the store recognizes it.
    pub prepared: PreparedAppend,
}

impl From<LeaseError> for MemoryError {
    fn from(failure: LeaseError) -> Self {
        Self::Lock(Box::new(failure))
    }
}

impl From<AppendError> for MemoryError {
    fn from(failure: AppendError) -> Self {
        Self::Append(Box::new(failure))
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl Error for AppendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason.source()
    }
}
