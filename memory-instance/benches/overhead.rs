//! Two limits, on `memory://`, SQLite and Redis: ten agents that append to one memory have a 99th percentile of at most
//! 50 ms, and an append with metrics and an audit sink, or beside an archive of 100 messages, takes at most 1.05 times one
//! without, beside the difference of two equal managers in the same run. An append in memory takes 3 to 4 us, so there the
//! limit is 4 us more. Ends with an error if a limit is exceeded.
//!
//! `cargo bench -p memory-instance --features redis --bench overhead`, with a `redis-server` on the PATH or
//! `MEMORY_TEST_REDIS_URL`. It takes about a minute.

#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memory_core::resource::ArchiveSettings;
use memory_core::{MemoryResource, Message};
use memory_instance::{AuditEvent, AuditSink, FlushMode, ManagerBuilder, MemoryManager};
use memory_redis_testkit::any_server;
use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

/// The most time of one append in a hundred.
const MOST: Duration = Duration::from_millis(50);
const AGENTS: usize = 10;
const APPENDS: usize = 100;
/// The most time with metrics and audit, as a multiple of that without.
const RATIO: f64 = 1.05;
/// The most additional time where the ratio is exceeded: an append in memory takes hardly longer than its record.
const ADDED: Duration = Duration::from_micros(4);
const ROUNDS: usize = 80;
const APPENDS_A_ROUND: usize = 100;

/// Counts everything, as an exporter does.
struct Counting;

#[derive(Default)]
struct Buckets([AtomicU64; 16]);

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        let bounds = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];
        let at = bounds.iter().take_while(|bound| value > **bound).count();
        self.0[at].fetch_add(1, Ordering::Relaxed);
    }
}

impl Recorder for Counting {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::<AtomicU64>::default())
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::<AtomicU64>::default())
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::<Buckets>::default())
    }
}

#[derive(Debug, Default)]
struct Sink(AtomicU64);

impl AuditSink for Sink {
    fn record(&self, event: &AuditEvent<'_>) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.0.fetch_add(event.messages, Ordering::Relaxed);
        Ok(())
    }
}

fn builder() -> ManagerBuilder {
    with(ArchiveSettings::none())
}

fn with(archive: ArchiveSettings) -> ManagerBuilder {
    let mut resource = MemoryResource::new("bench", 1 << 40);
    resource.archive = archive;
    MemoryManager::builder().with_resource(resource).with_flush_mode(FlushMode::Manual)
}

fn message() -> Message {
    Message::user(
        "The customer asks to move the flight from New York to Seattle to the morning of May 20th",
    )
}

/// The 99th percentile of ten agents' appends.
async fn agents(url: &str) -> Duration {
    let manager = builder().open(url).await.unwrap();
    let agents = (0..AGENTS).map(|_| {
        let memory = manager.memory("bench", "agents").unwrap();
        tokio::spawn(async move {
            let mut times = Vec::with_capacity(APPENDS);
            for _ in 0..APPENDS {
                let started = Instant::now();
                memory.append(message()).await.unwrap();
                times.push(started.elapsed());
            }
            times
        })
    });
    let mut times = Vec::new();
    for agent in agents.collect::<Vec<_>>() {
        times.extend(agent.await.unwrap());
    }
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// The median of one append: plain, plain again, with metrics and an audit sink, and beside an archive; by turns.
async fn observed(url: &str) -> [Duration; 4] {
    let counting = Counting;
    let plain = [builder().open(url).await.unwrap(), builder().open(url).await.unwrap()];
    let (store, locks) = (Arc::clone(plain[0].store()), plain[0].locks().clone());
    let watched = metrics::with_local_recorder(&counting, || {
        let builder = builder().with_audit_sink(Arc::new(Sink::default()));
        builder.build(Arc::clone(&store), locks.clone()).unwrap()
    });
    let archiving = with(ArchiveSettings::forever()).build(store, locks).unwrap();
    let [one, other] = plain;
    let managers = [one, other, watched, archiving];
    let mut times: [Vec<Duration>; 4] = Default::default();
    for round in 0..ROUNDS {
        for (at, manager) in managers.iter().enumerate() {
            let memory = manager.memory("bench", &format!("{round}-{at}")).unwrap();
            // Each clear leaves 100 messages to the archive, or to nothing.
            memory.append_all((0..100).map(|_| message())).await.unwrap();
            memory.clear().await.unwrap();
            for _ in 0..APPENDS_A_ROUND {
                let started = Instant::now();
                memory.append(message()).await.unwrap();
                times[at].push(started.elapsed());
            }
        }
    }
    times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    })
}

fn main() -> ExitCode {
    // `cargo test --benches` only checks that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let server = runtime.block_on(any_server());
    let urls = [
        ("memory", "memory://".to_owned()),
        ("SQLite", format!("sqlite://{}", folder.path().join("bench.db").display())),
        ("Redis", server.url().to_owned()),
    ];
    let mut exceeded = false;
    for (name, url) in &urls {
        let p99 = runtime.block_on(agents(url));
        let [plain, again, watched, archiving] = runtime.block_on(observed(url));
        let ratio = |time: Duration| time.as_secs_f64() / plain.as_secs_f64();
        let noise = ratio(again).max(1.0 / ratio(again));
        let is_cheap =
            |time: Duration| ratio(time) <= RATIO * noise || time.saturating_sub(plain) <= ADDED;
        let holds = p99 <= MOST && is_cheap(watched) && is_cheap(archiving);
        exceeded |= !holds;
        println!(
            "{name:<7} {AGENTS} agents: p99 {:.2} ms; one append: {:.1} us, again {:.1} us ({:.3}), with metrics and \
             audit {:.1} us ({:.3}), beside an archive {:.1} us ({:.3}): {}",
            p99.as_secs_f64() * 1e3,
            plain.as_secs_f64() * 1e6,
            again.as_secs_f64() * 1e6,
            ratio(again),
            watched.as_secs_f64() * 1e6,
            ratio(watched),
            archiving.as_secs_f64() * 1e6,
            ratio(archiving),
            if holds { "kept" } else { "missed" },
        );
    }
    if exceeded { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
