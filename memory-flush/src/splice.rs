//! What a flush asks the store to do, and the record that it leaves.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use memory_core::{
    ContentType, FlushReceipt, Generation, Message, MessageId, NewMessage, Policy, Priority,
    Sequence, SequenceSet, Shortfall, Splice, SummaryRecord, TokenCounter, message_tokens,
};
use uuid::Uuid;

use crate::chain::Summary;
use crate::gate::next_flush_at;
use crate::plan::FlushPlan;
use crate::strategy::{FlushInput, tally};

/// The message that a summary becomes: a system message of content type
/// [`Summary`](ContentType::Summary), with the priority of that.
///
/// A summary is never critical, whatever the policy says: else it could not go into the next one,
/// and summaries would pile up. It is then [important](Priority::IMPORTANT).
#[must_use]
pub fn summary_message(
    text: &str,
    id: MessageId,
    created_at: Timestamp,
    policy: &Policy,
    counter: &dyn TokenCounter,
) -> NewMessage {
    let message = Message::system(text);
    NewMessage {
        id,
        tokens: message_tokens(counter, &message),
        message,
        priority: Some(policy.priority_of(&ContentType::Summary).max(Priority::IMPORTANT)),
        content_type: ContentType::Summary,
        created_at,
    }
}

/// The summary of a flush, as a message and with its story.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenSummary {
    /// The message.
    pub message: NewMessage,
    /// Who wrote it.
    pub summarizer: String,
    /// Why somebody else wrote it than was asked first, if so.
    pub fallback: Option<String>,
}

impl WrittenSummary {
    /// Makes a message of a summary; `None` where it has no text.
    #[must_use]
    pub fn new(
        summary: &Summary,
        id: MessageId,
        created_at: Timestamp,
        policy: &Policy,
        counter: &dyn TokenCounter,
    ) -> Option<Self> {
        (!summary.text.is_empty()).then(|| Self {
            message: summary_message(&summary.text, id, created_at, policy, counter),
            summarizer: summary.summarizer.clone(),
            fallback: summary.fallback(),
        })
    }
}

/// What the record of a flush says about its making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlushRecord {
    /// The flush; a splice sent twice is recognised by it.
    pub id: Uuid,
    /// The strategy that planned it.
    pub strategy: String,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took up to now, the summariser included.
    pub duration: Duration,
}

/// The splice that carries a plan out, with its receipt and the time for the next flush.
///
/// Without a summary, or where it is not smaller than what it is to replace, the messages to
/// summarise are evicted, and counted as that: a flush never makes a memory larger. `generation` is
/// that of the snapshot whose metas the input holds; leases and access are for the caller to set.
#[must_use]
pub fn splice_for(
    plan: &FlushPlan,
    input: &FlushInput<'_>,
    generation: Generation,
    summary: Option<WrittenSummary>,
    record: FlushRecord,
) -> Splice {
    let to_summarise: HashSet<_> = plan.summarise.iter().collect();
    let to_evict: HashSet<_> = plan.evict.iter().collect();
    let replaced = tally(input.metas.iter().filter(|meta| to_summarise.contains(&meta.sequence)));
    let summary = summary.filter(|summary| u64::from(summary.message.tokens) < replaced.tokens);

    let mut summarised = Vec::with_capacity(plan.summarise.len());
    let mut evicted = Vec::with_capacity(plan.evict.len());
    let before = input.before();
    let mut after = before;
    for meta in input.metas {
        if to_summarise.contains(&meta.sequence) && summary.is_some() {
            summarised.push(meta.sequence);
        } else if to_evict.contains(&meta.sequence) || to_summarise.contains(&meta.sequence) {
            evicted.push(meta.sequence);
        } else {
            continue;
        }
        after.remove(meta.tokens);
    }
    let without_summary = after;
    if let Some(summary) = &summary {
        after.add(summary.message.tokens);
    }
    let shortfall = if input.target.is_met_by(after) {
        // That there was nothing to flush remains worth saying.
        plan.shortfall.filter(|_| input.metas.is_empty())
    } else if input.target.is_met_by(without_summary) {
        Some(Shortfall::SummaryTooLarge)
    } else {
        plan.shortfall.or(Some(Shortfall::Strategy))
    };
    let place: Option<Sequence> = summarised.first().copied();
    let receipt = FlushReceipt {
        id: record.id,
        strategy: record.strategy,
        started_at: record.started_at,
        duration: record.duration,
        tokens_before: before.tokens,
        tokens_after: after.tokens,
        messages_before: before.messages,
        messages_after: after.messages,
        evicted: evicted.iter().copied().collect::<SequenceSet>(),
        summarised: summarised.iter().copied().collect(),
        summary: summary.as_ref().zip(place).map(|(summary, sequence)| SummaryRecord {
            id: summary.message.id,
            sequence,
            tokens: summary.message.tokens,
            summarizer: summary.summarizer.clone(),
            fallback: summary.fallback.clone(),
        }),
        shortfall,
    };
    Splice {
        summarised,
        evicted,
        summary: summary.map(|summary| summary.message),
        receipt: Some(receipt),
        next_flush_at: next_flush_at(after, input.policy, input.settings),
        ..Splice::new(generation)
    }
}
