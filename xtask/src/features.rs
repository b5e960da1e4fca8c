//! Each feature alone: a crate must build, free of warnings, with none of its features and with
//! any single one, as a user would switch it on. `cargo xtask ci` builds three crates without features, and with
//! `--deep` all forms.
//!
//! Clippy does the building, because it takes `-D warnings` without recompiling the dependencies.
//! Tests and benches are left out: their dev-dependencies would switch features on behind the
//! crate's back.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::run::cargo;
use crate::steps::Outcome;
use crate::workspace::{Package, Workspace};

/// The crates whose bare form each CI run builds, because programs depend on them directly; `--deep` builds all.
const BARE: [&str; 3] = ["memory-core", "memory-instance", "memory-lock"];

/// Which forms of a crate are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forms {
    /// Some crates without features, in which code that needs a feature most often breaks.
    Bare,
    /// Also with each single feature.
    All,
}

pub(crate) fn check(wanted: Forms) -> Result<Outcome> {
    let mut broken = Vec::new();
    let workspace = Workspace::load()?;
    let members: BTreeSet<_> = workspace.packages.iter().map(|it| it.name.as_str()).collect();
    let mut forms = 0;
    for package in &workspace.packages {
        let is_named = named_in(&package.dir().join("src"))?;
        let mut alone = alone(package, &members, is_named);
        if wanted == Forms::Bare {
            alone.retain(|feature| feature.is_none() && BARE.contains(&package.name.as_str()));
        }
        forms += alone.len();
        // One failing form per crate is enough: usually the others fail for the same reason.
        let first_broken = alone.into_iter().find(|&feature| {
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
    eprintln!("features: {forms} forms of crates build free of warnings");
    Ok(Outcome::Passed)
}

/// No feature, then each one separately, without those whose code was already checked: a feature that differs from
/// another only in the features of members that it enables (those are checked for the members), and one that is equal
/// to all features (checked by the step `clippy`). `is_named` returns whether the crate's code mentions a feature.
fn alone<'a>(
    package: &'a Package,
    members: &BTreeSet<&str>,
    is_named: impl Fn(&str) -> bool,
) -> Vec<Option<&'a str>> {
    let effect = |names: &[&'a str]| effect(package, members, &is_named, names);
    let all: Vec<_> = package.features.keys().map(String::as_str).collect();
    let mut seen = vec![effect(&all)];
    let each = package.features.keys().map(|name| Some(name.as_str()));
    std::iter::once(None)
        .chain(each)
        .filter(|feature| {
            let effect = effect(feature.as_slice());
            let is_new = !seen.contains(&effect);
            seen.push(effect);
            is_new
        })
        .collect()
}

/// The effect of these features on a crate: its own code and its optional dependencies.
fn effect<'a>(
    package: &'a Package,
    members: &BTreeSet<&str>,
    is_named: &impl Fn(&str) -> bool,
    names: &[&'a str],
) -> BTreeSet<&'a str> {
    let mut effect = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut open = names.to_vec();
    while let Some(part) = open.pop() {
        if !seen.insert(part) {
            continue;
        }
        if let Some(parts) = package.features.get(part) {
            open.extend(parts.iter().map(String::as_str));
            if is_named(part) {
                effect.insert(part);
            }
        } else if !part.split_once('/').is_some_and(|(name, _)| members.contains(name)) {
            effect.insert(part);
        }
    }
    effect
}

/// Whether the Rust files below this folder ask for a feature.
fn named_in(folder: &Path) -> Result<impl Fn(&str) -> bool + use<>> {
    let mut texts = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let told = || format!("cannot read {}", folder.display());
        for entry in fs::read_dir(&folder).with_context(told)? {
            let path = entry.with_context(told)?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                texts.push(fs::read_to_string(&path).with_context(told)?);
            }
        }
    }
    Ok(move |name: &str| {
        let word = format!("feature = \"{name}\"");
        texts.iter().any(|text| text.contains(&word))
    })
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

    /// The forms of a crate with these features whose code asks for these.
    fn forms(features: &str, named: &[&str]) -> Vec<String> {
        let package = package(features);
        let members = BTreeSet::from(["lower"]);
        let forms = alone(&package, &members, |name| named.contains(&name));
        forms.into_iter().map(|form| form.unwrap_or("none").to_owned()).collect()
    }

    #[test]
    fn features_are_tried_alone_and_without_any() {
        let features = r#"{"x": [], "y": ["x"], "z": ["dep:d"]}"#;
        assert_eq!(forms(features, &["x", "y"]), ["none", "x", "y", "z"]);
    }

    #[test]
    fn the_same_code_is_not_tried_twice() {
        // `default` is the same as `x`.
        let features = r#"{"default": ["x"], "x": ["dep:d"], "y": []}"#;
        assert_eq!(forms(features, &["x", "y"]), ["none", "default", "y"]);
        assert_eq!(forms(r#"{"default": [], "x": [], "y": []}"#, &["x", "y"]), ["none", "x", "y"]);
        // The step for the whole workspace covers all features.
        assert_eq!(forms(r#"{"x": []}"#, &["x"]), ["none"]);
        assert!(forms("{}", &[]).is_empty());
    }

    #[test]
    fn forwarded_features_are_tried_in_their_member() {
        let features = r#"{"x": ["lower/x"], "y": ["foreign/y"], "z": ["dep:d"]}"#;
        assert_eq!(forms(features, &[]), ["none", "y", "z"]);
        assert_eq!(forms(features, &["x"]), ["none", "x", "y", "z"]);
    }

    #[test]
    fn code_is_searched_for_features() {
        let named = named_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../memory-lock/src"));
        let named = named.expect("its sources can be read");
        assert!(named("redlock") && !named("no-such-feature"));
    }
}
