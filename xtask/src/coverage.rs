//! `cargo xtask coverage`: which share of the lines the tests reach, by crate and in all.
//!
//! The tests are those of `cargo xtask test` without the doc examples. Processes that they start count as well, except
//! killed ones, which write no data. Lines of unit tests in `src/` are counted, lines of `tests/` and `benches/` are
//! not. xtask is printed but not counted, because it mainly starts other programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::run::{cargo, command, has_subcommand, install};
use crate::test::{self, Tests};
use crate::workspace::Workspace;

const VERSION: &str = "0.9.1";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Fail if fewer than this many of a hundred lines are reached
    #[arg(long, value_name = "PERCENT", default_value_t = 90)]
    min: u64,
    /// Only print what an earlier run has measured
    #[arg(long)]
    report_only: bool,
}

/// The used parts of the output of `cargo llvm-cov report --json`.
#[derive(Debug, Deserialize)]
struct Report {
    data: Vec<Data>,
}

#[derive(Debug, Deserialize)]
struct Data {
    files: Vec<File>,
}

#[derive(Debug, Deserialize)]
struct File {
    filename: PathBuf,
    summary: Summary,
}

#[derive(Debug, Deserialize)]
struct Summary {
    lines: Lines,
}

/// How many lines there are, and how many were reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
struct Lines {
    count: u64,
    covered: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if !args.report_only {
        measure()?;
    }
    let json = cargo(["llvm-cov", "report", "--json", "--summary-only"]).read()?;
    let report: Report = serde_json::from_str(&json).context("cannot understand llvm-cov")?;
    let workspace = Workspace::load()?;
    let crates: Vec<_> = workspace.packages.iter().map(|it| (it.name.as_str(), it.dir())).collect();
    let by_crate = by_crate(&report, &crates);
    let (table, total) = table(&by_crate);
    eprint!("\n{table}");
    total.judge(args.min)
}

/// Runs the tests with counters in every line.
fn measure() -> Result<()> {
    if std::env::var_os("LLVM_COV").is_none() {
        // A machine without rustup may have the tools; cargo-llvm-cov reports it if not.
        if let Err(error) = command("rustup", ["component", "add", "llvm-tools"]).run() {
            eprintln!("{error:#}");
        }
    }
    install("llvm-cov", "cargo-llvm-cov", VERSION)?;
    ensure!(
        has_subcommand("nextest"),
        "cargo-nextest is not installed (cargo install --locked cargo-nextest)"
    );
    // Otherwise the counts of an earlier run would be added.
    cargo(["llvm-cov", "clean", "--workspace"]).run()?;
    let args = test::Args::default();
    let tests = Tests::plan(&args)?;
    let result = tests.covered().run();
    result.and(tests.tell_what_is_missing())
}

/// Adds up the files of each crate. A crate may be nested in another: the innermost counts.
fn by_crate<'a>(report: &Report, crates: &[(&'a str, &Path)]) -> BTreeMap<&'a str, Lines> {
    let mut by_crate: BTreeMap<&str, Lines> = BTreeMap::new();
    for file in report.data.iter().flat_map(|data| &data.files) {
        let owners = crates.iter().filter(|(_, dir)| file.filename.starts_with(dir));
        if let Some((name, _)) = owners.max_by_key(|(_, dir)| dir.components().count()) {
            by_crate.entry(name).or_default().add(file.summary.lines);
        }
    }
    by_crate
}

/// The table, and the sum of what counts.
fn table(by_crate: &BTreeMap<&str, Lines>) -> (String, Lines) {
    let mut table = String::new();
    let mut total = Lines::default();
    let width = by_crate.keys().map(|name| name.len()).max().unwrap_or(0);
    let row = |name: &str, lines: Lines| {
        let Lines { count, covered } = lines;
        format!("{name:width$}  {covered:>6} of {count:>6} lines  {:>5.1} %", lines.percent())
    };
    for (name, &lines) in by_crate {
        let is_counted = *name != "xtask";
        if is_counted {
            total.add(lines);
        }
        let note = if is_counted { "" } else { "  (not counted)" };
        table.push_str(&format!("{}{note}\n", row(name, lines)));
    }
    table.push_str(&format!("{}\n", row("total", total)));
    (table, total)
}

impl Lines {
    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.covered += other.covered;
    }

    fn percent(self) -> f64 {
        // So few lines are exact as floats. No line at all is no proof of anything.
        if self.count == 0 { 0.0 } else { self.covered as f64 * 100.0 / self.count as f64 }
    }

    fn judge(self, min: u64) -> Result<()> {
        ensure!(self.count > 0, "no line was counted");
        ensure!(
            self.covered * 100 >= min * self.count,
            "the tests reach {:.1} % of the lines, and {min} % are wanted",
            self.percent()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"{"data": [{"files": [
        {"filename": "/w/a/src/lib.rs", "summary": {"lines": {"count": 10, "covered": 9, "percent": 90.0}}},
        {"filename": "/w/a/src/b.rs", "summary": {"lines": {"count": 10, "covered": 10}}},
        {"filename": "/w/a/kit/src/lib.rs", "summary": {"lines": {"count": 5, "covered": 0}}},
        {"filename": "/w/xtask/src/main.rs", "summary": {"lines": {"count": 50, "covered": 0}}},
        {"filename": "/elsewhere/lib.rs", "summary": {"lines": {"count": 7, "covered": 0}}}
    ], "totals": {}}], "type": "llvm.coverage.json.export"}"#;

    fn lines(covered: u64, count: u64) -> Lines {
        Lines { count, covered }
    }

    #[test]
    fn files_are_added_up_by_the_innermost_crate() {
        let report = serde_json::from_str(REPORT).expect("a report");
        let crates = [("a", "/w/a"), ("kit", "/w/a/kit"), ("xtask", "/w/xtask")];
        let crates = crates.map(|(name, dir)| (name, Path::new(dir)));
        let by_crate = by_crate(&report, &crates);
        let expected = [("a", lines(19, 20)), ("kit", lines(0, 5)), ("xtask", lines(0, 50))];
        assert_eq!(by_crate, BTreeMap::from(expected));

        let (table, total) = table(&by_crate);
        assert_eq!(total, lines(19, 25), "xtask is not counted");
        assert!(table.contains("95.0 %") && table.contains("76.0 %"), "{table}");
    }

    #[test]
    fn less_than_is_wanted_is_a_failure() {
        assert!(lines(90, 100).judge(90).is_ok());
        assert!(lines(899, 1000).judge(90).is_err(), "it is not rounded up");
        assert!(lines(0, 0).judge(0).is_err(), "nothing was measured");
    }
}
