//! The sections of a resource, with their defaults.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;
use crate::flush_settings::SettingsError;
use crate::lease::DEFAULT_LEASE_TTL;
use crate::policy::Policy;
use crate::priority::{ContentType, Priority};
use crate::store::Durability;

/// The unit in which a memory is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ResourceKind {
    /// By its tokens.
    #[default]
    TokenBased,
}

/// The kind of a document, which only has to be `memory` where it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DocumentKind {
    Memory,
}

/// The kind of store that a resource is meant for. The URL of the store decides; opening another kind logs a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StoreKind {
    /// A Redis or Valkey server.
    Redis,
    /// Memories of one process.
    InMemory,
}

/// Content types that share a priority.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PriorityBlock {
    /// 0 critical, 1 important, 2 and more optional.
    pub priority: Priority,
    /// The types; each in one block only.
    pub content_types: Vec<ContentType>,
    /// The limit of their total tokens. Default: their share of the budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
}

impl PriorityBlock {
    /// A block of these types, limited by their share of the budget.
    #[must_use]
    pub fn new(priority: Priority, content_types: impl IntoIterator<Item = ContentType>) -> Self {
        Self { priority, content_types: content_types.into_iter().collect(), max_tokens: None }
    }

    /// Limits the total tokens of the block.
    #[must_use]
    pub fn with_max_tokens(self, max_tokens: u64) -> Self {
        Self { max_tokens: Some(max_tokens), ..self }
    }
}

/// Shares of the budget; together at most 1. The default is no share for any.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TokenAllocation {
    /// Recent context and important facts.
    pub short_term: f64,
    /// Summaries and historical messages.
    pub long_term: f64,
    /// System prompts and user profiles.
    pub system: f64,
}

/// A share of the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// Recent context and important facts.
    ShortTerm,
    /// Summaries and historical messages.
    LongTerm,
    /// System prompts and user profiles.
    System,
}

/// The number of messages of the content type `reminder` that a window sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Reminders {
    /// The number of the newest reminders to send, at least 1. Default: 3.
    pub keep: u64,
}

impl Reminders {
    /// Settings that send this many of the newest reminders.
    #[must_use]
    pub const fn keep(keep: u64) -> Self {
        Self { keep }
    }

    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Reminders {
    fn default() -> Self {
        Self { keep: Policy::DEFAULT_REMINDERS_KEPT }
    }
}

/// When and how a memory is flushed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct FlushingStrategy {
    /// `hybrid_summary` (the default), `clear_tool_results`, `fifo`, `priority`, or the name of a custom strategy.
    /// `hybrid_summary` replaces the oldest messages by a summary, which needs no model. `clear_tool_results` only
    /// replaces old tool results by a short text, so a memory may stay over its target. The other two evict: the
    /// messages that they remove are lost.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The share of the budget at which a flush begins. Default: 0.8.
    pub summarize_threshold: f64,
    /// The share of the budget that a flush reduces the memory to. Default: 0.5.
    pub flush_target: f64,
    /// The most tokens of a summary. Default: 500, or a quarter of the target if that is less.
    pub summary_tokens: Option<u64>,
    /// The minimum share of the summarizable tokens that one flush summarizes, in percent. Default: 30.
    pub summarize_oldest_percent: u8,
    /// A memory with fewer messages is not flushed while it is within the budget. Default: 10.
    pub min_messages: u64,
    /// Replaces old tool results by a short text before `hybrid_summary` summarizes anything; if that frees enough,
    /// nothing is summarized. Default: none with `hybrid_summary`, and the defaults of its fields with
    /// `clear_tool_results`. `fifo` and `priority` do not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clear_tool_results: Option<ClearToolResults>,
}

/// Which tool results a flush clears: it replaces them by a text such as `[tool result cleared: 1,234 tokens]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ClearToolResults {
    /// The number of newest tool results that stay as they are, at least 1. Default: 3.
    pub keep: u64,
    /// The least number of tokens that clearing must free, else nothing is cleared. Clearing ends the provider's prompt
    /// cache from the first cleared result on, so it should free enough to pay for that. Default: 0.
    pub min_tokens: u64,
}

impl ClearToolResults {
    /// Keeps this many of the newest results, and clears only if that frees at least this many tokens.
    #[must_use]
    pub const fn new(keep: u64, min_tokens: u64) -> Self {
        Self { keep, min_tokens }
    }
}

impl Default for ClearToolResults {
    fn default() -> Self {
        Self { keep: 3, min_tokens: 0 }
    }
}

impl FlushingStrategy {
    /// The default strategy: it summarizes and does not silently delete.
    pub const DEFAULT_KIND: &'static str = "hybrid_summary";

    /// Which tool results a flush clears.
    pub(crate) fn clearing(&self) -> Result<Option<ClearToolResults>, SettingsError> {
        let refuse = |field, remedy| Err(SettingsError { field, remedy });
        let kind = self.kind.as_deref().unwrap_or(Self::DEFAULT_KIND);
        match (kind, self.clear_tool_results) {
            ("fifo" | "priority", Some(_)) => refuse(
                "clear_tool_results",
                format!(
                    "the strategy `{kind}` does not clear tool results; set it with the type `hybrid_summary` or `clear_tool_results`"
                ),
            ),
            (_, Some(ClearToolResults { keep: 0, .. })) => refuse(
                "clear_tool_results.keep",
                "0 would clear results that the model has not seen; set it to at least 1".into(),
            ),
            ("clear_tool_results", None) => Ok(Some(ClearToolResults::default())),
            (_, clear) => Ok(clear),
        }
    }
}

impl Default for FlushingStrategy {
    fn default() -> Self {
        Self {
            kind: None,
            summarize_threshold: 0.8,
            flush_target: 0.5,
            summary_tokens: None,
            summarize_oldest_percent: 30,
            min_messages: 10,
            clear_tool_results: None,
        }
    }
}

/// The settings of the leases on a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WrittenLock")]
#[non_exhaustive]
pub struct LockSettings {
    /// The time that a lease lives without a refresh. Default: 30 s.
    #[serde(with = "duration::required")]
    pub ttl: Duration,
    /// The time of the first refresh; at most half of the TTL. Default: 15 s.
    #[serde(with = "duration::required")]
    pub refresh_interval: Duration,
    /// The maximum wait in line for the lease during other tasks' turns. Default: [`max_turn`](Self::max_turn).
    #[serde(with = "duration::required")]
    pub wait_timeout: Duration,
    /// The maximum duration of an exclusive turn; a longer one loses its lease. Leases outside of turns have a longer
    /// limit. Default: 60 s.
    #[serde(with = "duration::required", skip_serializing_if = "is_default_turn")]
    pub max_turn: Duration,
    /// The time for which a write, or a request for the lease, is retried while the store fails or gives no answer,
    /// counted from the first of consecutive failures; never longer than `wait_timeout`. Default: 10 s.
    #[serde(with = "duration::required", skip_serializing_if = "is_default_failure")]
    pub failure_timeout: Duration,
}

const DEFAULT_MAX_TURN: Duration = Duration::from_secs(60);
const DEFAULT_FAILURE_TIMEOUT: Duration = Duration::from_secs(10);

fn is_default_turn(time: &Duration) -> bool {
    *time == DEFAULT_MAX_TURN
}

fn is_default_failure(time: &Duration) -> bool {
    *time == DEFAULT_FAILURE_TIMEOUT
}

impl LockSettings {
    /// Sets the maximum duration of a turn, and with it the wait timeout, unless that was set to another value.
    #[must_use]
    pub fn with_max_turn(mut self, max_turn: Duration) -> Self {
        if self.wait_timeout == self.max_turn {
            self.wait_timeout = max_turn;
        }
        self.max_turn = max_turn;
        self
    }
}

impl Default for LockSettings {
    fn default() -> Self {
        WrittenLock::default().into()
    }
}

/// The settings in written form, without those that follow from others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenLock {
    #[serde(with = "duration::required")]
    ttl: Duration,
    #[serde(with = "duration::required")]
    refresh_interval: Duration,
    #[serde(with = "duration::optional")]
    wait_timeout: Option<Duration>,
    #[serde(with = "duration::required")]
    max_turn: Duration,
    #[serde(with = "duration::required")]
    failure_timeout: Duration,
}

impl Default for WrittenLock {
    fn default() -> Self {
        Self {
            ttl: DEFAULT_LEASE_TTL,
            refresh_interval: DEFAULT_LEASE_TTL / 2,
            wait_timeout: None,
            max_turn: DEFAULT_MAX_TURN,
            failure_timeout: DEFAULT_FAILURE_TIMEOUT,
        }
    }
}

impl From<WrittenLock> for LockSettings {
    fn from(written: WrittenLock) -> Self {
        let WrittenLock { ttl, refresh_interval, wait_timeout, max_turn, failure_timeout } =
            written;
        let wait_timeout = wait_timeout.unwrap_or(max_turn);
        Self { ttl, refresh_interval, wait_timeout, max_turn, failure_timeout }
    }
}

/// The settings of a circuit breaker. Failures are calls that the store did not answer; a refusal, such as of a stale
/// lease, counts as an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct CircuitBreakerSettings {
    /// The time after which a call is abandoned and counted as a failure; less than `lock.failure_timeout` and
    /// `lock.wait_timeout`. Default: 2 s.
    #[serde(with = "duration::required")]
    pub timeout: Duration,
    /// The number of consecutive failures that opens the breaker; at least 1. Default: 5.
    pub failure_threshold: u32,
    /// The time for which an open breaker refuses all calls. After that it is half open and sends one call at a time
    /// as a probe. Default: 10 s.
    #[serde(with = "duration::required")]
    pub reset_timeout: Duration,
    /// The number of consecutive successful probes that closes it; a failed probe opens it again. At least 1.
    /// Default: 1.
    pub success_threshold: u32,
}

const DEFAULT_BREAKER_TIMEOUT: Duration = Duration::from_secs(2);
const DEFAULT_BREAKER_RESET_TIMEOUT: Duration = Duration::from_secs(10);

impl Default for CircuitBreakerSettings {
    fn default() -> Self {
        Self {
            timeout: DEFAULT_BREAKER_TIMEOUT,
            failure_threshold: 5,
            reset_timeout: DEFAULT_BREAKER_RESET_TIMEOUT,
            success_threshold: 1,
        }
    }
}

/// How a memory is persisted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Persistence {
    /// The kind of store that the resource is meant for, for people. In text: `type`. Default: any.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<StoreKind>,
    /// The TTL of the memory after its last write. After that it reads as empty. Its storage is freed by the next
    /// write to its key or by `MemoryManager::sweep`, on Redis by the server. The TTL is measured by wall-clock time,
    /// of the server on Redis and otherwise of the reading process. A clock that is ahead therefore ends it early,
    /// because a step forward cannot be distinguished from elapsed time. Default: no TTL.
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// The failures that an acknowledged write must survive; opening the memory in a store that provides less is an
    /// error. Default: the store's durability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
}
