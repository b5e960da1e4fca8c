//! One request: its timeout, the meaning of its error, and its retries.

use std::sync::Arc;
use std::time::Duration;

use memory_core::store::Applied;
use redis::{Cmd, ErrorKind, RedisError as DriverError, ServerErrorKind, Value};
use tokio::time::Instant;

use crate::confirmation::Confirmation;
use crate::connect::{Connection, asked_node};
use crate::error::{LinkError, LinkErrorKind};
use crate::link::Inner;
use crate::masters;
use crate::script::Script;
use crate::shared_connection::SharedConnection;

#[derive(Clone, Copy)]
pub(crate) enum LinkRequest<'a> {
    Script(&'a Script, &'a Cmd),
    Command(&'a Cmd),
}

/// A request that ended with an error, and when it was sent.
struct Failed<'a> {
    request: LinkRequest<'a>,
    confirmation: Option<Confirmation>,
    begun: Instant,
    error: DriverError,
}

impl<'a> LinkRequest<'a> {
    const fn cmd(self) -> &'a Cmd {
        let (Self::Script(_, cmd) | Self::Command(cmd)) = self;
        cmd
    }
}

/// A request in progress. If it is dropped, the caller's wait is counted as silence of the server.
struct Waits<'a> {
    inner: &'a Inner,
    shared: &'a Arc<SharedConnection>,
    number: u64,
    /// None for a request without a key.
    request: Option<LinkRequest<'a>>,
    begun: Instant,
}

impl Waits<'_> {
    /// An answer has arrived, or the driver has given up.
    const fn are_over(self) {
        std::mem::forget(self);
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let tag = self.request.map(|request| self.inner.tag(request)).unwrap_or_default();
        let limit = self.inner.config.response_timeout();
        self.shared.given_up(self.number, tag, self.begun, limit);
    }
}

/// The first pause between two attempts while a slot moves. Pauses double.
const FIRST_MOVE_PAUSE: Duration = Duration::from_millis(2);
/// The longest of these pauses.
const MAX_MOVE_PAUSE: Duration = Duration::from_millis(50);

impl Inner {
    pub(crate) async fn request(
        &self,
        shared: &Arc<SharedConnection>,
        request: LinkRequest<'_>,
        confirmation: Option<Confirmation>,
    ) -> Result<Value, LinkError> {
        let (mut connection, number) = self.connection(shared).await?;
        let begun = Instant::now();
        let waits = self.waits(shared, number, Some(request), begun);
        let answer = self.exchange(&mut connection, request.cmd(), confirmation, begun).await;
        waits.are_over();
        match answer {
            Ok(value) => {
                shared.answered(|| self.tag(request));
                Ok(value)
            }
            // On the heap, because it is rare: otherwise every request would reserve the space.
            Err(error) => {
                let failed = Failed { request, confirmation, begun, error };
                Box::pin(self.resolve(shared, number, connection, failed)).await
            }
        }
    }

    /// Continues after an error: sends a request again that was not applied, else evaluates the error.
    async fn resolve(
        &self,
        shared: &Arc<SharedConnection>,
        mut number: u64,
        mut connection: Connection,
        Failed { request, confirmation, mut begun, error }: Failed<'_>,
    ) -> Result<Value, LinkError> {
        let started = begun;
        let mut pause = FIRST_MOVE_PAUSE;
        let mut answer = Err(error);
        loop {
            if let Err(error) = answer {
                let failed = Failed { request, confirmation, begun, error };
                let waits = self.waits(shared, number, Some(request), Instant::now());
                answer = self.again(&mut connection, failed).await;
                waits.are_over();
            }
            let error = match answer {
                Ok(value) => {
                    shared.answered(|| self.tag(request));
                    return Ok(value);
                }
                Err(error) => error,
            };
            // The slot is moving to another node. The driver looks up its new node.
            let moves = matches!(
                error.kind(),
                ErrorKind::Server(
                    ServerErrorKind::Moved | ServerErrorKind::TryAgain | ServerErrorKind::Ask
                )
            );
            if !moves || started.elapsed() >= self.config.response_timeout() {
                return Err(self.failed(shared, number, &mut connection, request, error).await);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_MOVE_PAUSE);
            (connection, number) = self.connection(shared).await?;
            begun = Instant::now();
            let waits = self.waits(shared, number, Some(request), begun);
            answer = self.exchange(&mut connection, request.cmd(), confirmation, begun).await;
            waits.are_over();
        }
    }

    /// Counts the request as unanswered if its caller gives it up.
    const fn waits<'a>(
        &'a self,
        shared: &'a Arc<SharedConnection>,
        number: u64,
        request: Option<LinkRequest<'a>>,
        begun: Instant,
    ) -> Waits<'a> {
        Waits { inner: self, shared, number, request, begun }
    }

    /// Sends a request without a key over the connection for requests.
    pub(crate) async fn ask_over<T>(
        &self,
        (connection, number): &mut (Connection, u64),
        ask: impl AsyncFnOnce(&mut Connection) -> T,
    ) -> T {
        let waits = self.waits(&self.requests, *number, None, Instant::now());
        let answer = ask(connection).await;
        waits.are_over();
        answer
    }

    /// Sends a request again that the server reported as not applied: a script that it does not know, or a
    /// key that has moved to the node that is taking over its slot.
    async fn again(
        &self,
        connection: &mut Connection,
        Failed { request, confirmation, begun, error }: Failed<'_>,
    ) -> Result<Value, DriverError> {
        match (error.kind(), request) {
            (ErrorKind::Server(ServerErrorKind::NoScript), LinkRequest::Script(script, call)) => {
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
        request: LinkRequest<'_>,
        node: &str,
    ) -> Result<Value, DriverError> {
        match (connection.send_asking(request.cmd(), node).await, request) {
            (Err(error), LinkRequest::Script(script, call))
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
    ) -> Result<Value, DriverError> {
        match confirmation {
            // The connection of a single server enforces its limit itself.
            None if !self.is_cluster() => connection.send(cmd).await,
            None => Box::pin(self.in_time(begun, connection.send(cmd))).await,
            Some(confirmation) => {
                Box::pin(self.in_time(begun, Self::confirmed(connection, cmd, confirmation))).await
            }
        }
    }

    /// While a Cluster's connection looks up the nodes of the slots, it processes no request, and the
    /// limits of the requests do not apply.
    async fn in_time(
        &self,
        begun: Instant,
        answer: impl Future<Output = Result<Value, DriverError>> + Send,
    ) -> Result<Value, DriverError> {
        if !self.is_cluster() {
            return answer.await;
        }
        let limit = self.config.response_timeout() * 5 / 4;
        tokio::time::timeout_at(begun + limit, answer).await.unwrap_or_else(|_| {
            Err(DriverError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)))
        })
    }

    /// The key by which timeouts are counted.
    fn tag(&self, request: LinkRequest<'_>) -> String {
        if !self.is_cluster() {
            return String::new();
        }
        // The first key: a command's first argument, and a script's third, after its name and a number.
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
    ) -> Result<Value, DriverError> {
        let mut both = redis::pipe();
        both.add_command(cmd.clone()).add_command(confirmation.command());
        let mut answers = connection.send_all(&both).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Value::Nil);
        // An error of the confirmation says nothing about the script, which was applied before.
        Ok(Value::Array(vec![next().extract_error()?, next()]))
    }

    /// Evaluates an error: for the connection, and for the caller.
    async fn failed(
        &self,
        shared: &Arc<SharedConnection>,
        number: u64,
        connection: &mut Connection,
        request: LinkRequest<'_>,
        error: DriverError,
    ) -> LinkError {
        let mut failed = LinkError::from(error);
        match failed.kind() {
            LinkErrorKind::NoAnswer(_) => {
                shared.timed_out(number, self.tag(request));
                failed.waited(self.config.response_timeout());
            }
            // A Cluster's connection replaces its nodes itself.
            LinkErrorKind::Broken => {
                if !self.is_cluster() {
                    shared.drop_connection(number);
                }
            }
            // A failover made it a replica. The next request looks up the master.
            LinkErrorKind::ReadOnly => {
                shared.drop_connection(number);
                if !self.is_server() {
                    failed.becomes_busy();
                }
            }
            LinkErrorKind::Corrupt => {
                if !failed.names_a_key() {
                    let keys = match request {
                        LinkRequest::Script(_, call) => masters::types_of(connection, call).await,
                        LinkRequest::Command(cmd) => first_key(cmd),
                    };
                    failed.names_keys(&keys);
                }
                shared.answered(|| self.tag(request));
            }
            _ => shared.answered(|| self.tag(request)),
        }
        failed
    }
}

/// The key of a command that has one.
fn first_key(cmd: &Cmd) -> String {
    match cmd.args_iter().nth(1) {
        Some(redis::Arg::Simple(key)) => String::from_utf8_lossy(key).into_owned(),
        _ => String::new(),
    }
}

impl LinkError {
    /// The driver gave up waiting for a command.
    pub(crate) fn waited(&mut self, after: Duration) {
        let source = self.redis_error().cloned();
        *self = Self::no_answer(after);
        if let Some(source) = source {
            self.set_source(source);
        }
    }

    /// The write was refused because of a failover, and succeeds after it.
    fn becomes_busy(&mut self) {
        self.set_kind(
            LinkErrorKind::Busy,
            "the server is no longer the master; the next request looks up the new one".to_owned(),
        );
    }

    fn names_keys(&mut self, keys: &str) {
        let detail = format!(
            "a key of ours holds a foreign type ({keys}); use another prefix, or remove the key"
        );
        self.set_kind(LinkErrorKind::Corrupt, detail);
    }
}

impl Confirmation {
    /// The error if fewer servers confirmed than were requested.
    pub(crate) fn check(self, answer: &Value) -> Option<LinkError> {
        let (wanted, confirmed) = self.counts(answer);
        (confirmed < wanted).then(|| {
            let detail = format!(
                "{confirmed} of {wanted} {} confirmed the write in time; the write is stored, and sending it again \
                 waits for the rest",
                self.what(),
            );
            let kind = LinkErrorKind::NotConfirmed { wanted, confirmed };
            let mut unconfirmed = LinkError::new(kind, Applied::Unknown, detail);
            if let Err(error) = answer.clone().extract_error() {
                unconfirmed.set_source(error);
            }
            unconfirmed
        })
    }
}
