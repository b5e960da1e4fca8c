//! Each feature alone: a crate must build, free of warnings, with none of its features and with
//! any single one, as a user would switch it on.
//!
//! Clippy does the building, for it is handed `-D warnings` without recompiling the dependencies.
//! Tests and benches are left out: their dev-dependencies would switch features on behind the
//! crate's back.

use anyhow::{Result, bail};

use crate::run::cargo;
use crate::steps::Outcome;
use crate::workspace::{Package, Workspace};

pub(crate) fn check() -> Result<Outcome> {
    let mut broken = Vec::new();
    for package in &Workspace::load()?.packages {
        // One broken form a crate is enough to begin with: mostly the others say the same.
        let first_broken = alone(package).into_iter().find(|&feature| {
            let build = cargo(["clippy", "--quiet", "--no-deps", "--no-default-features"])
                .args(["--package", &package.name])
                .args(feature.into_iter().flat_map(|name| ["--features", name]))
                .args(["--", "-D", "warnings"]);
            build.run().is_err()
        });
        if let Some(feature) = first_broken {
            broken.push(format!("{} with {}", package.name, feature.unwrap_or("no feature")));
        }
    }
    if !broken.is_empty() {
        bail!("these do not build free of warnings: {}", broken.join(", "));
    }
    Ok(Outcome::Passed)
}

/// No feature, then each by itself. A crate without features has one form only, and that has been
/// looked at with the whole workspace.
fn alone(package: &Package) -> Vec<Option<&str>> {
    if package.features.is_empty() {
        return Vec::new();
    }
    let each = package.features.iter().filter(|(name, parts)| {
        // An empty `default` is the same as no feature at all.
        *name != "default" || !parts.is_empty()
    });
    std::iter::once(None).chain(each.map(|(name, _)| Some(name.as_str()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(features: &str) -> Package {
        let json = format!(
            r#"{{"name": "a", "manifest_path": "a/Cargo.toml", "publish": null,
                 "features": {features}, "dependencies": [], "targets": []}}"#
        );
        serde_json::from_str(&json).expect("the test's package is well formed")
    }

    #[test]
    fn each_feature_is_tried_by_itself_and_none_too() {
        let package = package(r#"{"default": ["x"], "x": [], "y": ["x"]}"#);
        assert_eq!(alone(&package), [None, Some("default"), Some("x"), Some("y")]);
    }

    #[test]
    fn an_empty_default_is_not_tried_twice() {
        assert_eq!(alone(&package(r#"{"default": [], "x": []}"#)), [None, Some("x")]);
        assert!(alone(&package("{}")).is_empty());
    }
}
