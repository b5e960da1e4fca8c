//! The actions of operations.

use std::fmt;
use std::num::NonZeroUsize;

use memory_core::Message;
use memory_core::stats::GroupBy;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The name of an operation, as in documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OperationName {
    /// Reads messages.
    Read,
    /// Replaces all messages.
    Write,
    /// Adds messages.
    Append,
    /// Removes memories with all records.
    Delete,
    /// Flushes memories.
    Flush,
    /// Reports the health of memories.
    Health,
    /// Removes all messages.
    Clear,
    /// Counts messages and tokens.
    #[serde(alias = "get-stats", alias = "get_stats")]
    Stats,
    /// Lists keys.
    #[serde(alias = "list_keys")]
    ListKeys,
    /// Changes the metadata of a memory.
    #[serde(alias = "update_metadata")]
    UpdateMetadata,
}

impl OperationName {
    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Append => "append",
            Self::Delete => "delete",
            Self::Flush => "flush",
            Self::Health => "health",
            Self::Clear => "clear",
            Self::Stats => "stats",
            Self::ListKeys => "list-keys",
            Self::UpdateMetadata => "update-metadata",
        }
    }

    /// Whether its key may have a wildcard.
    #[must_use]
    pub const fn takes_wildcards(self) -> bool {
        !matches!(self, Self::Read | Self::Write | Self::Append | Self::UpdateMetadata)
    }
}

impl fmt::Display for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The action of an operation, with its settings.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// Reads messages of one memory.
    Read(ReadRange),
    /// Replaces all messages of one memory by these.
    Write {
        /// The messages.
        payload: Vec<Message>,
    },
    /// Adds these messages to one memory.
    Append {
        /// The messages.
        payload: Vec<Message>,
    },
    /// Removes memories with all records.
    Delete,
    /// Flushes memories.
    Flush(FlushAction),
    /// Reports the health of memories.
    Health {
        /// With counts and the last flush, not the verdict alone. Default: true.
        include_stats: bool,
        /// Also make a write that changes no message. Default: false.
        check_connectivity: bool,
    },
    /// Removes all messages of memories. A document must confirm it: by `confirm: true`, or any text as `confirm_token`.
    Clear {
        /// Back each memory up, and clear it only if this succeeds. Default: false.
        backup: bool,
    },
    /// Counts messages and tokens.
    Stats {
        /// The property of the groups.
        group_by: Option<GroupBy>,
    },
    /// Lists keys.
    ListKeys {
        /// The template of the pattern, in place of the operation's key. All keys, if neither is given.
        pattern: Option<String>,
        /// The most keys; the operation's `max_keys`, if it is lower.
        limit: Option<NonZeroUsize>,
        /// List the SHA-256 of each key in its place. Default: false.
        hashed: bool,
    },
    /// Changes the metadata of one memory.
    UpdateMetadata {
        /// The new values by name; `null` removes a name. Other names keep their values.
        metadata: Map<String, Value>,
    },
}

impl Action {
    /// The name of the operation.
    #[must_use]
    pub const fn name(&self) -> OperationName {
        match self {
            Self::Read(_) => OperationName::Read,
            Self::Write { .. } => OperationName::Write,
            Self::Append { .. } => OperationName::Append,
            Self::Delete => OperationName::Delete,
            Self::Flush(_) => OperationName::Flush,
            Self::Health { .. } => OperationName::Health,
            Self::Clear { .. } => OperationName::Clear,
            Self::Stats { .. } => OperationName::Stats,
            Self::ListKeys { .. } => OperationName::ListKeys,
            Self::UpdateMetadata { .. } => OperationName::UpdateMetadata,
        }
    }

    /// Whether it leaves messages as they are, so that a read-only reference allows it.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        match self {
            Self::Read(_) | Self::Health { .. } | Self::Stats { .. } | Self::ListKeys { .. } => {
                true
            }
            Self::Flush(flush) => flush.dry_run,
            Self::Write { .. }
            | Self::Append { .. }
            | Self::Delete
            | Self::Clear { .. }
            | Self::UpdateMetadata { .. } => false,
        }
    }
}

/// Which messages are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadRange {
    /// Messages from the oldest on.
    From {
        /// The number of messages that are passed over.
        offset: u64,
        /// The most messages; `None` for the operation's `batch_size`.
        limit: Option<NonZeroUsize>,
    },
    /// The newest messages.
    Last(NonZeroUsize),
}

/// The settings of a flush.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FlushAction {
    /// The strategy; `None` for the resource's.
    pub strategy: Option<String>,
    /// Only plan. Default: false.
    pub dry_run: bool,
    /// Flush whatever the threshold is. Default: false.
    pub force: bool,
    /// Flush from this share of the budget on, over 0 and at most 1; `None` for the resource's. Not used with `force`.
    pub threshold: Option<f64>,
    /// Come down to this many tokens.
    pub token_target: Option<u64>,
    /// Free at least this share of the tokens, in percent.
    pub percentage: Option<u8>,
    /// The most memories to flush. Default: 100.
    pub max_keys: NonZeroUsize,
}

impl Default for FlushAction {
    fn default() -> Self {
        Self {
            strategy: None,
            dry_run: false,
            force: false,
            threshold: None,
            token_target: None,
            percentage: None,
            max_keys: super::MemoryOperation::DEFAULT_FLUSHED_KEYS,
        }
    }
}
