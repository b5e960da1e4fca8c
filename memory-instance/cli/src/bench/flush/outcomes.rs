//! The outcome of a flush whose summarizer fails, during appends.

use std::time::Duration;

use memory_core::store::FlushReceipt;
use memory_instance::MemoryInstance;
use serde::Serialize;

use super::Place;
use super::account::{Account, Ledger};
use super::load::Load;
use super::summarizers::{Does, Given};
use super::worker::Worker;

/// The outcome of one flush.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) case: &'static str,
    /// A description in words.
    pub(super) told: String,
    /// The summarizer of the committed summary.
    pub(super) summarizer: String,
    pub(super) took_ms: u64,
    pub(super) as_expected: bool,
    #[serde(flatten)]
    pub(super) account: Account,
}

const CASES: [(Does, &str, &str); 4] = [
    (Does::Fail, "fails", "status 529"),
    (Does::Hang, "hangs", "took longer"),
    (Does::SayNothing, "returns nothing", "empty"),
    (Does::SayTooMuch, "returns too much", "over its limit"),
];

impl Place {
    pub(super) async fn outcomes(&mut self, lasts: Duration) -> anyhow::Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        for (does, case, reason) in CASES {
            outcomes.push(self.broken(does, case, reason, lasts).await?);
        }
        outcomes.push(self.death(lasts).await?);
        Ok(outcomes)
    }

    async fn broken(
        &mut self,
        does: Does,
        case: &'static str,
        reason: &str,
        lasts: Duration,
    ) -> anyhow::Result<Outcome> {
        let (given, mut ledger, mut load) = (Given::default(), Ledger::default(), Load::new("a"));
        let memory = self.memory(case, given.that(does))?;
        self.fill(&memory, case, &mut load, &mut ledger).await?;
        let (receipt, parts) =
            tokio::join!(timed(&memory), self.append(&memory, case, &mut load, lasts));
        let (receipt, took) = receipt?;
        ledger.acknowledged(&parts?)?;
        let summary = receipt.as_ref().and_then(|receipt| receipt.summary.clone());
        ledger.receipts(receipt);
        // A second flush, by a working model, includes the summary of the first.
        let working = self.memory(case, given.slow())?;
        ledger.receipts(working.perform_flush().await?);
        let account = ledger.close(&working, &given).await?;
        working.clear().await?;
        let fallback = summary.as_ref().and_then(|summary| summary.fallback.clone());
        let as_expected = fallback.as_ref().is_some_and(|why| why.contains(reason))
            && summary.as_ref().is_some_and(|summary| summary.summarizer != "broken model");
        Ok(Outcome {
            case,
            told: fallback.map_or_else(
                || "no fallback was needed".to_owned(),
                |why| format!("the next one wrote it: {why}"),
            ),
            summarizer: summary.map_or_else(String::new, |summary| summary.summarizer),
            took_ms: millis(took),
            as_expected,
            account,
        })
    }

    /// The process, or the task if there is only one process, ends between summary and commit.
    async fn death(&mut self, lasts: Duration) -> anyhow::Result<Outcome> {
        let case = "dies before its commit";
        let (given, mut ledger, mut load) = (Given::default(), Ledger::default(), Load::new("a"));
        let memory = self.memory("dies", given.slow())?;
        self.fill(&memory, "dies", &mut load, &mut ledger).await?;
        let (url, key) = (self.url.clone(), self.key("dies"));
        let alone = self.worker.is_none();
        let doomed = async {
            if alone {
                // Dropped while it waits for its summary.
                let limit = super::SUMMARY_TAKES / 2;
                let flush = tokio::time::timeout(limit, memory.perform_flush()).await;
                anyhow::ensure!(flush.is_err(), "the flush ended before it could be dropped");
                Ok(())
            } else {
                Worker::start(&url)?.die_before_commit(&key).await
            }
        };
        let (died, parts) = tokio::join!(doomed, self.append(&memory, "dies", &mut load, lasts));
        died?;
        ledger.acknowledged(&parts?)?;
        let counters = memory.counters().await?;
        let untouched = counters.summarized == 0
            && counters.evicted == 0
            && counters.summaries == 0
            && memory.receipts().await?.is_empty();
        let (receipt, took) = timed(&memory).await?;
        let summary = receipt.as_ref().and_then(|receipt| receipt.summary.clone());
        ledger.receipts(receipt);
        let account = ledger.close(&memory, &given).await?;
        memory.clear().await?;
        let whole = if untouched { "history untouched" } else { "history changed" };
        let who = if alone { "its task was dropped" } else { "its process was killed" };
        Ok(Outcome {
            case,
            told: format!("{who}, {whole}; the next flush did the work"),
            as_expected: untouched && summary.is_some(),
            summarizer: summary.map_or_else(String::new, |summary| summary.summarizer),
            took_ms: millis(took),
            account,
        })
    }

    /// Appends enough messages for a flush.
    async fn fill(
        &mut self,
        memory: &MemoryInstance,
        name: &str,
        load: &mut Load,
        ledger: &mut Ledger,
    ) -> anyhow::Result<()> {
        while memory.token_count().await? < super::MAX_TOKENS {
            let parts = self.append(memory, name, load, Duration::from_millis(50)).await?;
            ledger.acknowledged(&parts)?;
        }
        Ok(())
    }
}

async fn timed(memory: &MemoryInstance) -> anyhow::Result<(Option<FlushReceipt>, Duration)> {
    let started = tokio::time::Instant::now();
    let receipt = memory.perform_flush().await?;
    Ok((receipt, started.elapsed()))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
