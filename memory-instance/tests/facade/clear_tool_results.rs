//! Old tool results are cleared before anything is summarized.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use memory_core::dialect::ToolCall;
use memory_core::resource::ClearToolResults;
use memory_core::store::{FlushReceipt, RestoreRefusal, Shortfall, StoreErrorKind};
use memory_core::{Entry, MemoryResource, Message, Priority};
use memory_flush::from_fn;
use memory_instance::{Change, FlushMode, ManagerBuilder, MemoryInstance, WatchFrom};

use crate::support::{On, assert_window_fits, checked, texts, with};

on_every_backend![
    cleared_results_suffice_without_a_summary,
    undone_clearing_returns_the_results,
    strategy_that_only_clears_reports_its_shortfall,
    summarizer_gets_cleared_results,
    clearing_under_its_minimum_is_left_out,
    due_flush_clears_and_watchers_see_it,
    later_flush_of_cleared_results_is_undone_first,
];

const BUDGET: u64 = 2_000;

fn resource(kind: &str, keep: u64, min_tokens: u64) -> MemoryResource {
    MemoryResource::from_yaml(&format!(
        "id: m\nkey: \"{{{{ id }}}}\"\nmax_tokens: {BUDGET}\narchive: {{ keep: 1d }}\n\
         flushing_strategy:\n  type: {kind}\n  clear_tool_results: {{ keep: {keep}, min_tokens: {min_tokens} }}\n"
    ))
    .unwrap()
}

fn manual(kind: &str, keep: u64, min_tokens: u64) -> ManagerBuilder {
    with(resource(kind, keep, min_tokens)).with_flush_mode(FlushMode::Manual)
}

/// Appends this many turns of a question, a call with a result of about 200 tokens, and an answer.
async fn turns(memory: &MemoryInstance, count: usize) {
    for turn in 0..count {
        let (call, page) = (format!("c{turn}"), format!("page {turn} of fares ").repeat(40));
        memory.append(Message::user(format!("question {turn}"))).await.unwrap();
        memory.append(Message::calls([ToolCall::function(&call, "f", "{}")])).await.unwrap();
        memory.append(Message::tool_result(&call, page)).await.unwrap();
        memory.append(Message::assistant(format!("answer {turn}"))).await.unwrap();
    }
}

async fn flushed(memory: &MemoryInstance) -> FlushReceipt {
    memory.perform_flush().await.unwrap().unwrap()
}

fn cleared(texts: &[String]) -> usize {
    texts.iter().filter(|text| text.starts_with("[tool result cleared: ")).count()
}

async fn cleared_results_suffice_without_a_summary(on: On) {
    let world = on.world(manual("hybrid_summary", 2, 0)).await;
    let memory = world.memory();
    let critical = Message::tool_result("old", "an important page ".repeat(40));
    memory.append(Message::calls([ToolCall::function("old", "f", "{}")])).await.unwrap();
    memory.append(Entry::from(critical).with_priority(Priority::CRITICAL)).await.unwrap();
    turns(&memory, 6).await;
    let before = memory.messages().await.unwrap();
    let receipt = flushed(&memory).await;
    assert_eq!((receipt.summary.is_none(), receipt.evicted.len()), (true, 0));
    assert_eq!(receipt.shortfall, None);
    assert_eq!(receipt.tokens_before - receipt.tokens_after, receipt.tokens_cleared());
    let places: Vec<_> = receipt.replaced.iter().map(|one| one.sequence.number()).collect();
    assert_eq!(places, [5, 9, 13, 17], "four of six, and not the critical one");

    let after = memory.messages().await.unwrap();
    assert_eq!((after.len(), cleared(&texts(&memory).await)), (before.len(), 4));
    for (old, new) in before.iter().zip(&after) {
        assert_eq!((old.meta.sequence, &old.meta.link), (new.meta.sequence, &new.meta.link));
        let is_replaced = places.contains(&old.meta.sequence.number());
        assert_eq!(old == new, !is_replaced);
    }
    let outline = checked(&memory, &world.manager).await;
    assert_eq!(outline.head.counters.present.tokens, receipt.tokens_after);
    let window = assert_window_fits(&memory, 4_000).await;
    assert_eq!(window.iter().filter(|one| one.text().starts_with("[tool result")).count(), 4);
    assert_eq!(memory.receipts().await.unwrap()[0].replaced, receipt.replaced);
    assert!(memory.perform_flush().await.unwrap().is_none(), "within the target");
}

async fn undone_clearing_returns_the_results(on: On) {
    let world = on.world(manual("hybrid_summary", 2, 0)).await;
    let memory = world.memory();
    turns(&memory, 6).await;
    let before = memory.messages().await.unwrap();
    let receipt = flushed(&memory).await;
    assert_eq!(receipt.replaced.len(), 4);
    let [removal] = memory.removals(None, NonZeroUsize::MAX).await.unwrap().try_into().unwrap();
    assert_eq!(removal.messages, 4);
    let all = memory_core::Sequence::ZERO..=memory_core::Sequence::new(u64::MAX);
    let archived = memory.archived(all).await.unwrap();
    assert!(archived.iter().all(|one| before.contains(&one.message)));
    assert_eq!(archived.len(), 4);
    memory.undo_flush(receipt.id).await.unwrap();
    assert_eq!(memory.messages().await.unwrap(), before);
    assert!(memory.health().await.unwrap().flush_held);
    checked(&memory, &world.manager).await;
}

async fn strategy_that_only_clears_reports_its_shortfall(on: On) {
    let world = on.world(manual("clear_tool_results", 1, 0)).await;
    let memory = world.memory();
    turns(&memory, 4).await;
    for number in 0..60 {
        memory
            .append(Message::user(format!(
                "message {number} that stays as long as the memory, whatever happens"
            )))
            .await
            .unwrap();
    }
    let before = memory.len().await.unwrap();
    let receipt = flushed(&memory).await;
    assert_eq!(receipt.strategy, "clear_tool_results");
    assert_eq!((receipt.replaced.len(), receipt.shortfall), (3, Some(Shortfall::Strategy)));
    assert_eq!(memory.len().await.unwrap(), before);
    // Nothing is left to clear; that is reported, too.
    let again = flushed(&memory).await;
    assert_eq!((again.replaced.len(), again.shortfall), (0, Some(Shortfall::Strategy)));
    let head = world.manager.store().head(memory.key()).await.unwrap();
    assert!(head.next_flush_at.is_some(), "it waits for growth");
}

async fn summarizer_gets_cleared_results(on: On) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&seen);
    let summarizer = from_fn("model", move |request| {
        let texts = request.messages.iter().map(|one| one.message.text().into_owned());
        requests.lock().unwrap().extend(texts);
        async { Ok("they asked for fares".to_owned()) }
    });
    let mut resource = resource("hybrid_summary", 1, 0);
    resource.flushing_strategy.flush_target = 0.1;
    resource.flushing_strategy.summary_tokens = Some(30);
    let builder = with(resource).with_flush_mode(FlushMode::Manual).with_summarizer(summarizer);
    let world = on.world(builder).await;
    let memory = world.memory();
    turns(&memory, 6).await;
    let before = memory.messages().await.unwrap();
    let receipt = flushed(&memory).await;
    assert!(receipt.summary.is_some());
    let seen = seen.lock().unwrap().clone();
    let whole: Vec<_> = seen.iter().filter(|text| text.contains("of fares")).collect();
    assert_eq!((cleared(&seen), whole.len()), (5, 1), "the newest stays: {seen:?}");
    // The archive has the originals of summarized results.
    memory.undo_flush(receipt.id).await.unwrap();
    assert_eq!(memory.messages().await.unwrap(), before);
}

async fn clearing_under_its_minimum_is_left_out(on: On) {
    let world = on.world(manual("hybrid_summary", 3, 5_000)).await;
    let memory = world.memory();
    turns(&memory, 6).await;
    let receipt = flushed(&memory).await;
    assert_eq!((receipt.replaced.len(), receipt.summary.is_some()), (0, true));
    assert_eq!(cleared(&texts(&memory).await), 0);
}

async fn due_flush_clears_and_watchers_see_it(on: On) {
    let world =
        on.world(with(resource("hybrid_summary", 3, 0)).with_flush_mode(FlushMode::Inline)).await;
    let memory = world.memory();
    turns(&memory, 2).await;
    let mut watch = memory.watch(WatchFrom::Now).await.unwrap();
    let known = memory.context(BUDGET).await.unwrap();
    assert!(known.messages.iter().all(|one| !one.text().starts_with("[tool result")));
    while memory.receipts().await.unwrap().is_empty() {
        turns(&memory, 1).await;
    }
    let receipt = memory.receipts().await.unwrap().remove(0);
    assert!(receipt.summary.is_none() && !receipt.replaced.is_empty());
    // The watcher had seen the results of two turns; later ones may reach it cleared.
    let mut replaced = Vec::new();
    while replaced.len() < 2 {
        match watch.next().await.unwrap() {
            Change::Replaced(message) => replaced.push(message.meta.sequence),
            Change::Appended(_) => {}
            other => panic!("{other:?}"),
        }
    }
    let expected: Vec<_> = receipt.replaced.iter().map(|one| one.sequence).collect();
    assert_eq!(replaced, expected[..2]);
    // Views and windows have the cleared results.
    assert_eq!(cleared(&texts(&memory).await), expected.len());
    let window = memory.context(BUDGET).await.unwrap();
    assert!(window.messages.iter().any(|one| one.text().starts_with("[tool result")));
}

async fn later_flush_of_cleared_results_is_undone_first(on: On) {
    let world = on.world(manual("hybrid_summary", 2, 0)).await;
    let memory = world.memory();
    turns(&memory, 6).await;
    let before = memory.messages().await.unwrap();
    let first = flushed(&memory).await;
    turns(&memory, 6).await;
    let mut second = flushed(&memory).await;
    while second.summarized.is_empty() {
        turns(&memory, 6).await;
        second = flushed(&memory).await;
    }
    let refused = memory.undo_flush(first.id).await.unwrap_err();
    let reason = StoreErrorKind::NotRestorable(RestoreRefusal::ReplacementRemoved);
    assert_eq!(refused.store_kind(), Some(&reason));
    memory.undo_flush(second.id).await.unwrap();
    memory.undo_flush(first.id).await.unwrap();
    assert_eq!(memory.messages().await.unwrap()[..before.len()], before);
}

#[test]
fn settings_are_read_from_the_resource() {
    let settings = resource("clear_tool_results", 5, 700).flush_settings().unwrap();
    assert_eq!(settings.clear_tool_results, Some(ClearToolResults::new(5, 700)));
}
