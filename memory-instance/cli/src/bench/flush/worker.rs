//! The other process: it appends, it reads, or it flushes and is killed before it commits.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use memory_core::TokenCounter;
use memory_core::tokens::MediaPrices;
use memory_flush::from_fn;
use serde::{Deserialize, Serialize};

use super::load::{Load, Part};
use super::summarizers::summary;
use super::{RESOURCE, SUMMARY_TAKES, TASKS, builder, counter};
use crate::args::{Common, STORE_VARIABLE};
use crate::bench::{readers, watch};
use crate::out::Out;

/// The other process of `memory bench flush`, `memory bench readers` and `memory bench watch`
#[derive(Debug, clap::Args)]
pub(crate) struct WorkerArgs {}

/// The commands for the other process, one per line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    Append {
        key: String,
        millis: u64,
    },
    Read(readers::Order),
    AppendAtRandom(watch::Order),
    /// Flush, and stop between the summary and its commit.
    FlushAndStop {
        key: String,
    },
}

/// The line that says that the summary is written, and not committed.
const WRITTEN: &str = "\"written\"";

/// A handle to the other process, which is killed when the handle is dropped.
pub(in crate::bench) struct Worker {
    process: Child,
    orders: Option<ChildStdin>,
    answers: Arc<Mutex<BufReader<ChildStdout>>>,
}

impl Worker {
    pub(in crate::bench) fn start(url: &str) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let mut process = Command::new(program)
            .arg("bench-worker")
            .env(STORE_VARIABLE, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start another process")?;
        let orders = process.stdin.take();
        let answers = process.stdout.take().context("the other process has no output")?;
        Ok(Self { process, orders, answers: Arc::new(Mutex::new(BufReader::new(answers))) })
    }

    /// Sends a command and reads the answer.
    async fn ask(&mut self, order: &Order) -> anyhow::Result<String> {
        let line = format!("{}\n", serde_json::to_string(order)?);
        let orders = self.orders.as_mut().context("the other process has no input")?;
        orders.write_all(line.as_bytes()).context("write to the other process")?;
        let answers = Arc::clone(&self.answers);
        let heard = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.read_line(&mut line).map(|_| line)
        });
        let heard = heard.await?.context("read from the other process")?;
        anyhow::ensure!(!heard.is_empty(), "the other process has ended; its output is above");
        Ok(heard)
    }

    pub(super) async fn append(&mut self, key: &str, lasts: Duration) -> anyhow::Result<Vec<Part>> {
        let millis = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
        let parts = self.ask(&Order::Append { key: key.to_owned(), millis }).await?;
        Ok(serde_json::from_str(&parts)?)
    }

    /// Reads in it, and returns how many reads it made per second.
    pub(in crate::bench) async fn read(&mut self, order: readers::Order) -> anyhow::Result<f64> {
        let read = self.ask(&Order::Read(order)).await?;
        Ok(serde_json::from_str(&read)?)
    }

    /// Appends in it at random moments, and returns how often.
    pub(in crate::bench) async fn append_at_random(
        &mut self,
        order: watch::Order,
    ) -> anyhow::Result<u64> {
        let sent = self.ask(&Order::AppendAtRandom(order)).await?;
        Ok(serde_json::from_str(&sent)?)
    }

    /// Starts a flush in it, and kills it after the summary and before the commit.
    pub(super) async fn die_before_commit(mut self, key: &str) -> anyhow::Result<()> {
        let heard = self.ask(&Order::FlushAndStop { key: key.to_owned() }).await?;
        anyhow::ensure!(
            heard.trim_end() == WRITTEN,
            "the other process has flushed without stopping: {heard}"
        );
        self.process.kill().context("kill the other process")?;
        self.process.wait().context("kill the other process")?;
        Ok(())
    }

    pub(in crate::bench) fn end(mut self) -> anyhow::Result<()> {
        drop(self.orders.take());
        let status = self.process.wait().context("wait for the other process")?;
        anyhow::ensure!(status.success(), "the other process failed: {status}");
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The main loop of the other process. It ends when its input ends.
pub(crate) async fn run(common: &Common, _: &WorkerArgs, out: &mut Out) -> anyhow::Result<()> {
    let url = common.store.as_deref().context("the other process needs --store")?;
    let manager = builder().open(url).await?;
    // One memory after another: their keys identify their messages.
    let mut loads = std::collections::HashMap::new();
    while let Some(order) = tokio::task::spawn_blocking(next_order).await?? {
        match order {
            Order::Append { key, millis } => {
                let memory = manager.memory(RESOURCE, &key)?;
                let load = loads.entry(key).or_insert_with(|| Load::new("b"));
                let parts = load.run(&memory, TASKS, Duration::from_millis(millis)).await?;
                out.compact(&parts)?;
            }
            Order::Read(order) => {
                out.compact(&readers::run_order(url, &manager, &order).await?)?;
            }
            Order::AppendAtRandom(order) => {
                out.compact(&watch::run_order(&manager, &order).await?)?;
            }
            Order::FlushAndStop { key } => {
                let stop = Arc::new(AtomicBool::new(false));
                let stops = StopsAfterTheSummary { counter: counter(), stop: Arc::clone(&stop) };
                let model = from_fn("doomed model", move |request| {
                    let stop = Arc::clone(&stop);
                    async move {
                        tokio::time::sleep(SUMMARY_TAKES).await;
                        stop.store(true, Ordering::Relaxed);
                        Ok(summary(&request))
                    }
                });
                let builder = builder().with_summarizer(model).with_token_counter(Arc::new(stops));
                let store = Arc::clone(manager.store());
                let doomed = builder.build(store, manager.locks().clone())?;
                let receipt = doomed.memory(RESOURCE, &key)?.perform_flush().await?;
                out.compact(&receipt)?;
            }
        }
        out.flush()?;
    }
    manager.locks().shutdown(crate::EXIT_GRACE).await;
    Ok(())
}

fn next_order() -> anyhow::Result<Option<Order>> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context("read an order")?;
    if line.is_empty() { Ok(None) } else { Ok(Some(serde_json::from_str(&line)?)) }
}

/// Counts the tokens of the summary, which is the last thing before it is committed, and never ends.
#[derive(Debug)]
struct StopsAfterTheSummary {
    counter: Arc<dyn TokenCounter>,
    stop: Arc<AtomicBool>,
}

impl TokenCounter for StopsAfterTheSummary {
    fn name(&self) -> &str {
        self.counter.name()
    }

    fn count(&self, text: &str) -> usize {
        if self.stop.swap(false, Ordering::Relaxed) {
            let mut out = std::io::stdout().lock();
            let written = writeln!(out, "{WRITTEN}").and_then(|()| out.flush());
            // No other process kills this one: then it continues.
            while written.is_ok() {
                std::thread::park();
            }
        }
        self.counter.count(text)
    }

    fn media_prices(&self) -> MediaPrices {
        self.counter.media_prices()
    }
}
