//! P11, P13: user code that panics in a flush causes a failed flush, not a loop and not a panic.
#![expect(clippy::future_not_send, reason = "a local recorder of metrics belongs to its thread")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memory_core::health::Verdict;
use memory_core::{EstimateCounter, MemoryResource, Message, TokenCounter};
use memory_flush::{
    FlushInput, FlushPlan, FlushStrategy, SummarizeError, Summarizer, SummaryRequest,
};
use memory_instance::{FlushMode, ManagerBuilder, MemoryError};
use memory_lock::LockKey;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use crate::flush::fill;
use crate::logs::Logs;
use crate::support::{On, checked, hybrid, with};

on_every_backend![
    ; paused_clock:
    panicking_strategy_is_retried_after_growing_pauses,
    panicking_counter_fails_only_the_flush,
    panicking_name_of_a_summarizer_fails_the_flush,
];

/// Panics with a message's text while enabled, and counts its calls.
#[derive(Debug, Default)]
struct Panics {
    asked: AtomicU64,
    works: AtomicU64,
}

impl Panics {
    fn ask(&self) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        assert!(self.works.load(Ordering::SeqCst) > 0, "secret message number 0001");
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

#[derive(Debug, Default)]
struct Strategy(Panics);

impl FlushStrategy for Strategy {
    fn name(&self) -> &str {
        "own"
    }

    fn plan(&self, input: &FlushInput<'_>) -> FlushPlan {
        self.0.ask();
        memory_flush::Fifo.plan(input)
    }
}

/// Panics in its `name`, which the chain of summarizers does not expect.
#[derive(Debug, Default)]
struct Nameless(Panics);

#[async_trait::async_trait]
impl Summarizer for Nameless {
    fn name(&self) -> &str {
        self.0.ask();
        "nameless"
    }

    async fn summarize(&self, _: SummaryRequest) -> Result<String, SummarizeError> {
        Ok("what was said".to_owned())
    }
}

/// Panics on the text of a summary; counts messages normally.
#[derive(Debug, Default)]
struct Miscounts(Panics);

impl TokenCounter for Miscounts {
    fn name(&self) -> &str {
        "own"
    }

    fn count(&self, text: &str) -> usize {
        if text.contains("earlier messages") {
            self.0.ask();
        }
        EstimateCounter.count(text)
    }
}

/// Counters by name and labels.
#[derive(Debug, Clone, Default)]
struct Counters(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

impl Counters {
    fn value(&self, name: &str) -> u64 {
        self.0.lock().unwrap().get(name).map_or(0, |value| value.load(Ordering::SeqCst))
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels = key.labels().filter(|label| ["operation", "code"].contains(&label.key()));
        let name = labels.fold(key.name().to_owned(), |name, label| name + " " + label.value());
        Counter::from_arc(Arc::clone(self.0.lock().unwrap().entry(name).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Appends 400 messages with panicking code, in both modes; then the code works again.
async fn fails_and_recovers(
    on: On,
    culprit: &str,
    code: &Panics,
    resource: MemoryResource,
    build: impl Fn(ManagerBuilder) -> ManagerBuilder,
) {
    // The panics of this test are intended; do not print them.
    std::panic::set_hook(Box::new(|_| {}));
    for mode in [FlushMode::Inline, FlushMode::Background] {
        let metrics = Counters::default();
        let (logs, _guard) = Logs::capture();
        let _local = metrics::set_default_local_recorder(&metrics);
        let world = on.world(build(with(resource.clone())).with_flush_mode(mode)).await;
        let (memory, before) = (world.memory(), code.asked());
        fill(&memory, 400).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(
            code.asked() - before,
            1,
            "it panics once, and then there is a pause ({mode:?})"
        );
        assert_eq!(metrics.value("memory_operation_errors_total flush internal"), 1);
        let health = memory.health().await.unwrap();
        let error = health.last_flush_error.unwrap();
        assert_eq!(error, format!("flush default:m:k: {culprit} panicked; fix it, or replace it"));
        assert!(matches!(health.verdict, Verdict::Degraded { why } if why.contains(culprit)));

        // Pauses of 1, 2, 4, ... s: within a minute of appends it is called at most six more times.
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            fill(&memory, 5).await;
        }
        let asked = code.asked() - before;
        assert!((5..=7).contains(&asked), "asked {asked} times in a minute ({mode:?})");

        let refused = memory.perform_flush().await.unwrap_err();
        assert!(matches!(refused, MemoryError::Panicked { .. }), "{refused}");
        let lease = LockKey::new(memory.key().flush_lease_name()).unwrap();
        assert!(world.manager.locks().inspect(&lease).await.unwrap().is_none(), "a leaked lease");
        assert_eq!(memory.len().await.unwrap(), 700, "every append is there");
        for line in logs.containing("") {
            assert!(!line.contains("secret") && !line.contains("message number"), "{line}");
        }
        assert_eq!(
            logs.containing("WARN").len() as u64,
            metrics.value("memory_operation_errors_total flush internal")
        );

        code.works.store(1, Ordering::SeqCst);
        memory.perform_flush().await.unwrap().expect("there is much to flush");
        let health = memory.health().await.unwrap();
        assert_eq!((health.verdict, health.last_flush_error), (Verdict::Healthy, None));
        checked(&memory, &world.manager).await;
        code.works.store(0, Ordering::SeqCst);
    }
}

async fn panicking_strategy_is_retried_after_growing_pauses(on: On) {
    let strategy = Arc::<Strategy>::default();
    let mut resource = MemoryResource::new("m", 1_000);
    resource.flushing_strategy.kind = Some("own".into());
    let build = |builder: ManagerBuilder| builder.with_strategy(strategy.clone());
    fails_and_recovers(on, "the strategy `own`", &strategy.0, resource, build).await;
}

async fn panicking_counter_fails_only_the_flush(on: On) {
    let counter = Arc::<Miscounts>::default();
    let build = |builder: ManagerBuilder| builder.with_token_counter(counter.clone());
    let culprit = "a summarizer or the token counter";
    fails_and_recovers(on, culprit, &counter.0, hybrid(1_000), build).await;
}

async fn panicking_name_of_a_summarizer_fails_the_flush(on: On) {
    let summarizer = Arc::<Nameless>::default();
    let build = |builder: ManagerBuilder| builder.with_summarizer(summarizer.clone());
    let culprit = "a summarizer or the token counter";
    fails_and_recovers(on, culprit, &summarizer.0, hybrid(1_000), build).await;
}

#[tokio::test(start_paused = true)]
async fn panicking_summarizer_is_replaced_by_the_rules() {
    std::panic::set_hook(Box::new(|_| {}));
    let panics = memory_flush::from_fn("model", |_| async { panic!("secret") });
    let builder = with(hybrid(1_000)).with_summarizer(panics).with_flush_mode(FlushMode::Inline);
    let world = On::Memory.world(builder).await;
    let memory = world.memory();
    fill(&memory, 100).await;
    memory.append(Message::user("the last one")).await.unwrap();
    let summary = memory.health().await.unwrap().last_flush.unwrap().summary.unwrap();
    assert_eq!(summary.summarizer, "rule_based");
    assert!(summary.fallback.unwrap().starts_with("model: it panicked"));
}
