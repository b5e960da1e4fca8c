//! Each published crate can be packed as a registry wants it: metadata, files, versions of the
//! crates beside it. Nothing is built and nothing is sent.

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
