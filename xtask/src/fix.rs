//! `cargo xtask fix`: applies automatic fixes.

use anyhow::Result;

use crate::adapters;
use crate::prose;
use crate::run::cargo;

pub(crate) fn run() -> Result<()> {
    let clippy = ["clippy", "--fix", "--workspace", "--all-targets", "--all-features"];
    cargo(clippy).args(["--allow-dirty", "--allow-staged"]).run()?;
    // Last, because clippy's suggestions are not formatted.
    cargo(["fmt", "--all"]).run()?;
    adapters::format().run()?;
    prose::lower_ceilings()
}
