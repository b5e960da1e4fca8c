//! Licenses, sources, wildcards and duplicates of all dependencies, by the rules of `deny.toml`.
//!
//! The rules are those of cargo-deny, which can be run on the same file. Installing it compiles some 300 crates, while
//! `cargo metadata` provides all that this project needs in a second.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::adapters;
use crate::run::cargo;
use crate::steps::Outcome;

const RULES: &str = "deny.toml";
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// As much of cargo-deny's format as is used. A rule that is not known here is an error, not ignored.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Rules {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Graph {
    all_features: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Licenses {
    allow: BTreeSet<String>,
    /// Only for cargo-deny, which also compares the texts of licenses.
    #[serde(rename = "confidence-threshold")]
    _confidence_threshold: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Bans {
    wildcards: Level,
    allow_wildcard_paths: bool,
    multiple_versions: Level,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Sources {
    unknown_registry: Level,
    unknown_git: Level,
    allow_git: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Allow,
    Warn,
    Deny,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    req: String,
    path: Option<String>,
}

/// The findings, by severity.
#[derive(Debug, Default)]
struct Findings {
    denied: Vec<String>,
    warned: Vec<String>,
}

pub(crate) fn check() -> Result<Outcome> {
    let text = fs::read_to_string(RULES).with_context(|| format!("cannot read {RULES}"))?;
    let rules: Rules =
        toml::from_str(&text).with_context(|| format!("cannot understand {RULES}"))?;
    // The adapters have a lock file that no other step of a plain CI run reads.
    for manifest in ["Cargo.toml", adapters::MANIFEST] {
        let mut command = cargo(["metadata", "--format-version", "1", "--locked"])
            .args(["--manifest-path", manifest]);
        if rules.graph.all_features {
            command = command.args(["--all-features"]);
        }
        let metadata: Metadata =
            serde_json::from_str(&command.read()?).context("cannot understand `cargo metadata`")?;
        let findings = judge(&metadata.packages, &rules);
        for warning in &findings.warned {
            eprintln!("warning: {warning}");
        }
        if !findings.denied.is_empty() {
            let denied = findings.denied.join("\n  ");
            bail!("{RULES} does not allow, in {manifest}:\n  {denied}");
        }
        let count = metadata.packages.len();
        eprintln!("licenses: {count} crates of {manifest} are as {RULES} allows");
    }
    Ok(Outcome::Passed)
}

fn judge(packages: &[Package], rules: &Rules) -> Findings {
    let mut findings = Findings::default();
    for package in packages {
        let Package { name, version, .. } = package;
        match package.license.as_deref().map(|text| (text, Expression::parse(text))) {
            None => findings.denied.push(format!("{name} {version}: it names no license")),
            Some((text, Err(error))) => findings
                .denied
                .push(format!("{name} {version}: the license `{text}` cannot be read: {error:#}")),
            Some((text, Ok(license))) => {
                if !license.is_met_by(&rules.licenses.allow) {
                    findings.denied.push(format!("{name} {version}: the license is {text}"));
                }
            }
        }
        if let Some(source) = package.source.as_deref() {
            let level = rules.sources.level(source);
            findings.add(level, || format!("{name} {version}: it comes from {source}"));
        }
        // A crate of crates.io cannot have any.
        for Dependency { name: lower, req, path } in &package.dependencies {
            let is_free = path.is_some() && rules.bans.allow_wildcard_paths;
            if package.source.is_none() && req == "*" && !is_free {
                findings.add(rules.bans.wildcards, || format!("{name}: any version of {lower}"));
            }
        }
    }
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    for (name, versions) in versions.into_iter().filter(|(_, versions)| versions.len() > 1) {
        findings.add(rules.bans.multiple_versions, || {
            format!("{name} is there {} times: {}", versions.len(), versions.join(", "))
        });
    }
    findings
}

impl Findings {
    fn add(&mut self, level: Level, what: impl FnOnce() -> String) {
        match level {
            Level::Allow => {}
            Level::Warn => self.warned.push(what()),
            Level::Deny => self.denied.push(what()),
        }
    }
}

impl Sources {
    fn level(&self, source: &str) -> Level {
        match source.strip_prefix("git+") {
            Some(url) if self.allow_git.iter().any(|allowed| url.starts_with(allowed)) => {
                Level::Allow
            }
            Some(_) => self.unknown_git,
            None if source == CRATES_IO => Level::Allow,
            None => self.unknown_registry,
        }
    }
}

/// An SPDX license expression.
#[derive(Debug, PartialEq, Eq)]
enum Expression {
    /// One license, with its exception if it has one.
    License(String),
    Any(Vec<Expression>),
    All(Vec<Expression>),
}

impl Expression {
    fn parse(text: &str) -> Result<Self> {
        // Old manifests write a slash for `OR`.
        let text = text.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        let mut words = text.split_whitespace().peekable();
        let parsed = Self::parse_any(&mut words)?;
        match words.next() {
            None => Ok(parsed),
            Some(word) => bail!("`{word}` is not expected"),
        }
    }

    fn parse_any<'a>(words: &mut Words<'a, impl Iterator<Item = &'a str>>) -> Result<Self> {
        let mut parts = vec![Self::parse_all(words)?];
        while words.next_if_eq(&"OR").is_some() {
            parts.push(Self::parse_all(words)?);
        }
        Ok(Self::Any(parts))
    }

    fn parse_all<'a>(words: &mut Words<'a, impl Iterator<Item = &'a str>>) -> Result<Self> {
        let mut parts = vec![Self::parse_one(words)?];
        while words.next_if_eq(&"AND").is_some() {
            parts.push(Self::parse_one(words)?);
        }
        Ok(Self::All(parts))
    }

    fn parse_one<'a>(words: &mut Words<'a, impl Iterator<Item = &'a str>>) -> Result<Self> {
        match words.next() {
            Some("(") => {
                let inner = Self::parse_any(words)?;
                if words.next() != Some(")") {
                    bail!("a parenthesis is not closed");
                }
                Ok(inner)
            }
            None | Some(")" | "OR" | "AND" | "WITH") => bail!("a license is missing"),
            Some(license) if words.next_if_eq(&"WITH").is_some() => match words.next() {
                Some(exception) => Ok(Self::License(format!("{license} WITH {exception}"))),
                None => bail!("an exception is missing"),
            },
            Some(license) => Ok(Self::License(license.to_owned())),
        }
    }

    fn is_met_by(&self, allowed: &BTreeSet<String>) -> bool {
        match self {
            Self::License(name) => allowed.contains(name),
            Self::Any(parts) => parts.iter().any(|part| part.is_met_by(allowed)),
            Self::All(parts) => parts.iter().all(|part| part.is_met_by(allowed)),
        }
    }
}

type Words<'a, I> = std::iter::Peekable<I>;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RULES: &str = r#"
        [graph]
        all-features = true
        [licenses]
        allow = ["MIT", "Apache-2.0", "ISC"]
        confidence-threshold = 0.93
        [bans]
        wildcards = "deny"
        allow-wildcard-paths = true
        multiple-versions = "warn"
        [sources]
        unknown-registry = "deny"
        unknown-git = "deny"
        allow-git = ["https://example.org/fine"]
    "#;

    fn is_allowed(license: &str) -> bool {
        let rules: Rules = toml::from_str(RULES).expect("rules");
        Expression::parse(license).is_ok_and(|it| it.is_met_by(&rules.licenses.allow))
    }

    /// The numbers of denied and warned findings for packages in JSON.
    fn found(packages: serde_json::Value) -> (usize, usize) {
        let rules: Rules = toml::from_str(RULES).expect("rules");
        let packages: Vec<Package> = serde_json::from_value(packages).expect("packages");
        let findings = judge(&packages, &rules);
        (findings.denied.len(), findings.warned.len())
    }

    fn package(
        name: &str,
        version: &str,
        license: &str,
        source: Option<&str>,
    ) -> serde_json::Value {
        json!({"name": name, "version": version, "license": license, "source": source, "dependencies": []})
    }

    #[test]
    fn license_expressions_are_evaluated() {
        for fine in [
            "MIT",
            "MIT OR GPL-3.0",
            "Unlicense/MIT",
            "Apache-2.0 AND ISC",
            "(MIT OR GPL-3.0) AND ISC",
            "Apache-2.0 WITH LLVM-exception OR MIT",
        ] {
            assert!(is_allowed(fine), "{fine}");
        }
        for not in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "ISC AND (GPL-3.0 OR BSD-3-Clause)",
            // An exception changes the license.
            "Apache-2.0 WITH LLVM-exception",
            "MIT OR",
            "(MIT",
            "MIT ISC",
            "",
        ] {
            assert!(!is_allowed(not), "{not}");
        }
    }

    #[test]
    fn foreign_sources_and_licenses_are_denied() {
        let from = |source| found(json!([package("a", "1.0.0", "MIT", source)]));
        assert_eq!(from(None), (0, 0));
        assert_eq!(from(Some(CRATES_IO)), (0, 0));
        assert_eq!(from(Some("git+https://example.org/fine?rev=1#1")), (0, 0));
        assert_eq!(from(Some("git+https://example.org/other")), (1, 0));
        assert_eq!(from(Some("registry+https://example.org/index")), (1, 0));
        assert_eq!(found(json!([package("a", "1.0.0", "GPL-3.0", None)])), (1, 0));
        let mut unnamed = package("a", "1.0.0", "", None);
        unnamed["license"] = serde_json::Value::Null;
        assert_eq!(found(json!([unnamed])), (1, 0));
    }

    #[test]
    fn duplicates_are_warned_of_and_wildcards_denied() {
        let two = [package("a", "1.0.0", "MIT", None), package("a", "2.0.0", "MIT", None)];
        assert_eq!(found(json!(two)), (0, 1));
        let mut wild = package("a", "1.0.0", "MIT", None);
        wild["dependencies"] = json!([{"name": "b", "req": "*", "path": null}]);
        assert_eq!(found(json!([wild])), (1, 0));
        wild["dependencies"] = json!([{"name": "b", "req": "*", "path": "/w/b"}]);
        assert_eq!(found(json!([wild])), (0, 0), "a testkit beside it");
    }

    #[test]
    fn an_unknown_rule_is_not_ignored() {
        let with_more = format!("{RULES}\nallow-org = []");
        assert!(toml::from_str::<Rules>(&with_more).is_err());
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deny.toml");
        let ours = fs::read_to_string(root).expect("the rules of this project");
        toml::from_str::<Rules>(&ours).expect("they are understood");
    }
}
