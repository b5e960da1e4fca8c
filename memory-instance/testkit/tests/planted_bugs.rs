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

/// The programs that showed the bugs when this file was written: `BUG FAMILY PROGRAM` on each line. They are tried first,
/// because a search takes up to a hundred times as long. `MEMORY_MODEL_SEARCH=1` searches, and writes the file.
const KNOWN: &str = include_str!("known-programs.txt");

/// The most lines of that file that may no longer show their bugs: a change of the code under test changes the traces.
const STALE: usize = 30;

/// The result of the search for a bug in a family of programs.
struct Hunt {
    bug: Bug,
    family: Family,
    /// The first program in which a check for this bug found it, and the details.
    found: Option<(u64, Check, String)>,
    took: Duration,
    /// Whether the known program did not show it, or there was none.
    searched: bool,
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
    if searches() && only.is_empty() {
        let lines = hunts.iter().filter_map(|hunt| {
            let (program, ..) = hunt.found.as_ref()?;
            Some(format!("{:?} {:?} {program}\n", hunt.bug, hunt.family))
        });
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/known-programs.txt");
        std::fs::write(path, lines.collect::<String>()).unwrap();
    }
    let stale = hunts.iter().filter(|hunt| hunt.searched).count();
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
    assert!(
        searches() || stale <= STALE,
        "{stale} known programs no longer show their bugs: MEMORY_MODEL_SEARCH=1 cargo xtask test -p memory-testkit -- \
         planted"
    );
}

fn searches() -> bool {
    std::env::var_os("MEMORY_MODEL_SEARCH").is_some()
}

/// The number of the program that is known to show a bug.
fn known(bug: Bug, family: Family) -> Option<u64> {
    let start = format!("{bug:?} {family:?} ");
    KNOWN.lines().find_map(|line| line.strip_prefix(&start))?.parse().ok()
}

fn hunt(bug: Bug, family: Family) -> Hunt {
    let began = Instant::now();
    let mut hunt = Hunt {
        bug,
        family,
        found: None,
        took: Duration::ZERO,
        searched: true,
        fired: BTreeSet::new(),
    };
    let known = known(bug, family).filter(|_| !searches());
    if let Some(program) = known {
        hunt.try_program(program);
        hunt.searched = hunt.found.is_none();
    }
    let mut programs = 0..LIMIT;
    while hunt.found.is_none()
        && let Some(program) = programs.next()
    {
        hunt.try_program(program);
    }
    hunt.took = began.elapsed();
    hunt
}

impl Hunt {
    fn try_program(&mut self, program: u64) {
        let outcome = run(&self.family.program(program), Some(self.bug));
        self.fired.extend(outcome.violations.iter().map(|violation| violation.check));
        let mut meant = outcome.violations.iter().filter(|v| self.bug.checks().contains(&v.check));
        self.found = meant.next().map(|violation| {
            let shown: String = violation.what.chars().take(90).collect();
            (program, violation.check, shown)
        });
    }
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
