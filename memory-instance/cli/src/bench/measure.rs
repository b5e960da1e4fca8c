//! Latencies and throughput of one measurement.

use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

/// How long a measurement takes at the most.
pub(crate) const BENCH_LIMIT: Duration = Duration::from_secs(1);

/// The longest latency that is distinguished: a minute.
const MOST_NANOS: u64 = 60_000_000_000;

/// The result of a measurement.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Measured {
    /// How many operations were measured.
    pub(crate) operations: u64,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// The latencies measured so far.
#[derive(Debug)]
pub(crate) struct Latencies {
    nanos: Histogram<u64>,
    pub(crate) begun: Instant,
}

impl Latencies {
    pub(crate) fn begin() -> anyhow::Result<Self> {
        let nanos = Histogram::new_with_bounds(1, MOST_NANOS, 3).context("make a histogram")?;
        Ok(Self { nanos, begun: Instant::now() })
    }

    /// Whether there is time for more.
    pub(crate) fn goes_on(&self) -> bool {
        self.begun.elapsed() < BENCH_LIMIT
    }

    pub(crate) fn add(&mut self, took: Duration) {
        self.nanos.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn merge(&mut self, others: &Self) -> anyhow::Result<()> {
        self.nanos.add(&others.nanos).context("add up latencies")
    }

    /// The figures, with the throughput from the beginning until now.
    pub(crate) fn end(self) -> Measured {
        let seconds = self.begun.elapsed().as_secs_f64().max(1e-9);
        let operations = self.nanos.len();
        #[expect(clippy::cast_precision_loss, reason = "figures for people to read")]
        let (count, micros) = (operations as f64, |q| self.nanos.value_at_quantile(q) as f64 / 1e3);
        Measured {
            operations,
            per_second: (count / seconds).round(),
            p50_us: micros(0.5),
            p99_us: micros(0.99),
        }
    }
}

impl Measured {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rounded, and never below zero"
    )]
    pub(crate) fn whole_per_second(&self) -> u64 {
        self.per_second as u64
    }
}

/// The measurement with the median throughput.
pub(crate) fn median(mut taken: Vec<Measured>) -> Option<Measured> {
    taken.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    taken.get(taken.len() / 2).copied()
}
