//! Metrics of one resource, through the `metrics` facade.
//!
//! Labels are memory ids and small enumerations, never rendered keys. The handles are created with an instance, so
//! install the recorder before that. The metrics of an append then cost a few atomic additions.

use std::fmt;
use std::time::Duration;

use memory_core::resource::ExclusionReason;
use memory_core::store::{FlushReceipt, Tally};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// The handles of one resource's metrics.
pub(crate) struct Telemetry {
    messages: Counter,
    append_seconds: Histogram,
    context_seconds: Histogram,
    read_seconds: Histogram,
    flush_seconds: Histogram,
    trimmed: Counter,
    flushed: Counter,
    flush_failed: Counter,
    gate_stopped: Counter,
    tokens_saved: Counter,
    lock_acquired: Counter,
    lock_contended: Counter,
    lock_held_seconds: Histogram,
    excluded_by_flag: Counter,
    excluded_by_type: Counter,
    id: String,
}

/// The operation whose duration is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    Append,
    Read,
    Context,
    Flush,
}

impl Telemetry {
    pub(crate) fn new(id: &str) -> Self {
        let latency = |operation: &'static str| {
            histogram!(
                "memory_operation_latency_seconds",
                "memory" => id.to_owned(), "operation" => operation
            )
        };
        let flush = |outcome: &'static str| counter!("memory_flush_total", "memory" => id.to_owned(), "outcome" => outcome);
        let excluded = |reason: ExclusionReason| {
            counter!(
                "memory_excluded_messages_total",
                "memory" => id.to_owned(), "reason" => reason.as_str()
            )
        };
        let of = |name: &'static str| counter!(name, "memory" => id.to_owned());
        Self {
            messages: of("memory_messages_total"),
            append_seconds: latency("append"),
            context_seconds: latency("context"),
            read_seconds: latency("read"),
            flush_seconds: latency("flush"),
            trimmed: of("memory_trim_total"),
            flushed: flush("done"),
            flush_failed: flush("failed"),
            gate_stopped: of("memory_flush_optimization_hits_total"),
            tokens_saved: of("memory_tokens_saved_total"),
            lock_acquired: of("memory_lock_acquire_total"),
            lock_contended: of("memory_lock_contention_total"),
            lock_held_seconds: histogram!("memory_lock_duration_seconds", "memory" => id.to_owned()),
            excluded_by_flag: excluded(ExclusionReason::Flag),
            excluded_by_type: excluded(ExclusionReason::Type),
            id: id.to_owned(),
        }
    }

    /// Counts a message that is not stored, or not with its contents.
    pub(crate) fn excluded(&self, reason: ExclusionReason) {
        match reason {
            ExclusionReason::Flag => self.excluded_by_flag.increment(1),
            _ => self.excluded_by_type.increment(1),
        }
    }

    pub(crate) fn appended(&self, messages: usize) {
        self.messages.increment(messages as u64);
    }

    pub(crate) fn took(&self, operation: Operation, time: Duration) {
        let histogram = match operation {
            Operation::Append => &self.append_seconds,
            Operation::Read => &self.read_seconds,
            Operation::Context => &self.context_seconds,
            Operation::Flush => &self.flush_seconds,
        };
        histogram.record(time.as_secs_f64());
    }

    /// Counts an append whose counters showed that no flush is due, so that the history was not read.
    pub(crate) fn gate_stopped(&self) {
        self.gate_stopped.increment(1);
    }

    pub(crate) fn flushed(&self, receipt: &FlushReceipt) {
        self.flushed.increment(1);
        self.trimmed.increment(receipt.evicted.len() + receipt.summarized.len());
        self.tokens_saved.increment(receipt.tokens_before.saturating_sub(receipt.tokens_after));
    }

    pub(crate) fn flush_failed(&self) {
        self.flush_failed.increment(1);
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

    pub(crate) fn priority(&self, priority: memory_core::Priority, tally: Tally) {
        let gauge: Gauge = gauge!(
            "memory_priority_distribution",
            "memory" => self.id.clone(), "priority" => priority.to_string()
        );
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        gauge.set(tally.messages as f64);
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("id", &self.id).finish_non_exhaustive()
    }
}
