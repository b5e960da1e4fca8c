//! The default strategy summarizes, and each removal is logged.

use std::sync::Arc;

use memory_core::resource::PriorityBlock;
use memory_core::{ContentType, MemoryResource, Message, Priority};
use memory_flush::{FlushInput, FlushPlan, FlushStrategy, from_fn};
use memory_instance::{FlushMode, MemoryError};

use crate::flush::fill;
use crate::logs::Logs;
use crate::support::{On, checked, hybrid, with};

/// Without a strategy in the resource, a flush summarizes: by rule, or with the builder's model.
#[tokio::test(start_paused = true)]
async fn default_strategy_summarizes_without_evicting() {
    let flushed = async |named: Option<&str>, blocks: bool, model: bool| {
        let mut resource = MemoryResource::new("m", 1_000);
        resource.flushing_strategy.kind = named.map(str::to_owned);
        if blocks {
            let block = PriorityBlock::new(Priority::OPTIONAL, [ContentType::HistoricalMessages]);
            resource.priority_blocks = vec![block];
        }
        let mut builder = with(resource).with_flush_mode(FlushMode::Inline);
        if model {
            builder = builder
                .with_summarizer(from_fn("a model", |_| async { Ok("what was said".to_owned()) }));
        }
        let world = On::Memory.world(builder).await;
        let memory = world.memory();
        fill(&memory, 200).await;
        let health = memory.health().await.unwrap();
        let counters = checked(&memory, &world.manager).await.head.counters;
        assert!(counters.evicted + counters.summarized > 100, "{counters:?}");
        let by = health.last_flush.unwrap().summary.map(|summary| summary.summarizer);
        (health.strategy, counters.evicted > 0, by.unwrap_or_default())
    };
    let hybrid = |by: &str| ("hybrid_summary".to_owned(), false, by.to_owned());
    assert_eq!(flushed(None, false, false).await, hybrid("rule_based"));
    assert_eq!(flushed(None, true, false).await, hybrid("rule_based"));
    assert_eq!(flushed(None, false, true).await, hybrid("a model"));
    assert_eq!(flushed(Some("fifo"), false, true).await, ("fifo".to_owned(), true, String::new()));
}

/// A strategy that removes nothing.
#[derive(Debug)]
struct Rewrite;

impl FlushStrategy for Rewrite {
    fn name(&self) -> &'static str {
        "rewrite"
    }

    fn plan(&self, input: &FlushInput<'_>) -> FlushPlan {
        FlushPlan::new(input, Vec::new(), Vec::new())
    }
}

/// Receipts of rewritten summaries would be mistaken for its receipts.
#[tokio::test]
async fn name_of_rewrites_is_reserved() {
    let world = On::Memory.world(with(hybrid(1_000))).await;
    let (store, locks) = (Arc::clone(world.manager.store()), world.manager.locks().clone());
    let refused = with(hybrid(1_000)).with_strategy(Arc::new(Rewrite)).build(store, locks);
    assert!(matches!(refused.unwrap_err(), MemoryError::ReservedStrategy { .. }));
}

#[tokio::test(start_paused = true)]
async fn removing_flush_logs_one_line_of_counts() {
    let (logs, _guard) = Logs::capture();
    let world = On::Memory.world(with(hybrid(1_000)).with_flush_mode(FlushMode::Inline)).await;
    let memory = world.memory();
    memory.append(Message::user("the secret word")).await.unwrap();
    fill(&memory, 200).await;
    let receipts = memory.receipts().await.unwrap();
    let lines = logs.containing("flush removed messages");
    assert_eq!(lines.len(), receipts.len());
    for (line, receipt) in lines.iter().rev().zip(&receipts) {
        assert!(
            line.starts_with("INFO")
                && [" memory_id=m ", " key=default:m:k "].iter().all(|field| line.contains(field)),
            "{line}"
        );
        let summarized = receipt.summarized.len();
        let counts = format!(
            "removed={summarized} evicted=0 summarized={summarized} messages_before={} messages_after={} tokens_before={} tokens_after={} ",
            receipt.messages_before,
            receipt.messages_after,
            receipt.tokens_before,
            receipt.tokens_after,
        );
        assert!(line.contains(&counts), "{line}");
    }
    assert!(logs.containing("secret").is_empty() && logs.containing("message number").is_empty());
}

/// The README's figures are those of its example's resource.
#[tokio::test(start_paused = true)]
async fn readme_states_what_its_budget_removes() {
    let resource = MemoryResource::new("m", 8_000);
    let world = On::Memory.world(with(resource).with_flush_mode(FlushMode::Inline)).await;
    let memory = world.memory();
    memory.append(Message::system("You are a travel agent.")).await.unwrap();
    for number in 1..=2_000 {
        let text = format!("Message {number}: my flight was cancelled, what are my options now?");
        memory.append(Message::user(text)).await.unwrap();
    }
    let counters = checked(&memory, &world.manager).await.head.counters;
    assert_eq!((counters.evicted, counters.cleared), (0, 0));
    assert_eq!((counters.appended, counters.summaries), (2_001, 1));
    let figures = format!(
        "Of 2,001 messages with 2,000 like the second, {} are present and {},{:03} are in the one summary",
        counters.present.messages - counters.summaries,
        counters.summarized / 1_000,
        counters.summarized % 1_000,
    );
    let readme = include_str!("../../../README.md").replace('\n', " ");
    assert!(readme.contains(&figures), "not in the README: {figures}");
}
