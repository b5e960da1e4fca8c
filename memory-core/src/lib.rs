#![doc = include_str!("../README.md")]

// The generators refer to the crate by its external name, because `memory-flush` includes them.
#[cfg(test)]
extern crate self as memory_core;

mod applied;
mod check_request;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod counters;
pub mod dialect;
mod error_text;
mod eviction;
mod flush_settings;
mod health;
pub mod json;
mod key;
mod lease;
mod limits;
mod link;
mod message;
mod model_name;
mod pairing;
mod policy;
mod priority;
pub mod profile;
mod receipt;
mod redact;
mod render;
mod resource;
mod store;
mod stored;
#[cfg(test)]
mod testkit;
mod tokens;
mod unit;
mod usage;
mod window;
mod write;

pub use applied::Applied;
pub use check_request::{RequestError, RequestInput, RequestProblem, RequestRule, check_request};
pub use clock::{Ticks, TimeSource};
pub use counters::{Counters, Tally};
pub use error_text::{MAX_ERROR_TEXT, cut_error_source, cut_error_text};
pub use eviction::{EvictionGoal, EvictionPlan, plan_eviction, plan_fifo_eviction};
pub use flush_settings::{FlushSettings, SettingsError};
pub use health::{LeaseHealth, Lifetime, MemoryHealth, ServerHealth, ServerWarning, Verdict};
pub use key::{
    FLUSH_LEASE_SUFFIX, KeyError, KeyPrefix, MAX_KEY_BYTES, MAX_KEY_PART_BYTES, MemoryKey,
};
pub use lease::{FencingToken, LeaseDomain, LeaseInfo, LeaseProof, OwnerId};
pub use limits::{BatchSize, LimitError, LimitKind, Limits};
pub use link::{AnswerItem, ToolLink, ToolRef};
pub use message::{Message, MessageError, Role, ToolCall};
pub use pairing::{PairingError, check_pairing};
pub use policy::{Block, Entry, Policy};
pub use priority::{Class, ClassError, ContentType, CustomType, Priority};
pub use profile::{Profile, ProfileError, ProfileName};
pub use receipt::{FlushReceipt, KEPT_RECEIPTS, SequenceSet, Shortfall, SummaryRecord};
pub use redact::{RedactPreset, Redactor};
pub use render::{Repair, RepairKind, Request};
pub use resource::{
    CircuitBreakerSettings, FlushingStrategy, LockSettings, MemoryResource, ModelInfo, Persistence,
    PriorityBlock, PrivacyPolicy, Reminders, ResourceError, ResourceKind, Share, TokenAllocation,
    Tokenizer,
};
pub use store::{
    Access, Append, AppendOutcome, Appended, Clear, Cursor, Durability, Generation, Head,
    InMemoryStore, MemoryState, MemoryStore, Newest, Outline, Page, Read, RemoveUnused, Removed,
    RemovedUnused, Replace, SavedMemories, Splice, StoreError, StoreErrorKind, UnusedMemory,
    UnusedPage, UnusedQuery,
};
pub use stored::{MessageId, MessageMeta, NewMessage, Sequence, StoredMessage};
pub use tokens::{
    ConfiguredCounter, EstimateCounter, MediaPrices, MediaTokens, TokenCounter, message_tokens,
};
#[cfg(feature = "tiktoken")]
pub use tokens::{TiktokenCounter, Vocabulary};
pub use unit::{Members, Unit, UnitClass, UnitState, Units};
pub use usage::{Anchor, Calibration, Usage};
pub use window::{
    ContextError, ContextPlan, ContextPlanner, LeftOut, NewestUnit, StartPolicy, Step, SummaryRole,
    Trimmed, WindowOptions, plan_context, trim_messages,
};
pub use write::{KEPT_SESSIONS, SESSION_LIFETIME, SESSION_RETENTION, WriteId, WriterId};
