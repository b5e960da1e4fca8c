//! `cargo xtask semver`: whether the versions of the published crates allow their changes of the public API.

use anyhow::{Result, bail};

use crate::run::{Cmd, cargo, has_subcommand};
use crate::workspace::{Workspace, published};

const MISSING: &str = "cargo-semver-checks is not installed; `cargo install --locked cargo-semver-checks` compiles \
                       for some minutes";

const NO_BASELINE: &str = "Before the first release the registry has no baseline: pass --baseline-rev with the commit \
                           to compare with.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this crate; may be given several times
    #[arg(short, long, value_name = "CRATE")]
    package: Vec<String>,
    /// Compare with this commit, branch or tag
    #[arg(long, value_name = "REV", conflicts_with = "baseline_version")]
    baseline_rev: Option<String>,
    /// Compare with this published version; without both options, with the newest one
    #[arg(long, value_name = "VERSION")]
    baseline_version: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if !has_subcommand("semver-checks") {
        bail!(MISSING);
    }
    let workspace = Workspace::load()?;
    let mut failed = Vec::new();
    for name in published(&workspace, &args.package)? {
        if let Err(error) = check(name, args).run() {
            eprintln!("{error:#}");
            failed.push(name);
        }
    }
    match (failed.as_slice(), &args.baseline_rev) {
        ([], _) => Ok(()),
        (failed, Some(_)) => {
            bail!("the public API was not found compatible: {}", failed.join(", "))
        }
        (failed, None) => {
            bail!("the public API was not found compatible: {}. {NO_BASELINE}", failed.join(", "))
        }
    }
}

fn check(name: &str, args: &Args) -> Cmd {
    let command = cargo(["semver-checks", "--package", name, "--all-features"]);
    match (&args.baseline_rev, &args.baseline_version) {
        (Some(rev), _) => command.args(["--baseline-rev", rev]),
        (None, Some(version)) => command.args(["--baseline-version", version]),
        (None, None) => command,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(baseline_rev: Option<&str>, baseline_version: Option<&str>) -> String {
        let args = Args {
            package: Vec::new(),
            baseline_rev: baseline_rev.map(str::to_owned),
            baseline_version: baseline_version.map(str::to_owned),
        };
        check("memory-core", &args).to_string()
    }

    #[test]
    fn baseline_is_passed_on() {
        let plain = "cargo semver-checks --package memory-core --all-features";
        assert_eq!(shown(None, None), plain);
        assert_eq!(shown(Some("v0.1.0"), None), format!("{plain} --baseline-rev v0.1.0"));
        assert_eq!(shown(None, Some("0.1.0")), format!("{plain} --baseline-version 0.1.0"));
    }
}
