//! The checks can fail: each bug that is planted is found within a stated number of programs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, in its helpers too, and tells what it did"
)]

use std::fmt::Write as _;
use std::thread;

use memory_testkit::{Bug, Program, run};
use tokio::time::Instant;

/// Every bug is found within so many programs.
const LIMIT: u64 = 3_000;

#[test]
fn every_planted_bug_is_found() {
    let workers = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let found: Vec<_> = thread::scope(|scope| {
        let shares = Bug::ALL.chunks(Bug::ALL.len().div_ceil(workers));
        let tasks: Vec<_> = shares
            .map(|bugs| {
                scope.spawn(|| bugs.iter().map(|bug| (*bug, hunt(*bug))).collect::<Vec<_>>())
            })
            .collect();
        tasks.into_iter().flat_map(|task| task.join().unwrap()).collect()
    });
    let mut table = String::new();
    for (bug, found) in &found {
        let name = format!("{bug:?}");
        let promise = bug.promise();
        match found {
            Some((seed, time, shown)) => {
                writeln!(table, "{name:24} {promise:26} program {seed:4} {time:>9.1?}  {shown}")
                    .unwrap();
            }
            None => writeln!(table, "{name:24} {promise:26} NOT FOUND").unwrap(),
        }
    }
    eprintln!("{table}");
    assert!(found.iter().all(|(_, found)| found.is_some()), "not all were found:\n{table}");
}

/// The first program that shows the bug, the time it took to come there, and what was seen.
fn hunt(bug: Bug) -> Option<(u64, std::time::Duration, String)> {
    let began = Instant::now();
    for seed in 0..LIMIT {
        let outcome = run(&Program::numbered(seed), Some(bug));
        if let Some(violation) = outcome.violations.first() {
            let what: String = violation.what.chars().take(90).collect();
            return Some((seed, began.elapsed(), format!("{}: {what}", violation.promise)));
        }
    }
    None
}
