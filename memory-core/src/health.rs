//! How a memory is doing: everything an operator asks, as data.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::counters::{Counters, Tally};
use crate::key::MemoryKey;
use crate::lease::FencingToken;
use crate::priority::{ContentType, Priority};
use crate::receipt::FlushReceipt;
use crate::usage::Calibration;

/// How a memory is doing.
#[doc(alias = "GetMemoryHealth")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryHealth {
    /// The memory.
    pub key: MemoryKey,
    /// The verdict, with the reason where it is not a good one.
    pub verdict: Verdict,
    /// Messages that are there.
    pub messages: u64,
    /// Their tokens.
    pub tokens: u64,
    /// The budget in tokens.
    pub max_tokens: u64,
    /// `tokens` as a share of `max_tokens`.
    pub budget_used: f64,
    /// The most messages, if there is such a limit.
    pub message_limit: Option<u64>,
    /// What is there by priority, with recent and older talk told apart.
    pub priorities: BTreeMap<Priority, Tally>,
    /// What is there by content type.
    pub content_types: BTreeMap<ContentType, Tally>,
    /// Tool calls whose results are still awaited.
    pub open_calls: u64,
    /// Tool calls given up by time or by hand.
    pub abandoned_calls: u64,
    /// Tool results whose call is gone or never was; they stay out of context windows.
    pub orphaned_results: u64,
    /// What became of everything that was ever appended.
    pub lifetime: Lifetime,
    /// The flush strategy.
    pub strategy: String,
    /// The newest flush.
    pub last_flush: Option<FlushReceipt>,
    /// Why the newest attempt to flush failed in this process, if it did and no flush of another process
    /// came after it.
    pub last_flush_error: Option<String>,
    /// The lease on the memory.
    pub lease: Option<LeaseHealth>,
    /// Tasks of this process that wait in line for it.
    pub waiting_tasks: u64,
    /// The newest fencing token that the store has seen.
    pub fence: FencingToken,
    /// When the memory's TTL runs out.
    pub expires_at: Option<Timestamp>,
    /// How long the store took to answer for this report, in microseconds.
    pub store_latency_us: u64,
    /// Messages that cannot be decoded; they stay out of plans and windows until they are evicted or
    /// the memory is cleared.
    pub unreadable: u64,
    /// The server behind the store, where there is one.
    pub server: Option<ServerHealth>,
    /// How much windows of this process are smaller than their budgets, because providers reported more tokens than
    /// were counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calibrations: Vec<Calibration>,
}

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerHealth {
    /// Which software, and its version.
    pub software: String,
    /// `master`, `replica`, or that of a Cluster and how many masters it has.
    pub role: String,
    /// How many replicas are connected; of a Cluster, to all its masters.
    pub replicas: u32,
    /// What outlives a restart of the server: `append-only file`, or `snapshots at most`.
    pub persistence: String,
    /// Settings of the server that put acknowledged messages at risk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<ServerWarning>,
}

/// A setting of a server that puts acknowledged messages at risk. Its text names the remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ServerWarning {
    /// The server may drop keys when it is out of memory, and with them whole memories.
    Eviction {
        /// Its `maxmemory-policy`: with `volatile-*` keys that have a TTL are at risk, with `allkeys-*` all.
        policy: String,
    },
}

impl ServerWarning {
    /// The warning that a server's `maxmemory-policy` calls for, if any.
    #[must_use]
    pub fn of_policy(policy: &str) -> Option<Self> {
        let evicts = policy.starts_with("volatile-") || policy.starts_with("allkeys-");
        evicts.then(|| Self::Eviction { policy: policy.to_owned() })
    }

    /// Whether it threatens a memory, which has a TTL or has none.
    #[must_use]
    pub fn threatens(&self, has_ttl: bool) -> bool {
        match self {
            Self::Eviction { policy } => has_ttl || !policy.starts_with("volatile-"),
        }
    }
}

impl fmt::Display for ServerWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eviction { policy } => {
                let which =
                    if self.threatens(false) { "memories" } else { "memories that have a TTL" };
                write!(
                    f,
                    "out of memory, the server may drop {which} (maxmemory-policy {policy}); set maxmemory-policy to noeviction"
                )
            }
        }
    }
}

/// What became of everything that was ever appended (promise P1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// Messages ever appended.
    pub appended: u64,
    /// Appended messages that are there.
    pub present: u64,
    /// Messages replaced by summaries.
    pub summarised: u64,
    /// Messages evicted.
    pub evicted: u64,
    /// Messages cleared.
    pub cleared: u64,
    /// Summaries that are there; they were never appended.
    pub summaries: u64,
}

impl From<&Counters> for Lifetime {
    fn from(counters: &Counters) -> Self {
        Self {
            appended: counters.appended,
            present: counters.present.messages.saturating_sub(counters.summaries),
            summarised: counters.summarised,
            evicted: counters.evicted,
            cleared: counters.cleared,
            summaries: counters.summaries,
        }
    }
}

/// Who holds the lease on a memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseHealth {
    /// The holder, as 32 hexadecimal digits.
    pub owner: String,
    /// Its token.
    pub token: FencingToken,
    /// How long it has been held, in milliseconds, where the backend knows.
    pub held_ms: Option<u64>,
    /// How long it lives without a refresh, in milliseconds.
    pub remaining_ms: u64,
}

/// Whether a memory is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// All is well.
    Healthy,
    /// It works, but somebody should look.
    Degraded {
        /// What is amiss, and the mend.
        why: String,
    },
    /// It holds more than its budget or its message limit, and a flush will not help.
    OverBudget {
        /// What takes the room, and the mend.
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
    fn a_lifetime_tells_summaries_and_appended_messages_apart() {
        let counters = Counters {
            present: Tally { messages: 5, tokens: 50 },
            summaries: 1,
            appended: 10,
            summarised: 1,
            evicted: 2,
            cleared: 3,
            ..Counters::default()
        };
        assert_eq!(
            Lifetime::from(&counters),
            Lifetime {
                appended: 10,
                present: 4,
                summarised: 1,
                evicted: 2,
                cleared: 3,
                summaries: 1
            }
        );
    }

    #[test]
    fn eviction_policies_threaten_what_they_may_drop() {
        for (policy, threatens) in [
            ("noeviction", None),
            ("", None),
            ("volatile-lru", Some((true, false))),
            ("volatile-ttl", Some((true, false))),
            ("allkeys-random", Some((true, true))),
        ] {
            let warning = ServerWarning::of_policy(policy);
            let found = warning.as_ref().map(|it| (it.threatens(true), it.threatens(false)));
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
    fn a_verdict_is_shown_with_its_reason() {
        let why = || "look here".to_owned();
        assert_eq!(Verdict::Healthy.to_string(), "healthy");
        assert_eq!(Verdict::Degraded { why: why() }.to_string(), "degraded: look here");
        assert_eq!(Verdict::OverBudget { why: why() }.to_string(), "over budget: look here");
    }
}
