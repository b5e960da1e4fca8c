//! A connection that many requests share: who makes it, and when it is replaced.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use memory_core::store::Applied;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::connect::Connection;
use crate::error::{LinkError, LinkErrorKind};

/// A connection that many requests share, and what replaces it.
///
/// It is made by the first request that finds none, in a task of its own: who asks may give up long before
/// the server answers, and the next ones wait for the same attempt instead of beginning another. The task
/// ends with the attempt, or with this. An attempt without an outcome at its limit is replaced by another:
/// its runtime may exist and not be driven.
#[derive(Default)]
pub(crate) struct SharedConnection {
    state: Mutex<State>,
    /// Whether requests are counted that got no answer; every answer looks.
    silent: AtomicBool,
}

/// The requests in a row that got no answer.
#[derive(Default)]
struct Silence {
    /// How many of them the driver gave up.
    timeouts: u32,
    /// How long the others were waited for until their callers gave up; what several waited for at once
    /// counts once.
    waited: Duration,
    /// Up to when that is counted.
    until: Option<Instant>,
}

/// The moment at which a limit that begins now is over; a configured limit may be longer than the clock can add.
fn after(limit: Duration) -> Instant {
    const MAX_LIMIT: Duration = Duration::from_secs(365 * 24 * 3_600);
    Instant::now() + limit.min(MAX_LIMIT)
}

/// A connection and its number.
type Numbered = (Connection, u64);
/// What comes of an attempt to connect; nothing if its runtime ended before.
type Attempt = Shared<BoxFuture<'static, Option<Result<Numbered, LinkError>>>>;

#[derive(Default)]
struct State {
    connection: Option<Numbered>,
    /// What got no answer: in all, or of a Cluster by the hash tag of the key, for one node may be silent
    /// while the others answer.
    silences: HashMap<String, Silence>,
    /// The attempt that is under way, if there is one.
    attempt: Option<Connecting>,
}

/// An attempt to connect that is under way.
struct Connecting {
    attempt: Attempt,
    task: AbortHandle,
    /// By when its task has ended, if that is driven.
    limit: Instant,
}

impl State {
    /// The connection, which is dropped if it is of no use any more.
    fn current(&mut self, is_of_use: impl Fn(&Numbered) -> bool) -> Option<Numbered> {
        self.connection = self.connection.take().filter(is_of_use);
        self.connection.clone()
    }
}

impl SharedConnection {
    /// After how many requests in a row without an answer the connection is replaced.
    pub(crate) const TIMEOUTS: u32 = 3;

    pub(crate) fn with(connection: Connection, number: u64) -> Self {
        let state = State { connection: Some((connection, number)), ..State::default() };
        Self { state: Mutex::new(state), silent: AtomicBool::new(false) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that is there and of use.
    pub(crate) fn current(&self, is_of_use: impl Fn(&Numbered) -> bool) -> Option<Numbered> {
        self.state().current(is_of_use)
    }

    /// The connection that is there and of use, else one that `connect` makes for all who wait for it, within
    /// `limit` if its runtime is driven.
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
                // Of all tasks begun now none would run.
                Ok(None) if ours => {
                    return Err(LinkError::new(
                        LinkErrorKind::Unreachable,
                        Applied::No,
                        "the runtime that was to connect is ending",
                    ));
                }
                // The runtime of the caller that began it has ended or is not driven: this one begins another.
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
        // One that was replaced meanwhile leaves what the other has made, or is about to make.
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

    /// The driver gave a request up.
    pub(crate) fn timed_out(&self, number: u64, tag: String) {
        self.unanswered(number, tag, |silence| {
            silence.timeouts += 1;
            silence.timeouts >= Self::TIMEOUTS
        });
    }

    /// The caller of a request that was sent then gave it up. A dead connection would otherwise last for as
    /// long as nobody waits for the driver to give up: until the system does, after a quarter of an hour.
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
        // One that was sent over a connection that is gone says nothing about this one.
        if state.connection.as_ref().is_none_or(|(_, current)| *current != number) {
            return;
        }
        self.silent.store(true, Ordering::Relaxed);
        if is_too_much(state.silences.entry(tag).or_default()) {
            tracing::debug!("replacing a connection to Redis that no longer answers");
            drop(state);
            self.drop_if(number, true);
        }
    }

    /// Forgets the connection, if it is still this one. A Cluster's mends itself node by node.
    pub(crate) fn drop_if(&self, number: u64, really: bool) {
        let mut state = self.state();
        if really && state.connection.as_ref().is_some_and(|(_, current)| *current == number) {
            state.connection = None;
        }
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

    /// Asks for a connection when it is dropped, as a guard that gives its lease up does.
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

    /// An attempt is ended there as soon as it is begun, so to begin another would go on for ever.
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
