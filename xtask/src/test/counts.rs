//! The number of tests that ran, from the output of the test runners.

use std::fmt;

use anyhow::Result;

use crate::run::Cmd;

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

/// The number of tests in what `cargo test -- --list` prints whose names contain one of these parts.
pub(super) fn count_listed(list: &str, parts: &[&str]) -> u64 {
    let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
    names.filter(|name| parts.iter().any(|part| name.contains(part))).count() as u64
}

/// The number of tests in what `nextest list` prints as JSON.
pub(super) fn count_list(list: &str) -> Option<u64> {
    let list: serde_json::Value = serde_json::from_str(list).ok()?;
    let suites = list.get("rust-suites")?.as_object()?.values();
    let tests = suites.filter_map(|suite| suite.get("testcases")?.as_object()).flatten();
    let matches = tests.filter(|(_, test)| {
        test.pointer("/filter-match/status").and_then(|it| it.as_str()) == Some("matches")
    });
    Some(matches.count() as u64)
}

/// Adds the counts of a run. A run that failed although no test did has not run them all, and one
/// that succeeded without counts proves nothing.
pub(super) fn conclude(run: Result<()>, counts: Result<Tally>, tally: &mut Tally) -> Result<()> {
    let found = counts.as_ref().copied().unwrap_or_default();
    tally.add(found);
    tally.incomplete |= counts.is_err() || (run.is_err() && found.failed == 0);
    run.and(counts.map(drop))
}

pub(crate) fn count_libtest(cmd: &Cmd, tally: &mut Tally) -> Result<()> {
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
pub(super) fn count_junit(report: &str) -> Option<Tally> {
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

/// The number of slow tests to print.
const SLOWEST: usize = 10;

/// The slowest tests in nextest's JUnit report, and the total time.
pub(super) fn slowest(report: &str) -> String {
    let mut tests: Vec<(f64, String)> = report
        .split("<testcase ")
        .skip(1)
        .filter_map(|test| {
            let attributes = test.split_once('>')?.0;
            let value = |name: &str| {
                let (_, value) = attributes.split_once(&format!("{name}=\""))?;
                Some(value.split_once('"')?.0)
            };
            let time = value("time")?.parse().ok()?;
            Some((time, format!("{} {}", value("classname")?, value("name")?)))
        })
        .collect();
    tests.sort_by(|one, other| other.0.total_cmp(&one.0));
    let total: f64 = tests.iter().map(|(time, _)| time).sum();
    let rows = tests.iter().take(SLOWEST).map(|(time, name)| format!("{time:>8.1} s  {name}\n"));
    format!("{}{total:>8.1} s  in all, in {} tests\n", rows.collect::<String>(), tests.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::Hidden;

    #[test]
    fn the_slowest_tests_come_first() {
        let report = r#"<testsuites tests="2"><testsuite name="a" tests="2" time="9">
            <testcase name="quick" classname="a::b" timestamp="x" time="0.5"></testcase>
            <testcase name="slow" classname="a::b" timestamp="x" time="3.25"/>"#;
        let lines: Vec<_> = slowest(report).lines().map(|line| line.trim().to_owned()).collect();
        assert_eq!(lines, ["3.2 s  a::b slow", "0.5 s  a::b quick", "3.8 s  in all, in 2 tests"]);
    }

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
    fn listed_test_counts_if_requested() {
        let list = r#"{"test-count": 3, "rust-suites": {
            "a": {"testcases": {
                "x": {"filter-match": {"status": "matches"}},
                "y": {"filter-match": {"status": "mismatch", "reason": "expression"}}
            }},
            "b": {"testcases": {"x": {"filter-match": {"status": "matches"}}}}
        }}"#;
        assert_eq!(count_list(list), Some(2));
        assert_eq!(count_list("{}"), None);
    }

    #[test]
    fn listed_tests_are_counted_by_module() {
        let list = "a::on_redis::x: test\na::on_redis_servers::x: test\non_redis: test\n\n3 tests";
        assert_eq!(count_listed(list, &[""]), 3);
        assert_eq!(count_listed(list, Hidden::AnyServer.modules()), 2);
        assert_eq!(count_listed(list, Hidden::OwnServers.modules()), 1);
        assert_eq!(count_listed(list, &[]), 0);
    }

    #[test]
    fn a_tally_ends_a_run_in_one_line() {
        let mut tally = counts(5, 0);
        assert_eq!(tally.to_string(), "5 passed, 0 failed");
        tally.add(Tally { ignored: 2, ..counts(1, 1) });
        assert_eq!(tally.to_string(), "6 passed, 1 failed, 2 ignored");
    }

    #[test]
    fn skipped_tests_are_not_reported_as_passed() {
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
