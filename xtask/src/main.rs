//! The project's commands: `cargo xtask lint`, `fix`, `test`, `bench`, `ci`, `layers`, `mutants`, `coverage`,
//! `semver`, `api`.
//!
//! People and `.ci/run` run the same commands. `main.rs` contains the command line, and each command has a separate
//! file. `run.rs` starts processes, `steps.rs` times steps and prints their results, `workspace.rs` asks cargo for the
//! members of the workspace.

#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::print_stdout,
        clippy::print_stderr
    )
)]
#![expect(clippy::print_stderr, reason = "a command line tool talks to its terminal")]

mod adapters;
mod alerts;
mod api;
mod bench;
mod ci;
mod coverage;
mod features;
mod fix;
mod layers;
mod licenses;
mod lint;
mod mutants;
mod neighbors;
mod package;
mod prose;
mod run;
mod semver;
mod servers;
mod spelling;
mod steps;
mod test;
mod unused;
mod waits;
mod workspace;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  cargo xtask lint                      all checks of form
  cargo xtask lint fmt clippy           only these steps
  cargo xtask fix                       format, and apply the fixes of clippy
  cargo xtask test                      every test and doc example of the workspace
  cargo xtask test -p memory-core       one crate
  cargo xtask test -- stale_writer      tests whose name contains this text
  cargo xtask test --containers         the tests on containers too
  cargo xtask test --deep               with those, the adapters, ten or more times as many random programs, new ones each
                                        time, and calls dropped at each of their polls
  cargo xtask test --require redis,docker
                                        fail if tests on servers or containers could not be run
  cargo xtask bench memory-lock         the criterion benches of one crate
  cargo xtask ci                        all that CI runs: lint, then test, with timings
  cargo xtask ci --deep                 the same with all that takes long
  cargo xtask coverage                  which share of the lines the tests reach
  cargo xtask mutants -p memory-flush   which changes of one crate's code no test notices
  cargo xtask semver --baseline-rev v1  whether versions allow the changes of the public API since then
  cargo xtask api --since v1            the changes of the public API since then

Only mutants and coverage need an installed tool, and install it; semver and api say which one they need.
cargo-nextest, typos and promtool are used if they are installed.
Checks that could not be made, because a registry does not answer, are printed.

Tests on Redis take the server of MEMORY_TEST_REDIS_URL (under separate keys), else redis-server
or valkey-server on the PATH (or MEMORY_TEST_REDIS_SERVER), else install one where they may
(--no-install forbids it), else the run fails when all other tests have run. Tests on containers run if
they are asked for and Docker answers, with the image MEMORY_TEST_REDIS_IMAGE, redis:7-local or redis:7-alpine.";

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "The project's lint, test and bench commands",
    after_help = EXAMPLES,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check format, prose, lints, docs, layers, features, dependencies, packages; never writes sources
    Lint(lint::Args),
    /// Format the sources and apply clippy's suggestions
    Fix,
    /// Run all tests and doc examples
    Test(test::Args),
    /// Run criterion benches: all, or those of one crate, one bench file or one name filter
    Bench(bench::Args),
    /// Run lint and test as CI does, and print what took how long
    Ci(ci::Args),
    /// Change the pure crates, and the pure files of memory-lock, in one place after another and print the changes
    /// that no test detected
    ///
    /// Not part of `ci`: every change is built and tested separately. Installs cargo-mutants if it is missing.
    Mutants(mutants::Args),
    /// Run all tests and print which share of the lines they reach, by crate
    ///
    /// Not part of `ci`, whose tests it would run a second time. Installs cargo-llvm-cov if it is missing.
    Coverage(coverage::Args),
    /// Check whether the versions of the published crates allow their changes of the public API
    ///
    /// Not part of `ci`. Needs cargo-semver-checks. The baseline is the newest release or `--baseline-rev`.
    Semver(semver::Args),
    /// Print the public API of the published crates, or its changes since a commit or a release
    ///
    /// Not part of `ci`. Needs cargo-public-api and a nightly toolchain.
    Api(api::Args),
    /// Check that crates depend downwards only and that the pure crates stay pure
    Layers,
}

fn main() -> ExitCode {
    match dispatch(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask must be one folder below the workspace root")?;
    std::env::set_current_dir(root)
        .with_context(|| format!("cannot enter the workspace root {}", root.display()))?;
    match cli.command {
        Command::Lint(args) => lint::run(&args),
        Command::Fix => fix::run(),
        Command::Test(args) => test::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Ci(args) => ci::run(&args),
        Command::Mutants(args) => mutants::run(&args),
        Command::Coverage(args) => coverage::run(&args),
        Command::Semver(args) => semver::run(&args),
        Command::Api(args) => api::run(&args),
        Command::Layers => layers::check().map(drop),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
