//! Turns a plan into the splice for the store, with a receipt.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use memory_core::plan::Policy;
use memory_core::store::{
    FlushReceipt, Generation, MessageId, MessageMeta, NewMessage, ReplacedRecord, Shortfall,
    Splice, SummaryRecord, Tally,
};
use memory_core::tokens::message_tokens;
use memory_core::{ContentType, Message, Priority, Sequence, TokenCounter};
use uuid::Uuid;

use crate::chain::Summary;
use crate::gate::next_flush_at;
use crate::plan::FlushPlan;
use crate::strategy::FlushInput;

/// The message of a summary: a system message of content type [`Summary`](ContentType::Summary), with the priority of
/// that type.
///
/// A summary is never critical under any policy, because a critical one could not be merged into the next one, and
/// summaries would accumulate. It is then [important](Priority::IMPORTANT).
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

/// The summary of a flush as a message, with its origin.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenSummary {
    /// The message.
    pub message: NewMessage,
    /// The summarizer that wrote it.
    pub summarizer: String,
    /// Why a fallback wrote it instead of the preferred summarizer, if so.
    pub fallback: Option<String>,
}

impl WrittenSummary {
    /// Creates the message of a summary; `None` if it has no text.
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

/// Facts about a flush for its receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlushRecord {
    /// The id of the flush; a splice sent twice is recognized by it.
    pub id: Uuid,
    /// The strategy that planned it.
    pub strategy: String,
    /// The start of the flush.
    pub started_at: Timestamp,
    /// The duration so far, including the summarizer.
    pub duration: Duration,
}

/// The splice that executes a plan, with its receipt and the size for the next flush.
///
/// Messages whose tool results are cleared are replaced by the input's
/// [cleared forms](FlushInput::clearable), unless they are removed too.
///
/// If there is no summary, or if it is not smaller than the messages it replaces, those messages are evicted and
/// counted as evicted, so that a flush never makes a memory larger. `generation` is that of the snapshot whose metas
/// the input holds; the caller sets leases and access.
#[must_use]
pub fn splice_for(
    plan: &FlushPlan,
    input: &FlushInput<'_>,
    generation: Generation,
    summary: Option<WrittenSummary>,
    record: FlushRecord,
) -> Splice {
    let to_summarize: HashSet<_> = plan.summarize.iter().collect();
    let to_evict: HashSet<_> = plan.evict.iter().collect();
    let to_clear: HashSet<_> = plan.clear.iter().collect();
    let cleared = |meta: &MessageMeta| {
        input.clearable_at(meta.sequence).filter(|_| to_clear.contains(&meta.sequence))
    };
    let mut replaced = Tally::default();
    for meta in input.metas.iter().filter(|meta| to_summarize.contains(&meta.sequence)) {
        // A summary must be smaller than what it replaces after clearing, too.
        replaced.add(cleared(meta).map_or(meta.tokens, |one| one.message.tokens));
    }
    let summary = summary.filter(|summary| u64::from(summary.message.tokens) < replaced.tokens);

    let mut summarized = Vec::with_capacity(plan.summarize.len());
    let mut evicted = Vec::with_capacity(plan.evict.len());
    let (mut replacements, mut records) = (Vec::new(), Vec::new());
    let before = input.before();
    let mut after = before;
    for meta in input.metas {
        if to_summarize.contains(&meta.sequence) && summary.is_some() {
            summarized.push(meta.sequence);
        } else if to_evict.contains(&meta.sequence) || to_summarize.contains(&meta.sequence) {
            evicted.push(meta.sequence);
        } else {
            if let Some(one) = cleared(meta) {
                let NewMessage { id, tokens, .. } = one.message;
                records.push(ReplacedRecord::new(one.sequence, id, meta.tokens, tokens));
                replacements.push(one.clone());
                after.remove(meta.tokens);
                after.add(tokens);
            }
            continue;
        }
        after.remove(meta.tokens);
    }
    let without_summary = after;
    if let Some(summary) = &summary {
        after.add(summary.message.tokens);
    }
    let shortfall = if input.target.is_met_by(after) {
        // An empty memory is still reported as the reason.
        plan.shortfall.filter(|_| input.metas.is_empty())
    } else if input.target.is_met_by(without_summary) {
        Some(Shortfall::SummaryTooLarge)
    } else {
        plan.shortfall.or(Some(Shortfall::Strategy))
    };
    let place: Option<Sequence> = summarized.first().copied();
    let mut receipt = receipt_of(record, before, after);
    receipt.evicted = evicted.iter().copied().collect();
    receipt.summarized = summarized.iter().copied().collect();
    receipt.replaced = records;
    receipt.summary = summary.as_ref().zip(place).map(|(summary, sequence)| {
        let WrittenSummary { message, summarizer, fallback, .. } = summary;
        let mut record = SummaryRecord::new(message.id, sequence, message.tokens, summarizer);
        record.fallback.clone_from(fallback);
        record
    });
    receipt.shortfall = shortfall;
    Splice {
        summarized,
        evicted,
        replaced: replacements,
        summary: summary.map(|summary| summary.message),
        receipt: Some(receipt),
        next_flush_at: next_flush_at(after, input.policy, input.settings),
        ..Splice::new(generation)
    }
    .weighed(input.metas)
}

/// The receipt of a plan that is not executed. If nothing is written meanwhile, the splice of a flush removes and clears
/// the same messages: those to summarize are evicted instead if no useful summary can be written.
#[must_use]
pub fn receipt_for(plan: &FlushPlan, input: &FlushInput<'_>, record: FlushRecord) -> FlushReceipt {
    let mut receipt = receipt_of(record, input.before(), plan.after);
    receipt.evicted = plan.evict.iter().copied().collect();
    receipt.summarized = plan.summarize.iter().copied().collect();
    let removed = |place| receipt.evicted.contains(place) || receipt.summarized.contains(place);
    let cleared = plan.clear.iter().copied().filter(|place| !removed(*place));
    let record = |place| {
        let at = input.metas.binary_search_by_key(&place, |meta| meta.sequence).ok()?;
        let NewMessage { id, tokens, .. } = input.clearable_at(place)?.message;
        Some(ReplacedRecord::new(place, id, input.metas.get(at)?.tokens, tokens))
    };
    receipt.replaced = cleared.filter_map(record).collect();
    receipt.shortfall = plan.shortfall;
    receipt.dry_run = true;
    receipt
}

fn receipt_of(record: FlushRecord, before: Tally, after: Tally) -> FlushReceipt {
    let mut receipt = FlushReceipt::new(record.id, record.strategy, record.started_at);
    receipt.duration = record.duration;
    (receipt.tokens_before, receipt.tokens_after) = (before.tokens, after.tokens);
    (receipt.messages_before, receipt.messages_after) = (before.messages, after.messages);
    receipt
}

#[cfg(test)]
mod tests {
    use memory_core::EstimateCounter;
    use memory_core::plan::EvictionGoal;
    use memory_core::resource::FlushSettings;
    use memory_core::store::MessageMeta;

    use super::*;
    use crate::chain::Declined;
    use memory_core_testkit::generators::now;

    fn metas() -> Vec<MessageMeta> {
        let policy = Policy::with_max_tokens(1_000);
        let message = |number: u64| {
            let id = MessageId::new(Uuid::from_u128(number.into()));
            let message = Message::user("x".repeat(100));
            policy
                .admit(message.into(), id, now(), &EstimateCounter)
                .stored_at(Sequence::new(number))
        };
        (1..=5).map(|number| message(number).meta).collect()
    }

    fn splice(text: &str, target: u64) -> Splice {
        let (policy, settings) = (Policy::with_max_tokens(1_000), FlushSettings::for_budget(1_000));
        let metas = metas();
        let input = FlushInput::new(&metas, &policy, &settings, now())
            .with_target(EvictionGoal::tokens(target));
        let places = |numbers: &[u64]| numbers.iter().copied().map(Sequence::new).collect();
        // A strategy may list places in any order.
        let plan = FlushPlan::new(&input, places(&[5]), places(&[3, 2]));
        let declined = Declined { summarizer: "other".into(), reason: "status 529".into() };
        let summary = Summary { declined: vec![declined], ..Summary::new(text, "model") };
        let id = MessageId::new(Uuid::from_u128(9));
        let written = WrittenSummary::new(&summary, id, now(), &policy, &EstimateCounter);
        let record = FlushRecord {
            id: Uuid::from_u128(8),
            strategy: "own".into(),
            started_at: now(),
            duration: Duration::from_secs(2),
        };
        splice_for(&plan, &input, Generation::new(7), written, record)
    }

    #[test]
    fn plan_becomes_a_splice_with_receipt() {
        let splice = splice("short", 500);
        let each = u64::from(metas()[0].tokens);
        let places =
            |numbers: &[u64]| numbers.iter().copied().map(Sequence::new).collect::<Vec<_>>();
        assert_eq!(splice.generation, Generation::new(7));
        assert_eq!((splice.summarized, splice.evicted), (places(&[2, 3]), places(&[5])));
        assert_eq!(splice.next_flush_at, None);
        let receipt = splice.receipt.unwrap();
        let summary = receipt.summary.unwrap();
        assert_eq!(summary.sequence, Sequence::new(2));
        assert_eq!(summary.summarizer, "model");
        assert_eq!(summary.fallback.as_deref(), Some("other: status 529"));
        assert_eq!((receipt.messages_before, receipt.messages_after), (5, 3));
        assert_eq!(receipt.tokens_before, 5 * each);
        assert_eq!(receipt.tokens_after, 2 * each + u64::from(summary.tokens));
        assert_eq!(receipt.shortfall, None);
    }

    #[test]
    fn missing_summary_evicts_instead() {
        for text in ["", &"long ".repeat(1_000)] {
            let splice = splice(text, 500);
            assert!(splice.summarized.is_empty());
            assert_eq!(splice.summary, None);
            assert_eq!(splice.evicted, [2, 3, 5].map(Sequence::new));
            let receipt = splice.receipt.unwrap();
            assert_eq!((receipt.evicted.len(), receipt.summarized.len()), (3, 0));
            assert_eq!(receipt.summary, None);
        }
    }

    #[test]
    fn large_summary_is_reported_as_shortfall() {
        let each = u64::from(metas()[0].tokens);
        let shortfall = |target| splice("short", target).receipt.unwrap().shortfall;
        assert_eq!(shortfall(2 * each), Some(Shortfall::SummaryTooLarge));
        assert_eq!(shortfall(each), Some(Shortfall::Strategy));
    }

    #[test]
    fn summary_that_saves_nothing_is_unused() {
        let replaced = 2 * metas()[0].tokens;
        let of_size = |tokens| {
            let sized = |text: &String| {
                message_tokens(&EstimateCounter, &Message::system(text.as_str())) == tokens
            };
            let text = (1..10_000).map(|length| "x".repeat(length)).find(sized).unwrap();
            splice(&text, 500)
        };
        assert_eq!(of_size(replaced).summary, None);
        assert_eq!(of_size(replaced - 1).summary.unwrap().tokens, replaced - 1);
    }
}
