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

mod chain;
mod clear;
mod compact;
mod fifo;
mod gate;
mod hybrid;
mod plan;
mod priority;
mod rule_based;
mod splice;
mod strategy;
mod summarize;
#[cfg(test)]
mod testcount;
mod transcript;
mod truncate;

#[cfg(test)]
mod auto_traits;

pub use chain::{Declined, FallbackChain, Summary, Timer};
pub use clear::{ClearToolResults, Clearing, clear_message};
pub use compact::{CompactOptions, Compacted, compact, compact_by_rule};
pub use fifo::Fifo;
pub use gate::{Gate, NotDue, flush_due, next_flush_at};
pub use hybrid::HybridSummary;
pub use memory_core::resource::{FlushSettings, SettingsError};
pub use plan::{FlushPlan, PlanError, validate_plan};
pub use priority::PriorityEviction;
pub use rule_based::{RuleBasedSummarizer, rule_based_summary};
pub use splice::{FlushRecord, WrittenSummary, receipt_for, splice_for, summary_message};
pub use strategy::{FlushInput, FlushStrategy};
pub use summarize::{
    Rejected, SummarizeError, Summarizer, SummaryRequest, accept_summary, from_fn,
};
pub use transcript::Transcript;
pub use truncate::truncate_to_tokens;
