//! Timing of flushes, and how rarely a flush with a shortfall is repeated.

use memory_core::store::{Generation, MessageId, MessageMeta, NewMessage, Shortfall};
use memory_core::{Priority, Sequence, StoredMessage};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::splice::{FlushRecord, WrittenSummary, splice_for, summary_message};
use crate::strategy::{FlushInput, FlushStrategy};
use crate::{Fifo, HybridSummary, PriorityEviction, validate_plan};
use memory_core_testkit::generators::{history, now, policy};

/// A memory as a store keeps it, with a flusher that executes plans.
struct Memory<'a> {
    policy: &'a Policy,
    settings: FlushSettings,
    metas: Vec<MessageMeta>,
    counters: Counters,
    next_flush_at: Option<u64>,
}

impl Memory<'_> {
    fn append(&mut self, message: StoredMessage) {
        let StoredMessage { meta, message, .. } = message;
        self.counters.append(&NewMessage {
            id: meta.id,
            message,
            tokens: meta.tokens,
            priority: meta.priority,
            content_type: meta.content_type.clone(),
            created_at: meta.created_at,
        });
        // Only flushes write summaries.
        self.metas.push(meta);
        if let Some(meta) = self.metas.last_mut() {
            meta.summary = false;
        }
    }

    fn gate(&self) -> Gate {
        flush_due(&self.counters, self.next_flush_at, self.policy, &self.settings)
    }

    /// Flushes like `memory-instance`, with a summary of a given share of its maximum size.
    fn flush(&mut self, strategy: &dyn FlushStrategy, share: u64) -> Option<Shortfall> {
        let metas = self.metas.clone();
        let input = FlushInput::new(&metas, self.policy, &self.settings, now());
        let plan = strategy.plan(&input);
        assert_eq!(validate_plan(&plan, &metas, self.policy, now()), Ok(()));
        let summary = (!plan.summarize.is_empty()).then(|| {
            let id = MessageId::new(Uuid::from_u128(7));
            let counter = memory_core::EstimateCounter;
            let mut message = summary_message("s", id, now(), self.policy, &counter);
            message.tokens = u32::try_from(self.settings.summary_tokens * share / 100).unwrap();
            WrittenSummary { message, summarizer: "test".into(), fallback: None }
        });
        let record = FlushRecord {
            id: Uuid::nil(),
            strategy: strategy.name().into(),
            started_at: now(),
            duration: std::time::Duration::ZERO,
        };
        let splice = splice_for(&plan, &input, Generation::NONE, summary, record);
        let receipt = splice.receipt.clone().unwrap();

        for meta in &metas {
            if splice.summarized.contains(&meta.sequence) {
                self.counters.summarize(meta);
            }
            if splice.evicted.contains(&meta.sequence) {
                self.counters.evict(meta);
            }
        }
        self.metas.retain(|meta| {
            !splice.summarized.contains(&meta.sequence) && !splice.evicted.contains(&meta.sequence)
        });
        if let Some(summary) = splice.summary {
            self.counters.insert_summary(&summary);
            let mut meta = summary.stored_at(splice.summarized[0]).meta;
            meta.summary = true;
            let at = self.metas.partition_point(|other| other.sequence < meta.sequence);
            self.metas.insert(at, meta);
        }
        self.next_flush_at = splice.next_flush_at;

        assert_eq!(receipt.tokens_after, self.counters.present.tokens);
        assert_eq!(receipt.messages_after, self.counters.present.messages);
        assert_eq!(receipt.evicted.len(), splice.evicted.len() as u64);
        assert_eq!(receipt.summarized.len(), splice.summarized.len() as u64);
        assert_eq!(
            receipt.summary.is_some(),
            self.counters.summaries > 0 && !splice.summarized.is_empty()
        );
        assert!(receipt.tokens_after <= receipt.tokens_before, "a flush made the memory larger");
        assert!(self.counters.is_conserved());
        receipt.shortfall
    }
}

fn strategy() -> impl Strategy<Value = &'static dyn FlushStrategy> {
    prop_oneof![
        Just(&Fifo as &dyn FlushStrategy),
        Just(&PriorityEviction as _),
        Just(&HybridSummary as _)
    ]
}

proptest! {
    #[test]
    fn flushes_reach_target_or_report_shortfall(
        history in history(120),
        policy in policy(),
        strategy in strategy(),
        (threshold, part) in (0.05..1.0_f64, 0.1..0.95_f64),
        (summary_tokens, share) in (4..150_u64, 1..=100_u64),
    ) {
        let mut settings =
            FlushSettings::for_budget(policy.max_tokens).with_summary_tokens(summary_tokens);
        settings.summarize_threshold = threshold;
        settings.flush_target = threshold * part;
        settings.min_messages = 3;
        let mut memory = Memory {
            policy: &policy,
            settings,
            metas: Vec::new(),
            counters: Counters::default(),
            next_flush_at: None,
        };
        let mut at_last_flush: Option<(Tally, bool)> = None;
        for message in history {
            memory.append(message);
            if !memory.gate().is_due() {
                continue;
            }
            let present = memory.counters.present;
            if let Some((left, shortfall)) = at_last_flush {
                prop_assert!(present.tokens > left.tokens, "a flush without new tokens");
                if shortfall {
                    let grown = grown_enough(left, present, &policy, &settings);
                    prop_assert!(grown, "a flush too soon");
                }
            }
            let shortfall = memory.flush(strategy, share);
            let left = memory.counters.present;
            let target = target_of(&policy, &settings);
            prop_assert_eq!(shortfall.is_some(), !target.is_met_by(left), "{:?}", shortfall);
            prop_assert!(!memory.gate().is_due(), "due again at once");
            prop_assert!(memory.counters.summaries <= 1, "summaries pile up");
            at_last_flush = Some((left, shortfall.is_some()));
        }
    }

    /// The gate only knows counters, so this holds for any pinned messages.
    #[test]
    fn mark_delays_flush_for_bounded_growth(
        (max_tokens, message_limit) in (1..20_000_u64, prop::option::of(1..500_u64)),
        (threshold, part) in (0.05..=1.0_f64, 0.05..0.95_f64),
        (left_percent, left_messages) in (0..200_u64, 0..1_000_u64),
        sizes in prop::collection::vec(prop_oneof![1..4_u64, 1..100_u64, 1..5_000_u64], 1..8),
    ) {
        let policy = Policy { message_limit, ..Policy::with_max_tokens(max_tokens) };
        let mut settings = FlushSettings::for_budget(max_tokens);
        settings.summarize_threshold = threshold;
        settings.flush_target = threshold * part;
        // A message has at least one token.
        let left = Tally {
            messages: left_messages,
            tokens: left_messages.max(max_tokens * left_percent / 100),
        };
        let mark = next_flush_at(left, &policy, &settings);
        let target = target_of(&policy, &settings);
        prop_assert_eq!(mark.is_none(), target.is_met_by(left));
        // The most that one of the two can grow without a flush.
        let furthest = |left: u64, target: u64, limit: u64| {
            let hysteresis = (settings.threshold_tokens(limit) - target).max(1);
            (limit + hysteresis.div_ceil(4)).max(left.max(target) + hysteresis)
        };
        let most_tokens = furthest(left.tokens, target.tokens, max_tokens);
        let most_messages =
            message_limit.map(|limit| furthest(left.messages, target.messages.unwrap(), limit));

        let mut counters = present(left.messages, left.tokens);
        let due = |counters: &Counters| flush_due(counters, mark, &policy, &settings).is_due();
        prop_assert!(mark.is_none() || !due(&counters), "due again at once");
        for tokens in sizes.iter().cycle() {
            counters.present.messages += 1;
            counters.present.tokens += tokens;
            let Tally { messages, tokens } = counters.present;
            if due(&counters) {
                let grown = grown_enough(left, counters.present, &policy, &settings);
                prop_assert!(mark.is_none() || grown, "a flush too soon");
                break;
            }
            prop_assert!(tokens < most_tokens, "{tokens} tokens and no flush");
            prop_assert!(
                most_messages.is_none_or(|most| messages < most),
                "{messages} messages and no flush"
            );
        }
    }

    #[test]
    fn full_memory_is_flushed_at_any_count(
        messages in 1..10_u64, over in 1..1_000_u64, tokens in 1..1_000_u64,
    ) {
        let policy = Policy::with_max_tokens(tokens);
        let settings = FlushSettings::for_budget(tokens);
        let mut counters = present(messages, tokens + over);
        prop_assert_eq!(flush_due(&counters, None, &policy, &settings), Gate::Due);
        counters.present.tokens = tokens;
        let gate = flush_due(&counters, None, &policy, &settings);
        prop_assert_eq!(gate, Gate::NotDue(NotDue::FewMessages));
    }
}

/// Whether the growth since a flush with a shortfall justifies another one: a quarter of the hysteresis, of tokens or
/// of messages or of both together, less rounding.
fn grown_enough(left: Tally, now: Tally, policy: &Policy, settings: &FlushSettings) -> bool {
    let hysteresis = |limit| {
        let hysteresis = settings.threshold_tokens(limit) - settings.target_tokens(limit);
        u128::from(hysteresis.max(1))
    };
    let (of_tokens, of_messages) =
        (hysteresis(policy.max_tokens), policy.message_limit.map_or(1, hysteresis));
    let tokens = u128::from(now.tokens - left.tokens);
    let messages = policy.message_limit.map_or(0, |_| now.messages - left.messages);
    4 * (tokens * of_messages + u128::from(messages) * of_tokens) + 8 * of_messages
        >= of_tokens * of_messages
}

fn present(messages: u64, tokens: u64) -> Counters {
    let mut counters = Counters::default();
    counters.present = Tally { messages, tokens };
    counters
}

#[test]
fn gate_conditions_are_checked_in_order() {
    let policy = Policy { message_limit: Some(100), ..Policy::with_max_tokens(8_000) };
    let settings = FlushSettings::for_budget(8_000);
    let gate = |counters, next| flush_due(&counters, next, &policy, &settings);
    assert_eq!(gate(present(9, 8_000), None), Gate::NotDue(NotDue::FewMessages));
    assert_eq!(gate(present(10, 6_399), None), Gate::NotDue(NotDue::UnderThreshold));
    assert_eq!(gate(present(10, 6_400), None), Gate::Due);
    assert_eq!(gate(present(79, 100), None), Gate::NotDue(NotDue::UnderThreshold));
    assert_eq!(gate(present(80, 100), None), Gate::Due);
    assert_eq!(gate(present(50, 6_400), Some(6_401)), Gate::NotDue(NotDue::AwaitingGrowth));
    assert_eq!(gate(present(50, 6_401), Some(6_401)), Gate::Due);
    assert_eq!(gate(present(79, 6_401), Some(8_801)), Gate::NotDue(NotDue::AwaitingGrowth));
    assert_eq!(gate(present(80, 6_401), Some(8_801)), Gate::Due, "80 tokens for a message");
}

#[test]
fn shortfall_waits_for_growth_up_to_budget() {
    let policy = Policy::with_max_tokens(8_000);
    let settings = FlushSettings::for_budget(8_000);
    let next = |tokens| next_flush_at(Tally { messages: 1, tokens }, &policy, &settings);
    assert_eq!(next(4_000), None);
    assert_eq!(next(4_001), Some(6_401), "the hysteresis is 2,400");
    assert_eq!(next(7_000), Some(8_000), "at its budget");
    assert_eq!(next(7_900), Some(8_500), "a quarter of the hysteresis at least");
    assert_eq!(next(9_000), Some(11_400), "over its budget, no flush helps soon");
    assert_eq!(next(u64::MAX), Some(u64::MAX));
}

#[test]
fn message_shortfall_waits_for_messages() {
    let policy = Policy { message_limit: Some(100), ..Policy::with_max_tokens(8_000) };
    let settings = FlushSettings::for_budget(8_000);
    let due_after = |left: Tally, tokens: u64| {
        let mark = next_flush_at(left, &policy, &settings);
        let after = |more| present(left.messages + more, left.tokens + more * tokens);
        (1..).find(|more| flush_due(&after(*more), mark, &policy, &settings).is_due()).unwrap()
    };
    let left = |messages, tokens| Tally { messages, tokens };
    assert_eq!(due_after(left(51, 600), 10), 30, "the hysteresis of messages");
    assert_eq!(due_after(left(80, 600), 10), 20, "at its limit");
    assert_eq!(due_after(left(99, 600), 10), 8, "a quarter of the hysteresis at least");
    assert_eq!(due_after(left(300, 600), 10), 30, "over its limit, no flush helps soon");
    assert_eq!(due_after(left(300, 3_900), 1), 30, "tokens under the target do not count");
    // The hysteresis of tokens is 2,400, so each message counts as 80 more than it has.
    assert_eq!(due_after(left(300, 4_000), 80), 15);
    assert_eq!(due_after(left(20, 8_000), 80), 30, "messages under the target do not count");
}

/// Every message is pinned until it is answered: an open call with many results.
#[test]
fn pinned_messages_are_freed_after_answer() {
    let policy = Policy { message_limit: Some(100), ..Policy::with_max_tokens(100_000) };
    let mut memory = Memory {
        policy: &policy,
        settings: FlushSettings::for_budget(100_000),
        metas: Vec::new(),
        counters: Counters::default(),
        next_flush_at: None,
    };
    let mut number = 0;
    let mut append = |memory: &mut Memory<'_>, message, tokens| {
        number += 1;
        let new = NewMessage {
            id: MessageId::new(Uuid::from_u128(number.into())),
            message,
            tokens,
            priority: None,
            content_type: memory_core::ContentType::Conversation,
            created_at: now(),
        };
        memory.append(new.stored_at(Sequence::new(number)));
        memory.gate().is_due().then(|| memory.flush(&Fifo, 100))
    };
    let ids: Vec<_> = (0..80).map(|id| format!("c{id}")).collect();
    let calls = ids.iter().map(|id| memory_core::dialect::ToolCall::function(id, "f", "{}"));
    append(&mut memory, memory_core::Message::calls(calls), 400);
    let results = ids.iter().map(|id| memory_core::Message::tool_result(id, "r"));
    let mut flushes: Vec<_> =
        results.filter_map(|result| append(&mut memory, result, 400)).collect();
    assert_eq!(flushes, [Some(Shortfall::OpenCalls)], "all but one are answered");
    flushes.clear();
    let mut most = 0;
    for _ in 0..3_000 {
        let talk = memory_core::Message::user("u");
        flushes.extend(append(&mut memory, talk, 10));
        most = most.max(memory.counters.present.messages);
    }
    assert!(flushes.iter().all(Option::is_none), "{flushes:?}");
    assert!(most <= 100, "{most} messages");
    assert!(flushes.len() <= 101, "{} flushes", flushes.len());
}

#[test]
fn critical_overflow_does_not_flush_forever() {
    let policy = Policy::with_max_tokens(100);
    let settings = FlushSettings::for_budget(100);
    let mut memory = Memory {
        policy: &policy,
        settings,
        metas: Vec::new(),
        counters: Counters::default(),
        next_flush_at: None,
    };
    let mut flushes = 0;
    for number in 1..=100 {
        let new = NewMessage {
            id: MessageId::new(Uuid::from_u128(number.into())),
            message: memory_core::Message::user("u"),
            tokens: 10,
            priority: Some(Priority::CRITICAL),
            content_type: memory_core::ContentType::Conversation,
            created_at: now(),
        };
        memory.append(new.stored_at(Sequence::new(number)));
        if memory.gate().is_due() {
            flushes += 1;
            assert_eq!(memory.flush(&Fifo, 100), Some(Shortfall::Critical));
        }
    }
    // 1,000 tokens with a hysteresis of 30.
    assert!((5..=34).contains(&flushes), "{flushes}");
}

#[test]
fn gate_reasons_have_stable_names() {
    let reasons = [NotDue::FewMessages, NotDue::UnderThreshold, NotDue::AwaitingGrowth];
    let names = reasons.map(NotDue::as_str);
    assert_eq!(names, ["few_messages", "under_threshold", "awaiting_growth"]);
}
