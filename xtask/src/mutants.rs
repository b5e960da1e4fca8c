//! `cargo xtask mutants`: changes the code of the pure crates, and of the pure files of memory-lock and its links, in
//! one place after another, and reports the changes that no test detected.
//!
//! `.cargo/mutants.toml` selects the code to change. A survivor is a failure unless `.config/mutants.toml` accepts it
//! with a reason; an accepted entry that no longer survives is a failure too.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::run::{cargo, has_subcommand, install};

const VERSION: &str = "27.1.0";

/// The file of accepted survivors.
const ACCEPTED: &str = ".config/mutants.toml";

/// The crates, and their tests that are quick enough to run once for every mutant.
const CRATES: [(&str, &[&str]); 6] = [
    ("memory-core", &["--lib", "--test", "in_memory"]),
    ("memory-config", &["--lib", "--test", "config"]),
    ("memory-flush", &["--lib"]),
    ("memory-lock", &["--lib", "--test", "line"]),
    ("memory-redis-link", &["--lib"]),
    ("memory-sqlite-file", &["--lib"]),
];

/// The number of random inputs per property and mutant: fewer than the usual 256, because every mutant runs all
/// properties.
const CASES: &str = "64";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this crate; may be given several times
    #[arg(short, long, value_name = "CRATE")]
    package: Vec<String>,
    /// Only the k-th of n parts of each crate's mutants, counted from 0
    #[arg(long, value_name = "K/N")]
    shard: Option<String>,
    /// How many mutants to try at once, each in a separate copy
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    jobs: usize,
    /// Keep results in this folder
    #[arg(long, value_name = "FOLDER", default_value = "target/mutants")]
    output: PathBuf,
}

/// The mutants of one run by outcome; survivors by name, with their count.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcomes {
    caught: usize,
    /// A test that hangs has detected the mutant.
    timed_out: usize,
    unviable: usize,
    survived: BTreeMap<String, usize>,
}

/// The file of accepted survivors.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    accepted: Vec<Accepted>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    mutant: String,
    #[serde(default = "one")]
    times: usize,
    reason: String,
}

fn one() -> usize {
    1
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let unknown = args.package.iter().find(|name| CRATES.iter().all(|(known, _)| known != name));
    if let Some(name) = unknown {
        bail!("{name} is not a crate whose mutants are tried");
    }
    let text = fs::read_to_string(ACCEPTED).with_context(|| format!("cannot read {ACCEPTED}"))?;
    let accepted = parse_list(&text).with_context(|| format!("cannot understand {ACCEPTED}"))?;
    install("mutants", "cargo-mutants", VERSION)?;

    let mut complaints = Vec::new();
    let mut summary = String::new();
    for (name, tests) in CRATES {
        if !args.package.is_empty() && !args.package.iter().any(|chosen| chosen == name) {
            continue;
        }
        let outcomes = try_crate(name, tests, args)?;
        summary.push_str(&format!("{name}: {outcomes}\n"));
        complaints.extend(judge(name, &outcomes, &accepted, Part::of(args)));
    }
    eprint!("\n{summary}");
    complaints.iter().for_each(|complaint| eprintln!("{complaint}"));
    ensure!(complaints.is_empty(), "{} mutants differ from {ACCEPTED}", complaints.len());
    Ok(())
}

/// Runs cargo-mutants over one crate.
fn try_crate(name: &str, tests: &[&str], args: &Args) -> Result<Outcomes> {
    let output = args.output.join(name);
    fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    let results = output.join("mutants.out");
    // The results of an earlier run must not be judged.
    if results.exists() {
        fs::remove_dir_all(&results)
            .with_context(|| format!("cannot remove {}", results.display()))?;
    }
    let tool = if has_subcommand("nextest") { "nextest" } else { "cargo" };
    let jobs = args.jobs.to_string();
    let folder = output.display().to_string();
    // The copy starts with the dependencies that are built already; of the workspace only this crate
    // and what it needs is built.
    let mut mutants = cargo(["mutants", "--package", name, "--all-features", "--copy-target=true"])
        .args(["--test-tool", tool, "--jobs", &jobs, "--output", &folder])
        .args(["--minimum-test-timeout", "20", "--timeout-multiplier", "3"])
        .env("PROPTEST_CASES", CASES);
    if let Some(shard) = &args.shard {
        mutants = mutants.args(["--shard", shard]);
    }
    // Behind `--` these would only choose what is run: all other tests would be built anew for each
    // mutant, which for memory-lock takes several times as long.
    let tests: Vec<_> = tests.iter().map(|test| format!("--cargo-arg={test}")).collect();
    // It ends with 2 where mutants survived and with 3 where some timed out, which is for us to judge.
    match mutants.args(tests.iter().map(String::as_str)).code()? {
        Some(0 | 2 | 3) => read_outcomes(&results),
        code => bail!("cargo-mutants could not try {name} (it ended with {code:?})"),
    }
}

fn read_outcomes(folder: &Path) -> Result<Outcomes> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let count = |name: &str| read(name).map(|text| text.lines().count());
    let mut survived = BTreeMap::new();
    for line in read("missed.txt")?.lines() {
        *survived.entry(without_place(line)).or_default() += 1;
    }
    Ok(Outcomes {
        caught: count("caught.txt")?,
        timed_out: count("timeout.txt")?,
        unviable: count("unviable.txt")?,
        survived,
    })
}

/// `src/key.rs:12:5: replace ...` as `src/key.rs: replace ...`; what is not so written stays as it is.
fn without_place(line: &str) -> String {
    let Some((place, what)) = line.split_once(": ") else { return line.to_owned() };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let mut parts = place.rsplitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(column), Some(row), Some(file)) if is_number(column) && is_number(row) => {
            format!("{file}: {what}")
        }
        _ => line.to_owned(),
    }
}

fn parse_list(text: &str) -> Result<Vec<Accepted>> {
    let list: List = toml::from_str(text)?;
    for (index, entry) in list.accepted.iter().enumerate() {
        let told = || format!("the entry `{}`", entry.mutant);
        ensure!(!entry.reason.trim().is_empty(), "{} has no reason", told());
        ensure!(entry.times > 0, "{} survives no times", told());
        let is_twice = list.accepted.iter().skip(index + 1).any(|it| it.mutant == entry.mutant);
        ensure!(!is_twice, "{} is listed twice: write `times`", told());
        ensure!(
            CRATES.iter().any(|(name, _)| belongs(&entry.mutant, name)),
            "{} is of no crate whose mutants are tried",
            told()
        );
    }
    Ok(list.accepted)
}

fn belongs(mutant: &str, name: &str) -> bool {
    mutant.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'))
}

/// How many of a crate's mutants were tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Shard,
}

impl Part {
    fn of(args: &Args) -> Self {
        if args.shard.is_some() { Self::Shard } else { Self::Whole }
    }
}

/// The differences between a crate's survivors and the list. A shard cannot show that an entry no longer survives.
fn judge(name: &str, outcomes: &Outcomes, accepted: &[Accepted], part: Part) -> Vec<String> {
    let mut complaints = Vec::new();
    for (mutant, &count) in &outcomes.survived {
        let times = accepted.iter().find(|it| it.mutant == *mutant).map_or(0, |it| it.times);
        if count > times {
            complaints.push(format!("SURVIVED: {mutant} ({count} times, {times} accepted)"));
        }
    }
    for entry in accepted.iter().filter(|entry| part == Part::Whole && belongs(&entry.mutant, name))
    {
        let count = outcomes.survived.get(&entry.mutant).copied().unwrap_or(0);
        if count < entry.times {
            let Accepted { mutant, times, .. } = entry;
            complaints.push(format!("NOT A SURVIVOR: {mutant} ({count} times, {times} accepted)"));
        }
    }
    complaints
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let survived: usize = self.survived.values().sum();
        let Self { caught, timed_out, unviable, .. } = self;
        let total = caught + timed_out + unviable + survived;
        write!(
            f,
            "{total} mutants: {caught} caught, {timed_out} timed out, {survived} survived, \
             {unviable} did not build"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(text: &str) -> Vec<Accepted> {
        parse_list(text).expect("a list")
    }

    const ENTRY: &str = "[[accepted]]\nmutant = 'memory-core/src/a.rs: x'\nreason = 'equal'\n";

    #[test]
    fn a_mutant_is_known_without_its_place() {
        let known = "src/a.rs: replace a::b -> Result<()> with Ok(())";
        let line = "src/a.rs:12:5: replace a::b -> Result<()> with Ok(())";
        assert_eq!(without_place(line), known);
        assert_eq!(without_place(known), known);
        assert_eq!(without_place("no place"), "no place");
    }

    #[test]
    fn results_are_read_and_counted() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name, text| fs::write(folder.path().join(name), text).expect("a file");
        write("caught.txt", "a\nb\n");
        write("timeout.txt", "c\n");
        write("unviable.txt", "");
        assert!(read_outcomes(folder.path()).is_err(), "a missing file is no empty one");
        write("missed.txt", "src/a.rs:1:2: x\nsrc/a.rs:3:4: x\n");
        let outcomes = read_outcomes(folder.path()).expect("results");
        assert_eq!(outcomes.survived.get("src/a.rs: x"), Some(&2));
        assert_eq!(
            outcomes.to_string(),
            "5 mutants: 2 caught, 1 timed out, 2 survived, 0 did not build"
        );
    }

    #[test]
    fn survivors_and_list_must_agree() {
        let list = accepted(ENTRY);
        let judged = |count, part| {
            let survived = [("memory-core/src/a.rs: x".to_owned(), count)];
            let survived = survived.into_iter().filter(|(_, count)| *count > 0).collect();
            let outcomes = Outcomes { survived, ..Outcomes::default() };
            judge("memory-core", &outcomes, &list, part).len()
        };
        assert_eq!(judged(1, Part::Whole), 0);
        assert_eq!(judged(2, Part::Whole), 1, "one more than was accepted");
        assert_eq!(judged(2, Part::Shard), 1);
        assert_eq!(judged(0, Part::Whole), 1, "the entry is out of date");
        assert_eq!(judged(0, Part::Shard), 0, "it may be in another part");
        assert!(judge("memory-flush", &Outcomes::default(), &list, Part::Whole).is_empty());
    }

    #[test]
    fn accepted_survivors_are_unique_and_have_reasons() {
        assert_eq!(accepted(ENTRY).len(), 1);
        assert!(parse_list(&ENTRY.replace("equal", " ")).is_err());
        assert!(parse_list(&ENTRY.repeat(2)).is_err());
        assert!(parse_list(&format!("{ENTRY}times = 0")).is_err());
        assert!(parse_list(&ENTRY.replace("memory-core/", "memory-corex/")).is_err());
        assert!(parse_list(&format!("{ENTRY}other = 1")).is_err());
    }

    #[test]
    fn the_list_of_this_project_can_be_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the root");
        let text = fs::read_to_string(root.join(ACCEPTED)).expect("the list");
        parse_list(&text).expect("a list");
    }
}
