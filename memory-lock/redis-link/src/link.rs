//! The way to the server that leases and store share: sending, sending again, confirmations.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use memory_core::lease::LeaseDomain;
use redis::{Cmd, Value};

use crate::acknowledge::Acknowledge;
use crate::config::RedisConfig;
use crate::connect::{Connection, connect};
use crate::error::{LinkError, LinkErrorKind};
use crate::keyspace::Keyspace;
use crate::push::{PushListener, Pushes};
use crate::request::Request;
use crate::script::Script;
use crate::server::{self, Confirmation, ServerStatus};
use crate::shared_connection::SharedConnection;
use crate::url::Target;

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

pub(crate) struct Inner {
    pub(crate) config: RedisConfig,
    keys: Keyspace,
    domain: LeaseDomain,
    pushes: Arc<Pushes>,
    numbers: AtomicU64,
    pub(crate) requests: Arc<SharedConnection>,
    /// Writes that wait for a confirmation have a connection of their own, for the server answers
    /// nothing else on it meanwhile.
    confirmed: Arc<SharedConnection>,
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
    pub unconfirmed: Option<LinkError>,
}

impl RedisLink {
    /// After how many requests in a row without an answer the connection is replaced.
    pub const TIMEOUTS: u32 = SharedConnection::TIMEOUTS;

    /// Connects, and looks whether the server can do what is asked of it.
    ///
    /// # Errors
    /// [`LinkError`], within the configuration's connect timeout and one answer: nobody answers, what
    /// answers is no Redis or not the kind that the URL names, is too old, is a replica, may evict
    /// keys that have no TTL, or cannot give the level of acknowledgement.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub async fn open(config: RedisConfig) -> Result<Self, LinkError> {
        let pushes = Arc::new(Pushes::default());
        let mut connection = connect(&config, &pushes, 1).await?;
        let facts = server::examine(&mut connection, &config).await?;
        let inner = Inner {
            keys: config.keyspace(),
            domain: config.domain(),
            config,
            pushes,
            numbers: AtomicU64::new(2),
            requests: Arc::new(SharedConnection::with(connection, 1)),
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
    /// [`LinkError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the script carried out or not.
    pub async fn run(&self, script: &Script, call: &Cmd) -> Result<Value, LinkError> {
        self.inner.request(&self.inner.requests, Request::Script(script, call), None).await
    }

    /// Calls a script that writes, in one request with the confirmation that the link asks for.
    ///
    /// # Errors
    /// [`LinkError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the script carried out or not.
    pub async fn write(&self, script: &Script, call: &Cmd) -> Result<Written, LinkError> {
        let request = Request::Script(script, call);
        let Some(confirmation) = self.inner.confirmation else {
            let answer = self.inner.request(&self.inner.requests, request, None).await?;
            return Ok(Written { answer, unconfirmed: None });
        };
        let both = self.inner.request(&self.inner.confirmed, request, Some(confirmation)).await?;
        let Value::Array(parts) = both else { return Err(LinkError::odd_answer()) };
        let Ok([answer, confirmed]) = <[Value; 2]>::try_from(parts) else {
            return Err(LinkError::odd_answer());
        };
        let unconfirmed = confirmation.check(&confirmed);
        Ok(Written { answer, unconfirmed })
    }

    /// Sends a command, in one request.
    ///
    /// # Errors
    /// [`LinkError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the command carried out or not.
    pub async fn send(&self, cmd: &Cmd) -> Result<Value, LinkError> {
        self.inner.request(&self.inner.requests, Request::Command(cmd), None).await
    }

    /// Passes on every key below the prefix that holds a memory, of all masters, by `SCAN`: in no order, and
    /// some more than once. No more than what one request found is kept.
    ///
    /// # Errors
    /// [`LinkError`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn scan_memories(&self, each: impl FnMut(String)) -> Result<(), LinkError> {
        // Many requests, so that to have waited for all of them says nothing.
        let (mut connection, number) = self.inner.connection(&self.inner.requests).await?;
        let found = server::scan(&mut connection, &self.inner.keys.memories(), each).await;
        self.inner.told(number, found.map_err(LinkError::from))
    }

    /// What the server says about itself.
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
        if self.inner.sharded_channels { "SPUBLISH" } else { "PUBLISH" }
    }

    /// Passes on to `listener` what the server pushes on any connection of the link, for as long as the listener
    /// lives.
    pub fn add_listener(&self, listener: Weak<dyn PushListener>) {
        self.inner.pushes.add_listener(listener);
    }

    /// Subscribes to a channel; false if the link was subscribed already. The subscription ends with the connection, which
    /// the listeners hear of.
    ///
    /// # Errors
    /// [`LinkError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the link subscribed or not; a subscription that is not known here is made again.
    pub async fn subscribe(&self, channel: String) -> Result<bool, LinkError> {
        let (mut connection, number) = self.inner.connection(&self.inner.requests).await?;
        if self.inner.pushes.is_subscribed(&channel, number) {
            return Ok(false);
        }
        connection.subscribe(&channel, self.inner.sharded_channels).await?;
        self.inner.pushes.subscribed(channel, number);
        Ok(true)
    }

    /// Whether all keys of a request must lie in one slot.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.inner.is_cluster()
    }
}

impl Inner {
    /// What was told by all masters together. If one of them is gone, a Cluster's connection does not
    /// look by itself for who has taken over, as it does after a request to a key.
    fn told<T>(&self, number: u64, answer: Result<T, LinkError>) -> Result<T, LinkError> {
        if answer.is_ok() {
            self.requests.answered(String::new);
        }
        answer.map_err(|mut error| {
            match error.kind() {
                LinkErrorKind::NoAnswer(_) => {
                    self.requests.drop_if(number, self.is_cluster());
                    self.requests.timed_out(number, String::new());
                    error.waited(self.config.response_timeout());
                }
                LinkErrorKind::Broken | LinkErrorKind::Unreachable | LinkErrorKind::ReadOnly => {
                    self.requests.drop_if(number, true);
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

    /// The connection, made anew if there is none.
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
            let confirms = self.confirmation.is_some();
            async move {
                let connection = connect_again(&config, &pushes, number, confirms).await?;
                tracing::debug!(target = %config.target, "connected to Redis");
                Ok((connection, number))
            }
        };
        // To connect, and to examine the server where its disk has to confirm writes.
        let answers = if self.confirmation.is_some() { 4 } else { 1 };
        let answers = self.config.response_timeout().saturating_mul(answers);
        let limit = self.config.connect_timeout().saturating_add(answers);
        shared.connection(|connection| self.is_of_use(connection), connect, limit).await
    }
}

/// Another server may answer now than the one that was looked at when the link was opened. Where a write
/// has to reach its disk, it must be able to give that too. Replicas are counted by each write: after a
/// fail-over the new master has none for a while.
async fn connect_again(
    config: &RedisConfig,
    pushes: &Arc<Pushes>,
    number: u64,
    confirms: bool,
) -> Result<Connection, LinkError> {
    let mut connection = connect(config, pushes, number).await?;
    if config.acknowledge() == Acknowledge::Disk {
        let facts = server::examine(&mut connection, config).await?;
        if facts.confirmation.is_some() && !confirms {
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
