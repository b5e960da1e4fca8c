//! `cargo xtask lint`: looks at everything and writes nothing (but build artifacts).

use std::fs;

use anyhow::{Result, ensure};
use clap::builder::PossibleValuesParser;

use crate::features::Forms;
use crate::run::cargo;
use crate::servers::CONTAINER_TESTS;
use crate::steps::{Outcome, Steps, Strictness};
use crate::workspace::Workspace;
use crate::{
    adapters, alerts, features, layers, licenses, neighbors, package, prose, spelling, unused,
    waits,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run only these steps
    #[arg(value_name = "STEP", value_parser = PossibleValuesParser::new(names()))]
    only: Vec<String>,
    /// Fail when something could not be checked because a tool is missing
    #[arg(long)]
    strict: bool,
}

type Step = (&'static str, fn() -> Result<Outcome>);

/// The quick steps first, so that easy fixes are reported early.
const STEPS: [Step; 14] = [
    ("fmt", fmt),
    ("prose", prose::check),
    ("typos", spelling::check),
    ("waits", waits::check),
    ("alerts", alerts::check),
    ("layers", layers::check),
    ("unused", unused::check),
    ("licenses", licenses::check),
    ("panics", panics),
    ("package", package::check),
    ("neighbors", neighbors::check),
    ("clippy", clippy),
    ("doc", doc),
    ("features", || features::check(Forms::All)),
];

/// Only where it is named, or everything is to be checked: it compiles 150 crates that nothing else
/// needs.
const CONTAINERS: Step = ("containers", containers);

/// The same for the adapters.
const ADAPTERS: Step = ("adapters", adapters::lint);

fn names() -> impl Iterator<Item = &'static str> {
    STEPS.iter().chain([&CONTAINERS, &ADAPTERS]).map(|step| step.0)
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut steps = Steps::default();
    run_steps(&mut steps, &args.only);
    steps.finish(Strictness::from(args.strict))
}

/// Runs all steps of CI: of the forms of crates only three without features, because each form compiles its dependencies
/// anew.
pub(crate) fn run_in_ci(steps: &mut Steps) {
    for (name, check) in STEPS {
        match name {
            "features" => steps.step(name, || features::check(Forms::Bare)),
            _ => steps.step(name, check),
        }
    }
}

/// Runs the named steps, or when none is named all except the tests on containers and the adapters.
pub(crate) fn run_steps(steps: &mut Steps, only: &[String]) {
    let is_named = |name| only.iter().any(|wanted| wanted == name);
    for (name, check) in STEPS {
        if only.is_empty() || is_named(name) {
            steps.step(name, check);
        }
    }
    if is_named(CONTAINERS.0) {
        run_containers(steps);
    }
    if is_named(ADAPTERS.0) {
        run_adapters(steps);
    }
}

/// Checks the adapters.
pub(crate) fn run_adapters(steps: &mut Steps) {
    let (name, check) = ADAPTERS;
    steps.step(name, check);
}

/// Checks the tests on containers.
pub(crate) fn run_containers(steps: &mut Steps) {
    let (name, check) = CONTAINERS;
    steps.step(name, check);
}

fn fmt() -> Result<Outcome> {
    cargo(["fmt", "--all", "--", "--check"]).run()?;
    adapters::format().args(["--", "--check"]).run()?;
    Ok(Outcome::Passed)
}

/// Lints of libraries and programs, which tests, benches and examples need not keep.
///
/// Errors are values: no input, file, key or answer may panic the process. And only the command prints.
const OUTSIDE_TESTS: [&str; 7] = [
    "clippy::unwrap_used",
    "clippy::expect_used",
    "clippy::indexing_slicing",
    "clippy::panic",
    "clippy::string_slice",
    "clippy::print_stdout",
    "clippy::print_stderr",
];

fn clippy() -> Result<Outcome> {
    // The `default-members`: all but the tests on containers.
    cargo(["clippy", "--all-targets", "--all-features", "--", "-D", "warnings"]).run()?;
    Ok(Outcome::Passed)
}

/// Checks that the root of each library and program turns these lints on, outside of its tests. A table in a manifest
/// cannot name targets, and a separate run of clippy would compile everything again.
fn panics() -> Result<Outcome> {
    let attribute = format!("#![cfg_attr(not(test),warn({}))]", OUTSIDE_TESTS.join(","));
    let members = Workspace::load()?;
    let folders = members.packages.iter().map(|package| package.dir().to_owned());
    let mut missing = Vec::new();
    for folder in folders.chain(adapters::folders()?) {
        for root in ["src/lib.rs", "src/main.rs"].map(|root| folder.join(root)) {
            let Ok(text) = fs::read_to_string(&root) else { continue };
            if !text.split_whitespace().collect::<String>().contains(&attribute) {
                missing.push(root.display().to_string());
            }
        }
    }
    ensure!(missing.is_empty(), "write {attribute} into: {}", missing.join(" "));
    Ok(Outcome::Passed)
}

fn containers() -> Result<Outcome> {
    cargo(["clippy", "--package", CONTAINER_TESTS, "--all-targets", "--no-deps"])
        .args(["--", "-D", "warnings"])
        .run()?;
    Ok(Outcome::Passed)
}

fn doc() -> Result<Outcome> {
    cargo(["doc", "--no-deps", "--all-features"]).env("RUSTDOCFLAGS", "-D warnings").run()?;
    Ok(Outcome::Passed)
}
