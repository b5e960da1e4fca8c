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

/// The latencies of appends, in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Latency {
    pub(crate) appends: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

impl Latency {
    /// Of these times in nanoseconds.
    pub(crate) fn of(mut nanos: Vec<u64>) -> Self {
        nanos.sort_unstable();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "figures for people to read"
        )]
        let at = |share: f64| {
            let index = (nanos.len() as f64 * share) as usize;
            nanos.get(index.min(nanos.len().saturating_sub(1))).map_or(0.0, |n| *n as f64 / 1e3)
        };
        Self { appends: nanos.len() as u64, p50_us: at(0.5), p99_us: at(0.99), max_us: at(1.0) }
    }

    /// The medians of several rounds, and all their appends.
    pub(crate) fn middle(rounds: &[Self]) -> Self {
        Self {
            appends: rounds.iter().map(|round| round.appends).sum(),
            p50_us: middle(rounds.iter().map(|round| round.p50_us)),
            p99_us: middle(rounds.iter().map(|round| round.p99_us)),
            max_us: middle(rounds.iter().map(|round| round.max_us)),
        }
    }
}

/// A figure as a multiple of another, with two decimals.
pub(crate) fn ratio(with: f64, without: f64) -> f64 {
    (with / without.max(1e-9) * 100.0).round() / 100.0
}

/// The median.
pub(crate) fn middle(figures: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = figures.collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}
