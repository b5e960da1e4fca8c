//! Options of single flushes, and plans of flushes that do not take place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use memory_core::dialect::ToolCall;
use memory_core::store::{FlushReceipt, SequenceSet};
use memory_core::{Entry, MemoryResource, Message, Priority, Sequence};
use memory_flush::from_fn;
use memory_instance::{FlushMode, FlushOptions, ManagerBuilder, MemoryError, MemoryInstance};

use crate::flush::fill;
use crate::support::{On, World, checked, with};

on_every_backend![
    dry_run_predicts_the_flush_of_each_strategy,
    goals_of_one_flush_replace_the_target,
    conditions_of_one_flush_are_checked,
    invalid_options_are_refused_with_the_remedy,
];

const BUDGET: u64 = 4_000;

fn manual(more: &str) -> ManagerBuilder {
    let yaml = format!(
        "id: m\nkey: \"{{{{ id }}}}\"\nmax_tokens: {BUDGET}\narchive: {{ keep: 1d }}\n{more}"
    );
    with(MemoryResource::from_yaml(&yaml).unwrap()).with_flush_mode(FlushMode::Manual)
}

/// A system prompt, ten calls with their results, and a hundred messages.
async fn filled(world: &World) -> MemoryInstance {
    let memory = world.memory();
    let pinned = Entry::new(Message::system("answer in one sentence"));
    memory.append(pinned.with_priority(Priority::CRITICAL)).await.unwrap();
    for turn in 0..10 {
        let id = format!("c{turn}");
        let call = Message::calls([ToolCall::function(&*id, "fares", "{}")]);
        memory.append_all([call, Message::tool_result(&*id, "fares ".repeat(60))]).await.unwrap();
    }
    fill(&memory, 100).await;
    memory
}

fn removed(receipt: &FlushReceipt) -> (&SequenceSet, &SequenceSet, Vec<Sequence>) {
    let cleared = receipt.replaced.iter().map(|one| one.sequence).collect();
    (&receipt.evicted, &receipt.summarized, cleared)
}

async fn dry_run_predicts_the_flush_of_each_strategy(on: On) {
    for (name, with_results) in [
        ("fifo", ""),
        ("priority", ""),
        ("hybrid_summary", ""),
        ("hybrid_summary", "flushing_strategy: { clear_tool_results: { keep: 2 } }"),
        ("clear_tool_results", ""),
    ] {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let summarizer = from_fn("counts", move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            async { Ok("they talked".to_owned()) }
        });
        let world = on.world(manual(with_results).with_summarizer(summarizer)).await;
        let memory = filled(&world).await;
        let options = FlushOptions::new().with_strategy(name).with_freed_percent(20);
        let before = memory.version().await.unwrap();
        let reader = memory.read_only();
        let planned = reader.plan_flush(&options).await.unwrap().expect("much to flush");
        assert!(planned.dry_run && planned.summary.is_none(), "{name}");
        assert_eq!(planned.strategy, name);
        assert_eq!(calls.load(Ordering::SeqCst), 0, "{name}: a plan called the summarizer");
        assert_eq!(memory.version().await.unwrap(), before, "{name}: a plan wrote");
        assert!(memory.receipts().await.unwrap().is_empty(), "{name}: a plan left a receipt");

        let receipt = memory.flush(&options).await.unwrap().expect("much to flush");
        assert!(!receipt.dry_run);
        assert_eq!(removed(&receipt), removed(&planned), "{name} {with_results}");
        assert!(receipt.tokens_after <= planned.tokens_after, "{name}: no upper bound");
        assert_eq!(receipt.tokens_before, planned.tokens_before);
        let summarizes = !planned.summarized.is_empty();
        assert_eq!(calls.load(Ordering::SeqCst), usize::from(summarizes), "{name}");
        assert!(!summarizes || name == "hybrid_summary");
        assert_eq!(
            planned.replaced.is_empty(),
            with_results.is_empty() && name != "clear_tool_results"
        );
        checked(&memory, &world.manager).await;
    }
}

async fn goals_of_one_flush_replace_the_target(on: On) {
    let world = on.world(manual("flushing_strategy: { type: fifo }")).await;
    let memory = filled(&world).await;
    let tokens = memory.token_count().await.unwrap();
    let percent = FlushOptions::new().with_freed_percent(10);
    let receipt = memory.flush(&percent).await.unwrap().unwrap();
    let freed = receipt.tokens_before - receipt.tokens_after;
    assert!(freed * 10 >= tokens && freed * 8 < tokens, "{freed} of {tokens}");
    // The goal is already met.
    let large = FlushOptions::new().with_target_tokens(tokens);
    assert_eq!(memory.flush(&large).await.unwrap(), None);
    assert_eq!(memory.plan_flush(&large).await.unwrap(), None);
    let receipt =
        memory.flush(&FlushOptions::new().with_target_tokens(200)).await.unwrap().unwrap();
    assert!((100..=200).contains(&receipt.tokens_after), "{}", receipt.tokens_after);
    // Critical messages stay.
    let receipt = memory.flush(&FlushOptions::new().with_target_tokens(0)).await.unwrap().unwrap();
    assert_eq!((receipt.messages_after, receipt.shortfall.is_some()), (1, true));
    let left = memory.messages().await.unwrap();
    assert_eq!(left[0].message.text(), "answer in one sentence");
}

async fn conditions_of_one_flush_are_checked(on: On) {
    let world = on.world(manual("flushing_strategy: { type: fifo, flush_target: 0.1 }")).await;
    let memory = filled(&world).await;
    let share = |percent: u64| {
        let tokens = BUDGET * percent / 100;
        FlushOptions::new().only_from(f64::from(u32::try_from(tokens).unwrap()) / 4_000.0)
    };
    let held = memory.token_count().await.unwrap() * 100 / BUDGET;
    assert!((40..70).contains(&held), "{held} percent");
    assert_eq!(memory.flush(&FlushOptions::new().only_if_due()).await.unwrap(), None);
    assert_eq!(memory.flush(&share(held + 1)).await.unwrap(), None);
    assert_eq!(memory.plan_flush(&share(held + 1)).await.unwrap(), None);
    let receipt = memory.flush(&share(held)).await.unwrap().unwrap();
    // An undone flush holds the memory until an unconditional one.
    memory.undo_flush(receipt.id).await.unwrap();
    assert_eq!(memory.flush(&share(held)).await.unwrap(), None);
    assert_eq!(memory.flush(&FlushOptions::new().only_if_due()).await.unwrap(), None);
    assert!(memory.flush(&FlushOptions::new()).await.unwrap().is_some());
    fill(&memory, 700).await;
    assert!(memory.flush(&FlushOptions::new().only_if_due()).await.unwrap().is_some());
}

async fn invalid_options_are_refused_with_the_remedy(on: On) {
    let memory = on.world(manual("")).await.memory();
    for (options, problem) in [
        (
            FlushOptions::new().with_strategy("oldest"),
            "there is no strategy `oldest`; choose one of clear_tool_results, fifo, hybrid_summary, priority",
        ),
        (FlushOptions::new().with_freed_percent(0), "0 percent cannot be freed; set 1 to 100"),
        (FlushOptions::new().with_freed_percent(101), "101 percent cannot be freed; set 1 to 100"),
        (
            FlushOptions::new().only_from(0.0),
            "the threshold 0 is not a share; set it over 0 and at most 1",
        ),
        (
            FlushOptions::new().only_from(f64::NAN),
            "the threshold NaN is not a share; set it over 0 and at most 1",
        ),
    ] {
        for refused in [memory.flush(&options).await, memory.plan_flush(&options).await] {
            let refused = refused.unwrap_err();
            assert!(matches!(refused, MemoryError::Options { .. }), "{refused}");
            assert!(refused.to_string().ends_with(problem), "{refused}");
        }
    }
}
