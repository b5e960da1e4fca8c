//! The help texts and units of all metrics.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Describes all metrics to the recorder.
pub(crate) fn describe() {
    describe_counter!("memory_messages_total", "Messages appended, by priority on entry");
    describe_counter!("memory_tokens_total", "Tokens appended");
    describe_counter!("memory_trim_total", "Flushes that removed messages");
    describe_counter!(
        "memory_trimmed_messages_total",
        "Messages that flushes removed, by fate: evicted or summarized"
    );
    describe_counter!(
        "memory_flush_total",
        "Flushes, by type: with a summary, an eviction, or clearing of tool results alone"
    );
    describe_counter!("memory_tokens_saved_total", "Tokens that flushes freed");
    describe_counter!(
        "memory_flush_optimization_hits_total",
        "Appends whose counters showed that no flush is due"
    );
    describe_gauge!("memory_tokens_used", "Tokens of the memories that this process holds");
    describe_gauge!(
        "memory_tokens_limit",
        "Budgets of the memories that this process holds, in tokens"
    );
    describe_gauge!(
        "memory_budget_memories",
        "Memories that this process holds with 85 % of their budget used (near) or all of it (over)"
    );
    describe_gauge!(
        "memory_priority_distribution",
        "Present messages of the memories that this process holds, by priority"
    );
    describe_histogram!(
        "memory_operation_latency_seconds",
        Unit::Seconds,
        "Duration of operations that succeeded"
    );
    describe_counter!("memory_operation_errors_total", "Operations that failed, by error code");
    describe_counter!("memory_lock_acquire_total", "Leases acquired");
    describe_counter!("memory_lock_contention_total", "Writes and turns that found the lease held");
    describe_histogram!("memory_lock_duration_seconds", Unit::Seconds, "How long leases were held");
    describe_counter!("memory_lock_refresh_total", "Refreshes of leases");
    describe_counter!(
        "memory_config_resolution_total",
        "Resolutions of an agent's memories, by the level of its configuration"
    );
    describe_gauge!(
        "memory_health_status",
        "1 if all memories were healthy when they were last looked at, otherwise 0"
    );
    describe_counter!(
        "memory_privacy_exclusions_total",
        "Messages that were not stored, or not with their contents"
    );
    describe_counter!(
        "memory_redaction_operations_total",
        "Messages and summaries in which something was redacted"
    );
    describe_counter!(
        "memory_circuit_breaker_trips_total",
        "Times that the circuit breaker of the store opened"
    );
    describe_gauge!(
        "memory_circuit_breaker_state",
        "The circuit breaker of the store: 0 closed, 1 open, 2 half open"
    );
    describe_counter!(
        "memory_audit_failures_total",
        "Records of the audit log that did not reach their sink"
    );
    describe_counter!("memory_view_reads_total", "Reads, by the state of the memory's view");
    describe_counter!("memory_view_evictions_total", "Views that were dropped to free memory");
    describe_gauge!("memory_view_bytes", Unit::Bytes, "Size of all views");
}
