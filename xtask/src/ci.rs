//! `cargo xtask ci`: what `.ci/run` runs. All steps run although one fails; the last lines tell
//! what took how long and how many tests passed.

use anyhow::Result;

use crate::steps::{Outcome, Steps, Strictness};
use crate::{lint, test};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Fail when something could not be checked because a tool is missing
    #[arg(long)]
    strict: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut steps = Steps::default();
    let mut tally = test::Tally::default();
    let everything = test::Args::default();
    lint::run_steps(&mut steps, &[]);
    steps.step("test", || {
        test::run_tests(&everything, &mut tally)?;
        Ok(Outcome::Passed)
    });
    steps.step("doc tests", || {
        test::run_docs(&everything, &mut tally)?;
        Ok(Outcome::Passed)
    });
    test::tell_what_is_missing();
    let result = steps.finish(Strictness::from_flag(args.strict));
    eprintln!("\n{tally}");
    result
}
