//! `cargo xtask ci`: what `.ci/run` runs. All steps run although one fails; the last lines tell
//! what took how long and how many tests passed.

use anyhow::Result;

use crate::servers::Way;
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
    // Where Docker answers its tests run; where it does not, there is nothing to be had by failing.
    let everything = test::Args::requiring(vec![Way::Redis]);
    lint::run_steps(&mut steps, &[]);
    let tests = test::Tests::plan(&everything)?;
    steps.step("test", || {
        tests.run(&mut tally)?;
        Ok(Outcome::Passed)
    });
    steps.step("doc tests", || {
        tests.run_docs(&mut tally)?;
        Ok(Outcome::Passed)
    });
    steps.step("all ways", || {
        tests.tell_what_is_missing()?;
        Ok(Outcome::Passed)
    });
    let result = steps.finish(Strictness::from_flag(args.strict));
    eprintln!("\n{tally}");
    result
}
