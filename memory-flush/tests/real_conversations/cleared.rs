//! The tokens that clearing tool results frees before anything is summarized. The printed figures are in BENCHMARKS.md.

use jiff::Timestamp;
use memory_core::plan::{Policy, check_pairing};
use memory_core::profile::ProfileName;
use memory_core::resource::{ClearToolResults, FlushSettings};
use memory_core::store::{
    Access, Append, Generation, MemoryState, MessageId, NewMessage, Read, WriterId,
};
use memory_core::tokens::message_tokens;
use memory_core::{
    EstimateCounter, Message, Profile, StoredMessage, WindowOptions, check_request, trim_messages,
};
use memory_flush::{
    ClearToolResults as Clearing, FlushInput, FlushPlan, FlushRecord, FlushStrategy, HybridSummary,
    RuleBasedSummarizer, Summary, SummaryRequest, WrittenSummary, clear_message, flush_due,
    splice_for,
};
use uuid::Uuid;

use crate::conversations;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// The sums over all conversations.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Figures {
    flushes: u64,
    /// Flushes after which nothing was summarized or evicted.
    cleared_only: u64,
    /// The tokens before all flushes, and those that clearing freed.
    before: u64,
    freed: u64,
    /// The tokens that summarizers read.
    to_summarize: u64,
}

fn id(number: u128) -> MessageId {
    MessageId::new(Uuid::from_u128(number))
}

fn append(memory: &mut MemoryState, message: NewMessage, number: u64) {
    let messages = [message].into();
    let write = WriterId::new(1).write(number);
    memory
        .append(Access::OPEN, &Append { write, messages, ttl: None, expected: None }, NOW)
        .unwrap();
}

fn messages(memory: &MemoryState) -> Vec<StoredMessage> {
    memory.read(Read::default(), NOW).messages
}

/// Flushes the memory, and adds up the figures.
fn flush(
    memory: &mut MemoryState,
    strategy: &dyn FlushStrategy,
    policy: &Policy,
    settings: &FlushSettings,
    figures: &mut Figures,
) -> FlushPlan {
    let (outline, all) = (memory.outline(NOW), messages(memory));
    let serial = u128::from(outline.head.version) << 32;
    let input = FlushInput::new(&outline.metas, policy, settings, NOW);
    let candidates = input.clear_candidates();
    let chosen = all.iter().filter(|stored| candidates.contains(&stored.meta.sequence));
    let cleared: Vec<_> = chosen
        .zip(serial..)
        .filter_map(|(stored, new)| clear_message(stored, id(new), &EstimateCounter))
        .collect();
    let input = input.with_clearable(&cleared);
    let plan = strategy.plan(&input);
    assert_eq!(input.validate(&plan), Ok(()));
    let as_cleared = |stored: StoredMessage| {
        let place = stored.meta.sequence;
        let cleared = cleared.iter().find(|one| one.sequence == place);
        let cleared = cleared.filter(|_| plan.clear.contains(&place));
        cleared.map_or(stored, |one| one.message.clone().stored_at(place))
    };
    let old = all.into_iter().filter(|stored| plan.summarize.contains(&stored.meta.sequence));
    let old: Vec<_> = old.map(as_cleared).collect();
    let to_summarize: u64 = old.iter().map(|stored| u64::from(stored.meta.tokens)).sum();
    let request = SummaryRequest::new(old, settings, std::sync::Arc::new(EstimateCounter));
    let written = request.and_then(|request| {
        let text = RuleBasedSummarizer::default().write(&request);
        let summary = Summary::new(text, RuleBasedSummarizer::NAME);
        WrittenSummary::new(&summary, id(serial + 0xFFFF), NOW, policy, &EstimateCounter)
    });
    let record = FlushRecord {
        id: Uuid::from_u128(serial),
        strategy: strategy.name().into(),
        started_at: NOW,
        duration: std::time::Duration::ZERO,
    };
    let generation: Generation = outline.head.generation;
    let splice = splice_for(&plan, &input, generation, written, record);
    let freed: u64 = cleared
        .iter()
        .filter(|one| plan.clear.contains(&one.sequence))
        .map(|one| {
            let meta = outline.metas.iter().find(|meta| meta.sequence == one.sequence).unwrap();
            u64::from(meta.tokens - one.message.tokens)
        })
        .sum();
    memory.splice(Access::OPEN, &splice, NOW).unwrap();
    figures.flushes += 1;
    figures.before += input.before().tokens;
    figures.freed += freed;
    figures.to_summarize += to_summarize;
    figures.cleared_only += u64::from(splice.summarized.is_empty() && splice.evicted.is_empty());
    plan
}

/// Appends each conversation to a memory with this budget, which is flushed when it is due.
fn grown(
    conversations: &[Vec<Message>],
    budget: u64,
    target: f64,
    clear: Option<ClearToolResults>,
) -> Figures {
    let policy = Policy::with_max_tokens(budget);
    let mut settings = FlushSettings::for_budget(budget);
    settings.flush_target = target;
    settings.clear_tool_results = clear;
    let mut figures = Figures::default();
    for conversation in conversations {
        let mut memory = MemoryState::default();
        for (message, number) in conversation.iter().zip(1_u64..) {
            let new =
                policy.admit(message.clone().into(), id(number.into()), NOW, &EstimateCounter);
            append(&mut memory, new, number);
            let head = memory.head(NOW);
            if flush_due(&head.counters, head.next_flush_at, &policy, &settings).is_due() {
                flush(&mut memory, &HybridSummary, &policy, &settings, &mut figures);
            }
        }
        if budget > 4_000 && target < 0.6 && clear.is_some_and(|clear| clear.keep == 3) {
            check_windows(&memory, conversation);
        }
    }
    figures
}

/// Calls are paired as before, and windows are valid requests.
fn check_windows(memory: &MemoryState, conversation: &[Message]) {
    let all: Vec<_> = messages(memory).into_iter().map(|stored| stored.message).collect();
    assert_eq!(check_pairing(&all).is_ok(), check_pairing(conversation).is_ok());
    for name in [ProfileName::OpenaiChat, ProfileName::Anthropic] {
        let profile = Profile::new(name, None);
        let options = WindowOptions::new(100_000).with_profile(profile.clone());
        let window = trim_messages(all.clone(), &EstimateCounter, options).unwrap();
        check_request(&window.request.to_string(), &profile).unwrap();
    }
}

/// Clears each whole conversation once; returns the tokens before, those of tool results, and those freed.
fn whole(conversations: &[Vec<Message>], keep: u64) -> [u64; 3] {
    let policy = Policy::with_max_tokens(1);
    let settings =
        FlushSettings::for_budget(1).with_clear_tool_results(ClearToolResults::new(keep, 0));
    let mut figures = Figures::default();
    let mut results = 0;
    for conversation in conversations {
        let mut memory = MemoryState::default();
        for (message, number) in conversation.iter().zip(1_u64..) {
            let new =
                policy.admit(message.clone().into(), id(number.into()), NOW, &EstimateCounter);
            if !message.tool_link().results.is_empty() {
                results += u64::from(message_tokens(&EstimateCounter, message));
            }
            append(&mut memory, new, number);
        }
        flush(&mut memory, &Clearing, &policy, &settings, &mut figures);
    }
    [figures.before, results, figures.freed]
}

#[expect(clippy::cast_precision_loss, reason = "for a percentage")]
fn percent(part: u64, of: u64) -> f64 {
    100.0 * part as f64 / of.max(1) as f64
}

#[test]
fn clearing_frees_tokens_before_any_summary() {
    let conversations = conversations();
    if conversations.is_empty() {
        return;
    }
    for keep in [1, 3, 5] {
        let [before, results, freed] = whole(&conversations, keep);
        println!(
            "whole conversations, keep {keep}: {before} tokens, {:.1} % in tool results, {:.1} % freed",
            percent(results, before),
            percent(freed, before),
        );
        assert!(freed > 0 && freed <= results);
    }
    for (budget, target) in [(4_000, 0.5), (6_000, 0.5), (6_000, 0.7)] {
        let without = grown(&conversations, budget, target, None);
        println!("budget {budget}, target {target}, no clearing: {without:?}");
        for keep in [1, 3] {
            let clear = ClearToolResults::new(keep, 0);
            let with = grown(&conversations, budget, target, Some(clear));
            println!(
                "budget {budget}, target {target}, keep {keep}: {with:?}, {:.1} % freed before any summary",
                percent(with.freed, with.before)
            );
            assert!(with.freed > 0 && with.to_summarize < without.to_summarize);
            assert!(with.cleared_only > 0 || budget == 4_000);
        }
    }
}
