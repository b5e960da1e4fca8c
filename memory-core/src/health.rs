//! The health report of a memory.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::archive::ArchivedRemoval;
use crate::counters::{Counters, Tally};
use crate::key::MemoryKey;
use crate::lease::{FencingToken, LeaseInfo};
use crate::metadata::Metadata;
use crate::priority::{ContentType, Priority};
use crate::receipt::FlushReceipt;
use crate::store::ForkOrigin;
use crate::usage::Calibration;

/// The health report of a memory, for operators.
#[doc(alias = "GetMemoryHealth")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemoryHealth {
    /// The memory.
    pub key: MemoryKey,
    /// The verdict, with a reason unless it is healthy.
    pub verdict: Verdict,
    /// Present messages.
    pub messages: u64,
    /// Their tokens.
    pub tokens: u64,
    /// The budget in tokens.
    pub max_tokens: u64,
    /// `tokens` as a share of `max_tokens`.
    pub budget_used: f64,
    /// The most messages, if limited.
    pub message_limit: Option<u64>,
    /// Present messages by priority; conversation counts by its recency.
    pub priorities: BTreeMap<Priority, Tally>,
    /// Present messages by content type.
    pub content_types: BTreeMap<ContentType, Tally>,
    /// Tool calls that still wait for results.
    pub open_calls: u64,
    /// Tool calls abandoned by timeout or closed explicitly.
    pub abandoned_calls: u64,
    /// Tool results whose call was removed or never existed; they are left out of context windows.
    pub orphaned_results: u64,
    /// The fate of all messages ever appended.
    pub lifetime: Lifetime,
    /// The flush strategy.
    pub strategy: String,
    /// The newest flush.
    pub last_flush: Option<FlushReceipt>,
    /// Why the newest flush attempt of this process failed; `None` if it succeeded or a flush of another process
    /// followed it.
    pub last_flush_error: Option<String>,
    /// A flush was undone, so no automatic flush begins until one is performed explicitly.
    #[serde(default)]
    pub flush_held: bool,
    /// The archive; `None` if the resource keeps none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveHealth>,
    /// The memory that this one was forked from, if it is a fork.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<ForkOrigin>,
    /// The metadata. Omitted from JSON if there is none.
    #[serde(default, skip_serializing_if = "Metadata::is_unset")]
    pub metadata: Metadata,
    /// The lease on the memory.
    pub lease: Option<LeaseHealth>,
    /// Tasks of this process that wait for the lease.
    pub waiting_tasks: u64,
    /// The newest fencing token that the store has seen.
    pub fence: FencingToken,
    /// When the memory's TTL runs out.
    pub expires_at: Option<Timestamp>,
    /// The latency of the store for this report, in microseconds.
    pub store_latency_us: u64,
    /// Messages that cannot be decoded. They are left out of plans and windows until they are evicted or the memory
    /// is cleared.
    pub unreadable: u64,
    /// The server behind the store, if there is one.
    pub server: Option<ServerHealth>,
    /// The reductions of window budgets in this process, because providers reported more tokens than were counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calibrations: Vec<Calibration>,
}

impl MemoryHealth {
    /// The health of an empty memory. The caller sets the other fields.
    #[must_use]
    pub fn new(key: MemoryKey, verdict: Verdict) -> Self {
        Self {
            key,
            verdict,
            messages: 0,
            tokens: 0,
            max_tokens: 0,
            budget_used: 0.0,
            message_limit: None,
            priorities: BTreeMap::new(),
            content_types: BTreeMap::new(),
            open_calls: 0,
            abandoned_calls: 0,
            orphaned_results: 0,
            lifetime: Lifetime::default(),
            strategy: String::new(),
            last_flush: None,
            last_flush_error: None,
            flush_held: false,
            archive: None,
            origin: None,
            metadata: Metadata::default(),
            lease: None,
            waiting_tasks: 0,
            fence: FencingToken::ZERO,
            expires_at: None,
            store_latency_us: 0,
            unreadable: 0,
            server: None,
            calibrations: Vec::new(),
        }
    }
}

/// The state of a server, as it reports it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServerHealth {
    /// The software and its version.
    pub software: String,
    /// `master`, `replica`, or that of a Cluster with the number of its masters.
    pub role: String,
    /// The number of connected replicas; for a Cluster, of all its masters.
    pub replicas: u32,
    /// The persistence of the server: `append-only file`, or `snapshots at most`.
    pub persistence: String,
    /// Settings of the server that can lose acknowledged messages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<ServerWarning>,
}

/// A setting of a server that can lose acknowledged messages. Its text names the remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ServerWarning {
    /// The server may drop keys, and thereby whole memories, when it is out of memory.
    Eviction {
        /// Its `maxmemory-policy`: with `volatile-*`, keys that have a TTL are at risk, with `allkeys-*` all keys.
        policy: String,
    },
}

impl ServerWarning {
    /// The warning for a server's `maxmemory-policy`, if it needs one.
    #[must_use]
    pub fn of_policy(policy: &str) -> Option<Self> {
        let evicts = policy.starts_with("volatile-") || policy.starts_with("allkeys-");
        evicts.then(|| Self::Eviction { policy: policy.to_owned() })
    }

    /// Whether memories without a TTL are threatened too. Those with one always are.
    #[must_use]
    pub fn threatens_all(&self) -> bool {
        match self {
            Self::Eviction { policy } => !policy.starts_with("volatile-"),
        }
    }
}

impl fmt::Display for ServerWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eviction { policy } => {
                let which =
                    if self.threatens_all() { "memories" } else { "memories that have a TTL" };
                write!(
                    f,
                    "out of memory, the server may drop {which} (maxmemory-policy {policy}); set maxmemory-policy to noeviction"
                )
            }
        }
    }
}

/// The fate of all messages ever appended (promise P1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Lifetime {
    /// Messages ever appended.
    pub appended: u64,
    /// Appended messages that are still present.
    pub present: u64,
    /// Messages replaced by summaries.
    #[serde(rename = "summarised")]
    pub summarized: u64,
    /// Messages evicted.
    pub evicted: u64,
    /// Messages cleared.
    pub cleared: u64,
    /// Messages taken back.
    #[serde(default)]
    pub withdrawn: u64,
    /// Present summaries; they were never appended.
    pub summaries: u64,
}

impl From<&Counters> for Lifetime {
    fn from(counters: &Counters) -> Self {
        Self {
            appended: counters.appended,
            present: counters.present.messages.saturating_sub(counters.summaries),
            summarized: counters.summarized,
            evicted: counters.evicted,
            cleared: counters.cleared,
            withdrawn: counters.withdrawn,
            summaries: counters.summaries,
        }
    }
}

/// The size of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ArchiveHealth {
    /// The removals in it.
    pub removals: u64,
    /// Their messages.
    pub messages: u64,
    /// The bytes of these messages in their stored form.
    pub bytes: u64,
}

impl ArchiveHealth {
    /// Adds a removal.
    pub const fn add(&mut self, removal: &ArchivedRemoval) {
        self.removals = self.removals.saturating_add(1);
        self.messages = self.messages.saturating_add(removal.messages);
        self.bytes = self.bytes.saturating_add(removal.bytes);
    }
}

/// The holder of the lease on a memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LeaseHealth {
    /// The holder, as 32 hexadecimal digits.
    pub owner: String,
    /// Its token.
    pub token: FencingToken,
    /// The time since it was acquired, in milliseconds, if the backend knows it.
    pub held_ms: Option<u64>,
    /// The time until it expires without a refresh, in milliseconds.
    pub remaining_ms: u64,
}

impl From<LeaseInfo> for LeaseHealth {
    fn from(lease: LeaseInfo) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            owner: lease.owner.to_string(),
            token: lease.token,
            held_ms: lease.held_for.map(millis),
            remaining_ms: millis(lease.remaining),
        }
    }
}

/// The state of a memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// No problems.
    Healthy,
    /// The memory works, but needs attention.
    Degraded {
        /// The problem and the remedy.
        why: String,
    },
    /// The memory exceeds its budget or its message limit, and a flush will not help.
    OverBudget {
        /// The cause and the remedy.
        why: String,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy => f.write_str("healthy"),
            Self::Degraded { why } => write!(f, "degraded: {why}"),
            Self::OverBudget { why } => write!(f, "over budget: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetime_separates_summaries_from_appended() {
        let counters = Counters {
            present: Tally { messages: 5, tokens: 50 },
            summaries: 1,
            appended: 14,
            summarized: 1,
            evicted: 2,
            cleared: 3,
            withdrawn: 4,
            ..Counters::default()
        };
        assert_eq!(
            Lifetime::from(&counters),
            Lifetime {
                appended: 14,
                present: 4,
                summarized: 1,
                evicted: 2,
                cleared: 3,
                withdrawn: 4,
                summaries: 1
            }
        );
    }

    #[test]
    fn eviction_policies_threaten_matching_memories() {
        for (policy, threatens) in [
            ("noeviction", None),
            ("", None),
            ("volatile-lru", Some(false)),
            ("volatile-ttl", Some(false)),
            ("allkeys-random", Some(true)),
        ] {
            let warning = ServerWarning::of_policy(policy);
            let found = warning.as_ref().map(ServerWarning::threatens_all);
            assert_eq!(found, threatens, "{policy}");
            let json = warning.as_ref().map(|warning| serde_json::to_value(warning).unwrap());
            let expected =
                threatens.map(|_| serde_json::json!({"kind": "eviction", "policy": policy}));
            assert_eq!(json, expected);
        }
        assert_eq!(
            ServerWarning::of_policy("volatile-lru").unwrap().to_string(),
            "out of memory, the server may drop memories that have a TTL (maxmemory-policy volatile-lru); set maxmemory-policy to noeviction"
        );
    }

    #[test]
    fn verdict_displays_its_reason() {
        let why = || "look here".to_owned();
        assert_eq!(Verdict::Healthy.to_string(), "healthy");
        assert_eq!(Verdict::Degraded { why: why() }.to_string(), "degraded: look here");
        assert_eq!(Verdict::OverBudget { why: why() }.to_string(), "over budget: look here");
    }
}
