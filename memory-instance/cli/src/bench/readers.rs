//! `memory bench readers`: appends while another process reads the whole memory again and again.

mod bare;
mod loops;

use std::time::Duration;

use anyhow::Context as _;
use memory_core::{MemoryResource, Message};
use memory_instance::{FlushMode, ManagerBuilder, MemoryInstance, MemoryManager, without_password};
use memory_lock::{Clock, ClockExt as _};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub(super) use self::loops::{Order, run_order};
use super::flush::Worker;
use super::measure::{Latency, middle, ratio};
use crate::args::{Common, is_shared, sqlite_path};
use crate::failure::{note, usage};
use crate::out::{Out, number, table};

/// How many readers the other process has.
const READERS: usize = 4;
/// The number of messages in the memory, unless `--messages` is given.
pub(super) const FILLED: usize = 10_000;
/// How many messages are appended at once to fill the memory.
const BATCH: usize = 500;
/// The budget of the windows that are read.
const WINDOW: u64 = 60_000;
/// How long the readers read before appends are measured, and after.
const MARGIN: Duration = Duration::from_millis(300);
/// How often an append is due.
const APPEND_EVERY: Duration = Duration::from_millis(4);
/// The limit for the 99th percentile of appends, as a multiple of that beside bare readers.
const MOST: f64 = 1.5;
/// The limit for the 99th percentile of appends.
const MOST_US: f64 = 10_000.0;
const RESOURCE: &str = "readers";

/// The kind of read that the readers repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Layout {
    /// One `HMGET` or `SELECT` of all messages, decoded into `serde_json::Value`.
    Bare,
    /// `messages()` and `context()`, each by a manager that has read nothing yet.
    Cold,
    /// The same without views: each read is the first.
    NoViews,
    /// The same by one manager, which keeps a view.
    Warm,
}

impl Layout {
    const ALL: [Self; 4] = [Self::Bare, Self::Cold, Self::NoViews, Self::Warm];

    const fn name(self) -> &'static str {
        match self {
            Self::Bare => "four bare readers",
            Self::Cold => "four of ours, cold",
            Self::NoViews => "four of ours, views off",
            Self::Warm => "four of ours, warm",
        }
    }
}

/// The output of `--json`.
#[derive(Debug, Serialize)]
struct Figures {
    store: String,
    messages: usize,
    readers: usize,
    rounds: Vec<Vec<Row>>,
    /// Medians of the rounds, ratios included.
    layouts: Vec<Row>,
    /// Whether all checks passed.
    holds: bool,
}

/// Appends beside the readers of one layout.
#[derive(Debug, Clone, Copy, Serialize)]
struct Row {
    layout: Layout,
    #[serde(flatten)]
    appends: Latency,
    reads_per_second: f64,
    /// The 99th percentile as a multiple of that beside bare readers.
    p99_ratio: f64,
}

impl Row {
    fn holds(&self) -> bool {
        self.layout == Layout::Bare || (self.p99_ratio <= MOST && self.appends.p99_us <= MOST_US)
    }
}

/// The options of the command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub(super) rounds: usize,
    pub(super) seconds: f64,
    pub(super) messages: usize,
}

pub(super) async fn run(common: &Common, options: Options, out: &mut Out) -> anyhow::Result<()> {
    if common.resource.is_some() {
        return Err(usage(
            "bench readers uses a built-in resource, which flushes nothing; leave --resource out",
        ));
    }
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let url = match &common.store {
        Some(url) => url.clone(),
        None => format!("sqlite://{}", folder.path().join("bench.db").display()),
    };
    let is_server = url.starts_with("redis://") || url.starts_with("rediss://");
    if !is_shared(&url) || !(is_server || sqlite_path(&url).is_some()) {
        return Err(usage(
            "bench readers needs a store that two processes and a bare reader share: --store sqlite://PATH or redis://HOST",
        ));
    }
    let lasts = Duration::try_from_secs_f64(options.seconds)
        .map_err(|_| usage("--seconds is how long a measurement lasts, such as 2 or 0.5"))?;
    if cfg!(debug_assertions) {
        note("(a debug build: use a release build for valid figures)");
    }
    let manager = builder().open(&url).await?;
    let mut bench = Bench {
        manager,
        worker: Worker::start(&url)?,
        run: Clock::system().now_millis(),
        filled: options.messages,
        lasts,
    };
    let rounds = bench.rounds(options.rounds).await?;
    bench.worker.end()?;
    bench.manager.locks().shutdown(crate::EXIT_GRACE).await;
    let layouts: Vec<Row> = Layout::ALL.into_iter().map(|layout| median(&rounds, layout)).collect();
    let figures = Figures {
        store: without_password(&url),
        messages: options.messages,
        readers: READERS,
        holds: layouts.iter().all(Row::holds),
        rounds,
        layouts,
    };
    if out.json() {
        out.compact(&figures)?;
    } else {
        show(&figures, out)?;
    }
    out.flush()?;
    verdict(&figures)
}

/// Both processes use the same rules for the memory, which is never over its budget.
fn builder() -> ManagerBuilder {
    MemoryManager::builder()
        .with_project("bench")
        .with_resource(MemoryResource::new(RESOURCE, super::NO_LIMIT))
        .with_flush_mode(FlushMode::Manual)
}

/// A message of the user of about 60 tokens.
fn message(number: usize) -> Message {
    Message::user(format!(
        "Request {number}: the customer asks to move the flight from New York to Seattle to the morning of \
         May 20th, keeping both seats together and the checked bags as they are booked; the fare \
         difference may be charged to the card on file."
    ))
}

struct Bench {
    manager: MemoryManager,
    worker: Worker,
    run: u64,
    filled: usize,
    lasts: Duration,
}

impl Bench {
    async fn rounds(&mut self, rounds: usize) -> anyhow::Result<Vec<Vec<Row>>> {
        let mut all = Vec::with_capacity(rounds);
        for round in 0..rounds {
            let mut rows: Vec<Row> = Vec::with_capacity(Layout::ALL.len());
            for layout in Layout::ALL {
                let (appends, reads_per_second) = self.measure(round, layout).await?;
                let bare = rows.first().map_or(appends.p99_us, |bare| bare.appends.p99_us);
                let p99_ratio = ratio(appends.p99_us, bare);
                rows.push(Row { layout, appends, reads_per_second, p99_ratio });
            }
            all.push(rows);
        }
        Ok(all)
    }

    /// Each measurement has a new memory, because the appends make it longer.
    async fn measure(&mut self, round: usize, layout: Layout) -> anyhow::Result<(Latency, f64)> {
        let name = format!("{}-{round}-{layout:?}", self.run);
        let memory = self.manager.memory(RESOURCE, &name)?;
        let mut numbers = 0..self.filled;
        while !numbers.is_empty() {
            let batch: Vec<_> = numbers.by_ref().take(BATCH).map(message).collect();
            memory.append_all(batch).await.context("fill a memory")?;
        }
        let lasts = self.lasts;
        let order = Order::new(layout, name, self.filled, lasts + 2 * MARGIN);
        let (read, nanos) = tokio::join!(
            self.worker.read(order),
            append(&memory, self.filled, Instant::now() + MARGIN, lasts)
        );
        let (read, nanos) = (read?, nanos?);
        memory.clear().await?;
        Ok((Latency::of(nanos), read))
    }
}

/// One task that appends at a steady rate: how long each append took, with the time it had to wait because those
/// before it were late. Without a rate, a reader that blocks the store for 20 ms would delay one append of thousands,
/// and the 99th percentile would not show it.
async fn append(
    memory: &MemoryInstance,
    first: usize,
    begins: Instant,
    lasts: Duration,
) -> anyhow::Result<Vec<u64>> {
    let mut nanos = Vec::new();
    let mut due = begins;
    for number in first.. {
        if due >= begins + lasts {
            break;
        }
        let is_late = Instant::now() > due;
        tokio::time::sleep_until(due).await;
        // A timer that fires late is not the store's delay.
        let started = if is_late { due } else { Instant::now() };
        memory.append(message(number)).await?;
        nanos.push(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
        due += APPEND_EVERY;
    }
    Ok(nanos)
}

fn median(rounds: &[Vec<Row>], layout: Layout) -> Row {
    let rows: Vec<Row> =
        rounds.iter().flatten().filter(|row| row.layout == layout).copied().collect();
    let latencies: Vec<Latency> = rows.iter().map(|row| row.appends).collect();
    Row {
        layout,
        appends: Latency::middle(&latencies),
        reads_per_second: middle(rows.iter().map(|row| row.reads_per_second)),
        p99_ratio: middle(rows.iter().map(|row| row.p99_ratio)),
    }
}

fn show(figures: &Figures, out: &mut Out) -> anyhow::Result<()> {
    let mut rows = table(&[
        "round",
        "appends beside",
        "#number",
        "#p50 µs",
        "#p99 µs",
        "#max µs",
        "#p99 ratio",
        "#reads/s",
    ]);
    let mut add = |round: &str, row: &Row| {
        rows.add_row([
            round.to_owned(),
            row.layout.name().to_owned(),
            number(row.appends.appends),
            format!("{:.0}", row.appends.p50_us),
            format!("{:.0}", row.appends.p99_us),
            format!("{:.0}", row.appends.max_us),
            format!("{:.2}", row.p99_ratio),
            format!("{:.0}", row.reads_per_second),
        ]);
    };
    for (index, round) in figures.rounds.iter().enumerate() {
        for (place, row) in round.iter().enumerate() {
            add(&if place == 0 { (index + 1).to_string() } else { String::new() }, row);
        }
    }
    for (place, row) in figures.layouts.iter().enumerate() {
        add(if place == 0 { "median" } else { "" }, row);
    }
    out.line(rows)?;
    out.line(format_args!(
        "p99 at most {MOST} x that beside bare readers and at most {:.0} ms: {}",
        MOST_US / 1e3,
        if figures.holds { "kept" } else { "missed" },
    ))?;
    out.line(format_args!(
        "store {}; one append each 4 ms to {} messages of about 60 tokens, {} readers in another process; medians of {} rounds",
        figures.store,
        number(u64::try_from(figures.messages)?),
        figures.readers,
        figures.rounds.len()
    ))
}

/// A bench whose limits are not kept is a failure.
fn verdict(figures: &Figures) -> anyhow::Result<()> {
    if let Some(row) = figures.layouts.iter().find(|row| !row.holds()) {
        anyhow::bail!(
            "the 99th percentile of appends beside {} is {:.1} ms, {:.2} x that beside bare readers; \
             at most {:.0} ms and {MOST} x; measure again on a machine that has nothing else to do",
            row.layout.name(),
            row.appends.p99_us / 1e3,
            row.p99_ratio,
            MOST_US / 1e3
        );
    }
    Ok(())
}
