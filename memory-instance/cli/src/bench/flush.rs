//! `memory bench flush`: appends while a slow summarizer works.

mod account;
mod load;
mod outcomes;
mod summarizers;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use memory_core::{EstimateCounter, MemoryResource, TokenCounter};
use memory_flush::Summarizer;
use memory_instance::{FlushMode, ManagerBuilder, MemoryInstance, MemoryManager, without_password};
use memory_lock::{Clock, ClockExt as _};
use serde::Serialize;

use self::account::{Account, Ledger};
use self::load::{Load, Part};
use self::outcomes::Outcome;
use self::summarizers::Given;
pub(super) use self::worker::Worker;
pub(crate) use self::worker::{WorkerArgs, run as run_worker};
use super::measure::{Latency, middle, ratio};
use crate::args::{Common, is_shared};
use crate::failure::{note, usage};
use crate::out::{Out, number, table};

/// How long the summarizer takes.
const SUMMARY_TAKES: Duration = Duration::from_millis(500);
/// How many tasks append in each process; twice as many if there is only one process.
const TASKS: u32 = 4;
/// The limit for the 99th percentile of appends during a flush, as a multiple of that without one.
const MOST: f64 = 1.5;
/// The budget: a flush leaves some 200 messages.
const MAX_TOKENS: u64 = 40_000;
const RESOURCE: &str = "flush-under-fire";

/// The output of `--json`.
#[derive(Debug, Serialize)]
struct Figures {
    store: String,
    processes: u32,
    appenders: u32,
    #[serde(rename = "summariser_ms")]
    summarizer_ms: u64,
    rounds: Vec<Round>,
    without: Latency,
    during: Latency,
    /// Medians of the rounds' ratios.
    p50_ratio: f64,
    p99_ratio: f64,
    #[serde(flatten)]
    account: Account,
    outcomes: Vec<Outcome>,
    /// Whether all checks passed.
    holds: bool,
}

/// Appends without a flush, and then while flushes run without a pause.
#[derive(Debug, Clone, Serialize)]
struct Round {
    without: Latency,
    during: Latency,
    flushes: u32,
    p50_ratio: f64,
    p99_ratio: f64,
}

/// The store and the processes of the bench.
struct Place {
    manager: MemoryManager,
    url: String,
    run: u64,
    worker: Option<Worker>,
}

pub(crate) async fn run(
    common: &Common,
    rounds: usize,
    seconds: f64,
    out: &mut Out,
) -> anyhow::Result<()> {
    if common.resource.is_some() {
        return Err(usage(
            "bench flush uses a built-in resource, whose flushes it knows; leave --resource out",
        ));
    }
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let url = match &common.store {
        Some(url) => url.clone(),
        None => format!("sqlite://{}", folder.path().join("bench.db").display()),
    };
    let lasts = Duration::try_from_secs_f64(seconds)
        .map_err(|_| usage("--seconds is how long a measurement lasts, such as 2 or 0.5"))?;
    if cfg!(debug_assertions) {
        note("(a debug build: use a release build for valid figures)");
    }
    let manager = builder().open(&url).await?;
    let worker = is_shared(&url).then(|| Worker::start(&url)).transpose()?;
    let mut place = Place { manager, url, run: Clock::system().now_millis(), worker };
    let figures = place.measure(rounds, lasts).await?;
    if let Some(worker) = place.worker.take() {
        worker.end()?;
    }
    place.manager.locks().shutdown(crate::EXIT_GRACE).await;
    if out.json() {
        out.compact(&figures)?;
    } else {
        show(&figures, out)?;
    }
    out.flush()?;
    verdict(&figures)
}

/// Both processes use the same rules for the memories. The lease of a killed process expires soon.
fn builder() -> ManagerBuilder {
    let mut resource = MemoryResource::new(RESOURCE, MAX_TOKENS);
    resource.flushing_strategy.kind = Some("hybrid_summary".into());
    resource.lock.ttl = Duration::from_secs(2);
    resource.lock.refresh_interval = Duration::from_secs(1);
    MemoryManager::builder()
        .with_project("bench")
        .with_resource(resource)
        .with_token_counter(counter())
        .with_flush_mode(FlushMode::Manual)
}

/// Estimates tokens, because the bench does not measure counting.
fn counter() -> Arc<dyn TokenCounter> {
    Arc::new(EstimateCounter)
}

impl Place {
    /// The memory of this name, flushed by this summarizer.
    fn memory(
        &self,
        name: &str,
        summarizer: Arc<dyn Summarizer>,
    ) -> anyhow::Result<MemoryInstance> {
        let builder =
            builder().with_summarizer(summarizer).with_summarizer_time_limit(2 * SUMMARY_TAKES);
        let (store, locks) = (Arc::clone(self.manager.store()), self.manager.locks().clone());
        let manager = builder.build(store, locks)?;
        Ok(manager.memory(RESOURCE, &self.key(name))?)
    }

    fn key(&self, name: &str) -> String {
        format!("{}-{name}", self.run)
    }

    const fn processes(&self) -> u32 {
        if self.worker.is_some() { 2 } else { 1 }
    }

    /// All tasks of both processes append for this long.
    async fn append(
        &mut self,
        memory: &MemoryInstance,
        name: &str,
        load: &mut Load,
        lasts: Duration,
    ) -> anyhow::Result<Vec<Part>> {
        let Some(worker) = &mut self.worker else {
            return load.run(memory, 2 * TASKS, lasts).await;
        };
        let key = format!("{}-{name}", self.run);
        let (ours, theirs) =
            tokio::join!(load.run(memory, TASKS, lasts), worker.append(&key, lasts));
        let mut parts = ours?;
        parts.extend(theirs?);
        Ok(parts)
    }

    async fn measure(&mut self, rounds: usize, lasts: Duration) -> anyhow::Result<Figures> {
        let (given, mut ledger, mut load) = (Given::default(), Ledger::default(), Load::new("a"));
        let memory = self.memory("rounds", given.slow())?;
        let mut all = Vec::new();
        // Warms up everything before it is measured.
        let warm = self.append(&memory, "rounds", &mut load, lasts / 4).await?;
        ledger.acknowledged(&warm)?;
        for _ in 0..rounds {
            // Both begin with as much in the memory.
            ledger.receipts(memory.perform_flush().await?);
            let parts = self.append(&memory, "rounds", &mut load, lasts).await?;
            ledger.acknowledged(&parts)?;
            let without = latency(&parts);
            ledger.receipts(memory.perform_flush().await?);
            let flusher = Flusher::start(memory.clone());
            let parts = self.append(&memory, "rounds", &mut load, lasts).await;
            let receipts = flusher.stop().await?;
            let parts = parts?;
            ledger.acknowledged(&parts)?;
            let during = latency(&parts);
            let flushes = u32::try_from(receipts.len()).unwrap_or(u32::MAX);
            ledger.receipts(receipts);
            all.push(Round {
                p50_ratio: ratio(during.p50_us, without.p50_us),
                p99_ratio: ratio(during.p99_us, without.p99_us),
                without,
                during,
                flushes,
            });
        }
        ledger.receipts(memory.perform_flush().await?);
        let mut account = ledger.close(&memory, &given).await?;
        memory.clear().await?;
        let outcomes = self.outcomes(lasts.min(Duration::from_secs(1))).await?;
        for outcome in &outcomes {
            account.add(&outcome.account);
        }
        let p99_ratio = middle(all.iter().map(|round| round.p99_ratio));
        let fine = account.is_clean() && outcomes.iter().all(|outcome| outcome.as_expected);
        Ok(Figures {
            store: without_password(&self.url),
            processes: self.processes(),
            appenders: 2 * TASKS,
            summarizer_ms: u64::try_from(SUMMARY_TAKES.as_millis()).unwrap_or(u64::MAX),
            without: middle_latency(&all, |round| round.without),
            during: middle_latency(&all, |round| round.during),
            p50_ratio: middle(all.iter().map(|round| round.p50_ratio)),
            p99_ratio,
            rounds: all,
            account,
            outcomes,
            holds: fine && p99_ratio <= MOST,
        })
    }
}

/// Flushes one after another, without a pause.
struct Flusher {
    task: tokio::task::JoinHandle<anyhow::Result<Vec<memory_core::store::FlushReceipt>>>,
    stop: Arc<std::sync::atomic::AtomicBool>,
}

impl Flusher {
    fn start(memory: MemoryInstance) -> Self {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut receipts = Vec::new();
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                match memory.perform_flush().await? {
                    Some(receipt) => receipts.push(receipt),
                    // Nothing to do yet: the appenders have only begun.
                    None => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
            Ok(receipts)
        });
        Self { task, stop }
    }

    /// Waits until the current flush has ended.
    async fn stop(self) -> anyhow::Result<Vec<memory_core::store::FlushReceipt>> {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.task.await?
    }
}

fn latency(parts: &[Part]) -> Latency {
    Latency::of(parts.iter().flat_map(|part| &part.nanos).copied().collect())
}

fn middle_latency(rounds: &[Round], side: impl Fn(&Round) -> Latency) -> Latency {
    let all: Vec<Latency> = rounds.iter().map(side).collect();
    Latency::middle(&all)
}

fn show(figures: &Figures, out: &mut Out) -> anyhow::Result<()> {
    let mut rows =
        table(&["round", "appends", "#number", "#p50 µs", "#p99 µs", "#max µs", "#flushes"]);
    let mut add = |round: &str, name: &str, latency: &Latency, flushes: &str| {
        rows.add_row([
            round.to_owned(),
            name.to_owned(),
            number(latency.appends),
            format!("{:.0}", latency.p50_us),
            format!("{:.0}", latency.p99_us),
            format!("{:.0}", latency.max_us),
            flushes.to_owned(),
        ]);
    };
    for (index, round) in figures.rounds.iter().enumerate() {
        let name = (index + 1).to_string();
        add(&name, "no flush", &round.without, "");
        add("", "during flushes", &round.during, &round.flushes.to_string());
    }
    add("median", "no flush", &figures.without, "");
    add("", "during flushes", &figures.during, "");
    out.line(rows)?;
    out.line(format_args!(
        "p50 during flushes {:.2} x, p99 {:.2} x that without (medians of {} rounds; at most {MOST})",
        figures.p50_ratio,
        figures.p99_ratio,
        figures.rounds.len()
    ))?;
    let mut rows = table(&["a summarizer that", "outcome", "summary by", "#flush time"]);
    for outcome in &figures.outcomes {
        rows.add_row([
            outcome.case.to_owned(),
            outcome.told.clone(),
            outcome.summarizer.clone(),
            format!("{} ms", outcome.took_ms),
        ]);
    }
    out.line(rows)?;
    let account = &figures.account;
    out.line(format_args!(
        "appended {}, summarized {}, evicted {}, left {}; lost {}, duplicated {}, summarized twice {}",
        number(account.appended),
        number(account.summarized),
        number(account.evicted),
        number(account.left),
        account.lost,
        account.duplicated,
        account.summarized_twice,
    ))?;
    let where_from = if figures.processes == 1 {
        "one process (memory:// cannot be shared)"
    } else {
        "two processes"
    };
    out.line(format_args!(
        "store {}; {} appenders in {where_from}; a summary takes {} ms",
        figures.store, figures.appenders, figures.summarizer_ms
    ))
}

/// A bench whose checks do not pass is a failure.
fn verdict(figures: &Figures) -> anyhow::Result<()> {
    let account = &figures.account;
    anyhow::ensure!(
        account.is_clean(),
        "{} messages lost, {} duplicated, {} summarized twice",
        account.lost,
        account.duplicated,
        account.summarized_twice
    );
    if let Some(outcome) = figures.outcomes.iter().find(|outcome| !outcome.as_expected) {
        anyhow::bail!("a summarizer that {}: {}", outcome.case, outcome.told);
    }
    anyhow::ensure!(
        figures.holds,
        "the 99th percentile of appends during a flush is {:.2} x that without, over {MOST}; \
         measure again on a machine that has nothing else to do",
        figures.p99_ratio
    );
    Ok(())
}
