//! External needs of tests: a Redis server, the program to start servers, Docker.
//!
//! The location of a test determines its needs, so that tests contain no skip logic:
//!
//! - tests in a binary `redis_server_*` or a module `on_redis_servers` start servers themselves: they need the program;
//! - tests in any other binary `redis_*` or a module `on_redis` need some server, by `MEMORY_TEST_REDIS_URL` or by the
//!   program;
//! - the tests of the package `memory-redis-container-tests` need Docker, whatever their names.
//!
//! Tests that cannot run are skipped by these names, counted, and reported.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::run::{command, succeeds};
use crate::workspace::{Package, Target, Workspace};

pub(crate) const CONTAINER_TESTS: &str = "memory-redis-container-tests";

/// A crate whose tests use it has tests on servers.
const SERVERS_TESTKIT: &str = "memory-redis-testkit";

/// Tests that are skipped because there is no server for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hidden {
    /// All that need a server.
    AnyServer,
    /// Those that start servers.
    OwnServers,
}

impl Hidden {
    /// As a nextest filter. It uses patterns, because nextest refuses an exact name that does not exist.
    pub(crate) const fn filter(self) -> &'static str {
        match self {
            Self::AnyServer => {
                "(binary(/^redis_/) | test(/(^|::)on_redis(_servers)?::/)) \
                 - package(/^memory-redis-container-tests$/)"
            }
            Self::OwnServers => {
                "(binary(/^redis_server_/) | test(/(^|::)on_redis_servers::/)) \
                 - package(/^memory-redis-container-tests$/)"
            }
        }
    }

    /// Whether all tests of this test target are skipped, for runners without filters.
    pub(crate) fn has_target(self, package: &Package, target: &Target) -> bool {
        let prefix = match self {
            Self::AnyServer => "redis_",
            Self::OwnServers => "redis_server_",
        };
        package.name != CONTAINER_TESTS && target.name.starts_with(prefix)
    }

    /// Parts of the names of the tests that are skipped in other targets.
    pub(crate) const fn modules(self) -> &'static [&'static str] {
        match self {
            Self::AnyServer => &["on_redis::", "on_redis_servers::"],
            Self::OwnServers => &["on_redis_servers::"],
        }
    }
}

const HOW_TO_GET_ONE: &str = "install one (apt-get install redis-server; brew install redis), or set \
     MEMORY_TEST_REDIS_URL to one that tests may write to";

/// The possible values of `--require`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    /// Tests on Redis servers
    Redis,
    /// Tests on containers
    Docker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Servers,
    Docker,
}

/// The available means to run tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    url: bool,
    program: Option<PathBuf>,
    docker: bool,
}

/// Tests that cannot run here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) way: Way,
    pub(crate) why: String,
    /// Whether the run fails because of it, whatever was required.
    is_fatal: bool,
}

/// The tests that can run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Whether container tests run. Else they are not even built.
    pub(crate) containers: bool,
    /// The tests to skip.
    pub(crate) hidden: Option<Hidden>,
    pub(crate) missing: Vec<Missing>,
    /// Whether there are tests on containers that were not asked for.
    pub(crate) unasked: bool,
    /// A description of the servers that the tests use.
    pub(crate) ways: Vec<String>,
}

/// When the tests on containers are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Containers {
    Wanted,
    /// Only if their package is named.
    IfNamed,
}

impl Plan {
    /// Looks for what the tests of these packages need (all packages, if none is named), and installs
    /// a server if there is none and it may.
    ///
    /// The tests on containers are among them only if they are asked for.
    pub(crate) fn make(
        workspace: &Workspace,
        packages: &[String],
        install: Installing,
        containers: Containers,
    ) -> Self {
        let needs = needs(workspace, packages, containers);
        let has_url = env::var("MEMORY_TEST_REDIS_URL").is_ok_and(|url| !url.is_empty());
        let mut found = Found { url: has_url, program: program(), docker: false };
        let needs_server = needs.contains(&Need::Servers);
        if needs_server && !found.url && found.program.is_none() {
            get_server(install);
            found.program = program();
        }
        if needs.contains(&Need::Docker) && succeeds("docker", &["info"]) {
            found.docker = true;
            provide_image(found.program.as_deref());
        }
        let mut plan = decide(&needs, &found);
        plan.unasked = containers == Containers::IfNamed && packages.is_empty();
        if needs_server && found.url {
            plan.ways.push("the Redis server of MEMORY_TEST_REDIS_URL".into());
        }
        if let Some(program) = found.program.filter(|_| needs_server) {
            plan.ways.push(format!("Redis servers of the tests' own, by {}", program.display()));
        }
        if plan.containers {
            plan.ways.push("containers, for Docker answers".into());
        }
        for way in &plan.ways {
            eprintln!("tests run with {way}");
        }
        plan
    }
}

/// Fails if required tests did not run.
pub(crate) fn judge(missing: &[&Missing], required: &[Way]) -> Result<()> {
    let wanted = missing.iter().filter(|it| it.is_fatal || required.contains(&it.way));
    let whys: Vec<_> = wanted.map(|it| it.why.as_str()).collect();
    if whys.is_empty() { Ok(()) } else { bail!("not all tests could be run: {}", whys.join("; ")) }
}

fn needs(workspace: &Workspace, packages: &[String], containers: Containers) -> BTreeSet<Need> {
    let chosen = workspace.packages.iter().filter(|package| {
        let is_named = packages.contains(&package.name);
        let is_asked_for = containers == Containers::Wanted || package.name != CONTAINER_TESTS;
        is_named || (packages.is_empty() && is_asked_for)
    });
    chosen
        .filter_map(|package| {
            if package.name == CONTAINER_TESTS {
                return Some(Need::Docker);
            }
            let uses_servers = package.name == SERVERS_TESTKIT
                || package.dependencies.iter().any(|it| it.name == SERVERS_TESTKIT);
            uses_servers.then_some(Need::Servers)
        })
        .collect()
}

fn decide(needs: &BTreeSet<Need>, found: &Found) -> Plan {
    let mut plan = Plan { containers: needs.contains(&Need::Docker), ..Plan::default() };
    let is_without_program = needs.contains(&Need::Servers) && found.program.is_none();
    if is_without_program && !found.url {
        plan.hidden = Some(Hidden::AnyServer);
        let why = format!("there is no Redis server: {HOW_TO_GET_ONE}");
        plan.missing.push(Missing { way: Way::Redis, why, is_fatal: true });
    } else if is_without_program {
        plan.hidden = Some(Hidden::OwnServers);
        let why = "they start their servers, and redis-server is not on the PATH".to_owned();
        plan.missing.push(Missing { way: Way::Redis, why, is_fatal: false });
    }
    if plan.containers && !found.docker {
        plan.containers = false;
        let why = "Docker does not answer (`docker info`)".to_owned();
        plan.missing.push(Missing { way: Way::Docker, why, is_fatal: false });
    }
    plan
}

/// How many tests a package has, without building it.
pub(crate) fn count_in_sources(package: &Package) -> u64 {
    let files = fs::read_dir(package.dir().join("tests")).into_iter().flatten().flatten();
    let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    let is_test = |line: &&str| line.starts_with("#[test]") || line.starts_with("#[tokio::test");
    texts.map(|text| text.lines().map(str::trim_start).filter(is_test).count() as u64).sum()
}

/// The program that tests start servers with; the testkit looks for it in the same way.
fn program() -> Option<PathBuf> {
    if let Some(named) = env::var_os("MEMORY_TEST_REDIS_SERVER").filter(|it| !it.is_empty()) {
        return Some(named.into());
    }
    on_path("redis-server").or_else(|| on_path("valkey-server"))
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(name)).find(|it| it.is_file())
}

/// Whether a missing server may be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Installing {
    Allowed,
    Forbidden,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    Root,
    Other,
}

/// How this system gets a server.
#[derive(Debug, PartialEq, Eq)]
enum Installation {
    Run(&'static [&'static str]),
    Tell(&'static str),
}

fn installation(may: Installing, user: User, has: impl Fn(&str) -> bool) -> Option<Installation> {
    use Installation::{Run, Tell};
    if has("apt-get") {
        let run =
            Run(&["apt-get update", "apt-get install --yes --no-install-recommends redis-server"]);
        Some(if may == Installing::Allowed && user == User::Root {
            run
        } else {
            Tell("sudo apt-get install redis-server")
        })
    } else if has("brew") {
        Some(if may == Installing::Allowed {
            Run(&["brew install redis"])
        } else {
            Tell("brew install redis")
        })
    } else {
        None
    }
}

fn get_server(may_install: Installing) {
    let is_root = command("id", ["-u"]).read().is_ok_and(|id| id.trim() == "0");
    let user = if is_root { User::Root } else { User::Other };
    match installation(may_install, user, |name| on_path(name).is_some()) {
        Some(Installation::Run(commands)) => {
            eprintln!(
                "there is no Redis server for the tests: installing one (--no-install forbids it)"
            );
            for line in commands {
                let mut words = line.split(' ');
                let installed = command(words.next().unwrap_or_default(), words).run();
                if let Err(error) = installed {
                    eprintln!("{error:#}");
                    return;
                }
            }
        }
        Some(Installation::Tell(line)) => {
            eprintln!("there is no Redis server for the tests; to get one: {line}");
        }
        None => eprintln!("there is no Redis server for the tests; {HOW_TO_GET_ONE}"),
    }
}

/// Makes an image of the installed server if Docker has none: there may be no registry to ask.
fn provide_image(program: Option<&Path>) {
    let is_redis = program.and_then(Path::file_name).is_some_and(|name| name == "redis-server");
    let is_named = env::var_os("MEMORY_TEST_REDIS_IMAGE").is_some();
    let has = |image| succeeds("docker", &["image", "inspect", image]);
    if is_named || !is_redis || has("redis:7-local") || has("redis:7-alpine") {
        return;
    }
    if let Err(error) = command(".ci/redis-image", [""; 0]).run() {
        eprintln!("{error:#}; Docker will ask its registry for one");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workspace() -> Workspace {
        let package = |name: &str, tests: &[&str], uses: &str| {
            let target = |name: &&str| json!({"name": name, "kind": ["test"]});
            let lib = json!({"name": "redis_lib", "kind": ["lib"]});
            let targets: Vec<_> = tests.iter().map(target).chain([lib]).collect();
            json!({
                "name": name, "manifest_path": "Cargo.toml", "features": {}, "targets": targets,
                "publish": null, "dependencies": [{"name": uses, "rename": null, "kind": "dev"}],
            })
        };
        let packages = [
            package("plain", &["model"], "other"),
            package("lock", &["model", "redis_lock"], SERVERS_TESTKIT),
            package("store", &["redis_store", "redis_server_faults"], SERVERS_TESTKIT),
            package(SERVERS_TESTKIT, &["redis_any"], "other"),
            package(CONTAINER_TESTS, &["redis_container"], SERVERS_TESTKIT),
        ];
        serde_json::from_value(json!({ "packages": packages })).expect("it is well formed")
    }

    fn needs_of(packages: &[&str]) -> Vec<Need> {
        let packages: Vec<_> = packages.iter().map(ToString::to_string).collect();
        needs(&workspace(), &packages, Containers::Wanted).into_iter().collect()
    }

    fn url() -> Found {
        Found { url: true, ..Found::default() }
    }

    fn program() -> Found {
        Found { program: Some("redis-server".into()), ..Found::default() }
    }

    #[test]
    fn needs_follow_from_the_chosen_packages() {
        assert_eq!(needs_of(&[]), [Need::Servers, Need::Docker]);
        assert_eq!(needs_of(&["plain"]), []);
        assert_eq!(needs_of(&["plain", "lock"]), [Need::Servers]);
        assert_eq!(needs_of(&[SERVERS_TESTKIT]), [Need::Servers]);
        assert_eq!(needs_of(&[CONTAINER_TESTS]), [Need::Docker]);
        let unasked = needs(&workspace(), &[], Containers::IfNamed);
        assert_eq!(unasked.into_iter().collect::<Vec<_>>(), [Need::Servers]);
        let named = needs(&workspace(), &[CONTAINER_TESTS.to_owned()], Containers::IfNamed);
        assert_eq!(named.into_iter().collect::<Vec<_>>(), [Need::Docker]);
    }

    #[test]
    fn only_tests_that_cannot_run_are_skipped() {
        let all = needs(&workspace(), &[], Containers::Wanted);
        let plan = |found: &Found| {
            let plan = decide(&all, found);
            let missing: Vec<_> = plan.missing.iter().map(|it| (it.way, it.is_fatal)).collect();
            (plan.hidden, plan.containers, missing)
        };
        assert_eq!(plan(&Found { docker: true, ..program() }), (None, true, vec![]));
        assert_eq!(
            plan(&Found { docker: true, ..url() }),
            (Some(Hidden::OwnServers), true, vec![(Way::Redis, false)])
        );
        assert_eq!(
            plan(&Found::default()),
            (Some(Hidden::AnyServer), false, vec![(Way::Redis, true), (Way::Docker, false)])
        );
        // A plain crate needs nothing.
        assert_eq!(decide(&BTreeSet::new(), &Found::default()), Plan::default());
    }

    #[test]
    fn a_runner_without_filters_leaves_out_the_same() {
        let workspace = workspace();
        let hidden = |hidden: Hidden| {
            let targets = workspace.packages.iter().flat_map(|package| {
                package.targets.iter().filter(|t| t.kind != ["lib"]).map(move |t| (package, t))
            });
            let names = targets.filter(|(package, target)| hidden.has_target(package, target));
            names.map(|(_, target)| target.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(
            hidden(Hidden::AnyServer),
            ["redis_lock", "redis_store", "redis_server_faults", "redis_any"]
        );
        assert_eq!(hidden(Hidden::OwnServers), ["redis_server_faults"]);
    }

    #[test]
    fn run_fails_without_required_servers() {
        let all = needs(&workspace(), &[], Containers::Wanted);
        let verdict = |found: &Found, required: &[Way]| {
            let plan = decide(&all, found);
            judge(&plan.missing.iter().collect::<Vec<_>>(), required).is_ok()
        };
        assert!(!verdict(&Found { docker: true, ..Found::default() }, &[]));
        assert!(verdict(&url(), &[]));
        assert!(!verdict(&Found { docker: true, ..url() }, &[Way::Redis]));
        assert!(verdict(&program(), &[Way::Redis]));
        assert!(!verdict(&program(), &[Way::Redis, Way::Docker]));
    }

    #[test]
    fn server_is_installed_only_if_allowed_and_possible() {
        use Installing::{Allowed, Forbidden};
        use User::{Other, Root};
        let with = |may, user, manager| installation(may, user, |name| name == manager);
        assert!(matches!(with(Allowed, Root, "apt-get"), Some(Installation::Run(_))));
        assert!(matches!(with(Allowed, Other, "apt-get"), Some(Installation::Tell(_))));
        assert!(matches!(with(Forbidden, Root, "apt-get"), Some(Installation::Tell(_))));
        assert!(matches!(with(Allowed, Other, "brew"), Some(Installation::Run(_))));
        assert_eq!(with(Allowed, Root, "none"), None);
    }
}
