//! A connection that many requests share, and the task that makes and replaces it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use memory_core::sibling::NEVER;
use memory_core::store::Applied;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::connect::Connection;
use crate::error::{LinkError, LinkErrorKind};
use crate::push::Pushes;

/// A connection that many requests share, and its replacement.
///
/// The first request that finds no connection starts a separate task to connect: the caller may give up
/// long before the server answers, and later requests wait for the same attempt instead of starting
/// another. The task ends with the attempt, or when this value is dropped. An attempt without an outcome at
/// its limit is replaced by another because its runtime may exist and not be driven.
#[derive(Default)]
pub(crate) struct SharedConnection {
    state: Mutex<State>,
    /// Whether unanswered requests are being counted; read by every answer.
    silent: AtomicBool,
    /// The subscriptions, which end with the connection.
    pushes: Arc<Pushes>,
}

/// The requests in a row that got no answer.
#[derive(Default)]
struct Silence {
    /// The number of them that the driver gave up.
    timeouts: u32,
    /// The time for which callers waited for the others before they gave up. Time during which several of
    /// them waited counts once.
    waited: Duration,
    /// The moment up to which that time is counted.
    until: Option<Instant>,
}

/// The end of a limit that begins now. A configured limit may be longer than the clock can add.
fn after(limit: Duration) -> Instant {
    Instant::now() + limit.min(NEVER)
}

/// A connection and its number.
type Numbered = (Connection, u64);
/// The outcome of an attempt to connect; nothing if its runtime ended before.
type Attempt = Shared<BoxFuture<'static, Option<Result<Numbered, LinkError>>>>;

#[derive(Default)]
struct State {
    connection: Option<Numbered>,
    /// The unanswered requests: in total, or in a Cluster by the hash tag of the key, because one node may
    /// be silent while the others answer.
    silences: HashMap<String, Silence>,
    /// The attempt in progress, if there is one.
    attempt: Option<Connecting>,
}

/// An attempt to connect that is in progress.
struct Connecting {
    attempt: Attempt,
    task: AbortHandle,
    /// The moment by which its task has ended, if its runtime is driven.
    limit: Instant,
}

impl State {
    /// The connection. It is dropped if it is no longer usable.
    fn current(&mut self, is_of_use: impl Fn(&Numbered) -> bool) -> Option<Numbered> {
        self.connection = self.connection.take().filter(is_of_use);
        self.connection.clone()
    }
}

impl SharedConnection {
    /// The number of requests in a row without an answer after which the connection is replaced.
    pub(crate) const TIMEOUTS: u32 = 3;

    pub(crate) fn with(connection: Connection, number: u64, pushes: Arc<Pushes>) -> Self {
        let state = State { connection: Some((connection, number)), ..State::default() };
        Self { state: Mutex::new(state), silent: AtomicBool::new(false), pushes }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present connection, if it is usable.
    pub(crate) fn current(&self, is_of_use: impl Fn(&Numbered) -> bool) -> Option<Numbered> {
        self.state().current(is_of_use)
    }

    /// The present connection if it is usable, else one that `connect` makes for all waiting requests,
    /// within `limit` if its runtime is driven.
    pub(crate) async fn connection<F>(
        self: &Arc<Self>,
        is_of_use: impl Fn(&Numbered) -> bool,
        connect: impl Fn() -> F,
        limit: Duration,
    ) -> Result<Numbered, LinkError>
    where
        F: Future<Output = Result<Numbered, LinkError>> + Send + 'static,
    {
        loop {
            let (attempt, until, ours) = {
                let mut state = self.state();
                if let Some(connection) = state.current(&is_of_use) {
                    return Ok(connection);
                }
                match &state.attempt {
                    Some(Connecting { attempt, task, limit })
                        if !task.is_finished() && Instant::now() < *limit =>
                    {
                        (attempt.clone(), *limit, false)
                    }
                    _ => {
                        let (attempt, task) = self.spawn(connect());
                        let limit = after(limit);
                        let connecting = Connecting { attempt: attempt.clone(), task, limit };
                        if let Some(stalled) = state.attempt.replace(connecting) {
                            stalled.task.abort();
                        }
                        (attempt, limit, true)
                    }
                }
            };
            match timeout_at(until, attempt).await {
                Ok(Some(connected)) => return connected,
                // No task that is started now would run.
                Ok(None) if ours => {
                    return Err(LinkError::new(
                        LinkErrorKind::Unreachable,
                        Applied::No,
                        "the runtime that was to connect is ending",
                    ));
                }
                // The runtime of the caller that started it has ended or is not driven: this caller starts
                // another.
                Ok(None) | Err(_) => {}
            }
        }
    }

    fn spawn(
        self: &Arc<Self>,
        connecting: impl Future<Output = Result<Numbered, LinkError>> + Send + 'static,
    ) -> (Attempt, AbortHandle) {
        let (say, answer) = oneshot::channel();
        let shared = Arc::downgrade(self);
        let task = tokio::spawn(async move {
            let connected = connecting.await;
            if let Some(shared) = Weak::upgrade(&shared) {
                shared.attempted(&connected);
            }
            let _ = say.send(connected);
        });
        let attempt = async move { answer.await.ok() }.boxed().shared();
        (attempt, task.abort_handle())
    }

    fn attempted(&self, connected: &Result<Numbered, LinkError>) {
        let mut state = self.state();
        // An attempt that was replaced meanwhile keeps the result of its replacement, made or in progress.
        if state.attempt.as_ref().is_none_or(|it| tokio::task::try_id() != Some(it.task.id())) {
            return;
        }
        state.attempt = None;
        state.silences.clear();
        self.silent.store(false, Ordering::Relaxed);
        state.connection = connected.as_ref().ok().cloned();
    }

    pub(crate) fn answered(&self, tag: impl FnOnce() -> String) {
        if self.silent.load(Ordering::Relaxed) {
            let mut state = self.state();
            state.silences.remove(&tag());
            self.silent.store(!state.silences.is_empty(), Ordering::Relaxed);
        }
    }

    /// The driver gave up a request.
    pub(crate) fn timed_out(&self, number: u64, tag: String) {
        self.unanswered(number, tag, |silence| {
            silence.timeouts += 1;
            silence.timeouts >= Self::TIMEOUTS
        });
    }

    /// The caller gave up a request that was sent at `begun`. Otherwise a dead connection would last for as
    /// long as no caller waits until the driver gives up: until the system closes it, after a quarter of an
    /// hour.
    pub(crate) fn given_up(&self, number: u64, tag: String, begun: Instant, limit: Duration) {
        let now = Instant::now();
        self.unanswered(number, tag, |silence| {
            let from = silence.until.map_or(begun, |until| until.max(begun));
            silence.waited += now.saturating_duration_since(from);
            silence.until = Some(now);
            silence.waited > limit
        });
    }

    fn unanswered(&self, number: u64, tag: String, is_too_much: impl FnOnce(&mut Silence) -> bool) {
        let mut state = self.state();
        // A request that was sent over an earlier connection says nothing about this one.
        if state.connection.as_ref().is_none_or(|(_, current)| *current != number) {
            return;
        }
        self.silent.store(true, Ordering::Relaxed);
        if is_too_much(state.silences.entry(tag).or_default()) {
            tracing::debug!("replacing a connection to Redis that no longer answers");
            drop(state);
            self.drop_connection(number);
        }
    }

    /// Drops the connection, if it is still this one. The driver does not report the end of a connection that was
    /// dropped, so the listeners are notified here.
    pub(crate) fn drop_connection(&self, number: u64) {
        let mut state = self.state();
        if state.connection.as_ref().is_none_or(|(_, current)| *current != number) {
            return;
        }
        state.connection = None;
        drop(state);
        self.pushes.disconnected(number);
    }
}

impl Drop for SharedConnection {
    fn drop(&mut self) {
        if let Some(connecting) = &self.state().attempt {
            connecting.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use super::*;

    /// Asks for a connection when it is dropped, as a guard does that releases its lease.
    struct AskOnDrop(Arc<SharedConnection>, Sender<bool>);

    impl Drop for AskOnDrop {
        fn drop(&mut self) {
            let limit = Duration::from_secs(10);
            let connection = self.0.connection(|_| true, std::future::pending, limit);
            let mut connection = Box::pin(connection);
            let polled = connection.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            let _ = self.1.send(matches!(polled, Poll::Ready(Err(_))));
        }
    }

    /// An attempt ends as soon as it starts there, so starting others would never end.
    #[test]
    fn request_while_the_runtime_ends_is_refused() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (say, heard) = channel();
        let (begin, begun) = channel();
        runtime.spawn(async move {
            let _ask = AskOnDrop(Arc::default(), say);
            begin.send(()).unwrap();
            std::future::pending::<()>().await;
        });
        begun.recv().unwrap();
        runtime.shutdown_background();
        assert!(heard.recv_timeout(Duration::from_secs(10)).unwrap());
    }

    #[test]
    fn attempts_of_an_undriven_runtime_are_replaced() {
        let runtime =
            || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (undriven, driven) = (runtime(), runtime());
        let shared = Arc::<SharedConnection>::default();
        let limit = Duration::from_millis(200);
        undriven.block_on(async {
            let asks = shared.connection(|_| true, std::future::pending, limit);
            let mut asks = Box::pin(asks);
            assert!(asks.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        });
        let refused =
            || async { Err(LinkError::new(LinkErrorKind::Unreachable, Applied::No, "refused")) };
        let asks = shared.connection(|_| true, refused, limit);
        let bound = Duration::from_secs(10);
        let answer = driven.block_on(async { tokio::time::timeout(bound, asks).await });
        assert!(answer.expect("it waits for the other runtime").is_err());
    }
}
