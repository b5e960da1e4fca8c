//! Checks that each published crate can be packaged for a registry: metadata, files, and versions of its sibling
//! crates. Nothing is built or uploaded.

use anyhow::Result;

use crate::run::cargo;
use crate::steps::Outcome;
use crate::workspace::Workspace;

pub(crate) fn check() -> Result<Outcome> {
    let workspace = Workspace::load()?;
    let published = workspace.packages.iter().filter(|package| package.is_published());
    let crates = published.flat_map(|package| ["-p", package.name.as_str()]);
    // Packed together, crates find each other although none is published yet.
    cargo(["package", "--quiet", "--no-verify", "--allow-dirty"]).args(crates).run()?;
    Ok(Outcome::Passed)
}
