//! Checks the Prometheus alerting rules with `promtool`: their form, and their unit tests.

use anyhow::Result;

use crate::run::{command, succeeds};
use crate::steps::Outcome;

const RULES: &str = "memory-instance/observability/alerts.yaml";
const TESTS: &str = "memory-instance/observability/alerts_test.yaml";

pub(crate) fn check() -> Result<Outcome> {
    if !succeeds("promtool", &["--version"]) {
        let remedy =
            "promtool is not installed (it is part of Prometheus; `apt install prometheus`)";
        return Ok(Outcome::NotChecked(remedy.to_owned()));
    }
    command("promtool", ["check", "rules", RULES]).run()?;
    command("promtool", ["test", "rules", TESTS]).run()?;
    Ok(Outcome::Passed)
}
