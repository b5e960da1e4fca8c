//! A run of named steps: each is timed, all are run, and a table at the end shows the results.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The result of a step that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything was checked and is correct.
    Passed,
    /// A tool is missing. The text says which checks were not made, and how to get the tool.
    NotChecked(String),
}

/// How to treat steps that could not be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// They are only printed.
    Lenient,
    /// They are failures.
    Strict,
}

impl From<bool> for Strictness {
    fn from(strict: bool) -> Self {
        if strict { Self::Strict } else { Self::Lenient }
    }
}

#[derive(Debug)]
struct Row {
    name: &'static str,
    result: Result<Outcome>,
    time: Duration,
}

/// The steps that have been run so far.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    rows: Vec<Row>,
}

impl Steps {
    /// Runs a step. A failure is printed at once, and the later steps still run, so that one run shows all failures.
    pub(crate) fn step(&mut self, name: &'static str, body: impl FnOnce() -> Result<Outcome>) {
        eprintln!("\n== {name}");
        let start = now();
        let result = body();
        let time = start.elapsed();
        match &result {
            Ok(Outcome::Passed) => {}
            Ok(Outcome::NotChecked(what)) => eprintln!("NOT CHECKED: {what}"),
            Err(error) => eprintln!("FAILED: {name}: {error:#}"),
        }
        self.rows.push(Row { name, result, time });
    }

    /// Prints the table; an error if a step failed, or could not be checked in strict mode.
    pub(crate) fn finish(self, strictness: Strictness) -> Result<()> {
        eprint!("\n{}", self.table());
        let names = |wanted: fn(&Result<Outcome>) -> bool| {
            let found = self.rows.iter().filter(|row| wanted(&row.result)).map(|row| row.name);
            found.collect::<Vec<_>>()
        };
        let failed = names(Result::is_err);
        let open = names(|result| matches!(result, Ok(Outcome::NotChecked(_))));
        if !failed.is_empty() {
            bail!("{} of {} steps failed: {}", failed.len(), self.rows.len(), failed.join(", "));
        }
        if strictness == Strictness::Strict && !open.is_empty() {
            bail!("not checked, and --strict asks for everything: {}", open.join(", "));
        }
        Ok(())
    }

    fn table(&self) -> String {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(5);
        let mut table = String::new();
        for Row { name, result, time } in &self.rows {
            let told = match result {
                Ok(Outcome::Passed) => "ok".to_owned(),
                Ok(Outcome::NotChecked(what)) => format!("NOT CHECKED: {what}"),
                Err(_) => "FAILED".to_owned(),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(table, "{name:width$}  {:>8}  {told}", shown(*time));
        }
        let total = self.rows.iter().map(|row| row.time).sum();
        let _ = writeln!(table, "{:width$}  {:>8}", "total", shown(total));
        table
    }
}

fn shown(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        seconds => format!("{} min {:02}", seconds / 60, seconds % 60),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a step takes is measured on the real clock"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(results: Vec<Result<Outcome>>) -> Steps {
        let mut steps = Steps::default();
        for result in results {
            steps.step("a step", || result);
        }
        steps
    }

    #[test]
    fn all_steps_run_although_one_fails() {
        let steps = steps(vec![Err(anyhow::anyhow!("broken")), Ok(Outcome::Passed)]);
        assert_eq!(steps.rows.len(), 2);
        let error = steps.finish(Strictness::Lenient).expect_err("a step failed");
        assert_eq!(error.to_string(), "1 of 2 steps failed: a step");
    }

    #[test]
    fn unchecked_steps_fail_only_if_strict() {
        let open = || steps(vec![Ok(Outcome::NotChecked("no tool".into()))]);
        assert!(open().table().contains("NOT CHECKED: no tool"));
        assert!(open().finish(Strictness::Lenient).is_ok());
        assert!(open().finish(Strictness::Strict).is_err());
    }

    #[test]
    fn times_are_easy_to_read() {
        assert_eq!(shown(Duration::from_millis(1_250)), "1.2 s");
        assert_eq!(shown(Duration::from_secs(125)), "2 min 05");
    }
}
