//! Metrics of one resource, through the `metrics` facade, and spans of operations.
//!
//! Labels are the project, memory ids and small enumerations, never rendered keys. The handles are created with a
//! manager, so install the recorder before that. The metrics of an append then cost a few atomic additions.

mod breaker;
mod describe;
mod held;
mod outcome;
#[cfg(test)]
pub(crate) mod recorded;
mod spans;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use memory_core::plan::Policy;
use memory_core::resource::ExclusionReason;
use memory_core::store::{FlushReceipt, NewMessage, StoreOperation};
use memory_core::{ContentType, ErrorCode, MemoryKey, Priority};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use tokio::time::Instant;

pub(crate) use self::breaker::BreakerMetrics;
pub(crate) use self::describe::describe;
use self::held::Gauges;
pub(crate) use self::held::Held;
pub(crate) use self::spans::{
    OperationSpan, WaitSpan, continued, note, operation, operation_span, part, plan_span,
};
use crate::error::MemoryError;

/// The handles of one resource's metrics.
pub(crate) struct Telemetry {
    pub(crate) project: String,
    id: String,
    messages: [Counter; PRIORITIES],
    tokens: Counter,
    latency: [Histogram; Operation::ALL.len()],
    gate_stopped: Counter,
    lock_acquired: Counter,
    lock_contended: Counter,
    lock_held_seconds: Histogram,
    excluded_by_flag: Counter,
    excluded_by_type: Counter,
    redacted: Counter,
    healthy: Gauge,
    /// The memories that were not healthy when they were last looked at.
    unhealthy: Mutex<HashSet<MemoryKey>>,
    gauges: Gauges,
}

/// Priorities with a label of their number: 0, 1 and 2. All others have the last one.
const PRIORITIES: usize = 4;

/// The values of the label `priority`.
const PRIORITY_NAMES: [&str; PRIORITIES] = ["0", "1", "2", "3+"];

/// The index of a priority in [`PRIORITY_NAMES`].
fn index_of(priority: Priority) -> usize {
    usize::from(priority.number()).min(PRIORITIES - 1)
}

/// The priority of messages of this type: their own, or that of the type.
fn priority_of(priority: Option<Priority>, content_type: &ContentType, policy: &Policy) -> usize {
    index_of(priority.unwrap_or_else(|| policy.priority_of(content_type)))
}

/// The operation whose duration and errors are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Append,
    Read,
    Context,
    Flush,
    Clear,
    Replace,
    Delete,
    Health,
    Exclusive,
    Stats,
}

impl Operation {
    const ALL: [Self; 10] = [
        Self::Append,
        Self::Read,
        Self::Context,
        Self::Flush,
        Self::Clear,
        Self::Replace,
        Self::Delete,
        Self::Health,
        Self::Exclusive,
        Self::Stats,
    ];

    /// The operation of a write that is measured by itself.
    pub(crate) const fn of_write(operation: StoreOperation) -> Option<Self> {
        match operation {
            StoreOperation::Append => Some(Self::Append),
            StoreOperation::Replace | StoreOperation::ReplaceAll => Some(Self::Replace),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Read => "read",
            Self::Context => "context",
            Self::Flush => "flush",
            Self::Clear => "clear",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::Health => "health",
            Self::Exclusive => "exclusive",
            Self::Stats => "stats",
        }
    }
}

impl Telemetry {
    pub(crate) fn new(project: &str, id: &str) -> Self {
        let of = |name: &'static str| counter!(name, "project" => project.to_owned(), "memory_id" => id.to_owned());
        let labeled = |name: &'static str, label: &'static str, value: &'static str| counter!(name, "project" => project.to_owned(), "memory_id" => id.to_owned(), label => value);
        let excluded = |reason: ExclusionReason| {
            labeled("memory_privacy_exclusions_total", "reason", reason.as_str())
        };
        let healthy = gauge!("memory_health_status", "project" => project.to_owned(), "memory_id" => id.to_owned());
        // A gauge that is never set is 0, and an alert would take a resource without any memory for one that is down.
        healthy.set(1.0);
        Self {
            messages: PRIORITY_NAMES.map(|name| labeled("memory_messages_total", "priority", name)),
            tokens: of("memory_tokens_total"),
            latency: Operation::ALL.map(|operation| {
                histogram!(
                    "memory_operation_latency_seconds", "project" => project.to_owned(),
                    "memory_id" => id.to_owned(), "operation" => operation.name()
                )
            }),
            gate_stopped: of("memory_flush_optimization_hits_total"),
            lock_acquired: of("memory_lock_acquire_total"),
            lock_contended: of("memory_lock_contention_total"),
            lock_held_seconds: histogram!(
                "memory_lock_duration_seconds", "project" => project.to_owned(), "memory_id" => id.to_owned()
            ),
            excluded_by_flag: excluded(ExclusionReason::Flag),
            excluded_by_type: excluded(ExclusionReason::Type),
            redacted: of("memory_redaction_operations_total"),
            healthy,
            unhealthy: Mutex::default(),
            gauges: Gauges::new(project, id),
            project: project.to_owned(),
            id: id.to_owned(),
        }
    }

    /// A counter that is rare enough to be looked up each time.
    fn counter(&self, name: &'static str, label: &'static str, value: String) -> Counter {
        counter!(name, "project" => self.project.clone(), "memory_id" => self.id.clone(), label => value)
    }

    /// Counts a message that is not stored, or not with its contents.
    pub(crate) fn excluded(&self, reason: ExclusionReason) {
        match reason {
            ExclusionReason::Flag => self.excluded_by_flag.increment(1),
            _ => self.excluded_by_type.increment(1),
        }
    }

    /// Counts messages in which something was replaced.
    pub(crate) fn redacted(&self, messages: u64) {
        self.redacted.increment(messages);
    }

    pub(crate) fn appended(&self, messages: &[NewMessage], policy: &Policy) {
        let mut tokens = 0_u64;
        for message in messages {
            let at = priority_of(message.priority, &message.content_type, policy);
            if let Some(counter) = self.messages.get(at) {
                counter.increment(1);
            }
            tokens = tokens.saturating_add(message.tokens.into());
        }
        self.tokens.increment(tokens);
    }

    /// Records the duration of an operation, or its error.
    pub(crate) fn ended<T>(
        &self,
        operation: Operation,
        started: Instant,
        result: &Result<T, MemoryError>,
    ) {
        match result {
            Ok(_) => self.took(operation, started.elapsed()),
            Err(error) => self.failed(operation, error.code()),
        }
    }

    pub(crate) fn took(&self, operation: Operation, time: Duration) {
        if let Some(histogram) = self.latency.get(operation as usize) {
            histogram.record(time.as_secs_f64());
        }
    }

    pub(crate) fn failed(&self, operation: Operation, code: ErrorCode) {
        let errors = counter!(
            "memory_operation_errors_total", "project" => self.project.clone(), "memory_id" => self.id.clone(),
            "operation" => operation.name(), "code" => code.as_str()
        );
        errors.increment(1);
    }

    /// Counts an append whose counters showed that no flush is due, so that the history was not read.
    pub(crate) fn gate_stopped(&self) {
        self.gate_stopped.increment(1);
    }

    pub(crate) fn flushed(&self, receipt: &FlushReceipt) {
        let (evicted, summarized) = (receipt.evicted.len(), receipt.summarized.len());
        let kind = match (summarized, evicted) {
            (0, 0) => "clearing",
            (0, _) => "eviction",
            _ => "summary",
        };
        self.counter("memory_flush_total", "type", kind.to_owned()).increment(1);
        if evicted + summarized > 0 {
            let strategy = receipt.strategy.clone();
            self.counter("memory_trim_total", "strategy", strategy).increment(1);
        }
        for (fate, messages) in [("evicted", evicted), ("summarized", summarized)] {
            self.counter("memory_trimmed_messages_total", "fate", fate.to_owned())
                .increment(messages);
        }
        let saved = receipt.tokens_before.saturating_sub(receipt.tokens_after);
        self.counter("memory_tokens_saved_total", "strategy", receipt.strategy.clone())
            .increment(saved);
    }

    pub(crate) fn lock_acquired(&self) {
        self.lock_acquired.increment(1);
    }

    pub(crate) fn lock_contended(&self) {
        self.lock_contended.increment(1);
    }

    pub(crate) fn lock_held(&self, time: Duration) {
        self.lock_held_seconds.record(time.as_secs_f64());
    }

    /// The result of a look at the health of a memory. The gauge is 1 as soon as all memories that were looked at are
    /// healthy.
    pub(crate) fn health(&self, key: &MemoryKey, healthy: bool) {
        let mut unhealthy = self.unhealthy.lock().unwrap_or_else(PoisonError::into_inner);
        if healthy {
            unhealthy.remove(key);
        } else {
            unhealthy.insert(key.clone());
        }
        self.healthy.set(if unhealthy.is_empty() { 1.0 } else { 0.0 });
    }

    /// The health of a memory is no longer known.
    fn forget_health(&self, key: &MemoryKey) {
        let mut unhealthy = self.unhealthy.lock().unwrap_or_else(PoisonError::into_inner);
        if unhealthy.remove(key) && unhealthy.is_empty() {
            self.healthy.set(1.0);
        }
    }

    /// A record of the audit log did not reach its sink.
    pub(crate) fn audit_failed(&self) {
        let failures = counter!(
            "memory_audit_failures_total", "project" => self.project.clone(), "memory_id" => self.id.clone()
        );
        failures.increment(1);
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("id", &self.id).finish_non_exhaustive()
    }
}
