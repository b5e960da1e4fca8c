//! The connection to the server that leases and store share: sending, retries, confirmations.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use memory_core::lease::LeaseDomain;
use redis::{Cmd, Value};

use crate::acknowledge::Acknowledge;
use crate::config::RedisConfig;
use crate::confirmation::Confirmation;
use crate::connect::{Connection, connect};
use crate::error::{LinkError, LinkErrorKind};
use crate::keyspace::Keyspace;
use crate::masters;
use crate::push::{PushListener, Pushes};
use crate::request::LinkRequest;
use crate::script::Script;
use crate::server::{self, ChannelKind, ServerStatus};
use crate::shared_connection::SharedConnection;
use crate::url::Target;

/// The connection to a server, a Cluster or a master behind Sentinels. A lease backend and a store
/// can share it. Clones are cheap and share the connection.
///
/// One multiplexed connection carries the requests of all tasks. The next request replaces it, for itself
/// and for concurrent ones, in these cases: the connection broke; the server is no longer a master;
/// [`TIMEOUTS`](Self::TIMEOUTS) requests in a row got no answer; callers that gave up earlier have waited
/// in total for longer than the limit of one request, without an answer to any of them. A request is sent
/// twice only if the server reported that it did not apply it (an unknown script, a slot that moved).
#[derive(Clone)]
pub struct RedisLink {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: RedisConfig,
    keys: Keyspace,
    domain: LeaseDomain,
    pushes: Arc<Pushes>,
    numbers: AtomicU64,
    pub(crate) requests: Arc<SharedConnection>,
    /// Writes that wait for a confirmation have a separate connection, because the server answers nothing
    /// else on it meanwhile.
    confirmed: Arc<SharedConnection>,
    confirmation: Option<Confirmation>,
    channels: ChannelKind,
}

/// The result of a write.
#[derive(Debug)]
pub struct WriteOutcome {
    /// The script's answer.
    pub answer: Value,
    /// The reason why the write does not count as acknowledged, if the link requires more than the server's
    /// memory and that level was not reached.
    pub unconfirmed: Option<LinkError>,
}

impl RedisLink {
    /// The number of requests in a row without an answer after which the connection is replaced.
    pub const TIMEOUTS: u32 = SharedConnection::TIMEOUTS;

    /// Connects, and checks that the server supports the configuration.
    ///
    /// # Errors
    /// [`LinkError`], within the configuration's connect timeout and one answer: no server answers; the
    /// server is not Redis, or not of the kind that the URL names; it is too old; it is a replica; it may
    /// evict keys that have no TTL; it cannot give the level of acknowledgement.
    ///
    /// # Cancel safety
    /// Dropping the future closes the opened connections.
    pub async fn open(config: RedisConfig) -> Result<Self, LinkError> {
        let pushes = Arc::new(Pushes::default());
        let mut connection = connect(&config, &pushes, 1).await?;
        let facts = server::examine(&mut connection, &config).await?;
        let inner = Inner {
            keys: config.keyspace(),
            domain: config.domain(),
            config,
            numbers: AtomicU64::new(2),
            requests: Arc::new(SharedConnection::with(connection, 1, Arc::clone(&pushes))),
            pushes,
            confirmed: Arc::default(),
            confirmation: facts.confirmation,
            channels: facts.channels,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The configuration that the link was opened with.
    #[must_use]
    pub fn config(&self) -> &RedisConfig {
        &self.inner.config
    }

    /// The names of all keys and channels.
    #[must_use]
    pub fn keys(&self) -> &Keyspace {
        &self.inner.keys
    }

    /// The domain of the leases, for comparison.
    #[must_use]
    pub fn domain(&self) -> &LeaseDomain {
        &self.inner.domain
    }

    /// The level that a write has reached when it is acknowledged.
    #[must_use]
    pub fn acknowledge(&self) -> Acknowledge {
        self.inner.config.acknowledge()
    }

    /// Returns whether writes wait for a confirmation after they were applied. A retry must then write
    /// something too, or it would have nothing to wait for.
    #[must_use]
    pub fn confirms(&self) -> bool {
        self.inner.confirmation.is_some()
    }

    /// Calls a script, in one request.
    ///
    /// # Errors
    /// [`LinkError`].
    ///
    /// # Cancel safety
    /// After a drop of the future the script was either applied or not.
    pub async fn run(&self, script: &Script, call: &Cmd) -> Result<Value, LinkError> {
        self.inner.request(&self.inner.requests, LinkRequest::Script(script, call), None).await
    }

    /// Calls a script that writes, in one request with the confirmation that the link requires.
    ///
    /// # Errors
    /// [`LinkError`].
    ///
    /// # Cancel safety
    /// After a drop of the future the script was either applied or not.
    pub async fn write(&self, script: &Script, call: &Cmd) -> Result<WriteOutcome, LinkError> {
        let request = LinkRequest::Script(script, call);
        let Some(confirmation) = self.inner.confirmation else {
            let answer = self.inner.request(&self.inner.requests, request, None).await?;
            return Ok(WriteOutcome { answer, unconfirmed: None });
        };
        let both = self.inner.request(&self.inner.confirmed, request, Some(confirmation)).await?;
        let Value::Array(parts) = both else { return Err(LinkError::odd_answer()) };
        let Ok([answer, confirmed]) = <[Value; 2]>::try_from(parts) else {
            return Err(LinkError::odd_answer());
        };
        let unconfirmed = confirmation.check(&confirmed);
        Ok(WriteOutcome { answer, unconfirmed })
    }

    /// Sends a command, in one request.
    ///
    /// # Errors
    /// [`LinkError`].
    ///
    /// # Cancel safety
    /// After a drop of the future the command was either applied or not.
    pub async fn send(&self, cmd: &Cmd) -> Result<Value, LinkError> {
        self.inner.request(&self.inner.requests, LinkRequest::Command(cmd), None).await
    }

    /// Passes on every key below the prefix that holds a memory, of all masters, by `SCAN`: in no order,
    /// and some more than once. It keeps at most the result of one request in memory.
    ///
    /// # Errors
    /// [`LinkError`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn scan_memories(&self, each: impl FnMut(String)) -> Result<(), LinkError> {
        // A scan is many requests, so the total waiting time of its caller says nothing about the
        // connection.
        let (mut connection, number) = self.inner.connection(&self.inner.requests).await?;
        let found = masters::scan(&mut connection, &self.inner.keys.memories(), each).await;
        self.inner.told(number, found.map_err(LinkError::from))
    }

    /// The server's report about itself.
    ///
    /// # Errors
    /// [`LinkError`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn status(&self) -> Result<ServerStatus, LinkError> {
        let mut over = self.inner.connection(&self.inner.requests).await?;
        let ask = async |connection: &mut Connection| server::status(connection).await;
        let status = self.inner.ask_over(&mut over, ask).await;
        self.inner.told(over.1, status)
    }

    /// The command that publishes to a channel of the keyspace.
    #[must_use]
    pub fn publish_command(&self) -> &'static str {
        match self.inner.channels {
            ChannelKind::Sharded => "SPUBLISH",
            ChannelKind::Global => "PUBLISH",
        }
    }

    /// Passes all pushes of the server, on any connection of the link, to `listener` for as long as the
    /// listener lives.
    pub fn add_listener(&self, listener: Weak<dyn PushListener>) {
        self.inner.pushes.add_listener(listener);
    }

    /// Subscribes to a channel; false if the link was subscribed already. The subscription ends with the
    /// connection, and the listeners are notified of that.
    ///
    /// # Errors
    /// [`LinkError`].
    ///
    /// # Cancel safety
    /// After a drop of the future the link is either subscribed or not. A subscription that the link does
    /// not know of is made again.
    pub async fn subscribe(&self, channel: String) -> Result<bool, LinkError> {
        let (mut connection, number) = self.inner.connection(&self.inner.requests).await?;
        if self.inner.pushes.is_subscribed(&channel, number) {
            return Ok(false);
        }
        connection.subscribe(&channel, self.inner.channels).await?;
        self.inner.pushes.subscribed(channel, number);
        Ok(true)
    }

    /// Returns whether all keys of a request must be in one slot.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.inner.is_cluster()
    }
}

impl Inner {
    /// Handles an answer that all masters gave together. If one of them is missing, a Cluster's connection
    /// does not look for its successor by itself, as it does after a request to a key.
    fn told<T>(&self, number: u64, answer: Result<T, LinkError>) -> Result<T, LinkError> {
        if answer.is_ok() {
            self.requests.answered(String::new);
        }
        answer.map_err(|mut error| {
            match error.kind() {
                LinkErrorKind::NoAnswer(_) => {
                    if self.is_cluster() {
                        self.requests.drop_connection(number);
                    }
                    self.requests.timed_out(number, String::new());
                    error.waited(self.config.response_timeout());
                }
                LinkErrorKind::Broken | LinkErrorKind::Unreachable | LinkErrorKind::ReadOnly => {
                    self.requests.drop_connection(number);
                }
                _ => {}
            }
            error
        })
    }

    pub(crate) fn is_server(&self) -> bool {
        matches!(self.config.target, Target::Server(_))
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.config.target, Target::Cluster(_))
    }

    /// The current connection, or a new one if there is none.
    pub(crate) async fn connection(
        &self,
        shared: &Arc<SharedConnection>,
    ) -> Result<(Connection, u64), LinkError> {
        match shared.current(|connection| self.is_of_use(connection)) {
            Some(connection) => Ok(connection),
            None => Box::pin(self.connect(shared)).await,
        }
    }

    fn is_of_use(&self, (connection, number): &(Connection, u64)) -> bool {
        !matches!(connection, Connection::Server(_)) || !self.pushes.is_broken(*number)
    }

    async fn connect(
        &self,
        shared: &Arc<SharedConnection>,
    ) -> Result<(Connection, u64), LinkError> {
        let connect = || {
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let (config, pushes) = (self.config.clone(), Arc::clone(&self.pushes));
            let confirmation = self.confirmation;
            async move {
                let connection = connect_again(&config, &pushes, number, confirmation).await?;
                tracing::debug!(target = %config.target, "connected to Redis");
                Ok((connection, number))
            }
        };
        // For connecting, and for examining the server where its disk must confirm writes.
        let answers = if self.confirmation.is_some() { 4 } else { 1 };
        let answers = self.config.response_timeout().saturating_mul(answers);
        let limit = self.config.connect_timeout().saturating_add(answers);
        shared.connection(|connection| self.is_of_use(connection), connect, limit).await
    }
}

/// The new connection may reach another server than the one that was examined when the link was opened.
/// Where a write must reach the disk, the new server must support that too. Replicas are counted by each
/// write: after a failover the new master has none for a while.
async fn connect_again(
    config: &RedisConfig,
    pushes: &Arc<Pushes>,
    number: u64,
    confirmation: Option<Confirmation>,
) -> Result<Connection, LinkError> {
    let mut connection = connect(config, pushes, number).await?;
    if config.acknowledge() == Acknowledge::Disk {
        let facts = server::examine(&mut connection, config).await?;
        if facts.confirmation.is_some() && confirmation.is_none() {
            return Err(LinkError::config(
                "the server no longer writes to its disk before it answers; set `appendfsync always` \
                 there, or open the link again",
            ));
        }
    }
    Ok(connection)
}

impl fmt::Debug for RedisLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLink").field("config", &self.inner.config).finish_non_exhaustive()
    }
}
