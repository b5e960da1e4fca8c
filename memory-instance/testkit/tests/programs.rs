//! Random programs keep all promises, and the same program always runs in the same way.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, in its helpers too, and tells what it did"
)]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use memory_testkit::{Outcome, Program, program, run, runner};
use proptest::strategy::Strategy;
use proptest::test_runner::{TestCaseError, TestError};

/// Seeds of programs that once failed, one a line.
const KEPT: &str = include_str!("kept-seeds.txt");

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text}")),
        Err(_) => default,
    }
}

fn kept() -> impl Iterator<Item = u64> {
    KEPT.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok())
}

/// Shrinks a program that fails, and says how to run it again.
fn explain(number: u64) -> String {
    let tree = program().new_tree(&mut runner(number)).unwrap();
    let fails = |program: Program| {
        let Outcome { violations, .. } = run(&program, None);
        let first = violations.into_iter().next();
        first.map_or(Ok(()), |first| Err(TestCaseError::fail(format!("{first:?}"))))
    };
    match runner(number).run_one(tree, fails) {
        Err(TestError::Fail(reason, shrunk)) => {
            let mut text = format!(
                "program {number} breaks a promise; keep it in tests/kept-seeds.txt\n\
                 MEMORY_MODEL_FIRST_SEED={number} MEMORY_MODEL_PROGRAMS=1 \
                 cargo nextest run -p memory-testkit --test programs\n{reason}\n\
                 in {shrunk:?}what happened:\n"
            );
            for line in run(&shrunk, None).trace {
                text.push_str("  ");
                text.push_str(&line);
                text.push('\n');
            }
            text
        }
        other => format!("program {number} failed, and then did not: {other:?}"),
    }
}

#[test]
fn random_programs_keep_all_promises() {
    let first = setting("MEMORY_MODEL_FIRST_SEED", 0);
    let count = setting("MEMORY_MODEL_PROGRAMS", 10_000);
    let seeds: Vec<u64> = kept().chain(first..first + count).collect();
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
                    let outcome = run(&Program::numbered(*number), None);
                    if !outcome.violations.is_empty() {
                        failed.lock().unwrap().get_or_insert(*number);
                        break;
                    }
                    *mine.entry("programs").or_default() += 1;
                    *mine.entry("operations").or_default() += outcome.operations as u64;
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
        panic!("{}", explain(number));
    }
    eprintln!("{:?}, of seeds {first}.. and the kept ones", totals.into_inner().unwrap());
}

#[test]
fn the_same_program_runs_in_the_same_way() {
    for number in 0..300 {
        let program = Program::numbered(number);
        let (one, two) = (run(&program, None), run(&program, None));
        if one.trace_hash != two.trace_hash {
            let differs = one.trace.iter().zip(&two.trace).find(|(one, two)| one != two);
            panic!("program {number} ran in two ways: {differs:?}\n{program:?}");
        }
    }
}
