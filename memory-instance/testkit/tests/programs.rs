//! Random programs violate no invariant, and the same program always runs in the same way.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use memory_testkit::{Bug, Explained, Family, Op, Program, explain, run};

/// Seeds of programs that once failed, one a line.
const KEPT: &str = include_str!("kept-seeds.txt");

/// Seeds of programs whose server rolls back.
const KEPT_ROLLBACKS: &str = include_str!("kept-rollback-seeds.txt");

/// Seeds of programs with system prompts.
const KEPT_PROMPTS: &str = include_str!("kept-prompt-seeds.txt");

/// Seeds of programs in which a TTL ends.
const KEPT_EXPIRIES: &str = include_str!("kept-expiry-seeds.txt");

/// Seeds of programs with archives.
const KEPT_PAST: &str = include_str!("kept-past-seeds.txt");

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text}")),
        Err(_) => default,
    }
}

fn kept(seeds: &str) -> impl Iterator<Item = u64> {
    seeds.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok())
}

/// Runs the programs with these numbers on all cores, and prints a summary; explains a failing one.
fn run_all(family: Family, seeds: &[u64]) {
    let next = AtomicU64::new(0);
    let failed = Mutex::new(None);
    let totals = Mutex::new(BTreeMap::<&str, u64>::new());
    let workers = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let mut mine = BTreeMap::<&str, u64>::new();
                loop {
                    let index = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap();
                    let Some(number) = seeds.get(index) else { break };
                    if failed.lock().unwrap().is_some() {
                        break;
                    }
                    let program = family.program(*number);
                    let outcome = run(&program, None);
                    if !outcome.violations.is_empty() {
                        failed.lock().unwrap().get_or_insert(*number);
                        break;
                    }
                    let is_rollback = |op: &Op| matches!(op, Op::GoBack | Op::Expire);
                    let rollbacks = program.count(|op| usize::from(is_rollback(op)));
                    *mine.entry("programs").or_default() += 1;
                    *mine.entry("histories").or_default() += outcome.histories as u64;
                    *mine.entry("operations").or_default() += outcome.operations as u64;
                    *mine.entry("rollbacks").or_default() += rollbacks as u64;
                    *mine.entry("faults").or_default() += outcome.faults;
                    *mine.entry("virtual seconds").or_default() += outcome.virtual_time.as_secs();
                }
                let mut totals = totals.lock().unwrap();
                for (name, count) in mine {
                    *totals.entry(name).or_default() += count;
                }
            });
        }
    });
    if let Some(number) = failed.into_inner().unwrap() {
        match explain(family, number, None) {
            Some(Explained { text, .. }) => panic!("{text}"),
            None => panic!("program {number} failed, and then did not"),
        }
    }
    eprintln!("{:?}", totals.into_inner().unwrap());
}

#[test]
fn random_programs_keep_all_promises() {
    let first = setting("MEMORY_MODEL_FIRST_SEED", 0);
    let count = setting("MEMORY_MODEL_PROGRAMS", 1_000);
    let seeds: Vec<u64> = kept(KEPT).chain(first..first + count).collect();
    eprintln!("seeds {first}.. and the kept ones");
    run_all(Family::Plain, &seeds);
}

#[test]
fn programs_with_rollbacks_keep_all_promises() {
    let first = setting("MEMORY_MODEL_FIRST_ROLLBACK", 0);
    let count = setting("MEMORY_MODEL_ROLLBACKS", 300);
    let seeds: Vec<u64> = kept(KEPT_ROLLBACKS).chain(first..first + count).collect();
    eprintln!("programs with rollbacks, seeds {first}.. and the kept ones");
    run_all(Family::Rollbacks, &seeds);
}

#[test]
fn programs_with_prompts_keep_all_promises() {
    let first = setting("MEMORY_MODEL_FIRST_PROMPTS", 0);
    let count = setting("MEMORY_MODEL_PROMPTS", 300);
    let seeds: Vec<u64> = kept(KEPT_PROMPTS).chain(first..first + count).collect();
    eprintln!("programs with prompts, seeds {first}.. and the kept ones");
    run_all(Family::Prompts, &seeds);
}

#[test]
fn programs_with_expiries_keep_all_promises() {
    let first = setting("MEMORY_MODEL_FIRST_EXPIRY", 0);
    let count = setting("MEMORY_MODEL_EXPIRIES", 75);
    let seeds: Vec<u64> = kept(KEPT_EXPIRIES).chain(first..first + count).collect();
    eprintln!("programs in which a TTL ends, seeds {first}.. and the kept ones");
    run_all(Family::Expiries, &seeds);
}

#[test]
fn programs_with_archives_keep_all_promises() {
    let first = setting("MEMORY_MODEL_FIRST_PAST", 0);
    let count = setting("MEMORY_MODEL_PAST", 200);
    let seeds: Vec<u64> = kept(KEPT_PAST).chain(first..first + count).collect();
    eprintln!("programs with archives, seeds {first}.. and the kept ones");
    run_all(Family::Past, &seeds);
}

#[test]
fn same_program_gives_the_same_trace() {
    // In the last one two leases of a process are lost at once; their order was once that of a hash map.
    let plain = (0..setting("MEMORY_MODEL_TWICE", 60)).chain([1191]).map(Program::numbered);
    let others = (0..30).map(Program::with_rollbacks).chain((0..30).map(Program::with_prompts));
    let others = others.chain((0..30).map(Program::with_past));
    for program in plain.chain(others) {
        let (one, two) = (run(&program, None), run(&program, None));
        if one.trace_hash != two.trace_hash {
            let differs = one.trace.iter().zip(&two.trace).find(|(one, two)| one != two);
            panic!("a program ran in two ways: {differs:?}\n{program:?}");
        }
    }
}

#[test]
fn failing_program_is_shrunk_and_reported_with_seed() {
    let bug = Some(Bug::CriticalEvicted);
    let number = (0..).find(|number| !run(&Program::numbered(*number), bug).violations.is_empty());
    let number = number.unwrap();
    let whole = Program::numbered(number);
    let Explained { shrunk, text } = explain(Family::Plain, number, bug).unwrap();

    let violations = run(&shrunk, bug).violations;
    assert!(!violations.is_empty(), "the shrunk program is fine:\n{text}");
    assert!(run(&shrunk, None).violations.is_empty(), "it fails without the bug:\n{text}");
    let (before, after) = (whole.count(|_| 1), shrunk.count(|_| 1));
    assert!(after < before, "{before} operations shrank to {after}:\n{text}");
    let check = format!("{:?}", violations.first().unwrap().check);
    let ways = [
        format!("MEMORY_MODEL_FIRST_SEED={number} MEMORY_MODEL_PROGRAMS=1 cargo nextest run"),
        format!("seed {}, ", shrunk.seed),
        format!("{shrunk:?}"),
        format!("check: {check}"),
        "faults end".to_owned(),
    ];
    for way in ways {
        assert!(text.contains(&way), "{way} is not in:\n{text}");
    }
    eprintln!("program {number} shrank from {before} operations to {after}");
}
