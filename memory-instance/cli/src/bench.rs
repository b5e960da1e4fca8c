//! `memory bench`.

mod bare;
pub(crate) mod flush;
mod measure;
mod ours;
mod readers;
mod watch;

use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::Context as _;
use clap::ValueEnum;
use memory_core::store::Durability;
use memory_instance::{FlushMode, MemoryManager, without_password};
use serde::Serialize;

use self::bare::Bare;
use self::measure::{Measured, median};
use self::ours::Ours;
use crate::args::Common;
use crate::failure::note;
use crate::out::{Out, number, table};

/// Measure appends and reads, beside the bare database
///
/// For a SQLite file, `bare insert` is a prepared insert for each transaction, at the same durability, into a
/// new file in the same folder. For a Redis server, `bare script` is one `EVALSHA` that makes the same pushes
/// and counters over one connection and checks nothing. Every measurement ends after --messages appends or
/// reads, or after a second. Measurements alternate, and the one with the median throughput of --rounds is
/// shown. Only the figures of a release build are meaningful.
///
/// `memory bench flush` measures something else: 8 tasks in two processes append to one memory, alternately
/// without a flush and while flushes run without a pause, by a summarizer that takes half a second. It
/// then shows the outcome of summarizers that fail, hang, return nothing or too much, or whose process is
/// killed before the commit. It fails if a message was lost, duplicated or summarized twice, or if the
/// 99th percentile of appends during a flush is over 1.5 x that without.
///
/// `memory bench readers` appends each 4 ms while four readers in another process read 10,000 messages
/// without a pause: alternately bare readers (one `HMGET` or `SELECT` of all, decoded), and readers of
/// `messages()` and `context(60,000)` that are new each time, have no views, or keep one. It fails if the 99th
/// percentile of appends is over 10 ms or over 1.5 x that beside bare readers.
///
/// `memory bench watch` appends at random moments, in this process and in another one, and measures the time until
/// a watcher of this process returns the message. It fails if the median from another process is over 60 ms, or
/// over 2 ms on a server.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory bench
  memory bench append --tasks 1,64 --keys many --messages 5000
  memory bench --store sqlite:///mnt/data/bench.db --json
  memory bench --store 'sqlite://bench.db?synchronous=normal'
  memory bench --store redis://localhost
  memory bench flush --rounds 5
  memory bench readers --store redis://localhost
  memory bench watch --store redis://localhost")]
pub(crate) struct Args {
    /// The measurement
    #[arg(value_enum, default_value = "all")]
    what: What,

    /// How many tasks append at once
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,16,64")]
    tasks: Vec<NonZeroUsize>,

    /// Whether the tasks share one memory, or each has a separate one
    #[arg(long, value_enum, value_delimiter = ',', default_value = "one,many")]
    keys: Vec<Keys>,

    /// The most appends or reads of one measurement; for `bench readers` the messages in the memory
    /// [default: 2000; for `bench readers` 10000]
    #[arg(long, value_name = "N")]
    messages: Option<NonZeroUsize>,

    /// How often each measurement is taken
    #[arg(long, value_name = "N", default_value = "3")]
    rounds: NonZeroUsize,

    /// How long each measurement of `bench flush`, `bench readers` and `bench watch` takes, in seconds
    #[arg(long, value_name = "N", default_value = "3")]
    seconds: f64,
}

impl Args {
    fn messages(&self) -> usize {
        self.messages.map_or(MESSAGES, NonZeroUsize::get)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Append,
    Read,
    /// Appends and reads
    All,
    /// Appends while a slow summarizer works
    Flush,
    /// Appends while another process reads
    Readers,
    /// The time from an append to its watcher
    Watch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Keys {
    /// All tasks append to one memory
    One,
    /// Each task appends to a separate memory
    Many,
}

/// The figures of a bench, as `--json` prints them.
#[derive(Debug, Serialize)]
struct Figures {
    store: String,
    durability: Durability,
    rounds: usize,
    rows: Vec<Row>,
}

/// One measurement.
#[derive(Debug, Serialize)]
struct Row {
    operation: &'static str,
    tasks: usize,
    keys: Keys,
    #[serde(flatten)]
    measured: Measured,
    /// The throughput as a multiple of the bare database's.
    of_bare: Option<f64>,
}

/// A budget that no bench fills: these benches do not measure flushes.
const NO_LIMIT: u64 = 1 << 40;

/// The most appends or reads of one measurement, unless `--messages` is given.
const MESSAGES: usize = 2_000;

pub(crate) async fn run(common: &Common, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    if args.what == What::Flush {
        return Box::pin(flush::run(common, args.rounds.get(), args.seconds, out)).await;
    }
    if args.what == What::Readers {
        let options = readers::Options {
            rounds: args.rounds.get(),
            seconds: args.seconds,
            messages: args.messages.map_or(readers::FILLED, NonZeroUsize::get),
        };
        return Box::pin(readers::run(common, options, out)).await;
    }
    if args.what == What::Watch {
        return Box::pin(watch::run(common, args.rounds.get(), args.seconds, out)).await;
    }
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let url = match &common.store {
        Some(url) => url.clone(),
        None => format!("sqlite://{}", folder.path().join("bench.db").display()),
    };
    let mut resource = common.resource()?;
    if common.resource.is_none() {
        resource.max_tokens = Some(NO_LIMIT);
    }
    let id = resource.id.clone();
    let manager = MemoryManager::builder()
        .with_project("bench")
        .with_resource(resource)
        .with_flush_mode(FlushMode::Manual)
        .open(&url)
        .await?;
    if cfg!(debug_assertions) {
        note("(a debug build: use a release build for valid figures)");
    }
    let bench =
        Bench { args, ours: Ours::new(manager.clone(), id), url: &url, temporary: folder.path() };
    let mut rows = Vec::new();
    if args.what != What::Read {
        bench.appends(&mut rows).await?;
    }
    if args.what != What::Append {
        bench.reads(&mut rows).await?;
    }
    bench.ours.clean_up().await?;
    let durability = manager.store().durability();
    manager.locks().shutdown(crate::EXIT_GRACE).await;
    let store = without_password(&url);
    let figures = Figures { store, durability, rounds: args.rounds.get(), rows };
    if out.json() { out.compact(&figures) } else { show(&figures, out) }
}

struct Bench<'a> {
    args: &'a Args,
    ours: Ours,
    url: &'a str,
    temporary: &'a Path,
}

impl Bench<'_> {
    async fn appends(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        let messages = self.args.messages();
        let mut cases = Vec::new();
        for &keys in &self.args.keys {
            for tasks in &self.args.tasks {
                // One task has one memory either way.
                if (tasks.get() > 1 || keys == Keys::One) && !cases.contains(&(keys, tasks.get())) {
                    cases.push((keys, tasks.get()));
                }
            }
        }
        let bare = self.bare().await?;
        let none = || cases.iter().map(|_| Vec::new()).collect();
        let (mut bares, mut taken): (Vec<Vec<Measured>>, Vec<Vec<Measured>>) = (none(), none());
        for _ in 0..self.args.rounds.get() {
            for (((keys, tasks), bares), taken) in cases.iter().zip(&mut bares).zip(&mut taken) {
                if let Some(bare) = &bare {
                    bares.extend(bare.appends(*tasks, *keys, messages).await?);
                }
                taken.push(self.ours.appends(*tasks, *keys, messages).await?);
            }
        }
        let mut baseline = None;
        for (((keys, tasks), bares), taken) in cases.into_iter().zip(bares).zip(taken) {
            let of_its_own = median(bares);
            if let Some(bare) = &bare {
                push(rows, bare.append_name(), tasks, keys, of_its_own, of_its_own);
            }
            // If the bare database has no figure for this many tasks, its figure for one task is used.
            baseline = of_its_own.or(baseline);
            push(rows, "append", tasks, keys, median(taken), baseline);
        }
        match bare {
            Some(bare) => bare.clean_up().await,
            None => Ok(()),
        }
    }

    async fn reads(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        let reads = self.args.messages();
        let memory = self.ours.filled().await?;
        let bare = self.bare().await?;
        if let Some(bare) = &bare {
            bare.fill(ours::FILLED).await?;
        }
        let (mut baseline, mut news, mut heads, mut windows) = (vec![], vec![], vec![], vec![]);
        for _ in 0..self.args.rounds.get() {
            if let Some(bare) = &bare {
                baseline.push(bare.reads(reads).await?);
            }
            news.push(ours::read_news(&memory, reads).await?);
            heads.push(ours::read_counters(&memory, reads).await?);
            windows.push(ours::read_context(&memory, reads).await?);
        }
        let baseline = median(baseline);
        if let Some(bare) = &bare {
            push(rows, bare.read_name(), 1, Keys::One, baseline, baseline);
            bare.clean_up().await?;
        }
        push(rows, "read 10 new of 10,000", 1, Keys::One, median(news), baseline);
        push(rows, "count of 10,000", 1, Keys::One, median(heads), None);
        push(rows, "context of 4,000 tokens, of 10,000", 1, Keys::One, median(windows), None);
        Ok(())
    }

    async fn bare(&self) -> anyhow::Result<Option<Bare>> {
        Bare::open(self.url, self.temporary, self.ours.durability()).await
    }
}

fn push(
    rows: &mut Vec<Row>,
    operation: &'static str,
    tasks: usize,
    keys: Keys,
    measured: Option<Measured>,
    baseline: Option<Measured>,
) {
    let Some(measured) = measured else { return };
    let ratio = |bare: Measured| (measured.per_second / bare.per_second * 100.0).round() / 100.0;
    rows.push(Row { operation, tasks, keys, measured, of_bare: baseline.map(ratio) });
}

fn show(figures: &Figures, out: &mut Out) -> anyhow::Result<()> {
    let mut rows =
        table(&["operation", "#tasks", "keys", "#per second", "#p50 µs", "#p99 µs", "#of bare"]);
    for Row { operation, tasks, keys, measured, of_bare } in &figures.rows {
        let keys = match (keys, tasks) {
            (Keys::One, _) => "one",
            (Keys::Many, _) => "many",
        };
        rows.add_row([
            (*operation).to_owned(),
            tasks.to_string(),
            keys.to_owned(),
            number(measured.whole_per_second()),
            format!("{:.1}", measured.p50_us),
            format!("{:.1}", measured.p99_us),
            of_bare.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
        ]);
    }
    out.line(rows)?;
    let durability = match figures.durability {
        Durability::Memory => "only while this process runs",
        Durability::Process => "the end of this process",
        _ => "a power loss",
    };
    out.line(format_args!(
        "store {}; an acknowledged append survives {durability}; medians of {} rounds",
        figures.store, figures.rounds
    ))
}
