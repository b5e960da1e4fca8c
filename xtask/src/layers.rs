//! `cargo xtask layers`: no crate knows a crate above it, the picture in `ARCHITECTURE.md` is the real graph, the
//! pure crates stay pure, what is heavy stays behind the feature that is named after it, and no target includes the
//! modules of another by `#[path]`.

mod picture;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::adapters;
use crate::run::cargo;
use crate::steps::Outcome;
use crate::workspace::{Kind, Workspace};

/// A crate, and others.
type Row<'a> = (&'a str, &'a [&'a str]);

/// Each published crate with the crates below it that it may use. `ARCHITECTURE.md` draws which of them it does use.
const BELOW: [Row<'_>; 10] = [
    ("memory-core", &[]),
    ("memory-config", &["memory-core"]),
    ("memory-flush", &["memory-core"]),
    ("memory-redis-link", &["memory-core"]),
    ("memory-sqlite-file", &["memory-core"]),
    ("memory-lock", &["memory-core", "memory-redis-link", "memory-sqlite-file"]),
    ("memory-store-sqlite", &["memory-core", "memory-sqlite-file"]),
    ("memory-store-redis", &["memory-core", "memory-redis-link"]),
    (
        "memory-instance",
        &[
            "memory-config",
            "memory-core",
            "memory-flush",
            "memory-lock",
            "memory-store-sqlite",
            "memory-store-redis",
        ],
    ),
    ("memory-cli", &["memory-core", "memory-flush", "memory-lock", "memory-instance"]),
];

/// Further crates that the tests of a crate may use: leases and stores do not know each other, but are tested together.
const FOR_TESTS: [Row<'_>; 2] =
    [("memory-store-sqlite", &["memory-lock"]), ("memory-store-redis", &["memory-lock"])];

/// Crates that must not be in the dependency tree of a crate, for certain features.
struct Ban {
    package: &'static str,
    features: &'static str,
    banned: &'static [&'static str],
    why: &'static str,
}

const BANS: [Ban; 7] = [
    Ban { package: "memory-core", features: "--all-features", banned: IMPURE, why: PURE },
    Ban { package: "memory-config", features: "--all-features", banned: IMPURE, why: PURE },
    Ban { package: "memory-flush", features: "--all-features", banned: IMPURE, why: PURE },
    Ban {
        package: "memory-lock",
        features: "--no-default-features",
        banned: &["libsqlite3-sys", "redis", "rusqlite"],
        why: "a backend belongs behind its feature",
    },
    Ban {
        package: "memory-instance",
        features: "--no-default-features",
        banned: &["libsqlite3-sys", "redis", "reqwest", "rusqlite", "tiktoken"],
        why: "heavy dependencies need a feature",
    },
    Ban {
        package: "memory-instance",
        features: "--all-features",
        banned: &[
            "anyhow",
            "clap",
            "comfy-table",
            "flate2",
            "hdrhistogram",
            "indicatif",
            "tracing-subscriber",
        ],
        why: "the command is a crate, memory-cli",
    },
    Ban {
        package: "memory-cli",
        features: "--no-default-features",
        banned: &["hdrhistogram", "redis", "rustls", "serde-saphyr", "tiktoken", "toml"],
        why: "`cargo demo` compiles as little as possible",
    },
];

const PURE: &str = "this crate is plain functions over data";

#[rustfmt::skip] // a line for each group
const IMPURE: &[&str] = &[
    // runtimes
    "async-executor", "async-io", "async-std", "compio", "futures-executor", "glommio", "monoio", "smol", "tokio",
    "tokio-stream", "tokio-util",
    // input and output
    "io-uring", "mio", "polling", "rustix", "socket2",
    // clients
    "hyper", "libsqlite3-sys", "redis", "reqwest", "rusqlite", "sqlx", "ureq",
    // randomness and timers
    "fastrand", "futures-timer", "getrandom", "rand",
];

/// Checks the layers and prints a summary.
pub(crate) fn check() -> Result<Outcome> {
    let workspace = Workspace::load()?;
    let mut wrong = upward(&workspace, &BELOW, &FOR_TESTS);
    wrong.extend(picture::compare(&workspace, &fs::read_to_string(picture::PAGE)?));
    for package in &workspace.packages {
        wrong.extend(path_includes(&package.sources()?));
    }
    wrong.extend(path_includes(&adapters::sources()?));
    for ban in &BANS {
        if workspace.find(ban.package).is_none() {
            wrong.push(format!("{} is in the table of bans but not in the workspace", ban.package));
            continue;
        }
        let tree = cargo(["tree", "-e", "normal", "--target", "all", "--prefix", "none"])
            .args(["--format", "{p}", "-p", ban.package, ban.features])
            .read()?;
        wrong.extend(found(&crates_in(&tree), ban.banned).into_iter().map(|name| {
            let Ban { package, features, why, .. } = ban;
            format!(
                "{package} ({features}) depends on {name}: {why}; \
                 see `cargo tree -e normal -p {package} {features} -i {name}`"
            )
        }));
    }
    if !wrong.is_empty() {
        bail!("the layers are broken:\n  {}", wrong.join("\n  "));
    }
    eprintln!(
        "layers: {} crates depend downwards only, {} trees are clean",
        BELOW.len(),
        BANS.len()
    );
    Ok(Outcome::Passed)
}

/// Every dependency between members that the table does not allow.
///
/// A published crate may use an unpublished one (a testkit) in its tests only. Unpublished crates are outside the
/// layers and may use the crates that they test.
fn upward(workspace: &Workspace, below: &[Row<'_>], for_tests: &[Row<'_>]) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in workspace.packages.iter().filter(|package| package.is_published()) {
        let name = &package.name;
        let Some((_, allowed)) = below.iter().find(|(upper, _)| upper == name) else {
            wrong.push(format!("{name} has no place in the table of layers (xtask/src/layers.rs)"));
            continue;
        };
        let tests = for_tests.iter().find(|(upper, _)| upper == name).map_or(&[][..], |row| row.1);
        for dependency in &package.dependencies {
            let lower = &dependency.name;
            let fine = match workspace.find(lower) {
                None => true,
                // A crate may test itself with its own features switched on.
                Some(member) if member.name == *name => dependency.kind == Kind::Dev,
                Some(member) if !member.is_published() => dependency.kind == Kind::Dev,
                Some(_) => {
                    allowed.contains(&lower.as_str())
                        || dependency.kind == Kind::Dev && tests.contains(&lower.as_str())
                }
            };
            if !fine {
                let allowed =
                    if allowed.is_empty() { "no member".into() } else { allowed.join(", ") };
                wrong.push(format!("{name} depends on {lower}, but may use {allowed}"));
            }
        }
    }
    wrong
}

/// The files that include a module by its path.
fn path_includes(sources: &[(PathBuf, String)]) -> Vec<String> {
    let includes = |text: &str| text.lines().any(|line| line.trim_start().starts_with("#[path"));
    let found = sources.iter().filter(|(_, text)| includes(text));
    let remedy = "let one target have all backends, or move the module to a test kit";
    found.map(|(file, _)| format!("{} uses `#[path]`: {remedy}", file.display())).collect()
}

/// The names in the output of `cargo tree --prefix none --format {p}`.
fn crates_in(tree: &str) -> BTreeSet<&str> {
    tree.lines().filter_map(|line| line.split_whitespace().next()).collect()
}

fn found<'a>(crates: &BTreeSet<&str>, banned: &[&'a str]) -> Vec<&'a str> {
    banned.iter().copied().filter(|name| crates.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    type Uses<'a> = &'a [(&'a str, Option<&'a str>)];

    /// Members as (name, published, dependencies with their kind).
    fn workspace(members: &[(&str, bool, Uses<'_>)]) -> Workspace {
        let packages = members.iter().map(|(name, published, dependencies)| {
            let dependency =
                |(name, kind): &(&str, Option<&str>)| json!({"name": name, "kind": kind});
            json!({
                "name": name, "manifest_path": "Cargo.toml", "features": {}, "targets": [],
                "publish": if *published { None } else { Some(Vec::<String>::new()) },
                "dependencies": dependencies.iter().map(dependency).collect::<Vec<_>>(),
            })
        });
        serde_json::from_value(json!({ "packages": packages.collect::<Vec<_>>() }))
            .expect("the test's workspace is well formed")
    }

    #[test]
    fn a_dependency_downwards_is_fine() {
        let workspace = workspace(&[
            ("memory-core", true, &[("serde", None)]),
            ("memory-flush", true, &[("memory-core", None)]),
            ("memory-store-redis", true, &[("memory-core", None), ("memory-lock", Some("dev"))]),
        ]);
        assert_eq!(upward(&workspace, &BELOW, &FOR_TESTS), Vec::<String>::new());
    }

    #[test]
    fn store_knows_leases_in_tests_only() {
        let workspace = workspace(&[
            ("memory-lock", true, &[]),
            ("memory-store-redis", true, &[("memory-lock", None)]),
        ]);
        assert_eq!(
            upward(&workspace, &BELOW, &FOR_TESTS),
            ["memory-store-redis depends on memory-lock, but may use memory-core, \
                 memory-redis-link"]
        );
    }

    #[test]
    fn upward_and_sideways_dependencies_are_found() {
        for kind in [None, Some("build"), Some("dev")] {
            let workspace = workspace(&[
                ("memory-core", true, &[]),
                ("memory-flush", true, &[("memory-lock", kind)]),
                ("memory-lock", true, &[("memory-instance", kind)]),
                ("memory-instance", true, &[]),
            ]);
            assert_eq!(
                upward(&workspace, &BELOW, &FOR_TESTS),
                [
                    "memory-flush depends on memory-lock, but may use memory-core",
                    "memory-lock depends on memory-instance, but may use memory-core, \
                     memory-redis-link, memory-sqlite-file",
                ]
            );
        }
    }

    #[test]
    fn an_unpublished_testkit_serves_tests_only() {
        let kit: (&str, bool, Uses<'_>) = ("testkit", false, &[("memory-instance", None)]);
        let instance: (&str, bool, Uses<'_>) = ("memory-instance", true, &[]);
        let tests = workspace(&[kit, instance, ("memory-core", true, &[("testkit", Some("dev"))])]);
        assert_eq!(upward(&tests, &BELOW, &FOR_TESTS), Vec::<String>::new());
        let code = workspace(&[kit, instance, ("memory-core", true, &[("testkit", None)])]);
        assert_eq!(upward(&code, &BELOW, &FOR_TESTS).len(), 1);
    }

    #[test]
    fn a_new_crate_must_be_given_its_place() {
        let workspace = workspace(&[("memory-new", true, &[])]);
        assert_eq!(upward(&workspace, &BELOW, &FOR_TESTS).len(), 1);
    }

    #[test]
    fn modules_included_by_path_are_found() {
        let files = [
            ("a.rs", "mod near;\n    #[path = \"../far.rs\"]\n    mod far;\n"),
            ("b.rs", "//! No `#[path]` here.\nmod near;\n"),
        ];
        let wrong = path_includes(&files.map(|(file, text)| (file.into(), text.into())));
        assert!(wrong.len() == 1 && wrong[0].starts_with("a.rs uses `#[path]`"), "{wrong:?}");
    }

    #[test]
    fn banned_crate_is_found_anywhere_in_tree() {
        let tree = "memory-core v0.1.0 (/w/memory-core)\nserde v1.0.228\ntokio v1.48.0\nserde v1.0.228 (*)\n";
        assert_eq!(found(&crates_in(tree), IMPURE), ["tokio"]);
        // The name must match as a whole.
        assert!(
            found(&crates_in("tokio-macros v2.0.0\nrediska v1.0.0\n"), &["tokio", "redis"])
                .is_empty()
        );
    }

    #[test]
    fn crate_with_runtime_is_not_pure() {
        let tree = cargo(["tree", "-e", "normal", "--prefix", "none", "--format", "{p}"])
            .args(["-p", "memory-lock"])
            .read()
            .expect("cargo tree works in the workspace");
        assert!(found(&crates_in(&tree), IMPURE).contains(&"tokio"));
    }
}
