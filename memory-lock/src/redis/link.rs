//! The way to the server that leases and store share: sending, sending again, confirmations.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memory_core::LeaseDomain;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::time::Instant;

use super::acknowledge::Acknowledge;
use super::config::RedisConfig;
use super::connect::{Connection, asked_node, connect};
use super::failure::{RedisFailure, RedisFault};
use super::keyspace::Keyspace;
use super::script::Script;
use super::server::{self, Confirmation, ServerStatus};
use super::trunk::Trunk;
use super::wakes::Wakes;
use crate::error::Applied;

/// The way to a server, a Cluster or a master behind Sentinels, for a lease backend and a store
/// together. Clones are cheap and share the connection.
///
/// One multiplexed connection carries the requests of all tasks. It is made anew, for the next request and
/// those that come meanwhile, when it broke, when the server turned out to be no master any more, when
/// [`TIMEOUTS`](Self::TIMEOUTS) requests in a row got no answer, and when callers who gave up earlier have
/// waited in all for longer than one is waited for, without an answer to anybody. Nothing is sent twice here
/// unless the server itself said that it did not carry it out (a script that it does not know, a slot that
/// moved).
#[derive(Clone)]
pub struct RedisLink {
    inner: Arc<Inner>,
}

struct Inner {
    config: RedisConfig,
    keys: Keyspace,
    domain: LeaseDomain,
    wakes: Arc<Wakes>,
    numbers: AtomicU64,
    requests: Arc<Trunk>,
    /// Writes that wait for a confirmation have a connection of their own, for the server answers
    /// nothing else on it meanwhile.
    confirmed: Arc<Trunk>,
    confirmation: Option<Confirmation>,
    sharded_channels: bool,
}

/// What came of a write.
#[derive(Debug)]
pub struct Written {
    /// The script's answer.
    pub answer: Value,
    /// Why it does not count as acknowledged, if the link asks for more than the server's memory and
    /// that was not reached.
    pub unconfirmed: Option<RedisFault>,
}

impl RedisLink {
    /// After how many requests in a row without an answer the connection is replaced.
    pub const TIMEOUTS: u32 = Trunk::TIMEOUTS;

    /// Connects, and looks whether the server can do what is asked of it.
    ///
    /// # Errors
    /// [`RedisFault`], within the configuration's connect timeout and one answer: nobody answers, what
    /// answers is no Redis or not the kind that the URL names, is too old, is a replica, may evict
    /// keys that have no TTL, or cannot give the level of acknowledgement.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub async fn open(config: RedisConfig) -> Result<Self, RedisFault> {
        let wakes = Arc::new(Wakes::default());
        let mut connection = connect(&config, &wakes, 1).await?;
        let facts = server::examine(&mut connection, &config).await?;
        let inner = Inner {
            keys: config.keyspace(),
            domain: config.domain(),
            config,
            wakes,
            numbers: AtomicU64::new(2),
            requests: Arc::new(Trunk::with(connection, 1)),
            confirmed: Arc::default(),
            confirmation: facts.confirmation,
            sharded_channels: facts.sharded_channels,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// How it was opened.
    #[must_use]
    pub fn config(&self) -> &RedisConfig {
        &self.inner.config
    }

    /// Where things lie.
    #[must_use]
    pub fn keys(&self) -> &Keyspace {
        &self.inner.keys
    }

    /// The place where leases live, for comparison.
    #[must_use]
    pub fn domain(&self) -> &LeaseDomain {
        &self.inner.domain
    }

    /// What a write has reached when it is acknowledged.
    #[must_use]
    pub fn acknowledge(&self) -> Acknowledge {
        self.inner.config.acknowledge()
    }

    /// Whether writes wait for a confirmation after they were carried out; a retry then has to write
    /// something too, or it would have nothing to wait for.
    #[must_use]
    pub fn confirms(&self) -> bool {
        self.inner.confirmation.is_some()
    }

    /// Calls a script, in one request.
    ///
    /// # Errors
    /// [`RedisFault`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the script carried out or not.
    pub async fn run(&self, script: &Script, call: &Cmd) -> Result<Value, RedisFault> {
        self.inner.request(&self.inner.requests, Request::Script(script, call), None).await
    }

    /// Calls a script that writes, in one request with the confirmation that the link asks for.
    ///
    /// # Errors
    /// [`RedisFault`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the script carried out or not.
    pub async fn write(&self, script: &Script, call: &Cmd) -> Result<Written, RedisFault> {
        let request = Request::Script(script, call);
        let Some(confirmation) = self.inner.confirmation else {
            let answer = self.inner.request(&self.inner.requests, request, None).await?;
            return Ok(Written { answer, unconfirmed: None });
        };
        let both = self.inner.request(&self.inner.confirmed, request, Some(confirmation)).await?;
        let Value::Array(parts) = both else { return Err(RedisFault::odd_answer()) };
        let Ok([answer, confirmed]) = <[Value; 2]>::try_from(parts) else {
            return Err(RedisFault::odd_answer());
        };
        let unconfirmed = confirmation.check(&confirmed);
        Ok(Written { answer, unconfirmed })
    }

    /// Sends a command, in one request.
    ///
    /// # Errors
    /// [`RedisFault`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the command carried out or not.
    pub async fn send(&self, cmd: &Cmd) -> Result<Value, RedisFault> {
        self.inner.request(&self.inner.requests, Request::Command(cmd), None).await
    }

    /// Every key below the prefix that holds a memory, of all masters, by `SCAN`.
    ///
    /// # Errors
    /// [`RedisFault`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn scan_memories(&self) -> Result<Vec<String>, RedisFault> {
        // Many requests, so that to have waited for all of them says nothing.
        let (mut connection, number) = self.inner.connection(&self.inner.requests).await?;
        let found = server::scan(&mut connection, &self.inner.keys.memories()).await;
        self.inner.told(number, found.map_err(RedisFault::from))
    }

    /// What the server says about itself.
    ///
    /// # Errors
    /// [`RedisFault`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn status(&self) -> Result<ServerStatus, RedisFault> {
        let mut over = self.inner.connection(&self.inner.requests).await?;
        let ask = async |connection: &mut Connection| server::status(connection).await;
        let status = self.inner.ask_over(&mut over, ask).await;
        self.inner.told(over.1, status)
    }

    pub(super) fn wakes(&self) -> &Arc<Wakes> {
        &self.inner.wakes
    }

    /// The command that announces a release.
    pub(super) fn publish(&self) -> &'static str {
        if self.inner.sharded_channels { "SPUBLISH" } else { "PUBLISH" }
    }

    /// Listens to a channel; false if it did so already.
    pub(super) async fn listen(&self, channel: String) -> Result<bool, RedisFault> {
        let (mut connection, number) = self.inner.connection(&self.inner.requests).await?;
        if self.inner.wakes.listens(&channel, number) {
            return Ok(false);
        }
        connection.subscribe(&channel, self.inner.sharded_channels).await?;
        self.inner.wakes.listening(channel, number);
        Ok(true)
    }

    /// Whether all keys of a request must lie in one slot.
    pub(super) fn is_cluster(&self) -> bool {
        self.inner.is_cluster()
    }
}

#[derive(Clone, Copy)]
enum Request<'a> {
    Script(&'a Script, &'a Cmd),
    Command(&'a Cmd),
}

/// A request that ended with an error, and when it was sent.
struct Failed<'a> {
    request: Request<'a>,
    confirmation: Option<Confirmation>,
    begun: Instant,
    error: RedisError,
}

impl<'a> Request<'a> {
    const fn cmd(self) -> &'a Cmd {
        let (Self::Script(_, cmd) | Self::Command(cmd)) = self;
        cmd
    }
}

/// A request under way. Dropped with it, it has the silence counted.
struct Waits<'a> {
    inner: &'a Inner,
    trunk: &'a Arc<Trunk>,
    number: u64,
    /// None for what has no key.
    request: Option<Request<'a>>,
    begun: Instant,
}

impl Waits<'_> {
    /// An answer has come, or the driver has given up.
    const fn are_over(self) {
        std::mem::forget(self);
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let tag = self.request.map(|request| self.inner.tag(request)).unwrap_or_default();
        let limit = self.inner.config.response_timeout();
        self.trunk.given_up(self.number, tag, self.begun, limit);
    }
}

/// How long a slot that moves is waited for between two tries, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

impl Inner {
    async fn request(
        &self,
        trunk: &Arc<Trunk>,
        request: Request<'_>,
        confirmation: Option<Confirmation>,
    ) -> Result<Value, RedisFault> {
        let (mut connection, number) = self.connection(trunk).await?;
        let begun = Instant::now();
        let waits = self.waits(trunk, number, Some(request), begun);
        let answer = self.exchange(&mut connection, request.cmd(), confirmation, begun).await;
        waits.are_over();
        match answer {
            Ok(value) => {
                trunk.answered(|| self.tag(request));
                Ok(value)
            }
            // On the heap, like all that is rare: every request would carry the room for it.
            Err(error) => {
                let failed = Failed { request, confirmation, begun, error };
                Box::pin(self.resolve(trunk, number, connection, failed)).await
            }
        }
    }

    /// Goes on after an error: sends again what was not carried out, and else draws the conclusions.
    async fn resolve(
        &self,
        trunk: &Arc<Trunk>,
        mut number: u64,
        mut connection: Connection,
        Failed { request, confirmation, mut begun, error }: Failed<'_>,
    ) -> Result<Value, RedisFault> {
        let started = begun;
        let mut pause = PAUSE.0;
        let mut answer = Err(error);
        loop {
            if let Err(error) = answer {
                let failed = Failed { request, confirmation, begun, error };
                let waits = self.waits(trunk, number, Some(request), Instant::now());
                answer = self.again(&mut connection, failed).await;
                waits.are_over();
            }
            let error = match answer {
                Ok(value) => {
                    trunk.answered(|| self.tag(request));
                    return Ok(value);
                }
                Err(error) => error,
            };
            // A slot on its way to another node; the driver looks up where it has gone.
            let moves = matches!(
                error.kind(),
                ErrorKind::Server(
                    ServerErrorKind::Moved | ServerErrorKind::TryAgain | ServerErrorKind::Ask
                )
            );
            if !moves || started.elapsed() >= self.config.response_timeout() {
                return Err(self.failed(trunk, number, &mut connection, request, error).await);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
            (connection, number) = self.connection(trunk).await?;
            begun = Instant::now();
            let waits = self.waits(trunk, number, Some(request), begun);
            answer = self.exchange(&mut connection, request.cmd(), confirmation, begun).await;
            waits.are_over();
        }
    }

    /// Has the request counted as unanswered if its caller gives it up.
    const fn waits<'a>(
        &'a self,
        trunk: &'a Arc<Trunk>,
        number: u64,
        request: Option<Request<'a>>,
        begun: Instant,
    ) -> Waits<'a> {
        Waits { inner: self, trunk, number, request, begun }
    }

    /// Asks over the connection of requests, for something that has no key.
    async fn ask_over<T>(
        &self,
        (connection, number): &mut (Connection, u64),
        ask: impl AsyncFnOnce(&mut Connection) -> T,
    ) -> T {
        let waits = self.waits(&self.requests, *number, None, Instant::now());
        let answer = ask(connection).await;
        waits.are_over();
        answer
    }

    /// Sends again what the server said that it did not carry out: a script that it does not know, and what
    /// has gone to the node that a slot is moving to.
    async fn again(
        &self,
        connection: &mut Connection,
        Failed { request, confirmation, begun, error }: Failed<'_>,
    ) -> Result<Value, RedisError> {
        match (error.kind(), request) {
            (ErrorKind::Server(ServerErrorKind::NoScript), Request::Script(script, call)) => {
                self.exchange(connection, &script.in_full(call), confirmation, begun).await
            }
            (ErrorKind::Server(ServerErrorKind::Ask), _) if confirmation.is_none() => {
                let Some(node) = asked_node(&error) else { return Err(error) };
                self.in_time(begun, Self::ask(connection, request, &node)).await
            }
            _ => Err(error),
        }
    }

    async fn ask(
        connection: &mut Connection,
        request: Request<'_>,
        node: &str,
    ) -> Result<Value, RedisError> {
        match (connection.send_asking(request.cmd(), node).await, request) {
            (Err(error), Request::Script(script, call))
                if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) =>
            {
                connection.send_asking(&script.in_full(call), node).await
            }
            (answer, _) => answer,
        }
    }

    async fn exchange(
        &self,
        connection: &mut Connection,
        cmd: &Cmd,
        confirmation: Option<Confirmation>,
        begun: Instant,
    ) -> Result<Value, RedisError> {
        match confirmation {
            // One server's connection keeps to its limit itself.
            None if !self.is_cluster() => connection.send(cmd).await,
            None => Box::pin(self.in_time(begun, connection.send(cmd))).await,
            Some(confirmation) => {
                Box::pin(self.in_time(begun, Self::confirmed(connection, cmd, confirmation))).await
            }
        }
    }

    /// While a Cluster's connection looks for who has which slot, it looks after no request, and their
    /// own limits do not hold.
    async fn in_time(
        &self,
        begun: Instant,
        answer: impl Future<Output = Result<Value, RedisError>> + Send,
    ) -> Result<Value, RedisError> {
        if !self.is_cluster() {
            return answer.await;
        }
        let limit = self.config.response_timeout() * 5 / 4;
        tokio::time::timeout_at(begun + limit, answer).await.unwrap_or_else(|_| {
            Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)))
        })
    }

    /// What timeouts are counted by.
    fn tag(&self, request: Request<'_>) -> String {
        if !self.is_cluster() {
            return String::new();
        }
        // The first key: a command's first argument, and a script's third, behind its name and a number.
        let mut tags =
            request.cmd().args_iter().skip(1).take(3).filter_map(|argument| match argument {
                redis::Arg::Simple(key) => {
                    let key = String::from_utf8_lossy(key);
                    let (_, rest) = key.split_once('{')?;
                    rest.split_once('}').map(|(tag, _)| tag.to_owned())
                }
                _ => None,
            });
        tags.next().unwrap_or_default()
    }

    async fn confirmed(
        connection: &mut Connection,
        cmd: &Cmd,
        confirmation: Confirmation,
    ) -> Result<Value, RedisError> {
        let mut both = redis::pipe();
        both.add_command(cmd.clone()).add_command(confirmation.command());
        let mut answers = connection.send_all(&both).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Value::Nil);
        // An error of the confirmation says nothing about the script, which was carried out before.
        Ok(Value::Array(vec![next().extract_error()?, next()]))
    }

    /// Draws the conclusions from a failure: for the connection, and for the caller.
    async fn failed(
        &self,
        trunk: &Arc<Trunk>,
        number: u64,
        connection: &mut Connection,
        request: Request<'_>,
        error: RedisError,
    ) -> RedisFault {
        let mut fault = RedisFault::from(error);
        match fault.failure() {
            RedisFailure::NoAnswer(_) => {
                trunk.timed_out(number, self.tag(request));
                fault.waited(self.config.response_timeout());
            }
            RedisFailure::Broken => trunk.drop_if(number, !self.is_cluster()),
            // A fail-over made a replica of it; the next request asks who the master is.
            RedisFailure::ReadOnly => {
                trunk.drop_if(number, true);
                if !self.is_server() {
                    fault.becomes_busy();
                }
            }
            RedisFailure::Corrupt => {
                if !fault.names_a_key() {
                    let keys = match request {
                        Request::Script(_, call) => server::types_of(connection, call).await,
                        Request::Command(cmd) => first_key(cmd),
                    };
                    fault.names_keys(&keys);
                }
                trunk.answered(|| self.tag(request));
            }
            _ => trunk.answered(|| self.tag(request)),
        }
        fault
    }

    /// What was told by all masters together. If one of them is gone, a Cluster's connection does not
    /// look by itself for who has taken over, as it does after a request to a key.
    fn told<T>(&self, number: u64, answer: Result<T, RedisFault>) -> Result<T, RedisFault> {
        if answer.is_ok() {
            self.requests.answered(String::new);
        }
        answer.map_err(|mut fault| {
            match fault.failure() {
                RedisFailure::NoAnswer(_) => {
                    self.requests.drop_if(number, self.is_cluster());
                    self.requests.timed_out(number, String::new());
                    fault.waited(self.config.response_timeout());
                }
                RedisFailure::Broken | RedisFailure::Unreachable | RedisFailure::ReadOnly => {
                    self.requests.drop_if(number, true);
                }
                _ => {}
            }
            fault
        })
    }

    fn is_server(&self) -> bool {
        matches!(self.config.target, super::url::Target::Server(_))
    }

    fn is_cluster(&self) -> bool {
        matches!(self.config.target, super::url::Target::Cluster(_))
    }

    /// The connection, made anew if there is none.
    async fn connection(&self, trunk: &Arc<Trunk>) -> Result<(Connection, u64), RedisFault> {
        match trunk.standing(|connection| self.is_of_use(connection)) {
            Some(connection) => Ok(connection),
            None => Box::pin(self.connect(trunk)).await,
        }
    }

    fn is_of_use(&self, (connection, number): &(Connection, u64)) -> bool {
        !matches!(connection, Connection::Server(_)) || !self.wakes.is_broken(*number)
    }

    async fn connect(&self, trunk: &Arc<Trunk>) -> Result<(Connection, u64), RedisFault> {
        let connect = || {
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let (config, wakes) = (self.config.clone(), Arc::clone(&self.wakes));
            let confirms = self.confirmation.is_some();
            async move {
                let connection = connect_again(&config, &wakes, number, confirms).await?;
                tracing::debug!(target = %config.target, "connected to Redis");
                Ok((connection, number))
            }
        };
        trunk.connection(|connection| self.is_of_use(connection), connect).await
    }
}

/// Another server may answer now than the one that was looked at when the link was opened. Where a write
/// has to reach its disk, it must be able to give that too. Replicas are counted by each write: after a
/// fail-over the new master has none for a while.
async fn connect_again(
    config: &RedisConfig,
    wakes: &Arc<Wakes>,
    number: u64,
    confirms: bool,
) -> Result<Connection, RedisFault> {
    let mut connection = connect(config, wakes, number).await?;
    if config.acknowledge() == Acknowledge::Disk {
        let facts = server::examine(&mut connection, config).await?;
        if facts.confirmation.is_some() && !confirms {
            return Err(RedisFault::config(
                "the server no longer writes to its disk before it answers; set `appendfsync always` \
                 there, or open the link again",
            ));
        }
    }
    Ok(connection)
}

/// The key of a command that has one.
fn first_key(cmd: &Cmd) -> String {
    match cmd.args_iter().nth(1) {
        Some(redis::Arg::Simple(key)) => String::from_utf8_lossy(key).into_owned(),
        _ => String::new(),
    }
}

impl RedisFault {
    /// A command that the driver gave up waiting for.
    fn waited(&mut self, after: Duration) {
        let source = self.redis_error().cloned();
        *self = Self::no_answer(after);
        if let Some(source) = source {
            self.set_source(source);
        }
    }

    /// The write was refused because of a fail-over, and goes through after it.
    fn becomes_busy(&mut self) {
        self.set_failure(
            RedisFailure::Busy,
            "the server is no longer the master; the next request asks who is".to_owned(),
        );
    }

    fn names_keys(&mut self, keys: &str) {
        let detail = format!(
            "a key of ours holds a foreign type ({keys}); use another prefix, or remove the key"
        );
        self.set_failure(RedisFailure::Corrupt, detail);
    }
}

impl fmt::Debug for RedisLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLink").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl Confirmation {
    /// What is wrong if fewer confirmed than were asked for.
    fn check(self, answer: &Value) -> Option<RedisFault> {
        let (wanted, confirmed) = self.counts(answer);
        (confirmed < wanted).then(|| {
            let detail = format!(
                "{confirmed} of {wanted} {} confirmed the write in time; it is there, and sending it again \
                 waits for the rest",
                self.what(),
            );
            let failure = RedisFailure::NotConfirmed { wanted, confirmed };
            let mut fault = RedisFault::new(failure, Applied::Unknown, detail);
            if let Err(error) = answer.clone().extract_error() {
                fault.set_source(error);
            }
            fault
        })
    }
}
