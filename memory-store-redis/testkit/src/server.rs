use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, IntoConnectionInfo as _, RedisResult, Value};
use tempfile::TempDir;

use crate::port::free_port;
use crate::process::Process;
use crate::wait::until;

/// How to install the missing program; a test that cannot run prints it.
pub(crate) const HOW_TO_GET_ONE: &str = "install one (apt-get install redis-server; brew install \
     redis), set MEMORY_TEST_REDIS_URL, or run `cargo xtask test`, which sees to it";

/// A Redis or Valkey server on a free loopback port, with a separate folder and no persistence unless its
/// arguments ask for it.
///
/// It can be killed, paused and started again through a shared reference, while others use it.
/// Dropping it kills it; so does the end of the test process, in any way.
#[derive(Debug)]
pub struct Server {
    program: PathBuf,
    /// Held for its `Drop`, which removes the folder.
    dir: TempDir,
    port: u16,
    args: Vec<String>,
    url: String,
    process: Mutex<Option<Process>>,
    /// `INFO` calls by the testkit that the server has counted since the last reset of its statistics.
    own_infos: AtomicU64,
    own_resets: AtomicU64,
}

impl Server {
    /// Starts one. It answers when this returns.
    ///
    /// # Panics
    ///
    /// If there is no such program, or it does not answer within 30 s.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with more arguments, such as `["--appendonly", "yes"]`; relative paths are taken
    /// from its folder.
    ///
    /// # Panics
    ///
    /// Like [`start`](Self::start), and if the server refuses an argument.
    pub async fn start_with(args: &[&str]) -> Self {
        Self::start_by(|port, dir| {
            let (port, dir) = (port.to_string(), dir.display().to_string());
            let ours = ["--port", &port, "--bind", "127.0.0.1", "--dir", &dir, "--save", ""];
            ours.iter().chain(args).map(ToString::to_string).collect()
        })
        .await
    }

    /// Starts one by a command line made for its port and folder.
    pub(crate) async fn start_by(args: impl Fn(u16, &Path) -> Vec<String> + Send + Sync) -> Self {
        let program = program().unwrap_or_else(|| panic!("no Redis server here: {HOW_TO_GET_ONE}"));
        loop {
            let dir = tempfile::tempdir().expect("a temporary folder");
            let port = free_port();
            let args = spelled_for(&program, args(port, dir.path()));
            let password = value_of(&args, "--requirepass").map(|it| format!(":{it}@"));
            let server = Self {
                program: program.clone(),
                url: format!("redis://{}127.0.0.1:{port}", password.unwrap_or_default()),
                dir,
                port,
                args,
                process: Mutex::new(None),
                own_infos: AtomicU64::new(0),
                own_resets: AtomicU64::new(0),
            };
            match server.launch(&[]).await {
                Ok(()) => return server,
                // Another process took the port in between.
                Err(log) if log.contains("in use") => {}
                Err(log) => panic!("{server:?} did not start:\n{log}"),
            }
        }
    }

    /// `redis://127.0.0.1:<port>`, with the password of `--requirepass` if there is one.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port, the same after each restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder it runs in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process().as_ref().map(Process::id)
    }

    /// Whether it was started and neither killed nor stopped since, nor ended by itself.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process().as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// Sends SIGKILL; the process has ended when this returns.
    pub fn kill(&self) {
        drop(self.process().take());
    }

    /// SIGSTOP: connections stay, nothing is answered.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// SIGCONT: the server now executes the requests that arrived in the meantime.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Sends SIGTERM, which shuts a server down cleanly; it has ended when this returns.
    ///
    /// # Panics
    ///
    /// If it does not run, or does not end within 30 s.
    pub async fn stop(&self) {
        self.signal("TERM");
        self.signal("CONT");
        until(
            "end of the server",
            async || {
                if self.is_running() { Err(self.log_tail()) } else { Ok(()) }
            },
        )
        .await;
        self.kill();
    }

    /// Starts it again, on the same port, in the same folder, with the same arguments; a server that
    /// still runs is killed first. Without persistence it is empty afterwards.
    ///
    /// # Panics
    ///
    /// If it does not answer within 30 s.
    pub async fn restart(&self) {
        self.restart_with(&[]).await;
    }

    /// The same, with more arguments for this time.
    pub(crate) async fn restart_with(&self, more: &[String]) {
        self.kill();
        until("restart of the server", async || self.launch(more).await).await;
    }

    /// Sends a command over a separate connection: the state of a connection, such as the writes that `WAIT`
    /// waits for, starts over each time.
    ///
    /// # Panics
    ///
    /// If there is no answer within 5 s, or the answer is an error.
    pub async fn command(&self, args: &[&str]) -> Value {
        self.query(args).await
    }

    /// The same, with the answer as a Rust type.
    ///
    /// # Panics
    ///
    /// Like [`command`](Self::command), and if the answer is of another type.
    pub async fn query<T: FromRedisValue>(&self, args: &[&str]) -> T {
        let answer = self.try_query(args).await;
        answer.unwrap_or_else(|error| panic!("{args:?} on {}: {error}", self.url))
    }

    /// The same for a command that may fail.
    ///
    /// # Errors
    ///
    /// The error of the server, or a timeout if there is no answer within 5 s.
    pub async fn try_query<T: FromRedisValue>(&self, args: &[&str]) -> RedisResult<T> {
        command(args).query_async(&mut self.connection().await?).await
    }

    /// Sends commands over one connection, each after the answer to the one before.
    ///
    /// # Panics
    ///
    /// Like [`command`](Self::command).
    pub async fn commands(&self, commands: &[&[&str]]) -> Vec<Value> {
        let mut answers = Vec::new();
        let link = self.connection().await;
        let mut link = link.unwrap_or_else(|error| panic!("cannot reach {}: {error}", self.url));
        for args in commands {
            let answer = command(args).query_async(&mut link).await;
            answers
                .push(answer.unwrap_or_else(|error| panic!("{args:?} on {}: {error}", self.url)));
        }
        answers
    }

    /// The connections of clients, as lines of `CLIENT LIST`, except those of replicas and masters, of
    /// Sentinels, and of the request itself.
    ///
    /// # Panics
    ///
    /// Like [`command`](Self::command).
    pub async fn clients(&self) -> Vec<String> {
        let others = [" flags=S ", " flags=M ", " name=sentinel-", " cmd=client|list "];
        let all: String = self.query(&["CLIENT", "LIST"]).await;
        let is_client = |line: &&str| !others.iter().any(|other| line.contains(other));
        all.lines().filter(is_client).map(ToOwned::to_owned).collect()
    }

    /// How often each command was called since the last [`reset_stats`](Self::reset_stats), by the
    /// names that Redis prints in `INFO commandstats`, such as `evalsha` or, since 7.0, `client|setinfo`.
    ///
    /// Commands that scripts call are included; the testkit's own requests are not.
    ///
    /// # Panics
    ///
    /// Like [`command`](Self::command).
    pub async fn command_counts(&self) -> BTreeMap<String, u64> {
        let own_infos = self.own_infos.load(Ordering::SeqCst);
        let own_resets = self.own_resets.load(Ordering::SeqCst);
        let stats = self.info("commandstats").await.unwrap_or_else(|error| panic!("{error}"));
        let mut counts: BTreeMap<String, u64> = stats
            .iter()
            .filter_map(|(name, stats)| {
                let calls = stats.strip_prefix("calls=")?.split(',').next()?;
                Some((name.strip_prefix("cmdstat_")?.to_owned(), calls.parse().ok()?))
            })
            .collect();
        // Before 7.0 only whole commands were counted.
        let resets = ["config|resetstat", "config"].map(|name| (name, own_resets));
        for (name, own) in resets.into_iter().chain([("info", own_infos)]) {
            counts.entry(name.to_owned()).and_modify(|calls| *calls = calls.saturating_sub(own));
        }
        counts.retain(|_, calls| *calls > 0);
        counts
    }

    /// Resets the counts.
    ///
    /// # Panics
    ///
    /// Like [`command`](Self::command).
    pub async fn reset_stats(&self) {
        self.command(&["CONFIG", "RESETSTAT"]).await;
        self.own_infos.store(0, Ordering::SeqCst);
        self.own_resets.store(1, Ordering::SeqCst);
    }

    /// The lines of a section of `INFO`.
    pub(crate) async fn info(&self, section: &str) -> Result<BTreeMap<String, String>, String> {
        let text: RedisResult<String> = self.try_query(&["INFO", section]).await;
        let text = text.map_err(|error| format!("INFO on {}: {error}", self.url))?;
        self.own_infos.fetch_add(1, Ordering::SeqCst);
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        Ok(lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Starts the process and waits until it answers; the end of its log if it ends instead.
    async fn launch(&self, more: &[String]) -> Result<(), String> {
        let log = self.log();
        let process = Process::start(&self.program, self.args.iter().chain(more), self.dir(), &log);
        let pid = process.id().to_string();
        *self.process() = Some(process);
        self.own_infos.store(0, Ordering::SeqCst);
        self.own_resets.store(0, Ordering::SeqCst);
        let started = until("answer of the server", async || {
            if !self.is_running() {
                return Ok(Err(self.log_tail()));
            }
            let info = self.info("everything").await?;
            let says = |name: &str, value: &str| info.get(name).is_none_or(|it| it == value);
            // Another server may have taken the port first.
            if says("process_id", &pid) && says("loading", "0") {
                Ok(Ok(()))
            } else {
                Err("another process answers, or it still loads its data".to_owned())
            }
        });
        let result = started.await;
        if result.is_err() {
            self.kill();
        }
        result
    }

    async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let info = self.url.as_str().into_connection_info()?;
        // Only the requested command, because tests count commands.
        let quiet = info.redis_settings().clone().set_skip_set_lib_name();
        let client = redis::Client::open(info.set_redis_settings(quiet))?;
        let limit = Some(Duration::from_secs(5));
        let config = AsyncConnectionConfig::new();
        let config = config.set_connection_timeout(limit).set_response_timeout(limit);
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    fn signal(&self, name: &str) {
        let process = self.process();
        process.as_ref().unwrap_or_else(|| panic!("{} does not run", self.url)).signal(name);
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// The last lines of its log.
    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(10)..).unwrap_or_default().join("\n")
    }
}

fn command(args: &[&str]) -> redis::Cmd {
    let mut command = redis::Cmd::new();
    for arg in args {
        command.arg(*arg);
    }
    command
}

/// The arguments that this server supports: before 7.0 every client may use `DEBUG`, and the option does not
/// exist.
fn spelled_for(program: &Path, mut args: Vec<String>) -> Vec<String> {
    let old = ["v=6.", "v=5."].iter().any(|version| version_of(program).contains(version));
    if let Some(at) = args.iter().position(|arg| arg == "--enable-debug-command").filter(|_| old) {
        args.drain(at..at + 2);
    }
    args
}

/// The version line that the server prints, such as `Redis server v=7.0.15 sha=...`.
fn version_of(program: &Path) -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let output = std::process::Command::new(program).arg("--version").output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        String::from_utf8_lossy(&output.stdout).into_owned()
    })
}

/// `MEMORY_TEST_REDIS_SERVER`, or the first server on the `PATH`.
pub(crate) fn program() -> Option<PathBuf> {
    if let Some(named) = env::var_os("MEMORY_TEST_REDIS_SERVER").filter(|it| !it.is_empty()) {
        return Some(named.into());
    }
    let path = env::var_os("PATH")?;
    let on_path =
        |name: &str| env::split_paths(&path).map(|dir| dir.join(name)).find(|it| it.is_file());
    on_path("redis-server").or_else(|| on_path("valkey-server"))
}

fn value_of<'a>(args: &'a [String], name: &str) -> Option<&'a String> {
    args.iter().skip_while(|arg| *arg != name).nth(1)
}
