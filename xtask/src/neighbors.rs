//! The workspace can be a dependency beside the crates that link SQLite too: cargo allows only one
//! version of `libsqlite3-sys` in a program, so the ranges of both must meet.
//!
//! Only resolved, not built. `README.md` lists the same versions.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::run::cargo;
use crate::steps::Outcome;

/// A dependency, and whether it is compatible with the SQLite store.
const NEIGHBORS: [(&str, &str); 3] = [
    ("sqlx", r#"{ version = "0.9", default-features = false, features = ["sqlite"] }"#),
    ("sea-orm", r#"{ version = "2", default-features = false, features = ["sqlx-sqlite"] }"#),
    ("diesel", r#"{ version = "2.3", default-features = false, features = ["sqlite"] }"#),
];

/// Cargo's error if it has all indexes and no version fits.
const CONFLICT: &str = "failed to select a version";

pub(crate) fn check() -> Result<Outcome> {
    let root = std::env::current_dir().context("there is no current folder")?;
    let folder = root.join("target/neighbors");
    let mut open = Vec::new();
    for (name, requirement) in NEIGHBORS {
        let folder = folder.join(name);
        write_manifest(&folder, &root, name, requirement)
            .with_context(|| format!("cannot write {}", folder.display()))?;
        let manifest = folder.join("Cargo.toml");
        let manifest = manifest.display().to_string();
        let resolved = cargo(["generate-lockfile", "--quiet", "--manifest-path", &manifest]);
        if let Some(complaint) = resolved.complaint()? {
            if complaint.contains(CONFLICT) {
                bail!("this workspace cannot be used beside {name} {requirement}:\n{complaint}");
            }
            let first = complaint.lines().next().unwrap_or_default();
            open.push(format!("{name} ({first})"));
        }
    }
    if open.is_empty() {
        let names = NEIGHBORS.map(|(name, _)| name);
        eprintln!("neighbors: resolved beside {}", names.join(", "));
        Ok(Outcome::Passed)
    } else {
        Ok(Outcome::NotChecked(format!("no answer about {}", open.join(", "))))
    }
}

fn write_manifest(
    folder: &Path,
    root: &Path,
    name: &str,
    requirement: &str,
) -> std::io::Result<()> {
    fs::create_dir_all(folder.join("src"))?;
    fs::write(folder.join("src/lib.rs"), "")?;
    // A lock file of an earlier run would hide what a new user gets.
    let _ = fs::remove_file(folder.join("Cargo.lock"));
    let facade = root.join("memory-instance");
    let manifest = format!(
        "[package]\nname = \"neighbor\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n\
         memory-instance = {{ path = {facade:?} }}\n{name} = {requirement}\n"
    );
    fs::write(folder.join("Cargo.toml"), manifest)
}
