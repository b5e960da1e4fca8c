//! The adapters in `memory-instance/adapters`, which are a separate workspace with a separate lock file, because they
//! need a newer Rust and crates that nothing else needs. `cargo xtask lint adapters` and `--deep` compile them, which
//! takes minutes; the format, the lock file and the licenses of their dependencies are checked in every CI run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run::{Cmd, cargo, command};
use crate::steps::Outcome;
use crate::test::{Tally, count_libtest};
use crate::workspace;

pub(crate) const MANIFEST: &str = "memory-instance/adapters/Cargo.toml";

/// The minor version of Rust that they need.
const MINOR: u32 = 95;

/// Checks lints and documentation; the format is checked with that of the other crates.
pub(crate) fn lint() -> Result<Outcome> {
    if let Some(missing) = missing()? {
        return Ok(missing);
    }
    ours("clippy").args(["--all-targets", "--", "-D", "warnings"]).run()?;
    ours("doc").args(["--no-deps"]).env("RUSTDOCFLAGS", "-D warnings").run()?;
    Ok(Outcome::Passed)
}

/// Runs the tests, the examples and the examples of the documentation.
pub(crate) fn test(tally: &mut Tally) -> Result<Outcome> {
    if let Some(missing) = missing()? {
        return Ok(missing);
    }
    count_libtest(&ours("test").args(["--no-fail-fast"]), tally)?;
    Ok(Outcome::Passed)
}

/// `cargo fmt` of their sources.
pub(crate) fn format() -> Cmd {
    cargo(["fmt", "--all", "--manifest-path", MANIFEST])
}

/// Their Rust files and READMEs.
pub(crate) fn sources() -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for folder in folders()? {
        found.extend(workspace::sources(&folder)?);
    }
    Ok(found)
}

/// The folders of the crates.
pub(crate) fn folders() -> Result<Vec<PathBuf>> {
    let folder = Path::new(MANIFEST).parent().context("the manifest is in a folder")?;
    let told = || format!("cannot read {}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(told)? {
        let path = entry.with_context(told)?.path();
        if path.join("Cargo.toml").exists() {
            found.push(path);
        }
    }
    Ok(found)
}

fn ours(subcommand: &str) -> Cmd {
    cargo([subcommand, "--locked", "--workspace", "--manifest-path", MANIFEST])
}

/// The result of a step on a Rust that is too old.
fn missing() -> Result<Option<Outcome>> {
    let version = command("rustc", ["--version"]).read()?;
    let minor = minor(&version).with_context(|| format!("not a version of rustc: {version}"))?;
    let missing = || format!("the adapters need Rust 1.{MINOR}, and this is {}", version.trim());
    Ok((minor < MINOR).then(|| Outcome::NotChecked(missing())))
}

/// The minor version in the output of `rustc --version`.
fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("rustc 1.")?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minor_version_is_that_of_the_manifest() {
        assert_eq!(minor("rustc 1.95.0 (59807616e 2026-04-14)\n"), Some(95));
        assert_eq!(minor("cargo 1.95.0"), None);
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(MANIFEST);
        let manifest = fs::read_to_string(manifest).expect("the manifest of the adapters");
        assert!(manifest.contains(&format!("rust-version = \"1.{MINOR}\"")));
    }
}
