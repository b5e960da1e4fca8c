#![doc = include_str!("../README.md")]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::print_stdout,
        clippy::print_stderr
    )
)]

mod manager;

mod instance;

mod agents;
mod append;
mod archive;
mod audit;
pub mod backup;
mod clear;
mod edit;
mod ensure_system;
mod erase;
mod exclusive;
mod flush;
mod fork;
mod health;
#[cfg(feature = "http")]
pub mod http;
mod lease;
mod list_keys;
mod metadata;
mod operation;
mod replace_all;
mod rewrite;
mod search;
mod shutdown;
mod stats;
mod sweep;
mod version;
mod views;
mod watch;
mod window;
mod workflow;

mod asking;
mod backend;
mod commit;
mod inner;
mod prepare;
mod write;

mod breaker;
mod builder;
mod open;
mod rules;
mod template;

mod calibrations;
mod carried;
mod error;
mod exclusions;
mod ids;
mod kinds;
mod lifecycle;
mod panics;
mod prefixes;
mod prepared;
mod telemetry;
mod writers;

#[cfg(test)]
mod auto_traits;

pub use agents::{
    AgentMemories, AgentTurn, AgentWindow, OnFailure, PreparedTurn, ResolvedMemories, TurnOutcome,
};
pub use archive::ArchivedMessage;
pub use audit::{AuditEvent, AuditOperation, AuditOutcome, AuditSink};
pub use breaker::CircuitBreaker;
pub use builder::ManagerBuilder;
pub use calibrations::Calibrated;
pub use edit::Edited;
pub use ensure_system::{EnsureOutcome, EnsuredSystem};
pub use erase::{DeletionReceipt, ErasureReceipt};
pub use error::{AppendError, LeaseError, MemoryError, OpenLeasesError, WriteError};
pub use exclusive::{ExclusiveError, Session};
pub use flush::FlushOptions;
pub use fork::{ForkOptions, ForkReceipt};
pub use instance::MemoryInstance;
pub use lease::Leases;
pub use lifecycle::ShutdownReport;
pub use list_keys::KeyListing;
pub use manager::{MemoryManager, OpenWarning};
pub use open::{check_url, without_password};
pub use operation::{
    Connectivity, HealthCounts, HealthReport, KeyOutcome, KeyResult, OperationContext,
    OperationFailure, OperationReport, OperationSummary,
};
pub use prepared::PreparedAppend;
pub use rewrite::{RewriteOutcome, RewrittenSummary};
pub use rules::FlushMode;
pub use sweep::{SweepMode, SweepOptions, SweepReport};
pub use template::{KeyContext, KeyTemplate, TemplateError};
pub use version::{Conditional, Conflict, Withdrawal};
pub use watch::{WatchFrom, Watcher};
pub use window::ContextWindow;
pub use workflow::{WorkflowError, WorkflowReport, WorkflowScope};

// The items of the lower crates that most programs need, so that one dependency is enough.
/// Project documents: memory resources, and which agent uses which memory.
pub use memory_config as config;
pub use memory_config::Mode;
pub use memory_config::operation::{MemoryOperation, OperationError, OperationName};
pub use memory_core::changes::{Change, Removal, RemovalReason};
pub use memory_core::dialect::Part;
pub use memory_core::dialect::ToolCall;
pub use memory_core::health::Verdict;
pub use memory_core::lease::FencingToken;
pub use memory_core::plan::{
    Anchor, Calibration, ContextError, LeftOut, NewestUnit, StartPolicy, SummaryRole, Usage,
    WindowAdvance,
};
pub use memory_core::profile::ProfileName;
pub use memory_core::request::{Repair, RepairKind};
pub use memory_core::resource::{PriorityBlock, Tokenizer};
pub use memory_core::stats::{GroupBy, GroupStats, MessageStats};
pub use memory_core::store::{
    Appended, ClearReceipt, Cleared, Counters, Cursor, ExpiredMemories, FlushReceipt, FoundIn,
    Indexing, KeyPattern, Metadata, MetadataError, MetadataPatch, Page, ReplacedAll,
    SearchCoverage, SearchHit, SearchQuery, SearchResults, SearchScope, Version, WriteId, WriterId,
};
pub use memory_core::{
    ContentType, Entry, ErrorCode, MemoryHealth, MemoryKey, MemoryResource, MemoryStore, Message,
    Priority, Profile, Request, Role, Sequence, StoredMessage, TokenCounter, WindowOptions,
};
pub use memory_flush::{
    CompactOptions, Compacted, FlushInput, FlushPlan, FlushStrategy, SummarizeError, Summarizer,
    SummaryRequest, Transcript, compact, compact_by_rule, from_fn,
};
pub use memory_lock::{Clock, ClockExt, LockManager, LostReason};
// The lower crates as a whole.
pub use {memory_core, memory_flush, memory_lock};
