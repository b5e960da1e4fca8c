//! `cargo xtask ci`: the command of `.ci/run`. All steps run even if one fails; the last lines show the durations of
//! tests and steps and the number of passed tests.

use anyhow::Result;

use crate::servers::Way;
use crate::steps::{Outcome, Steps, Strictness};
use crate::{adapters, lint, run, test};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Fail when something could not be checked, because a tool is missing or a registry does not answer
    #[arg(long)]
    strict: bool,
    /// Also run what takes long: whole cancellation sweeps, ten or more times as many programs of the
    /// concurrency models, each crate with each of its features alone, the demo with the features of `cargo demo`, the
    /// adapters, and the tests on containers, which are then checked by clippy too
    #[arg(long)]
    deep: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    run::save_compile_time_if_fresh();
    let mut steps = Steps::default();
    let mut tally = test::Tally::default();
    let mut everything = test::Args::requiring(vec![Way::Redis]);
    everything.deep = args.deep;
    if args.deep {
        lint::run_steps(&mut steps, &[]);
        lint::run_containers(&mut steps);
        lint::run_adapters(&mut steps);
    } else {
        lint::run_in_ci(&mut steps);
    }
    let tests = test::Tests::plan(&everything)?;
    // A separate step, so that the time of the tests does not include compilation.
    steps.step("compile tests", || {
        tests.compile()?;
        Ok(Outcome::Passed)
    });
    steps.step("test", || {
        tests.run(&mut tally)?;
        Ok(Outcome::Passed)
    });
    steps.step("doc tests", || {
        tests.run_docs(&mut tally)?;
        Ok(Outcome::Passed)
    });
    if args.deep {
        // With the features of `cargo demo`, which compile much again; the tests run the demo with all features.
        steps.step("demo", || {
            run::cargo(["run", "--package", "memory-cli", "--no-default-features", "--", "demo"])
                .run()?;
            Ok(Outcome::Passed)
        });
        steps.step("test adapters", || adapters::test(&mut tally));
    }
    steps.step("all ways", || {
        tests.tell_what_is_missing()?;
        Ok(Outcome::Passed)
    });
    let result = steps.finish(Strictness::from(args.strict));
    eprintln!("\n{tally}");
    result
}
