//! `memory bench watch`: the time from an append to its watcher, in the same process and in another one.

use std::time::Duration;

use anyhow::Context as _;
use memory_core::{MemoryResource, Message};
use memory_instance::{
    Change, FlushMode, ManagerBuilder, MemoryInstance, MemoryManager, WatchFrom, without_password,
};
use memory_lock::{Clock, ClockExt as _};
use serde::{Deserialize, Serialize};

use super::flush::Worker;
use super::measure::Latency;
use crate::args::{Common, is_shared};
use crate::failure::{note, usage};
use crate::out::{Out, number, table};

/// The longest pause before an append. A watcher of a file looks at it from time to time, so appends are at random
/// moments.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// The limit for the median in another process, on a server.
const MOST_US_SERVER: f64 = 2_000.0;
/// The limit for the median in another process, on a file.
const MOST_US_FILE: f64 = 60_000.0;
const RESOURCE: &str = "watch";

/// The process that appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Writer {
    SameProcess,
    OtherProcess,
}

impl Writer {
    const ALL: [Self; 2] = [Self::SameProcess, Self::OtherProcess];

    const fn name(self) -> &'static str {
        match self {
            Self::SameProcess => "the same process",
            Self::OtherProcess => "another process",
        }
    }
}

/// The output of `--json`.
#[derive(Debug, Serialize)]
struct Figures {
    store: String,
    rounds: usize,
    /// Medians of the rounds.
    writers: Vec<Row>,
    /// Whether the median in another process is within its limit.
    holds: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Row {
    writer: Writer,
    /// From before an append until the watcher returned it.
    #[serde(flatten)]
    latency: Latency,
}

/// A command for the process that appends.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::bench) struct Order {
    key: String,
    millis: u64,
}

pub(super) async fn run(
    common: &Common,
    rounds: usize,
    seconds: f64,
    out: &mut Out,
) -> anyhow::Result<()> {
    if common.resource.is_some() {
        return Err(usage("bench watch uses a built-in resource; leave --resource out"));
    }
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let url = match &common.store {
        Some(url) => url.clone(),
        None => format!("sqlite://{}", folder.path().join("bench.db").display()),
    };
    if !is_shared(&url) {
        return Err(usage("bench watch needs a store that two processes share"));
    }
    let lasts = Duration::try_from_secs_f64(seconds)
        .map_err(|_| usage("--seconds is how long a measurement lasts, such as 2 or 0.5"))?;
    if cfg!(debug_assertions) {
        note("(a debug build: use a release build for valid figures)");
    }
    let manager = builder().open(&url).await?;
    let mut worker = Worker::start(&url)?;
    let clock = Clock::system();
    let begun = clock.now_millis();
    let mut taken: Vec<Row> = Vec::new();
    for round in 0..rounds {
        for writer in Writer::ALL {
            let key = format!("{begun}-{round}-{writer:?}");
            let memory = manager.memory(RESOURCE, &key)?;
            let order = Order { key, millis: u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX) };
            let appends = async {
                match writer {
                    Writer::SameProcess => run_order(&manager, &order).await,
                    Writer::OtherProcess => worker.append_at_random(order).await,
                }
            };
            let latency = latency(&memory, &clock, appends).await?;
            taken.push(Row { writer, latency });
            memory.clear().await?;
        }
    }
    worker.end()?;
    manager.locks().shutdown(crate::EXIT_GRACE).await;
    let most = if url.starts_with("redis") { MOST_US_SERVER } else { MOST_US_FILE };
    let writers: Vec<Row> = Writer::ALL.into_iter().map(|writer| median(&taken, writer)).collect();
    let other = writers.iter().find(|row| row.writer == Writer::OtherProcess);
    let holds = other.is_some_and(|row| row.latency.p50_us <= most);
    let figures = Figures { store: without_password(&url), rounds, writers, holds };
    if out.json() {
        out.compact(&figures)?;
    } else {
        show(&figures, out)?;
    }
    out.flush()?;
    anyhow::ensure!(
        holds,
        "the median to a watcher of another process is over {:.0} ms",
        most / 1e3
    );
    Ok(())
}

/// Both processes use the same rules for the memory, which is never over its budget.
fn builder() -> ManagerBuilder {
    MemoryManager::builder()
        .with_project("bench")
        .with_resource(MemoryResource::new(RESOURCE, super::NO_LIMIT))
        .with_flush_mode(FlushMode::Manual)
}

/// Appends messages that say when they were sent, each after a random pause; returns their number.
pub(in crate::bench) async fn run_order(
    manager: &MemoryManager,
    order: &Order,
) -> anyhow::Result<u64> {
    let manager = builder().build(manager.store().clone(), manager.locks().clone())?;
    let memory = manager.memory(RESOURCE, &order.key)?;
    let clock = Clock::system();
    let until = clock.now_millis().saturating_add(order.millis);
    let mut sent = 0;
    while clock.now_millis() < until {
        tokio::time::sleep(LONGEST_PAUSE.mul_f64(fastrand::f64())).await;
        memory.append(Message::user(clock.now_micros().to_string())).await?;
        sent += 1;
    }
    Ok(sent)
}

/// Watches a memory until all appends have arrived.
async fn latency(
    memory: &MemoryInstance,
    clock: &Clock,
    appends: impl Future<Output = anyhow::Result<u64>>,
) -> anyhow::Result<Latency> {
    let mut watcher = memory.watch(WatchFrom::Start).await?;
    let mut nanos = Vec::new();
    let mut sent = None;
    tokio::pin!(appends);
    while sent.is_none_or(|sent| (nanos.len() as u64) < sent) {
        let change = tokio::select! {
            number = &mut appends, if sent.is_none() => {
                sent = Some(number?);
                continue;
            }
            change = watcher.next() => change?,
        };
        let Change::Appended(messages) = change else {
            anyhow::bail!("the watcher returned {change:?} in place of a message");
        };
        let now = clock.now_micros();
        for message in messages {
            let at: u64 = message.message.text().parse().context("read when a message was sent")?;
            nanos.push(now.saturating_sub(at).saturating_mul(1_000));
        }
    }
    Ok(Latency::of(nanos))
}

fn median(taken: &[Row], writer: Writer) -> Row {
    let of: Vec<Latency> =
        taken.iter().filter(|row| row.writer == writer).map(|row| row.latency).collect();
    Row { writer, latency: Latency::middle(&of) }
}

fn show(figures: &Figures, out: &mut Out) -> anyhow::Result<()> {
    let mut rows = table(&["appended in", "#number", "#p50 µs", "#p99 µs", "#max µs"]);
    for Row { writer, latency } in &figures.writers {
        rows.add_row([
            writer.name().to_owned(),
            number(latency.appends),
            format!("{:.0}", latency.p50_us),
            format!("{:.0}", latency.p99_us),
            format!("{:.0}", latency.max_us),
        ]);
    }
    out.line(rows)?;
    out.line(format_args!(
        "store {}; from before an append until the watcher returned it; medians of {} rounds; the median in \
         another process: {}",
        figures.store,
        figures.rounds,
        if figures.holds { "within its limit" } else { "over its limit" },
    ))
}
