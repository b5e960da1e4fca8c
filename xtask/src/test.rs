//! `cargo xtask test`: every test and every doc example of the workspace, all features on.
//!
//! Tests that need a Redis server or Docker run if there is one (see `servers.rs`). The end of the output counts the
//! tests that could not run.

mod counts;

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};

pub(crate) use self::counts::Tally;
pub(crate) use self::counts::count_libtest;
use self::counts::{conclude, count_junit, count_list, count_listed, slowest};
use crate::adapters;
use crate::run::{Cmd, cargo, has_subcommand};
use crate::servers::{self, CONTAINER_TESTS, Containers, Hidden, Installing, Missing, Plan, Way};
use crate::steps::Outcome;
use crate::workspace::{Package, Target, Workspace};

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Test only this crate; may be given several times
    #[arg(short, long, value_name = "CRATE")]
    package: Vec<String>,
    /// Build with optimization
    #[arg(long)]
    release: bool,
    /// Fail if tests of this kind could not be run: redis, docker, or both
    #[arg(long, value_name = "WAY", value_delimiter = ',')]
    require: Vec<Way>,
    /// Run ten or more times as many programs of the concurrency models, new ones each time, drop calls at each
    /// of their polls, and run the tests on containers and those of the adapters
    #[arg(long)]
    pub(crate) deep: bool,
    /// Run the tests on containers too, where Docker answers
    #[arg(long)]
    containers: bool,
    /// Do not install a Redis server if there is none
    #[arg(long)]
    no_install: bool,
    /// Arguments after `--` are passed to the test runner, such as a part of a test's name; doc examples are skipped
    /// then
    #[arg(last = true, value_name = "ARGS")]
    rest: Vec<String>,
}

impl Args {
    /// All tests; those that need one of these ways must run.
    pub(crate) fn requiring(ways: Vec<Way>) -> Self {
        Self { require: ways, ..Self::default() }
    }

    fn containers(&self) -> Containers {
        if self.containers || self.deep || self.require.contains(&Way::Docker) {
            Containers::Wanted
        } else {
            Containers::IfNamed
        }
    }

    /// They are tested as a whole.
    fn tests_adapters(&self) -> bool {
        self.deep && self.package.is_empty() && self.rest.is_empty()
    }

    fn installing(&self) -> Installing {
        if self.no_install { Installing::Forbidden } else { Installing::Allowed }
    }
}

/// The number of concurrency-model programs in a deep run; other runs try a tenth or less.
const DEEP: &str = "100000";

/// The same for programs whose server rolls back.
const DEEP_ROLLBACKS: &str = "10000";

/// The same for programs in which a TTL ends.
const DEEP_EXPIRIES: &str = "1500";

/// The same for programs whose agents set system prompts.
const DEEP_PROMPTS: &str = "10000";

/// The same for programs with an archive, erasures, forks and copies.
const DEEP_PAST: &str = "10000";

/// The number of events that watchers follow while writers are killed, on each backend, in a deep run.
const DEEP_WATCH_EVENTS: &str = "100000";

/// The number of histories that an independent checker judges in a deep run.
const DEEP_OUTSIDE: &str = "10000";

/// The folder of the real conversations that some tests read.
const CONVERSATIONS: &str = "../shared/data/conversations";

/// All that has tests: libraries, programs, tests, and the examples that test themselves, which would otherwise be compiled
/// a second time as programs. Clippy checks all examples.
const TARGETS: &str = "--tests";

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut tally = Tally::default();
    let tests = Tests::plan(args)?;
    let result = tests.run(&mut tally);
    // Doc examples run even if a test failed, so that one run shows all failures.
    let docs = if args.rest.is_empty() { tests.run_docs(&mut tally) } else { Ok(()) };
    let adapters = args.tests_adapters().then(|| adapters::test(&mut tally));
    let adapters = adapters.unwrap_or(Ok(Outcome::Passed)).map(|outcome| {
        if let Outcome::NotChecked(what) = outcome {
            eprintln!("NOT RUN: {what}");
        }
    });
    let missing = tests.tell_what_is_missing();
    eprintln!("\n{tally}");
    result.and(docs).and(adapters).and(missing)
}

/// The tests that were chosen, and what of them can run.
#[derive(Debug)]
pub(crate) struct Tests<'a> {
    args: &'a Args,
    workspace: Workspace,
    plan: Plan,
}

impl<'a> Tests<'a> {
    /// Finds out what can run, which may take an installation.
    pub(crate) fn plan(args: &'a Args) -> Result<Self> {
        let workspace = Workspace::load()?;
        let plan = Plan::make(&workspace, &args.package, args.installing(), args.containers());
        Ok(Self { args, workspace, plan })
    }

    /// Compiles what `run` runs.
    pub(crate) fn compile(&self) -> Result<()> {
        if has_subcommand("nextest") {
            self.select(cargo(["nextest", "run", "--no-run"])).args([TARGETS]).run()
        } else {
            self.select(cargo(["test", "--no-run"])).args(self.targets()).run()
        }
    }

    /// Unit and integration tests, by cargo-nextest where it is there.
    pub(crate) fn run(&self, tally: &mut Tally) -> Result<()> {
        let args = self.args;
        if self.packages().next().is_none() {
            return Ok(());
        }
        if !has_subcommand("nextest") {
            eprintln!(
                "cargo-nextest is not installed; `cargo test` runs the same tests, more slowly"
            );
            let tests = self.select(cargo(["test", "--no-fail-fast"])).args(self.targets());
            let skipped = self.hidden_modules().iter().flat_map(|part| ["--skip", part]);
            let tests = tests.args(["--"]).args(args.rest.iter().cloned()).args(skipped);
            return count_libtest(&tests, tally);
        }
        let profile = if std::env::var_os("CI").is_some() { "ci" } else { "default" };
        let mut tests = self.select(cargo(["nextest", "run", "--profile", profile]));
        if std::env::var_os(TEST_THREADS).is_none() {
            tests = tests.env(TEST_THREADS, &test_threads().to_string());
        }
        // Nextest keeps it below the workspace root, wherever `CARGO_TARGET_DIR` points.
        let report = Path::new("target/nextest").join(profile).join("junit.xml");
        // A report of an earlier run must not be counted.
        let _ = fs::remove_file(&report);
        if args.rest.is_empty() {
            tests = tests.args([TARGETS]);
        }
        let rest = match self.plan.hidden {
            Some(hidden) => filtered(&args.rest, &format!("not ({})", hidden.filter())),
            None => args.rest.clone(),
        };
        let result = tests.args(rest).run();
        let text = fs::read_to_string(&report)
            .with_context(|| format!("nextest left no report at {}", report.display()));
        if let Ok(text) = &text {
            eprint!("\n{}", slowest(text));
        }
        let counts =
            text.and_then(|text| count_junit(&text).context("cannot understand nextest's report"));
        conclude(result, counts, tally)
    }

    /// Unit and integration tests by cargo-nextest, which count the lines that they reach.
    pub(crate) fn covered(&self) -> Cmd {
        // One test that fails takes none of the lines away that the others reach.
        let cmd = self.select(cargo(["llvm-cov", "nextest", "--no-report", "--no-fail-fast"]));
        match self.plan.hidden {
            Some(hidden) => {
                cmd.args(filtered(&self.args.rest, &format!("not ({})", hidden.filter())))
            }
            None => cmd.args(self.args.rest.iter().cloned()),
        }
    }

    /// The examples in the documentation, which nextest does not run.
    pub(crate) fn run_docs(&self, tally: &mut Tally) -> Result<()> {
        if self.packages().any(|package| package.has_target("lib")) {
            count_libtest(&self.select(cargo(["test", "--no-fail-fast", "--doc"])), tally)
        } else {
            Ok(())
        }
    }

    /// Prints the tests that could not run on this machine; an error if one of them had to run.
    pub(crate) fn tell_what_is_missing(&self) -> Result<()> {
        if !Path::new(CONVERSATIONS).is_dir() {
            eprintln!("not run: tests on real conversations ({CONVERSATIONS} is not there)");
        }
        for way in &self.plan.ways {
            eprintln!("run with {way}");
        }
        if self.plan.unasked
            && let Some(package) = self.workspace.find(CONTAINER_TESTS)
        {
            let count = servers::count_in_sources(package);
            eprintln!("not run: at least {count} tests on containers (`--containers` or `--deep`)");
        }
        let mut open = Vec::new();
        for missing in &self.plan.missing {
            let count = self.count(missing);
            if count == Some(0) {
                continue;
            }
            let count = count.map_or("an unknown number".to_owned(), |count| count.to_string());
            let kind = match missing.way {
                Way::Redis => format!("{count} of the tests on Redis servers"),
                // Counted in the sources, because they are not built.
                Way::Docker => format!("at least {count} of the tests on containers"),
            };
            eprintln!("NOT RUN: {kind}: {}", missing.why);
            open.push(missing);
        }
        servers::judge(&open, &self.args.require)
    }

    /// How many of the chosen tests these are.
    fn count(&self, missing: &Missing) -> Option<u64> {
        let rest = &self.args.rest;
        match (missing.way, self.plan.hidden) {
            (Way::Docker, _) => self.workspace.find(CONTAINER_TESTS).map(servers::count_in_sources),
            (Way::Redis, Some(hidden)) if has_subcommand("nextest") => {
                let list = self.select(cargo(["nextest", "list", "--message-format", "json"]));
                let list = list.args(filtered(rest, hidden.filter())).read().ok()?;
                count_list(&list)
            }
            (Way::Redis, _) => {
                let list = |targets: Vec<String>| {
                    if targets.is_empty() {
                        return Some(String::new());
                    }
                    let list = self.select(cargo(["test", "--quiet"])).args(targets);
                    list.args(["--"]).args(rest.iter().cloned()).args(["--list"]).read().ok()
                };
                let hidden = list(self.test_targets(|package, it| self.hides(package, it)))?;
                let others = list(self.test_targets(|package, it| !self.hides(package, it)))?;
                let modules = self.hidden_modules();
                Some(count_listed(&hidden, &[""]) + count_listed(&others, modules))
            }
        }
    }

    /// The chosen packages whose tests can run.
    fn packages(&self) -> impl Iterator<Item = &Package> {
        let chosen = &self.args.package;
        self.workspace.packages.iter().filter(move |package| {
            (chosen.is_empty() || chosen.contains(&package.name))
                && (self.plan.containers || package.name != CONTAINER_TESTS)
        })
    }

    /// Adds the packages, features and profile.
    fn select(&self, cmd: Cmd) -> Cmd {
        let cmd = if !self.args.package.is_empty() {
            // A name that is no member is cargo's to complain about.
            let left_out = |name: &&String| !self.plan.containers && *name == CONTAINER_TESTS;
            let names = self.args.package.iter().filter(|name| !left_out(name));
            cmd.args(names.flat_map(|name| ["--package", name.as_str()]))
        } else if self.plan.containers || self.workspace.find(CONTAINER_TESTS).is_none() {
            cmd.args(["--workspace"])
        } else {
            cmd.args(["--workspace", "--exclude", CONTAINER_TESTS])
        };
        let cmd = cmd.args(["--all-features"]);
        let cmd = if self.args.release { cmd.args(["--release"]) } else { cmd };
        if self.args.deep {
            // New seeds each time; the test prints them.
            let seed = RandomState::new().hash_one(0) >> 16;
            cmd.env("MEMORY_MODEL_PROGRAMS", DEEP)
                .env("MEMORY_MODEL_FIRST_SEED", &seed.to_string())
                .env("MEMORY_MODEL_ROLLBACKS", DEEP_ROLLBACKS)
                .env("MEMORY_MODEL_FIRST_ROLLBACK", &seed.to_string())
                .env("MEMORY_MODEL_EXPIRIES", DEEP_EXPIRIES)
                .env("MEMORY_MODEL_FIRST_EXPIRY", &seed.to_string())
                .env("MEMORY_MODEL_PROMPTS", DEEP_PROMPTS)
                .env("MEMORY_MODEL_FIRST_PROMPTS", &seed.to_string())
                .env("MEMORY_MODEL_PAST", DEEP_PAST)
                .env("MEMORY_MODEL_FIRST_PAST", &seed.to_string())
                .env("MEMORY_MODEL_OUTSIDE", DEEP_OUTSIDE)
                .env("MEMORY_MODEL_FIRST_OUTSIDE", &seed.to_string())
                .env("MEMORY_WATCH_EVENTS", DEEP_WATCH_EVENTS)
                .env("MEMORY_RENDER_HISTORIES", "50000")
                .env("MEMORY_SWEEP", "whole")
        } else {
            cmd
        }
    }

    /// Whether all tests of this target are skipped.
    fn hides(&self, package: &Package, target: &Target) -> bool {
        self.plan.hidden.is_some_and(|hidden| hidden.has_target(package, target))
    }

    /// Parts of the names of the tests that are skipped in targets that run.
    fn hidden_modules(&self) -> &'static [&'static str] {
        self.plan.hidden.map_or(&[], Hidden::modules)
    }

    /// The targets for `cargo test`, which cannot leave some out but by naming all others.
    fn targets(&self) -> Vec<String> {
        if self.plan.hidden.is_none() {
            return vec![TARGETS.into()];
        }
        let mut targets = self.test_targets(|package, target| !self.hides(package, target));
        for (kind, flag) in [("lib", "--lib"), ("bin", "--bins")] {
            if self.packages().any(|package| package.has_target(kind)) {
                targets.push(flag.into());
            }
        }
        targets
    }

    fn test_targets(&self, choose: impl Fn(&Package, &Target) -> bool) -> Vec<String> {
        let targets = self.packages().flat_map(|package| {
            let tests = package.targets.iter().filter(|t| t.kind.iter().any(|kind| kind == "test"));
            tests.map(move |target| (package, target))
        });
        let chosen = targets.filter(|(package, target)| choose(package, target));
        chosen.flat_map(|(_, target)| ["--test".to_owned(), target.name.clone()]).collect()
    }
}

/// Nextest's arguments narrowed down by a filter. It joins several filters by "or", so one that is
/// there already is narrowed down itself.
fn filtered(rest: &[String], filter: &str) -> Vec<String> {
    const FLAGS: [&str; 3] = ["-E", "--filterset", "--filter-expr"];
    let narrow = |old: &str| format!("({old}) & ({filter})");
    let mut args = Vec::new();
    let mut has_filter = false;
    let mut is_value = false;
    for arg in rest {
        let assigned = FLAGS.iter().find_map(|flag| {
            let value = arg.strip_prefix(flag)?.strip_prefix('=')?;
            Some(format!("{flag}={}", narrow(value)))
        });
        has_filter |= is_value || assigned.is_some();
        args.push(if is_value { narrow(arg) } else { assigned.unwrap_or_else(|| arg.clone()) });
        is_value = !is_value && FLAGS.contains(&arg.as_str());
    }
    if !has_filter {
        args.splice(0..0, ["-E".to_owned(), filter.to_owned()]);
    }
    args
}

const TEST_THREADS: &str = "NEXTEST_TEST_THREADS";

/// How many tests run at once: at least four, because two of them may be such that start servers, which wait
/// more than they compute (see `.config/nextest.toml`).
fn test_threads() -> usize {
    thread::available_parallelism().map_or(4, |cores| cores.get().max(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_narrows_down_what_was_asked_for() {
        let filtered = |rest: &[&str]| {
            let rest: Vec<_> = rest.iter().map(ToString::to_string).collect();
            filtered(&rest, "f").join(" ")
        };
        assert_eq!(filtered(&[]), "-E f");
        assert_eq!(filtered(&["name", "--", "--exact"]), "-E f name -- --exact");
        assert_eq!(filtered(&["-E", "a | b", "name"]), "-E (a | b) & (f) name");
        assert_eq!(filtered(&["--filterset=a", "-E", "b"]), "--filterset=(a) & (f) -E (b) & (f)");
    }
}
