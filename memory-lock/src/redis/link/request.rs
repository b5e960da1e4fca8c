//! One request: how long it is waited for, what its error means, and whether it is sent again.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::time::Instant;

use super::Inner;
use crate::error::Applied;
use crate::redis::connect::{Connection, asked_node};
use crate::redis::failure::{RedisFailure, RedisFault};
use crate::redis::script::Script;
use crate::redis::server::{self, Confirmation};
use crate::redis::trunk::Trunk;

#[derive(Clone, Copy)]
pub(super) enum Request<'a> {
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
    pub(super) async fn request(
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
    pub(super) async fn ask_over<T>(
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
    pub(super) fn waited(&mut self, after: Duration) {
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

impl Confirmation {
    /// What is wrong if fewer confirmed than were asked for.
    pub(super) fn check(self, answer: &Value) -> Option<RedisFault> {
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
