//! P4, P5, P11, P12: a flush frees space, keeps protected messages, and blocks no append.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memory_core::conformance::planning_work;
use memory_core::dialect::ToolCall;
use memory_core::health::Verdict;
use memory_core::resource::{ClearToolResults, RedactPreset};
use memory_core::store::FlushReceipt;
use memory_core::{ContentType, Entry, MemoryResource, Message, Priority};
use memory_flush::{FlushInput, FlushPlan, FlushStrategy, SummarizeError, Summarizer, from_fn};
use memory_instance::{FlushMode, ManagerBuilder, MemoryError, MemoryInstance};
use tokio::time::Instant;

use crate::support::{On, World, assert_window_fits, bytes, checked, hybrid, texts, with};

on_every_backend![
    failing_summarizer_is_replaced_and_reported,
    secrets_in_a_summary_never_reach_the_store,
    summarizer_with_bad_output_is_replaced,
    critical_messages_survive_any_pressure,
    appends_continue_over_budget_and_health_reports,
    health_reports_the_message_limit,
    futile_flush_is_not_repeated_per_append,
    only_closed_calls_are_evicted,
    calls_and_results_are_evicted_together,
    summaries_do_not_accumulate,
    custom_strategy_must_keep_the_invariants,
    failed_flush_is_superseded_by_another_process,
    inline_flush_completes_before_append_returns,
    concurrent_flushes_do_the_work_once,
    explicit_flush_of_small_memory_does_nothing,
    appends_during_a_flush_survive,
    turn_does_not_wait_for_due_flush,
    closing_a_call_lets_the_next_flush_begin,
    flush_groups_each_message_once,
    ; paused_clock:
    failed_flush_is_not_retried_per_append,
    flush_without_lease_is_forgotten_when_none_due,
    hanging_summarizer_is_replaced_after_its_limit,
    slow_summarizer_blocks_no_append,
    appends_during_a_flush_are_flushed_next,
];

/// A bridge from synchronous code: one append on a runtime that ends right after it.
#[test]
fn flush_of_ended_runtime_does_not_block_next() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    };
    let (first, second) = (runtime(), runtime());
    let world = second.block_on(On::Memory.world(with(hybrid(1_000))));
    let memory = world.memory();
    second.block_on(fill(&memory, 10));
    first.block_on(async {
        for number in 0..400 {
            memory.append(Message::user(format!("message number {number}"))).await.unwrap();
        }
    });
    drop(first);
    second.block_on(async {
        fill(&memory, 200).await;
        receipts(&memory, 1).await;
        assert!(memory.token_count().await.unwrap() < 1_000, "flushes go on");
    });
}

pub(crate) async fn fill(memory: &MemoryInstance, count: usize) {
    for number in 0..count {
        memory.append(Message::user(format!("message number {number:04}"))).await.unwrap();
    }
}

/// Waits until the memory has this number of receipts.
async fn receipts(memory: &MemoryInstance, count: usize) -> Vec<FlushReceipt> {
    let wait = async {
        loop {
            let receipts = memory.receipts().await.unwrap();
            if receipts.len() >= count {
                return receipts;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(600), wait).await.expect("a flush comes to its end")
}

async fn slow_summarizer_blocks_no_append(on: On) {
    let asked = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&asked);
    let slow = from_fn("slow", move |_| {
        counting.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::time::sleep(Duration::from_secs(90)).await;
            Ok("they talked about numbers".to_owned())
        }
    });
    let builder = with(hybrid(4_000))
        .with_summarizer(slow)
        .with_summarizer_time_limit(Duration::from_secs(300));
    let world = on.world(builder).await;
    let memory = world.memory();
    memory.append(Message::system("be kind")).await.unwrap();
    while asked.load(Ordering::SeqCst) == 0 {
        fill(&memory, 10).await;
        tokio::task::yield_now().await;
    }
    let before = memory.counters().await.unwrap();

    let begun = Instant::now();
    let tasks = (0..8).map(|task| {
        let memory = world.memory();
        tokio::spawn(async move {
            let mut slowest = Duration::ZERO;
            for number in 0..20 {
                let sent = Instant::now();
                memory.append(Message::user(format!("late {task} {number}"))).await.unwrap();
                slowest = slowest.max(sent.elapsed());
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            slowest
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        let slowest = task.await.unwrap();
        assert!(slowest < Duration::from_secs(1), "an append waited {slowest:?} for the flush");
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "the flush was still under way");
    assert!(memory.receipts().await.unwrap().is_empty(), "the flush was still under way");

    let done = receipts(&memory, 1).await;
    assert_eq!(done.len(), 1);
    assert_eq!(done[0].summary.as_ref().unwrap().summarizer, "slow");
    assert!(done[0].duration >= Duration::from_secs(90));
    let refreshed = world.manager.locks().stats().refreshed;
    assert!(refreshed >= 3, "the flush lease was refreshed {refreshed} times");
    let counters = checked(&memory, &world.manager).await.head.counters;
    assert_eq!(counters.appended, before.appended + 160);
    let texts = texts(&memory).await;
    for task in 0..8 {
        for number in 0..20 {
            let text = format!("late {task} {number}");
            assert_eq!(texts.iter().filter(|t| **t == text).count(), 1, "{text}");
        }
    }
    assert_eq!(texts[0], "be kind");
    assert_eq!(texts[1], "they talked about numbers");
}

/// Flushes a memory of 600 messages with this summarizer and a time limit of 20 s.
async fn flushed_with(on: On, summarizer: Arc<dyn Summarizer>) -> (FlushReceipt, Vec<String>) {
    let builder = with(hybrid(4_000))
        .with_flush_mode(FlushMode::Manual)
        .with_summarizer(summarizer)
        .with_summarizer_time_limit(Duration::from_secs(20));
    let world = on.world(builder).await;
    let memory = world.memory();
    fill(&memory, 600).await;
    let receipt = memory.perform_flush().await.unwrap().expect("there was much to flush");
    checked(&memory, &world.manager).await;
    assert!(receipt.tokens_after <= 2_000 && receipt.shortfall.is_none(), "{receipt:?}");
    (receipt, texts(&memory).await)
}

/// With every step of a flush: the target, the check of the plan, a summary.
async fn flush_groups_each_message_once(on: On) {
    assert_eq!(planning_of_flush(on, hybrid(4_000)).await, (440, 420));
    // Cleared results change what is recent, and leave the units as they are: only such units are classified again.
    let mut resource = hybrid(4_000);
    resource.flushing_strategy.clear_tool_results = Some(ClearToolResults::default());
    assert_eq!(planning_of_flush(on, resource).await, (440, 420));
}

/// The messages that a flush groups, and the units that it classifies: of 20 calls with their results, and 400 messages.
async fn planning_of_flush(on: On, resource: MemoryResource) -> (u64, u64) {
    let tells = from_fn("tells", |_| async { Ok("they talked about numbers".to_owned()) });
    let builder = with(resource).with_flush_mode(FlushMode::Manual).with_summarizer(tells);
    let world = on.world(builder).await;
    let memory = world.memory();
    let result = "the tide is low ".repeat(100);
    for number in 0..20 {
        let id = format!("call-{number}");
        let call = Message::calls([ToolCall::function(&*id, "tide", "{}")]);
        memory.append_all([call, Message::tool_result(&*id, &*result)]).await.unwrap();
    }
    fill(&memory, 400).await;
    let before = planning_work();
    let receipt = memory.perform_flush().await.unwrap().expect("there was much to flush");
    let after = planning_work();
    assert!(receipt.summary.is_some());
    (after.grouped - before.grouped, after.classified - before.classified)
}

async fn failing_summarizer_is_replaced_and_reported(on: On) {
    let fails = from_fn("slow", |_| async { Err(SummarizeError::new("status 529")) });
    let (receipt, texts) = flushed_with(on, fails).await;
    let summary = receipt.summary.expect("the rule-based one wrote it");
    assert_eq!(summary.summarizer, "rule_based");
    assert_eq!(summary.fallback.as_deref(), Some("slow: status 529"));
    assert!(texts[0].contains("message number 0000"), "{}", texts[0]);
}

/// A model may repeat a secret that is older than the policy, or that the patterns did not find in split parts.
async fn secrets_in_a_summary_never_reach_the_store(on: On) {
    let mut resource = hybrid(4_000);
    resource.privacy_policy.redact_presets = vec![RedactPreset::Email, RedactPreset::UsSsn];
    let fails = from_fn("fails", |_| async { Err(SummarizeError::new("no: eve@example.com")) });
    let tells = from_fn("tells", |_| async { Ok("ann@example.com has 123-45-6789".to_owned()) });
    let builder = with(resource)
        .with_flush_mode(FlushMode::Manual)
        .with_summarizer(fails)
        .with_summarizer(tells);
    let world = on.world(builder).await;
    let memory = world.memory();
    fill(&memory, 600).await;
    let receipt = memory.perform_flush().await.unwrap().expect("there was much to flush");
    checked(&memory, &world.manager).await;
    let summary = receipt.summary.unwrap();
    assert_eq!(summary.fallback.as_deref(), Some("fails: no: [REDACTED]"));
    assert_eq!(texts(&memory).await[0], "[REDACTED] has [REDACTED]");
    let Some(folder) = &world.folder else { return };
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for secret in ["@example.com", "123-45-6789"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
        }
    }
}

async fn hanging_summarizer_is_replaced_after_its_limit(on: On) {
    let hangs = from_fn("slow", |_| std::future::pending());
    let (receipt, _) = flushed_with(on, hangs).await;
    let fallback = receipt.summary.unwrap().fallback.unwrap();
    assert!(fallback.contains("took longer than 20s"), "{fallback}");
}

async fn summarizer_with_bad_output_is_replaced(on: On) {
    let empty = from_fn("slow", |_| async { Ok("  ".to_owned()) });
    let (receipt, _) = flushed_with(on, empty).await;
    assert!(receipt.summary.unwrap().fallback.unwrap().contains("empty"));
    let long = from_fn("slow", |_| async { Ok("much ado ".repeat(4_000)) });
    let (receipt, _) = flushed_with(on, long).await;
    assert!(receipt.summary.unwrap().fallback.unwrap().contains("over its limit"));
}

async fn critical_messages_survive_any_pressure(on: On) {
    let world = on.world(with(hybrid(2_000)).with_flush_mode(FlushMode::Inline)).await;
    let memory = world.memory();
    memory.append(Message::system("the system prompt")).await.unwrap();
    let fact = Entry::new(Message::user("allergic to nuts")).with_priority(Priority::CRITICAL);
    memory.append(fact).await.unwrap();
    fill(&memory, 1_000).await;
    let texts = texts(&memory).await;
    assert_eq!(texts[..2], ["the system prompt", "allergic to nuts"]);
    let counters = checked(&memory, &world.manager).await.head.counters;
    assert!(counters.present.tokens <= 2_000 && counters.summarized > 500, "{counters:?}");
    let window = assert_window_fits(&memory, 300).await;
    assert_eq!(window[0].text(), "the system prompt");
    assert_eq!(window[1].text(), "allergic to nuts");
}

async fn appends_continue_over_budget_and_health_reports(on: On) {
    let world =
        on.world(with(MemoryResource::new("m", 300)).with_flush_mode(FlushMode::Inline)).await;
    let memory = world.memory();
    for number in 0..100 {
        let entry = Entry::new(Message::user(format!("never forget {number}")));
        memory.append(entry.with_priority(Priority::CRITICAL)).await.unwrap();
    }
    assert_eq!(memory.len().await.unwrap(), 100);
    let health = memory.health().await.unwrap();
    assert!(matches!(health.verdict, Verdict::OverBudget { .. }), "{:?}", health.verdict);
    let error = memory.context(300).await.unwrap_err();
    assert!(matches!(error, MemoryError::Context { .. }), "{error}");
    assert!(error.to_string().contains("the critical messages alone take"), "{error}");
    checked(&memory, &world.manager).await;
}

async fn health_reports_the_message_limit(on: On) {
    let mut resource = MemoryResource::new("m", 100_000);
    resource.message_limit = Some(100);
    let world = on.world(with(resource).with_flush_mode(FlushMode::Manual)).await;
    let memory = world.memory();
    let verdict = async || memory.health().await.unwrap().verdict;
    let ids: Vec<_> = (0..120).map(|id| format!("c{id}")).collect();
    let calls = ids.iter().map(|id| ToolCall::function(id, "f", "{}"));
    memory.append(Message::calls(calls)).await.unwrap();
    memory.append_all(ids[1..].iter().map(|id| Message::tool_result(id, "r"))).await.unwrap();
    let why = "120 of 100 messages; a flush is due".to_owned();
    assert_eq!(verdict().await, Verdict::Degraded { why });

    memory.perform_flush().await.unwrap().expect("it says why it made no progress");
    let why = "120 of 100 messages, and the last flush could not free enough; close open calls, lower some priorities or raise message_limit".to_owned();
    assert_eq!(verdict().await, Verdict::OverBudget { why });

    memory.append(Message::tool_result(&ids[0], "r")).await.unwrap();
    fill(&memory, 29).await;
    let why = "150 of 100 messages; a flush is due".to_owned();
    assert_eq!(verdict().await, Verdict::Degraded { why });
    memory.perform_flush().await.unwrap().expect("the call may go now");
    assert_eq!(verdict().await, Verdict::Healthy);
    assert!(memory.len().await.unwrap() <= 50);

    for _ in 0..101 {
        let entry = Entry::new(Message::user("never forget"));
        memory.append(entry.with_priority(Priority::CRITICAL)).await.unwrap();
    }
    let why = "critical messages alone take 101 of 100 messages; lower some priorities or raise message_limit".to_owned();
    assert_eq!(verdict().await, Verdict::OverBudget { why });
}

async fn futile_flush_is_not_repeated_per_append(on: On) {
    let world =
        on.world(with(MemoryResource::new("m", 1_000)).with_flush_mode(FlushMode::Inline)).await;
    let memory = world.memory();
    for _ in 0..120 {
        let entry = Entry::new(Message::user("critical and long enough to matter here"));
        memory.append(entry.with_priority(Priority::CRITICAL)).await.unwrap();
    }
    let flushes = memory.receipts().await.unwrap();
    assert!(!flushes.is_empty(), "a flush says why it made no progress");
    assert!(flushes.len() <= 6, "{} flushes for 120 appends", flushes.len());
    assert!(flushes.iter().all(|receipt| receipt.shortfall.is_some()));
}

async fn only_closed_calls_are_evicted(on: On) {
    let world =
        on.world(with(MemoryResource::new("m", 1_000)).with_flush_mode(FlushMode::Inline)).await;
    let memory = world.memory();
    memory.append(Message::calls([ToolCall::function("c", "search", "{}")])).await.unwrap();
    fill(&memory, 400).await;
    let is_there = async || {
        let outline = memory.messages().await.unwrap();
        outline.iter().any(|message| !message.message.tool_link().calls.is_empty())
    };
    assert!(is_there().await, "an open call is never evicted");
    assert_eq!(memory.health().await.unwrap().open_calls, 1);
    let window = assert_window_fits(&memory, 500).await;
    assert!(
        window.iter().all(|message| message.tool_link().calls.is_empty()),
        "it does not end the window"
    );
    memory.close_call("c").await.unwrap();
    assert_eq!(memory.health().await.unwrap().abandoned_calls, 1);
    let refused = memory.close_call("c").await.unwrap_err();
    assert!(matches!(refused, MemoryError::NoOpenCall { .. }), "{refused}");
    fill(&memory, 400).await;
    assert!(!is_there().await, "an abandoned call may be evicted");
    checked(&memory, &world.manager).await;
}

async fn calls_and_results_are_evicted_together(on: On) {
    let world = on.world(with(hybrid(1_500)).with_flush_mode(FlushMode::Inline)).await;
    let memory = world.memory();
    for number in 0..150 {
        let ids = [format!("a{number}"), format!("b{number}")];
        let calls = ids.iter().map(|id| ToolCall::function(id, "f", "{\"x\":1}"));
        memory.append(Message::calls(calls)).await.unwrap();
        for id in &ids {
            memory.append(Message::tool_result(id, "some result of the tool")).await.unwrap();
        }
        if number % 10 == 0 {
            assert_window_fits(&memory, 400).await;
        }
    }
    let health = memory.health().await.unwrap();
    assert_eq!((health.orphaned_results, health.open_calls), (0, 0), "a unit was torn");
    checked(&memory, &world.manager).await;
}

async fn summaries_do_not_accumulate(on: On) {
    let world = on.world(with(hybrid(2_000)).with_flush_mode(FlushMode::Inline)).await;
    let memory = world.memory();
    fill(&memory, 1_500).await;
    let outline = checked(&memory, &world.manager).await;
    assert!(outline.head.counters.summarized > 1_000);
    let summaries: Vec<_> = outline.metas.iter().filter(|meta| meta.summary).collect();
    assert_eq!(summaries.len(), 1, "an earlier summary goes into the next one");
    assert_eq!(summaries[0].content_type, ContentType::Summary);
    assert!(summaries[0].tokens <= 500);
    let text = &texts(&memory).await[0];
    assert!(text.contains("message number 0000"), "the beginning is still told: {text}");
}

/// Evicts the first message unconditionally, and counts its calls.
#[derive(Debug, Default)]
struct Careless(AtomicU64);

impl FlushStrategy for Careless {
    fn name(&self) -> &str {
        "careless"
    }

    fn plan(&self, input: &FlushInput<'_>) -> FlushPlan {
        self.0.fetch_add(1, Ordering::SeqCst);
        let first = input.metas.iter().take(1).map(|meta| meta.sequence).collect();
        FlushPlan::new(input, first, Vec::new())
    }
}

async fn custom_strategy_must_keep_the_invariants(on: On) {
    let mut resource = MemoryResource::new("m", 1_000);
    resource.flushing_strategy.kind = Some("careless".into());
    let builder =
        with(resource).with_strategy(Arc::<Careless>::default()).with_flush_mode(FlushMode::Manual);
    let world = on.world(builder).await;
    let memory = world.memory();
    memory.append(Message::system("keep me")).await.unwrap();
    fill(&memory, 150).await;
    let refused = memory.perform_flush().await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "flush default:m:k with strategy `careless`: the plan removes or clears the critical message at place 1: keep critical messages",
    );
    assert_eq!(memory.len().await.unwrap(), 151);
    let health = memory.health().await.unwrap();
    assert!(health.last_flush_error.unwrap().contains("careless"));
    memory.clear().await.unwrap();
    fill(&memory, 150).await;
    memory.perform_flush().await.unwrap().expect("the first message went");
    assert_eq!(memory.len().await.unwrap(), 149);
}

/// A second process: another manager on the same store and leases.
fn beside(world: &World, builder: ManagerBuilder) -> MemoryInstance {
    let (store, locks) = (Arc::clone(world.manager.store()), world.manager.locks().clone());
    builder.build(store, locks).unwrap().memory("m", "k").unwrap()
}

async fn failed_flush_is_superseded_by_another_process(on: On) {
    let mut resource = MemoryResource::new("m", 1_000);
    resource.flushing_strategy.kind = Some("careless".into());
    let builder =
        with(resource).with_strategy(Arc::<Careless>::default()).with_flush_mode(FlushMode::Manual);
    let world = on.world(builder).await;
    let memory = world.memory();
    let other =
        beside(&world, with(MemoryResource::new("m", 1_000)).with_flush_mode(FlushMode::Manual));
    memory.append(Message::system("keep me")).await.unwrap();
    for _ in 0..2 {
        // An earlier flush by another process does not supersede a later failure.
        fill(&memory, 150).await;
        memory.perform_flush().await.unwrap_err();
        for _ in 0..2 {
            let health = memory.health().await.unwrap();
            assert!(matches!(health.verdict, Verdict::Degraded { .. }), "{:?}", health.verdict);
            assert!(health.last_flush_error.unwrap().contains("careless"));
        }
        let receipt = other.perform_flush().await.unwrap().expect("there was much to flush");
        let health = memory.health().await.unwrap();
        assert_eq!((health.verdict, health.last_flush_error), (Verdict::Healthy, None));
        assert_eq!(health.last_flush.unwrap().id, receipt.id);
    }
}

async fn flush_without_lease_is_forgotten_when_none_due(on: On) {
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let slow = from_fn("slow", move |_| {
        begun.send(()).unwrap();
        async {
            // Longer than the wait timeout of the flush, which is 60 s.
            tokio::time::sleep(Duration::from_secs(65)).await;
            Ok("a summary".to_owned())
        }
    });
    let world = on.world(with(hybrid(4_000)).with_flush_mode(FlushMode::Manual)).await;
    let memory = world.memory();
    let builder = with(hybrid(4_000)).with_flush_mode(FlushMode::Manual).with_summarizer(slow);
    let other = beside(&world, builder.with_summarizer_time_limit(Duration::from_secs(120)));
    fill(&memory, 600).await;
    let flush = tokio::spawn(async move { other.perform_flush().await });
    begins.recv().await.unwrap();
    let error = memory.perform_flush().await.unwrap_err();
    assert!(matches!(error, MemoryError::Lock { .. }), "{error}");
    let health = memory.health().await.unwrap();
    assert!(matches!(health.verdict, Verdict::Degraded { .. }), "{:?}", health.verdict);
    assert!(health.last_flush_error.is_some());
    flush.await.unwrap().unwrap().expect("there was much to flush");
    let health = memory.health().await.unwrap();
    assert_eq!((health.verdict, health.last_flush_error), (Verdict::Healthy, None));
}

async fn inline_flush_completes_before_append_returns(on: On) {
    let world = on.world(with(hybrid(1_000)).with_flush_mode(FlushMode::Inline)).await;
    let memory = world.memory();
    for number in 0..300 {
        memory.append(Message::user(format!("message number {number}"))).await.unwrap();
        assert!(memory.token_count().await.unwrap() < 1_000);
    }
    assert!(memory.receipts().await.unwrap().len() > 1);
}

async fn concurrent_flushes_do_the_work_once(on: On) {
    let asked = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&asked);
    let slow = from_fn("slow", move |_| {
        counting.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok("a summary".to_owned())
        }
    });
    let builder = with(hybrid(4_000)).with_flush_mode(FlushMode::Manual).with_summarizer(slow);
    let world = on.world(builder).await;
    let memory = world.memory();
    fill(&memory, 600).await;
    let (one, two) = tokio::join!(memory.perform_flush(), memory.perform_flush());
    let receipts = [one.unwrap(), two.unwrap()];
    assert_eq!(receipts.iter().flatten().count(), 1, "the second found nothing left to do");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    checked(&memory, &world.manager).await;
}

async fn explicit_flush_of_small_memory_does_nothing(on: On) {
    let world = on.world(with(hybrid(4_000))).await;
    let memory = world.memory();
    assert_eq!(memory.perform_flush().await.unwrap(), None);
    fill(&memory, 3).await;
    assert_eq!(memory.perform_flush().await.unwrap(), None);
    assert_eq!(memory.len().await.unwrap(), 3);
}

async fn appends_during_a_flush_survive(on: On) {
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let slow = from_fn("slow", move |_| {
        begun.send(()).unwrap();
        async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok("a summary".to_owned())
        }
    });
    let builder = with(hybrid(20_000))
        .with_token_counter(bytes())
        .with_flush_mode(FlushMode::Manual)
        .with_summarizer(slow);
    let world = on.world(builder).await;
    let memory = world.memory();
    fill(&memory, 600).await;
    let flusher = world.memory();
    let flush = tokio::spawn(async move { flusher.perform_flush().await });
    begins.recv().await.unwrap();
    let read = memory.messages().await.unwrap().len();
    memory.append_all([Message::user("late one"), Message::user("late two")]).await.unwrap();
    assert_eq!(memory.len().await.unwrap() as usize, read + 2);
    let receipt = flush.await.unwrap().unwrap().unwrap();
    let texts = texts(&memory).await;
    assert_eq!(texts[0], "a summary");
    assert_eq!(texts[texts.len() - 2..], ["late one", "late two"]);
    assert_eq!(receipt.messages_after as usize + 2, texts.len());
    checked(&memory, &world.manager).await;
}

async fn failed_flush_is_not_retried_per_append(on: On) {
    let mut resource = MemoryResource::new("m", 1_000);
    resource.flushing_strategy.kind = Some("careless".into());
    let careless = Arc::<Careless>::default();
    let builder = with(resource).with_strategy(careless.clone()).with_flush_mode(FlushMode::Inline);
    let world = on.world(builder).await;
    let memory = world.memory();
    memory.append(Message::system("keep me")).await.unwrap();
    fill(&memory, 400).await;
    assert_eq!(careless.0.load(Ordering::SeqCst), 1, "it fails once, and then there is a pause");
    tokio::time::advance(Duration::from_secs(2)).await;
    fill(&memory, 10).await;
    assert_eq!(careless.0.load(Ordering::SeqCst), 2, "it is tried again after the pause");
    assert_eq!(memory.len().await.unwrap(), 411, "no append is lost over it");
    let verdict = memory.health().await.unwrap().verdict;
    assert!(matches!(verdict, Verdict::Degraded { .. }), "{verdict:?}");
}

async fn turn_does_not_wait_for_due_flush(on: On) {
    let world = on.world(with(hybrid(1_000)).with_flush_mode(FlushMode::Inline)).await;
    let memory = world.memory();
    let begun = Instant::now();
    let turn = |session: memory_instance::Session| async move {
        for number in 0..200 {
            session.append(Message::user(format!("message number {number}"))).await.unwrap();
        }
        session.messages().await.unwrap().len()
    };
    assert_eq!(memory.exclusive(turn).await.unwrap(), 200, "nothing changes under a turn");
    assert!(begun.elapsed() < Duration::from_secs(1), "it took {:?}", begun.elapsed());
    assert!(memory.token_count().await.unwrap() < 800, "the flush came after the turn");
}

async fn closing_a_call_lets_the_next_flush_begin(on: On) {
    let world =
        on.world(with(MemoryResource::new("m", 1_000)).with_flush_mode(FlushMode::Inline)).await;
    let memory = world.memory();
    let large = ToolCall::function("c", "f", "argument ".repeat(500));
    memory.append(Message::calls([large])).await.unwrap();
    fill(&memory, 60).await;
    let stuck = memory.token_count().await.unwrap();
    assert!(stuck > 500, "the open call takes the room: {stuck}");
    memory.close_call("c").await.unwrap();
    let after = memory.token_count().await.unwrap();
    assert!(after <= 500, "{after} tokens, although the call may go now");
}

async fn appends_during_a_flush_are_flushed_next(on: On) {
    let slow = from_fn("slow", |_| async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        Ok("a summary".to_owned())
    });
    let world = on.world(with(hybrid(4_000)).with_summarizer(slow)).await;
    let memory = world.memory();
    fill(&memory, 500).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    fill(&memory, 600).await;
    // No more appends.
    receipts(&memory, 2).await;
    assert!(memory.token_count().await.unwrap() <= 3_200);
}
