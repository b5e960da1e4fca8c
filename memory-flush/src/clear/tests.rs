use std::num::NonZeroUsize;
use std::time::Duration;

use jiff::Timestamp;
use memory_core::json::Json;
use memory_core::plan::{EvictionGoal, Policy};
use memory_core::resource::FlushSettings;
use memory_core::store::{
    Access, Append, Counters, MemoryState, Outline, Read, Restore, Retention, Shortfall, Splice,
    WriterId,
};
use memory_core::{EstimateCounter, Message, Priority};
use memory_core_testkit::generators::{history, now, policy};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::hybrid::HybridSummary;
use crate::splice::{FlushRecord, WrittenSummary, splice_for, summary_message};

fn id(number: u128) -> MessageId {
    MessageId::new(Uuid::from_u128(number))
}

/// A memory with these messages, whose results have texts of as many tokens as were drawn.
fn memory(history: Vec<StoredMessage>) -> MemoryState {
    let messages = history.into_iter().map(|StoredMessage { meta, mut message, .. }| {
        let mut tokens = meta.tokens;
        if answers_only(&meta) {
            let mut json = Json::from(message);
            let key = if json.get("output").is_some() { "output" } else { "content" };
            let text = "word ".repeat(usize::try_from(tokens).unwrap());
            json.as_object_mut().unwrap().insert(key, text);
            message = Message::try_from(json).unwrap();
            tokens = message_tokens(&EstimateCounter, &message);
        }
        let (priority, created_at) = (meta.priority, meta.created_at);
        let content_type = meta.content_type;
        NewMessage { id: meta.id, message, tokens, priority, content_type, created_at }
    });
    let messages: Vec<_> = messages.collect();
    let mut memory = MemoryState::default();
    let append = Append {
        write: WriterId::new(1).write(1),
        messages: messages.into(),
        ttl: None,
        expected: None,
    };
    if !append.messages.is_empty() {
        memory.append(Access::OPEN, &append, now()).unwrap();
    }
    memory
}

fn messages(memory: &MemoryState) -> Vec<StoredMessage> {
    memory.read(Read::default(), now()).messages
}

/// The cleared forms of the candidates.
fn clearable(memory: &MemoryState, input: &FlushInput<'_>) -> Vec<Replacement> {
    let candidates = input.clear_candidates();
    let all = messages(memory);
    let chosen = all.iter().filter(|stored| candidates.contains(&stored.meta.sequence));
    let cleared = chosen.zip(1_000_u128..);
    cleared.filter_map(|(stored, new)| clear_message(stored, id(new), &EstimateCounter)).collect()
}

fn splice(plan: &FlushPlan, input: &FlushInput<'_>, outline: &Outline, receipt: u128) -> Splice {
    let message =
        summary_message("short", id(500 + receipt), now(), input.policy, &EstimateCounter);
    let written = || WrittenSummary { message, summarizer: "rules".into(), fallback: None };
    let record = FlushRecord {
        id: Uuid::from_u128(receipt),
        strategy: "clear".into(),
        started_at: now(),
        duration: Duration::ZERO,
    };
    let summary = (!plan.summarize.is_empty()).then(written);
    let splice = splice_for(plan, input, outline.head.generation, summary, record);
    Splice { archive: Some(Retention::forever()), ..splice }
}

fn settings(keep: u64, min_tokens: u64) -> FlushSettings {
    FlushSettings::for_budget(1_000)
        .with_summary_tokens(20)
        .with_clear_tool_results(ClearSettings::new(keep, min_tokens))
}

fn strategies() -> impl Strategy<Value = &'static dyn FlushStrategy> {
    prop_oneof![Just(&ClearToolResults as &dyn FlushStrategy), Just(&HybridSummary as _)]
}

/// The places of the messages with the newest results.
fn newest_results(metas: &[MessageMeta], keep: u64) -> Vec<Sequence> {
    let with_results = metas.iter().rev().filter(|meta| !meta.link.results.is_empty());
    with_results.take(usize::try_from(keep).unwrap()).map(|meta| meta.sequence).collect()
}

fn assert_counters(outline: &Outline) {
    let (counters, recount) = (&outline.head.counters, Counters::recount(&outline.metas));
    assert_eq!((counters.present, &counters.classes), (recount.present, &recount.classes));
    assert!(counters.is_conserved());
}

proptest! {
    #[test]
    fn clearing_keeps_its_promises(
        history in history(40), policy in policy(), keep in 1..6_u64, min_tokens in 0..400_u64,
        strategy in strategies(), target in 0..1_500_u64,
    ) {
        if history.is_empty() {
            return Ok(());
        }
        let mut memory = memory(history);
        let settings = settings(keep, min_tokens);
        let (before, outline) = (messages(&memory), memory.outline(now()));
        let target = EvictionGoal { tokens: target, messages: None };
        let input = FlushInput::new(&outline.metas, &policy, &settings, now()).with_target(target);
        let cleared = clearable(&memory, &input);
        let input = input.with_clearable(&cleared);
        let plan = strategy.plan(&input);
        prop_assert_eq!(input.validate(&plan), Ok(()));
        let sizes = plan.clear.iter().map(|place| {
            let meta = outline.metas.iter().find(|meta| meta.sequence == *place).unwrap();
            u64::from(meta.tokens - input.clearable_at(*place).unwrap().message.tokens)
        });
        let freed: u64 = sizes.sum();
        prop_assert!(plan.clear.is_empty() || freed >= min_tokens.max(1));
        let newest = newest_results(&outline.metas, keep);
        prop_assert!(plan.clear.iter().all(|place| !newest.contains(place)));

        let splice = splice(&plan, &input, &outline, 7);
        let receipt = splice.receipt.clone().unwrap();
        memory.splice(Access::OPEN, &splice, now()).unwrap();
        let after = memory.outline(now());
        assert_counters(&after);
        prop_assert_eq!(after.head.counters.present.tokens, receipt.tokens_after);
        prop_assert!(receipt.tokens_after <= receipt.tokens_before);
        for meta in after.metas.iter().filter(|meta| !meta.summary) {
            let old = outline.metas.iter().find(|old| old.sequence == meta.sequence).unwrap();
            let replaced = receipt.replaced.iter().find(|one| one.sequence == meta.sequence);
            // Nothing but the id and the tokens differs.
            let (id, tokens) = replaced.map_or((old.id, old.tokens), |one| (one.id, one.tokens_after));
            let mut expected = old.clone();
            (expected.id, expected.tokens) = (id, tokens);
            prop_assert_eq!(meta, &expected);
        }
        // Cleared messages are not cleared again.
        if !plan.clear.is_empty() {
            let again = FlushInput::new(&after.metas, &policy, &settings, now());
            prop_assert_eq!(clearable(&memory, &again), []);
        }
        let removal = memory.removals(None, NonZeroUsize::MIN, now());
        if !removal.is_empty() {
            let restore = Restore { write: WriterId::new(2).write(1), receipt: receipt.id };
            memory.restore(Access::OPEN, &restore, now()).unwrap();
            prop_assert_eq!(&memory.outline(now()).head.counters, &outline.head.counters);
        }
        prop_assert_eq!(messages(&memory), before);
    }
}

/// A system prompt and turns of a question, a call, a result of `size` words, and an answer.
fn turns(count: u64, size: usize) -> MemoryState {
    let metas = |place: u64, message: Message, priority: Option<Priority>| {
        let tokens = message_tokens(&EstimateCounter, &message);
        let created_at = Timestamp::from_second(i64::try_from(place).unwrap()).unwrap();
        let content_type = memory_core::ContentType::Conversation;
        let id = id(place.into());
        NewMessage { id, message, tokens, priority, content_type, created_at }
            .stored_at(Sequence::new(place))
    };
    let mut all = vec![metas(1, Message::system("rules"), Some(Priority::CRITICAL))];
    for turn in 0..count {
        let call = format!("c{turn}");
        let place = 2 + 4 * turn;
        let function = memory_core::dialect::ToolCall::function(&call, "f", "{}");
        all.push(metas(place, Message::user("what now?"), None));
        all.push(metas(place + 1, Message::calls([function]), None));
        let mut result = metas(place + 2, Message::tool_result(&call, "x"), None);
        result.meta.tokens = u32::try_from(size).unwrap();
        all.push(result);
        all.push(metas(place + 3, Message::assistant("done"), None));
    }
    memory(all)
}

fn planned(
    strategy: &dyn FlushStrategy,
    memory: &MemoryState,
    settings: &FlushSettings,
    target: u64,
) -> FlushPlan {
    let (outline, policy) = (memory.outline(now()), Policy::with_max_tokens(10_000));
    let target = EvictionGoal { tokens: target, messages: None };
    let input = FlushInput::new(&outline.metas, &policy, settings, now()).with_target(target);
    let cleared = clearable(memory, &input);
    strategy.plan(&input.with_clearable(&cleared))
}

fn places(numbers: &[u64]) -> Vec<Sequence> {
    numbers.iter().copied().map(Sequence::new).collect()
}

#[test]
fn nothing_is_summarized_if_clearing_suffices() {
    let memory = turns(5, 300);
    for strategy in [&ClearToolResults as &dyn FlushStrategy, &HybridSummary] {
        let plan = planned(strategy, &memory, &settings(2, 0), 1_000);
        assert_eq!(plan.clear, places(&[4, 8, 12]), "{}", strategy.name());
        assert!(plan.evict.is_empty() && plan.summarize.is_empty());
        assert_eq!(plan.shortfall, None);
    }
}

#[test]
fn memory_within_its_target_is_not_cleared() {
    let memory = turns(5, 300);
    for strategy in [&ClearToolResults as &dyn FlushStrategy, &HybridSummary] {
        assert!(planned(strategy, &memory, &settings(2, 0), 5_000).is_empty());
    }
}

#[test]
fn clearing_that_frees_too_little_is_left_out() {
    let memory = turns(5, 300);
    let plan = planned(&ClearToolResults, &memory, &settings(2, 5_000), 1_000);
    assert_eq!((plan.is_empty(), plan.shortfall), (true, Some(Shortfall::Strategy)));
    let plan = planned(&HybridSummary, &memory, &settings(2, 5_000), 1_000);
    assert!(plan.clear.is_empty() && !plan.summarize.is_empty());
    let mut none = settings(2, 0);
    none.clear_tool_results = None;
    assert!(planned(&HybridSummary, &memory, &none, 1_000).clear.is_empty());
    assert!(planned(&ClearToolResults, &memory, &none, 1_000).is_empty());
}

#[test]
fn summary_follows_if_clearing_does_not_suffice() {
    let memory = turns(5, 300);
    let plan = planned(&HybridSummary, &memory, &settings(2, 0), 450);
    assert_eq!(plan.clear, places(&[4, 8, 12]));
    assert!(!plan.summarize.is_empty());
    let plan = planned(&ClearToolResults, &memory, &settings(2, 0), 450);
    assert_eq!((plan.clear, plan.shortfall), (places(&[4, 8, 12]), Some(Shortfall::Strategy)));
}

#[test]
fn summarized_results_are_not_replaced() {
    let memory = turns(20, 300);
    let (outline, policy) = (memory.outline(now()), Policy::with_max_tokens(10_000));
    let settings = settings(2, 0);
    let target = EvictionGoal { tokens: 1_500, messages: None };
    let input = FlushInput::new(&outline.metas, &policy, &settings, now()).with_target(target);
    let cleared = clearable(&memory, &input);
    let input = input.with_clearable(&cleared);
    let plan = HybridSummary.plan(&input);
    let splice = splice(&plan, &input, &outline, 7);
    let replaced: Vec<_> = splice.replaced.iter().map(|one| one.sequence).collect();
    let (gone, left): (Vec<_>, Vec<_>) =
        plan.clear.iter().copied().partition(|place| plan.summarize.contains(place));
    assert!(!gone.is_empty() && !left.is_empty(), "{plan:?}");
    assert_eq!(replaced, left);
    let receipt = splice.receipt.unwrap();
    assert_eq!(receipt.replaced.len(), left.len());
    let freed = receipt.replaced.iter().map(|one| {
        let meta = outline.metas.iter().find(|meta| meta.sequence == one.sequence).unwrap();
        u64::from(meta.tokens - input.clearable_at(one.sequence).unwrap().message.tokens)
    });
    assert_eq!(receipt.tokens_cleared(), freed.sum::<u64>());
}
