//! The explanation of a failing program.

use proptest::strategy::Strategy;
use proptest::test_runner::{TestCaseError, TestError};

use crate::bug::Bug;
use crate::program::{Family, Program, expiries, past, program, prompts, rollbacks, runner};
use crate::run::run;

/// A failing program, shrunk.
#[derive(Debug)]
pub struct Explained {
    /// The smaller program.
    pub shrunk: Program,
    /// Its operations, the violation, and the command to repeat it.
    pub text: String,
}

/// Shrinks the program with this number, and explains how to repeat it; `None` if it does not fail.
#[must_use]
pub fn explain(family: Family, number: u64, bug: Option<Bug>) -> Option<Explained> {
    match family {
        Family::Plain => shrink(&program(), family, number, bug),
        Family::Rollbacks => shrink(&rollbacks(), family, number, bug),
        Family::Prompts => shrink(&prompts(), family, number, bug),
        Family::Expiries => shrink(&expiries(), family, number, bug),
        Family::Past => shrink(&past(), family, number, bug),
    }
}

fn shrink(
    programs: &impl Strategy<Value = Program>,
    family: Family,
    number: u64,
    bug: Option<Bug>,
) -> Option<Explained> {
    let (kept, first, count) = match family {
        Family::Plain => ("kept-seeds", "MEMORY_MODEL_FIRST_SEED", "MEMORY_MODEL_PROGRAMS"),
        Family::Rollbacks => {
            ("kept-rollback-seeds", "MEMORY_MODEL_FIRST_ROLLBACK", "MEMORY_MODEL_ROLLBACKS")
        }
        Family::Prompts => {
            ("kept-prompt-seeds", "MEMORY_MODEL_FIRST_PROMPTS", "MEMORY_MODEL_PROMPTS")
        }
        Family::Expiries => {
            ("kept-expiry-seeds", "MEMORY_MODEL_FIRST_EXPIRY", "MEMORY_MODEL_EXPIRIES")
        }
        Family::Past => ("kept-past-seeds", "MEMORY_MODEL_FIRST_PAST", "MEMORY_MODEL_PAST"),
    };
    let tree = programs.new_tree(&mut runner(number)).ok()?;
    let fails = |program: Program| {
        let first = run(&program, bug).violations.into_iter().next();
        first.map_or(Ok(()), |first| Err(TestCaseError::fail(format!("{first:?}"))))
    };
    let Err(TestError::Fail(reason, shrunk)) = runner(number).run_one(tree, fails) else {
        return None;
    };
    let mut text = format!(
        "program {number} breaks a promise; keep it in tests/{kept}.txt\n\
         {first}={number} {count}=1 \
         cargo nextest run -p memory-testkit --test programs\n{reason}\n\
         in {shrunk:?}what happened:\n"
    );
    for line in run(&shrunk, bug).trace {
        text.push_str("  ");
        text.push_str(&line);
        text.push('\n');
    }
    Some(Explained { shrunk, text })
}
