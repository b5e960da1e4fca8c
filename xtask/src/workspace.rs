//! The parts of `cargo metadata` that the commands use.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::run::cargo;

#[derive(Debug, Deserialize)]
pub(crate) struct Workspace {
    pub(crate) packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
    /// The registries it may go to; `None` is all, an empty list is `publish = false`.
    pub(crate) publish: Option<Vec<String>>,
    pub(crate) features: BTreeMap<String, Vec<String>>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
    /// The table `[package.metadata]`.
    #[serde(default)]
    pub(crate) metadata: serde_json::Value,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) rename: Option<String>,
    #[serde(deserialize_with = "kind")]
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Normal,
    Dev,
    Build,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// `lib`, `bin`, `test`, `bench`, `example`, `custom-build`, ...
    pub(crate) kind: Vec<String>,
}

/// Cargo writes a normal dependency as `null`.
fn kind<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Kind, D::Error> {
    Ok(Option::<Kind>::deserialize(deserializer)?.unwrap_or(Kind::Normal))
}

impl Workspace {
    /// The members of this workspace, sorted by name.
    pub(crate) fn load() -> Result<Self> {
        let json = cargo(["metadata", "--no-deps", "--format-version", "1"]).read()?;
        let mut workspace: Self =
            serde_json::from_str(&json).context("cannot understand `cargo metadata`")?;
        workspace.packages.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(workspace)
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }
}

impl Package {
    pub(crate) fn is_published(&self) -> bool {
        self.publish.as_ref().is_none_or(|registries| !registries.is_empty())
    }

    pub(crate) fn dir(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("."))
    }

    /// The Rust files and the README (its examples are tests), without those of crates nested in it.
    pub(crate) fn sources(&self) -> Result<Vec<(PathBuf, String)>> {
        sources(self.dir())
    }

    pub(crate) fn has_target(&self, kind: &str) -> bool {
        self.targets.iter().any(|target| target.kind.iter().any(|k| k == kind))
    }
}

/// The names of the published libraries; if some are named, only those.
pub(crate) fn published<'a>(workspace: &'a Workspace, only: &'a [String]) -> Result<Vec<&'a str>> {
    let packages = workspace.packages.iter();
    let is_library = |package: &&Package| package.is_published() && package.has_target("lib");
    let all: Vec<_> = packages.filter(is_library).map(|package| package.name.as_str()).collect();
    if let Some(other) = only.iter().find(|name| !all.contains(&name.as_str())) {
        bail!("{other} is not a published library; these are: {}", all.join(", "));
    }
    Ok(if only.is_empty() { all } else { only.iter().map(String::as_str).collect() })
}

/// The Rust files and the README of the crate in `dir`.
pub(crate) fn sources(dir: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let told = || format!("cannot read {}", folder.display());
        for entry in fs::read_dir(&folder).with_context(told)? {
            let path = entry.with_context(told)?.path();
            if path.is_dir() {
                if !path.join("Cargo.toml").exists() && !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") || path.ends_with("README.md") {
                let text = fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                files.push((path, text));
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_tells_us_about_ourselves() {
        let workspace = Workspace::load().expect("cargo metadata works in the workspace");
        let xtask = workspace.find("xtask").expect("xtask is a member");
        assert!(!xtask.is_published());
        assert!(xtask.has_target("bin") && !xtask.has_target("lib"));
        let kind_of = |name| xtask.dependencies.iter().find(|d| d.name == name).map(|d| d.kind);
        assert_eq!(kind_of("clap"), Some(Kind::Normal));
        assert_eq!(kind_of("tempfile"), Some(Kind::Dev));
    }

    #[test]
    fn published_libraries_are_chosen_by_name() {
        let workspace = Workspace::load().expect("cargo metadata works in the workspace");
        let all = published(&workspace, &[]).expect("all");
        assert!(all.contains(&"memory-core") && !all.contains(&"xtask"), "{all:?}");
        let one = ["memory-lock".to_owned()];
        assert_eq!(published(&workspace, &one).expect("one"), ["memory-lock"]);
        assert!(published(&workspace, &["xtask".to_owned()]).is_err());
    }
}
