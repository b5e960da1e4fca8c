//! The report of an import: a stable interface, see the README.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::pool::Pool;
use super::survey::Findings;

/// The result of an import.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Messages read.
    read: u64,
    /// Messages appended.
    appended: u64,
    /// Messages that were there already, from an earlier run or another process.
    skipped: u64,
    /// Messages that the resource's privacy policy excludes.
    excluded: u64,
    /// Of the appended messages, those whose contents the privacy policy excludes: calls and results of tools.
    withheld: u64,
    /// Messages that could not be appended.
    failed: u64,
    /// Records that were passed over because they are bad.
    bad: u64,
    /// Records without a message of the conversation, such as the metadata of a session.
    left_out: u64,
    /// Lone surrogates that were replaced by U+FFFD.
    replaced_surrogates: u64,
    /// Memories that the messages belong to.
    keys: u64,
    /// How long it took.
    seconds: f64,
    /// Messages appended or recognized a second.
    messages_per_second: f64,
}

impl Report {
    pub(crate) fn new(pool: &Pool, findings: &Findings, took: Duration) -> Self {
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let tally = pool.tally();
        let (appended, skipped) = (count(&tally.appended), count(&tally.skipped));
        let seconds = (took.as_secs_f64() * 1e3).round() / 1e3;
        #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
        let done = (appended + skipped) as f64;
        let messages_per_second = (done / took.as_secs_f64().max(1e-9)).round();
        let (excluded, withheld) = (count(&tally.excluded), count(&tally.withheld));
        let (read, failed) = (count(&tally.read), count(&tally.failed));
        let keys = pool.keys() as u64;
        let Findings { bad, left_out, replaced: replaced_surrogates, .. } = *findings;
        Self {
            read,
            appended,
            skipped,
            excluded,
            withheld,
            failed,
            bad,
            left_out,
            replaced_surrogates,
            keys,
            seconds,
            messages_per_second,
        }
    }
}
