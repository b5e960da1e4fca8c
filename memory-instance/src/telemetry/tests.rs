//! The metrics of a run: their names, labels and values.

mod files;

use std::sync::Arc;

use memory_config::ProjectConfig;
use memory_core::resource::{CircuitBreakerSettings, RedactPreset};
use memory_core::{Entry, MemoryResource, Message, Sequence};
use memory_flush::{FlushInput, FlushPlan, FlushStrategy};
use metrics::Unit;

use super::recorded::Recorded;
use crate::{FlushMode, FlushOptions, KeyContext, MemoryInstance, MemoryManager};

fn run(work: impl AsyncFnOnce(&Recorded)) {
    let recorded = Recorded::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    metrics::with_local_recorder(&recorded, || runtime.block_on(work(&recorded)));
}

fn resource() -> MemoryResource {
    let mut resource = MemoryResource::new("m", 1_000);
    resource.flushing_strategy.kind = Some("fifo".into());
    resource.circuit_breaker = Some(CircuitBreakerSettings::default());
    resource.privacy_policy.redact_presets = vec![RedactPreset::Email];
    resource
}

async fn manager(url: &str) -> MemoryManager {
    let builder = MemoryManager::builder().with_project("acme").with_resource(resource());
    builder.with_flush_mode(FlushMode::Manual).open(url).await.unwrap()
}

async fn fill(memory: &MemoryInstance, messages: u32) {
    for number in 0..messages {
        memory.append(Message::user(format!("message number {number:03}"))).await.unwrap();
    }
}

/// Fills a memory of 1,000 tokens.
async fn fill_until(memory: &MemoryInstance, full: impl Fn() -> bool) {
    for _ in 0..200 {
        if full() {
            return;
        }
        fill(memory, 1).await;
    }
    panic!("no gauge shows that the memory is full");
}

#[test]
fn gauges_follow_the_memories_that_are_held() {
    run(async |recorded| {
        let manager = manager("memory://").await;
        let (one, other) = (manager.memory("m", "1").unwrap(), manager.memory("m", "2").unwrap());
        let used = || recorded.value("memory_tokens_used", "");
        let budget =
            |state: &str| recorded.value("memory_budget_memories", &format!("state={state}"));
        let present = |priority: &str| {
            recorded.value("memory_priority_distribution", &format!("priority={priority}"))
        };
        assert_eq!((used(), recorded.value("memory_tokens_limit", "")), (0.0, 0.0));
        fill(&one, 10).await;
        let pinned = Entry::new(Message::system("answer briefly"));
        other.append(pinned.with_priority(crate::Priority::CRITICAL)).await.unwrap();
        let tokens = one.token_count().await.unwrap() + other.token_count().await.unwrap();
        assert_eq!(used(), f64::from(u32::try_from(tokens).unwrap()));
        assert_eq!(recorded.value("memory_tokens_limit", ""), 2_000.0);
        assert_eq!((present("0"), present("1") + present("2") + present("3+")), (1.0, 10.0));
        fill_until(&one, || budget("near") == 1.0).await;
        let tokens = one.token_count().await.unwrap();
        assert!((850..870).contains(&tokens), "{tokens}");
        fill_until(&one, || budget("over") == 1.0).await;
        assert_eq!(budget("near"), 0.0);
        one.perform_flush().await.unwrap().unwrap();
        assert_eq!((budget("near"), budget("over")), (0.0, 0.0));
        let tokens = one.token_count().await.unwrap() + other.token_count().await.unwrap();
        assert_eq!(used(), f64::from(u32::try_from(tokens).unwrap()));
        one.clear().await.unwrap();
        assert_eq!(
            (used(), present("3+")),
            (f64::from(u32::try_from(other.token_count().await.unwrap()).unwrap()), 0.0)
        );
        other.delete().await.unwrap();
        assert_eq!((used(), present("0")), (0.0, 0.0));
        assert_eq!(recorded.value("memory_tokens_limit", ""), 1_000.0);
        fill(&other, 1).await;
        drop((one, other, manager));
        assert_eq!((used(), recorded.value("memory_tokens_limit", "")), (0.0, 0.0));
    });
}

#[test]
fn operations_are_counted_with_their_labels() {
    run(async |recorded| {
        let manager = manager("memory://").await;
        let memory = manager.memory("m", "1").unwrap();
        fill(&memory, 100).await;
        memory.append(Message::user("to ann@example.com")).await.unwrap();
        memory.append(Entry::new(Message::user("x")).do_not_persist()).await.unwrap();
        let of = |name: &str, label: &str| recorded.value(name, label);
        assert_eq!(of("memory_health_status", ""), 1.0, "no memory was looked at");
        assert_eq!(
            of("memory_messages_total", "priority=2")
                + of("memory_messages_total", "priority=3+")
                + of("memory_messages_total", "priority=1"),
            101.0
        );
        assert_eq!(of("memory_tokens_total", ""), of("memory_tokens_used", ""));
        assert_eq!(of("memory_redaction_operations_total", ""), 1.0);
        assert_eq!(of("memory_privacy_exclusions_total", "reason=flag"), 1.0);
        let receipt = memory.perform_flush().await.unwrap().unwrap();
        let evicted = f64::from(u32::try_from(receipt.evicted.len()).unwrap());
        assert_eq!(of("memory_trimmed_messages_total", "fate=evicted"), evicted);
        assert_eq!(of("memory_trim_total", "strategy=fifo"), 1.0);
        assert_eq!(of("memory_flush_total", "type=eviction"), 1.0);
        let saved = u32::try_from(receipt.tokens_before - receipt.tokens_after).unwrap();
        assert_eq!(of("memory_tokens_saved_total", "strategy=fifo"), f64::from(saved));
        let hybrid = FlushOptions::new().with_strategy("hybrid_summary").with_freed_percent(50);
        memory.flush(&hybrid).await.unwrap().unwrap();
        assert_eq!(of("memory_flush_total", "type=summary"), 1.0);
        memory.health().await.unwrap();
        assert_eq!(of("memory_health_status", ""), 1.0);
        fill(&memory, 200).await;
        memory.health().await.unwrap();
        assert_eq!(of("memory_health_status", ""), 0.0);
        memory.messages().await.unwrap();
        memory.context(500).await.unwrap();
        memory.counters().await.unwrap();
        let last = memory.last(1).await.unwrap()[0].meta.sequence;
        memory.replace(last, Message::user("again")).await.unwrap();
        memory
            .exclusive(async |session| session.append(Message::user("turn")).await)
            .await
            .unwrap()
            .unwrap();
        memory.context(1).await.unwrap_err();
        assert_eq!(
            of("memory_operation_errors_total", "operation=context,code=quota_exceeded"),
            1.0
        );
        memory.replace(last, Message::tool_result("c", "no call")).await.unwrap_err();
        let version = memory.version().await.unwrap();
        memory.append(Message::user("first")).await.unwrap();
        let late = memory.append_if(version, [Message::user("late")]).await.unwrap();
        assert!(matches!(late, crate::Conditional::Conflict(_)));
        assert_eq!(of("memory_operation_errors_total", "operation=append,code=conflict"), 0.0);
        memory.clear().await.unwrap();
        memory.replace(Sequence::new(1), Message::user("gone")).await.unwrap();
        memory.delete().await.unwrap();
        for operation in [
            "append",
            "read",
            "context",
            "flush",
            "clear",
            "replace",
            "delete",
            "health",
            "exclusive",
            "stats",
        ] {
            let seen = of("memory_operation_latency_seconds", &format!("operation={operation}"));
            assert!(seen >= 1.0, "{operation}");
        }
        assert_eq!(of("memory_operation_latency_seconds", "operation=clear"), 1.0, "no deletion");
        assert_eq!(of("memory_health_status", ""), 1.0, "the memory is gone");
        let acquired = of("memory_lock_acquire_total", "");
        assert!(
            acquired >= 1.0 && of("memory_lock_duration_seconds", "") == acquired,
            "{acquired}"
        );
    });
}

/// Its flushes fail.
#[derive(Debug)]
struct Broken;

impl FlushStrategy for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn plan(&self, _: &FlushInput<'_>) -> FlushPlan {
        panic!("a strategy that panics")
    }
}

/// Emits the metrics that appear with their first value; all others exist as soon as there is a manager.
async fn emit_all() {
    let mut config = ProjectConfig::from_json(
        r#"{
            "memories": [{"id": "m", "description": "A log", "max_tokens": 1000}],
            "agents": [{"id": "a", "memory": "m", "memory_key": "{{ user.id }}"}]
        }"#,
    )
    .unwrap();
    config.memories = vec![resource()];
    let builder = MemoryManager::builder().with_project("acme").with_config(config);
    let builder = builder.with_strategy(Arc::new(Broken)).with_flush_mode(FlushMode::Manual);
    let manager = builder.open("memory://").await.unwrap();
    let agent = manager.agent("a").unwrap();
    agent.resolve(&KeyContext::new()).unwrap_err();
    let resolved = agent.resolve(&KeyContext::new().with("user.id", 7)).unwrap();
    let memory = &resolved.memories()[0];
    fill(memory, 100).await;
    memory.flush(&FlushOptions::new().with_strategy("broken")).await.unwrap_err();
    memory.perform_flush().await.unwrap().unwrap();
}

#[test]
fn failed_flush_has_no_duration() {
    run(async |recorded| {
        emit_all().await;
        let error = "operation=flush,code=internal";
        assert_eq!(recorded.value("memory_operation_errors_total", error), 1.0);
        assert_eq!(recorded.value("memory_operation_latency_seconds", "operation=flush"), 1.0);
    });
}

#[test]
fn every_metric_is_described() {
    run(async |recorded| {
        emit_all().await;
        let described = recorded.described();
        for name in recorded.series().keys() {
            assert!(described.contains_key(name), "{name} has no help text");
        }
        for (name, unit) in described {
            assert_eq!(unit == Some(Unit::Seconds), name.ends_with("_seconds"), "{name}");
        }
    });
}
