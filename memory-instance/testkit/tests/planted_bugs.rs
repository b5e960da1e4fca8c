//! The checks can fail: each planted bug is found within a stated number of programs by a check for it, and each check
//! finds a bug.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use memory_testkit::{Bug, Check, Family, run};
use tokio::time::Instant;

/// The number of programs within which every bug is found.
const LIMIT: u64 = 3_000;

/// The result of the search for a bug in a family of programs.
struct Hunt {
    bug: Bug,
    family: Family,
    /// The first program in which a check for this bug found it, and the details.
    found: Option<(u64, Check, String)>,
    took: Duration,
    /// All checks that failed up to then.
    fired: BTreeSet<Check>,
}

#[test]
fn checks_find_all_planted_bugs() {
    // A part of the bugs, while a check is written.
    let only = std::env::var("MEMORY_MODEL_BUGS").unwrap_or_default();
    let is_hunted = |bug: &&Bug| format!("{bug:?}").contains(&only);
    let bugs = Bug::ALL.iter().filter(is_hunted);
    let bugs: Vec<(Bug, Family)> =
        bugs.flat_map(|bug| bug.families().iter().map(|family| (*bug, *family))).collect();
    let workers = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicUsize::new(0);
    let hunts = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((bug, family)) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let hunt = hunt(*bug, *family);
                    hunts.lock().unwrap().push(hunt);
                }
            });
        }
    });
    let mut hunts = hunts.into_inner().unwrap();
    let position = |hunt: &Hunt| bugs.iter().position(|it| *it == (hunt.bug, hunt.family));
    hunts.sort_by_key(position);
    let mut table = String::new();
    for Hunt { bug, family, found, took, .. } in &hunts {
        let name = format!("{bug:?}");
        let (promise, check, found) = match found {
            Some((seed, check, shown)) => (
                check.promise(),
                format!("{check:?}"),
                format!("{family:?} program {seed:4} {took:>9.1?}  {shown}"),
            ),
            None => ("", String::new(), format!("{family:?} NOT FOUND by {:?}", bug.checks())),
        };
        writeln!(table, "{name:24} {promise:4} {check:16} {found}").unwrap();
    }
    let fired: BTreeSet<Check> = hunts.iter().flat_map(|hunt| hunt.fired.iter().copied()).collect();
    let silent: Vec<_> = Check::ALL
        .iter()
        // This check is about the checker; its own tests show that it gives up.
        .filter(|check| **check != Check::NoVerdict && !fired.contains(check))
        .collect();
    writeln!(
        table,
        "{} planted bugs, each in its families, {} checks, those that no bug made fail: {silent:?}",
        hunts.iter().map(|hunt| hunt.bug).collect::<HashSet<_>>().len(),
        Check::ALL.len(),
    )
    .unwrap();
    eprintln!("{table}");
    assert!(hunts.iter().all(|hunt| hunt.found.is_some()), "not all were found:\n{table}");
    assert!(!only.is_empty() || silent.is_empty(), "some checks were never seen to fail:\n{table}");
}

fn hunt(bug: Bug, family: Family) -> Hunt {
    let began = Instant::now();
    let mut fired = BTreeSet::new();
    let mut found = None;
    for seed in 0..LIMIT {
        let outcome = run(&family.program(seed), Some(bug));
        fired.extend(outcome.violations.iter().map(|violation| violation.check));
        let mut meant = outcome.violations.iter().filter(|v| bug.checks().contains(&v.check));
        if let Some(violation) = meant.next() {
            let shown: String = violation.what.chars().take(90).collect();
            found = Some((seed, violation.check, shown));
            break;
        }
    }
    Hunt { bug, family, found, took: began.elapsed(), fired }
}

/// Without the checks of windows, this bug would not be found: no other check fails in any program.
#[test]
fn only_windows_show_their_lost_states() {
    let is_of_windows = |check: Check| format!("{check:?}").starts_with("Window");
    for family in Bug::WindowOfLostState.families() {
        let mut found = 0;
        for seed in 0..50 {
            let violations = run(&family.program(seed), Some(Bug::WindowOfLostState)).violations;
            let mut others = violations.iter().filter(|found| !is_of_windows(found.check));
            assert_eq!(others.next(), None, "{family:?} program {seed}");
            found += u32::from(!violations.is_empty());
        }
        eprintln!("{family:?}: found in {found} of 50 programs");
        assert!(found > 0, "{family:?}");
    }
}
