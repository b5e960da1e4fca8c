//! Completeness of the sweeps: finds the public async operations of all crates in their sources, and compares them
//! with the tables of the sweeps.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Operations that are not swept, and the reason.
const LEFT_OUT: &[(&str, &str)] = &[
    ("Case::run", "a conformance case: it panics if a check fails, and no caller drops it"),
    ("run_all", "the conformance suite of stores"),
    ("run", "the conformance suite of leases"),
    ("StoreFixture::fresh", "a callback of the conformance suite, implemented by its caller"),
    ("StoreFixture::fresh_with_rollback", "as `StoreFixture::fresh`"),
    ("Rollback::keep", "as `StoreFixture::fresh`"),
    ("Rollback::go_back", "as `StoreFixture::fresh`"),
    (
        "answer",
        "waits for a thread in every operation of the SQLite store and leases, which are swept",
    ),
    (
        "BackupSink::begin",
        "an implementation by the caller; it is dropped with `clear_with_backup`",
    ),
    ("BackupSink::complete", "as `BackupSink::begin`"),
    ("LocalWatch::changed", "as `StoreWatch::changed` of the in-memory store, which is swept"),
    ("LocalWatchers::watch", "not async: it returns a watch, not a future"),
    ("RedisLink::subscribe", "called by the waits for leases on Redis, which are swept"),
    (
        "Timer::sleep",
        "an implementation by the chain's caller; it is dropped with `FallbackChain::run`",
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn crates() -> Vec<PathBuf> {
    let folders = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("memory-") && path.join("Cargo.toml").is_file()
    };
    // The crates of the media are nested members.
    let media = ["redis-link", "sqlite-file"].map(|name| root().join("memory-lock").join(name));
    folders.filter(is_ours).chain(media).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The type or trait that starts on an unindented line, as formatted by rustfmt.
fn owner_of(line: &str) -> Option<(String, bool)> {
    let name = |text: &str| {
        let text = text.trim_start();
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        text[..end].to_owned()
    };
    if let Some(rest) = line.strip_prefix("pub trait ") {
        return Some((name(rest), true));
    }
    let rest = line.strip_prefix("impl")?;
    let rest = match rest.strip_prefix('<') {
        Some(generic) => generic.split_once("> ").map_or("", |(_, rest)| rest),
        None => rest,
    };
    // Methods of a trait's implementation are swept through the trait.
    (!rest.contains(" for ")).then(|| (name(rest), false))
}

/// The public functions of a source that return a future, with their owner.
fn operations(source: &str) -> BTreeSet<String> {
    let (mut found, mut owner) = (BTreeSet::new(), None);
    let mut lines = source.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("#[cfg(test)]") {
            break;
        }
        if !line.is_empty() && !line.starts_with([' ', '}', '#', '/']) {
            owner = owner_of(line);
        }
        let signature = line.trim_start();
        let is_method = line.starts_with("    ") && !line.starts_with("     ");
        let in_trait = owner.as_ref().is_some_and(|(_, is_trait)| *is_trait) && is_method;
        let public = signature.strip_prefix("pub ");
        let Some(function) = public.or_else(|| in_trait.then_some(signature)) else { continue };
        let (is_async, function) = match function.strip_prefix("async ") {
            Some(rest) => (true, rest),
            None => (false, function),
        };
        let Some(function) = function.strip_prefix("fn ") else { continue };
        let mut whole = function.to_owned();
        while !whole.contains(['{', ';']) {
            let Some(line) = lines.next() else { break };
            whole.push_str(line.trim());
        }
        let returns = whole.rsplit_once(") -> ").map_or("", |(_, returns)| returns);
        let futures = ["impl Future", "dyn Future", "BoxFuture", "Watch"];
        if !is_async && !futures.iter().any(|future| returns.contains(future)) {
            continue;
        }
        let end = function.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap();
        let name = &function[..end];
        found.insert(match &owner {
            Some((owner, _)) if line.starts_with(' ') => format!("{owner}::{name}"),
            _ => name.to_owned(),
        });
    }
    found
}

/// The names in the tables of the sweeps. A part after a comma describes a condition.
fn swept(source: &str) -> BTreeSet<String> {
    let tables = source.split("OPERATIONS: ").skip(1);
    let rows = tables.filter_map(|table| table.split_once("];")).flat_map(|(rows, _)| {
        rows.split('"')
            .skip(1)
            .step_by(2)
            .map(|row| row.split(',').next().unwrap_or(row).to_owned())
    });
    rows.collect()
}

#[test]
fn every_public_async_operation_is_swept() {
    let mut there = BTreeMap::new();
    let mut covered = BTreeSet::new();
    for folder in crates() {
        let mut files = Vec::new();
        sources(&folder.join("src"), &mut files);
        for file in files {
            let source = fs::read_to_string(&file).unwrap();
            let at = file.strip_prefix(root()).unwrap().display().to_string();
            there.extend(operations(&source).into_iter().map(|name| (name, at.clone())));
        }
        let mut sweeps = Vec::new();
        let kit = folder.join("testkit/src");
        if kit.is_dir() {
            sources(&kit, &mut sweeps);
        }
        let tests = folder.join("tests");
        if tests.is_dir() {
            let mut files = Vec::new();
            sources(&tests, &mut files);
            let is_sweep =
                |part: &Path| part.file_stem().is_some_and(|name| name == "cancellation");
            files.retain(|file| file.strip_prefix(&tests).unwrap().ancestors().any(is_sweep));
            sweeps.append(&mut files);
        }
        for sweep in sweeps {
            covered.extend(swept(&fs::read_to_string(sweep).unwrap()));
        }
    }
    assert!(there.len() > 60, "the sources are not read as they are written: {there:#?}");
    let left_out: BTreeSet<_> = LEFT_OUT.iter().map(|(name, _)| (*name).to_owned()).collect();
    let missing: BTreeMap<_, _> = there
        .iter()
        .filter(|(name, _)| !covered.contains(*name) && !left_out.contains(*name))
        .collect();
    assert!(missing.is_empty(), "not swept: {missing:#?}");
    // A row about a property of a type names no operation.
    let gone: Vec<_> = covered
        .iter()
        .chain(&left_out)
        .filter(|name| name.contains("::") || left_out.contains(*name))
        .filter(|name| !there.contains_key(*name))
        .collect();
    assert!(gone.is_empty(), "there is no such operation any more: {gone:?}");
}

#[test]
fn operations_are_found_in_any_source_style() {
    let source = "
impl<T> Fish<T> {
    pub async fn swims(&self) {}

    async fn hides(&self) {}

    pub fn dives(&self) -> impl Future<Output = ()> + Send + use<> {

    pub fn sleeps(
        &self,
        a_long: List,
    ) -> Watch {
    }
}

pub trait Bird: Send {
    async fn flies(
        &self,
    );

    fn name(&self) -> &str;
}

impl Bird for Fish {
    async fn flies(&self) {}
}

pub async fn alone() {}

pub(crate) async fn private() {}

#[cfg(test)]
mod tests {
    pub async fn tested() {}
}
";
    let found: Vec<_> = operations(source).into_iter().collect();
    assert_eq!(found, ["Bird::flies", "Fish::dives", "Fish::sleeps", "Fish::swims", "alone"]);
}
