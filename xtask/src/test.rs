//! `cargo xtask test`: every test and every doc example of the workspace, all features on.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::run::{Cmd, cargo, has_subcommand};
use crate::workspace::Workspace;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Test only this crate; may be given several times
    #[arg(short, long, value_name = "CRATE")]
    package: Vec<String>,
    /// Build with optimisation
    #[arg(long)]
    release: bool,
    /// What follows `--` goes to the test runner, such as a part of a test's name; doc examples are
    /// left out then
    #[arg(last = true, value_name = "ARGS")]
    rest: Vec<String>,
}

/// Where the real conversations lie that some tests read.
const CONVERSATIONS: &str = "../shared/data/conversations";

/// How many tests ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Some tests were not counted, because they did not build or their run broke off.
    incomplete: bool,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.incomplete {
            f.write_str("incomplete, for not all tests could be run: ")?;
        }
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.ignored > 0 { write!(f, ", {} ignored", self.ignored) } else { Ok(()) }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut tally = Tally::default();
    let tests = run_tests(args, &mut tally);
    // Doc examples are run although a test failed: one run shows all there is to mend.
    let docs = if args.rest.is_empty() { run_docs(args, &mut tally) } else { Ok(()) };
    tell_what_is_missing();
    eprintln!("\n{tally}");
    tests.and(docs)
}

/// What could not be tried on this machine.
pub(crate) fn tell_what_is_missing() {
    if !Path::new(CONVERSATIONS).is_dir() {
        eprintln!("not run: tests on real conversations ({CONVERSATIONS} is not there)");
    }
}

/// Unit and integration tests, by cargo-nextest where it is there.
pub(crate) fn run_tests(args: &Args, tally: &mut Tally) -> Result<()> {
    if !has_subcommand("nextest") {
        eprintln!("cargo-nextest is not installed; `cargo test` runs the same tests, more slowly");
        // `--tests` stands for libraries and binaries too.
        let tests = with_selection(cargo(["test", "--no-fail-fast", "--tests"]), args);
        return count_libtest(&tests.args(["--"]).args(args.rest.iter().cloned()), tally);
    }
    let profile = if std::env::var_os("CI").is_some() { "ci" } else { "default" };
    let tests = with_selection(cargo(["nextest", "run", "--profile", profile]), args);
    // Nextest keeps it below the workspace root, wherever `CARGO_TARGET_DIR` points.
    let report = Path::new("target/nextest").join(profile).join("junit.xml");
    // A report of an earlier run must not be counted.
    let _ = fs::remove_file(&report);
    let result = tests.args(args.rest.iter().cloned()).run();
    let counts = fs::read_to_string(&report)
        .with_context(|| format!("nextest left no report at {}", report.display()))
        .and_then(|text| count_junit(&text).context("cannot understand nextest's report"));
    conclude(result, counts, tally)
}

/// Adds the counts of a run. A run that failed although no test did has not run them all, and one
/// that succeeded without counts proves nothing.
fn conclude(run: Result<()>, counts: Result<Tally>, tally: &mut Tally) -> Result<()> {
    let found = counts.as_ref().copied().unwrap_or_default();
    tally.add(found);
    tally.incomplete |= counts.is_err() || (run.is_err() && found.failed == 0);
    run.and(counts.map(drop))
}

/// The examples in the documentation, which nextest does not run.
pub(crate) fn run_docs(args: &Args, tally: &mut Tally) -> Result<()> {
    let workspace = Workspace::load()?;
    let lacks_lib = |name: &String| workspace.find(name).is_some_and(|p| !p.has_target("lib"));
    if !args.package.is_empty() && args.package.iter().all(lacks_lib) {
        return Ok(());
    }
    count_libtest(&with_selection(cargo(["test", "--no-fail-fast", "--doc"]), args), tally)
}

fn with_selection(cmd: Cmd, args: &Args) -> Cmd {
    let packages = args.package.iter().flat_map(|name| ["--package", name.as_str()]);
    let cmd = if args.package.is_empty() { cmd.args(["--workspace"]) } else { cmd.args(packages) };
    let cmd = cmd.args(["--all-features"]);
    if args.release { cmd.args(["--release"]) } else { cmd }
}

fn count_libtest(cmd: &Cmd, tally: &mut Tally) -> Result<()> {
    let mut counts = Tally::default();
    let run = cmd.run_watched(|line| counts.add(libtest_counts(line).unwrap_or_default()))?;
    conclude(run, Ok(counts), tally)
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.incomplete |= other.incomplete;
    }
}

/// The counts in a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
fn libtest_counts(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |what: &str| {
        counts.split("; ").find_map(|part| part.strip_suffix(what)?.trim_end().parse().ok())
    };
    Some(Tally {
        passed: count("passed")?,
        failed: count("failed")?,
        ignored: count("ignored")?,
        incomplete: false,
    })
}

/// The counts in nextest's JUnit report: attributes of its first element.
fn count_junit(report: &str) -> Option<Tally> {
    let (_, after) = report.split_once("<testsuites ")?;
    let (attributes, _) = after.split_once('>')?;
    let count = |name: &str| -> Option<u64> {
        let (_, value) = attributes.split_once(&format!("{name}=\""))?;
        value.split_once('"')?.0.parse().ok()
    };
    let failed = count("failures")? + count("errors")?;
    let passed = count(" tests")?.checked_sub(failed)?;
    Some(Tally { passed, failed, ..Tally::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, failed: u64) -> Tally {
        Tally { passed, failed, ..Tally::default() }
    }

    #[test]
    fn libtest_results_are_counted() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.00s";
        assert_eq!(
            libtest_counts(line),
            Some(Tally { passed: 3, failed: 2, ignored: 1, incomplete: false })
        );
        assert_eq!(libtest_counts("test a::b ... ok"), None);
    }

    #[test]
    fn nextest_reports_are_counted() {
        let report = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="7" failures="1" errors="1" uuid="x" time="0.1">
    <testsuite name="a" tests="7" disabled="0" errors="1" failures="1">"#;
        assert_eq!(count_junit(report), Some(counts(5, 2)));
        assert_eq!(count_junit("<testsuites>"), None);
    }

    #[test]
    fn a_tally_ends_a_run_in_one_line() {
        let mut tally = counts(5, 0);
        assert_eq!(tally.to_string(), "5 passed, 0 failed");
        tally.add(Tally { ignored: 2, ..counts(1, 1) });
        assert_eq!(tally.to_string(), "6 passed, 1 failed, 2 ignored");
    }

    #[test]
    fn what_did_not_run_is_not_told_as_a_success() {
        let broken = || Err(anyhow::anyhow!("broken"));
        let concluded = |run, counts| {
            let mut tally = Tally::default();
            (conclude(run, counts, &mut tally).is_ok(), tally.incomplete)
        };
        assert_eq!(concluded(Ok(()), Ok(counts(1, 0))), (true, false));
        assert_eq!(concluded(broken(), Ok(counts(1, 1))), (false, false));
        assert_eq!(concluded(broken(), Ok(counts(1, 0))), (false, true));
        assert_eq!(concluded(Ok(()), broken().map(|()| counts(0, 0))), (false, true));
        let tally = Tally { incomplete: true, ..counts(7, 0) };
        assert_eq!(
            tally.to_string(),
            "incomplete, for not all tests could be run: 7 passed, 0 failed"
        );
    }
}
