//! `cargo xtask lint`: looks at everything and writes nothing (but build artefacts).

use anyhow::Result;
use clap::builder::PossibleValuesParser;

use crate::run::{cargo, has_subcommand};
use crate::steps::{Outcome, Steps, Strictness};
use crate::{features, layers, package, unused};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run only these steps
    #[arg(value_name = "STEP", value_parser = PossibleValuesParser::new(STEPS.map(|step| step.0)))]
    only: Vec<String>,
    /// Fail when something could not be checked because a tool is missing
    #[arg(long)]
    strict: bool,
}

type Step = (&'static str, fn() -> Result<Outcome>);

/// The quick ones first, so that what is easily mended is seen early.
const STEPS: [Step; 8] = [
    ("fmt", fmt),
    ("layers", layers::check),
    ("unused", unused::check),
    ("licences", licences),
    ("clippy", clippy),
    ("doc", doc),
    ("features", features::check),
    ("package", package::check),
];

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut steps = Steps::default();
    run_steps(&mut steps, &args.only);
    steps.finish(Strictness::from_flag(args.strict))
}

/// Runs the named steps, or all when none is named.
pub(crate) fn run_steps(steps: &mut Steps, only: &[String]) {
    for (name, check) in STEPS {
        if only.is_empty() || only.iter().any(|wanted| wanted == name) {
            steps.step(name, check);
        }
    }
}

fn fmt() -> Result<Outcome> {
    cargo(["fmt", "--all", "--", "--check"]).run()?;
    Ok(Outcome::Passed)
}

fn clippy() -> Result<Outcome> {
    cargo(["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"])
        .run()?;
    Ok(Outcome::Passed)
}

fn doc() -> Result<Outcome> {
    cargo(["doc", "--workspace", "--no-deps", "--all-features"])
        .env("RUSTDOCFLAGS", "-D warnings")
        .run()?;
    Ok(Outcome::Passed)
}

/// Licences, banned crates and sources of all dependencies, by `deny.toml`.
fn licences() -> Result<Outcome> {
    if !has_subcommand("deny") {
        return Ok(Outcome::NotChecked(
            "cargo-deny is not installed (cargo install --locked cargo-deny)".into(),
        ));
    }
    cargo(["deny", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]).run()?;
    Ok(Outcome::Passed)
}
