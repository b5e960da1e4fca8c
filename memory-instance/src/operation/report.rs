//! The report of an operation.

use std::collections::BTreeMap;

use jiff::Timestamp;
use memory_config::operation::OperationName;
use memory_core::health::Verdict;
use memory_core::json::JsonObject;
use memory_core::stats::MessageStats;
use memory_core::store::{ClearReceipt, FlushReceipt, RemainingCopy};
use memory_core::{ErrorCode, MemoryHealth, MemoryKey, Priority, Sequence, StoredMessage};
use serde::Serialize;

use crate::backup::BackupError;
use crate::error::MemoryError;

/// The report of an operation. It is meant to be written as JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OperationReport {
    /// The operation.
    pub operation: OperationName,
    /// Whether it succeeded for each memory.
    pub success: bool,
    /// Why nothing was done. Omitted from JSON if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<OperationFailure>,
    /// Whether more memories match than the operation may concern.
    pub truncated: bool,
    /// Results for all memories together, with its fields beside the others in JSON.
    #[serde(flatten)]
    pub summary: Option<OperationSummary>,
    /// The result for each memory, ascending by key. Omitted from JSON if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<KeyResult>,
}

/// An error, for programs and people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OperationFailure {
    /// Its stable code.
    pub code: ErrorCode,
    /// The problem and the remedy, without text of messages.
    pub message: String,
    /// Whether the same operation may succeed when it is repeated unchanged. Before an `append` is repeated, check whether
    /// it was applied.
    pub retryable: bool,
}

/// The results of an operation for all memories together.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum OperationSummary {
    /// Of `stats`.
    Stats {
        /// The number of memories that were counted.
        memories: u64,
        /// The counts of all of them.
        #[serde(flatten)]
        stats: MessageStats,
    },
    /// Of `list-keys`.
    Keys {
        /// The storage keys, or the SHA-256 of each.
        keys: Vec<String>,
        /// Whether they are hashes.
        hashed: bool,
    },
    /// Of `health`.
    Health {
        /// The number of healthy memories.
        healthy: u64,
        /// The number of other memories, and of those that could not be read.
        unhealthy: u64,
        /// When they were looked at.
        last_checked: Timestamp,
    },
    /// Of `flush`.
    Flush {
        /// Whether nothing was flushed, only planned.
        dry_run: bool,
        /// The number of messages before, less the number after.
        messages_freed: u64,
        /// Their tokens.
        tokens_freed: u64,
    },
}

/// The result for one memory.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct KeyResult {
    /// The storage key.
    pub key: MemoryKey,
    /// The outcome, with its fields beside the key in JSON.
    #[serde(flatten)]
    pub outcome: KeyOutcome,
}

/// The outcome for one memory.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum KeyOutcome {
    /// The operation failed.
    Failed {
        /// Why.
        error: OperationFailure,
    },
    /// Of `read`.
    Messages {
        /// The messages, in order.
        messages: Vec<StoredMessage>,
        /// Whether there are later ones; for the newest messages, whether there are earlier ones.
        more: bool,
    },
    /// Of `append` and `write`.
    Appended {
        /// The place of the first message; `None` if all were excluded.
        first: Option<Sequence>,
        /// Present messages.
        message_count: u64,
        /// Their tokens.
        token_count: u64,
        /// The indexes of messages that were not stored, by the privacy policy.
        excluded: Vec<usize>,
        /// The indexes of messages that were stored without their contents.
        withheld: Vec<usize>,
    },
    /// Of `update-metadata`.
    Metadata {
        /// All values by name, after the update.
        metadata: JsonObject,
        /// The number of updates so far.
        revision: u64,
    },
    /// Of `delete`.
    Deleted {
        /// The number of present messages that were deleted.
        messages: u64,
        /// Copies that the deletion did not reach.
        remaining: Vec<RemainingCopy>,
    },
    /// Of `flush`.
    Flushed {
        /// The record; `None` if there was nothing to do.
        receipt: Option<Box<FlushReceipt>>,
    },
    /// Of `health`.
    Health(Box<HealthReport>),
    /// Of `clear`.
    Cleared {
        /// The record; `None` if the answer to a request was lost and the store recognized the retry.
        cleared: Option<ClearReceipt>,
        /// Whether a backup was made.
        backup_created: bool,
        /// The place of the backup.
        #[serde(skip_serializing_if = "Option::is_none")]
        backup: Option<String>,
    },
}

/// The health of a memory, with the names of the original engine.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HealthReport {
    /// Whether the verdict is [`Verdict::Healthy`].
    pub healthy: bool,
    /// The verdict.
    pub verdict: Verdict,
    /// Counts and the last flush, with their fields beside the others in JSON; `None` without `include_stats`.
    #[serde(flatten)]
    pub counts: Option<HealthCounts>,
    /// The check of the store; `None` without `check_connectivity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connectivity: Option<Connectivity>,
}

/// Counts of a memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HealthCounts {
    /// The tokens of all messages.
    pub token_count: u64,
    /// The messages.
    pub message_count: u64,
    /// The messages of each priority.
    pub priority_breakdown: BTreeMap<Priority, u64>,
    /// When the last flush began.
    pub last_flush: Option<Timestamp>,
    /// The flush strategy.
    pub flush_strategy: String,
}

/// The checks of the store and the leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Connectivity {
    /// A read was answered.
    pub read: bool,
    /// A write that changes no message was acknowledged, under a lease; `None` for a read-only reference, which makes none.
    pub write: Option<bool>,
}

impl OperationReport {
    pub(super) fn failed(operation: OperationName, error: &MemoryError) -> Self {
        let error = Some(OperationFailure::from(error));
        let (truncated, summary, results) = (false, None, Vec::new());
        Self { operation, success: false, error, truncated, summary, results }
    }
}

impl HealthReport {
    pub(super) fn new(health: MemoryHealth) -> Self {
        let breakdown = health.priorities.iter();
        let counts = HealthCounts {
            token_count: health.tokens,
            message_count: health.messages,
            priority_breakdown: breakdown.map(|(at, tally)| (*at, tally.messages)).collect(),
            last_flush: health.last_flush.map(|receipt| receipt.started_at),
            flush_strategy: health.strategy,
        };
        let healthy = health.verdict == Verdict::Healthy;
        Self { healthy, verdict: health.verdict, counts: Some(counts), connectivity: None }
    }
}

impl From<&MemoryError> for OperationFailure {
    fn from(error: &MemoryError) -> Self {
        Self { code: error.code(), message: error.to_string(), retryable: error.is_retryable() }
    }
}

impl From<&BackupError> for OperationFailure {
    fn from(error: &BackupError) -> Self {
        let retryable = matches!(error, BackupError::Memory(error) if error.is_retryable());
        Self { code: error.code(), message: error.to_string(), retryable }
    }
}
