//! One connection that writes, and how all waiting writes share its commits.
//!
//! The holder of the [`Turn`] has the connection. If a write finds the connection free and no other write
//! waits, it is committed on the calling thread: a hand-off to another thread and back would cost a quarter
//! of its throughput. As soon as two writes wait, a *runner* takes the turn on a thread of the store and
//! commits all waiting writes, of all keys, in one transaction after another, until none is left. That thread
//! is not one of tokio's blocking threads, because the callers may fill their pool, and the runtime of one
//! caller may end before the writes of another. The thread is started on demand and ends soon after its work,
//! so an idle store costs nothing.

mod checkpoint;
mod request;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memory_core::MemoryKey;
use memory_core::store::{StoreError, StoreErrorKind};
use memory_sqlite_file::{LeaseObserver, PausedRuntime, WorkerThreads, answer};
use rusqlite::Connection;
use tokio::runtime::{Handle, RuntimeFlavor};

use self::checkpoint::Checkpoints;
use self::request::{JobRequest, Receiver, request};
use self::turn::{Before, Turn};
use crate::commands::Command;
use crate::config::{CommitThread, SqliteConfig};
use crate::open::OpenFile;
use crate::readers::Reads;
use crate::watches::Registry;

/// A commit that takes longer than this blocks the calling thread for too long.
const FAST_COMMIT: Duration = Duration::from_millis(1);

/// How long dropping a store waits for a transaction in progress: long enough for most, short enough for an
/// async thread.
pub(crate) const MAX_CLOSE_WAIT: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct Writer {
    config: SqliteConfig,
    leases: LeaseObserver,
    state: Mutex<State>,
    /// Signals that enough writes have arrived, that the connection is back, or that the store closes.
    changed: Condvar,
    /// The thread of the runner.
    thread: WorkerThreads,
    watches: Arc<Registry>,
    /// Dropped after the connection, which is in the state.
    file: Arc<OpenFile>,
}

#[derive(Debug)]
struct State {
    /// The connection, while the turn is free.
    parked: Option<Slot>,
    waiting: VecDeque<Job>,
    tickets: u64,
    /// The number of further writes that are expected to meet others.
    crowd: u32,
    /// The store is being dropped: the holder of the turn gives it back as soon as nothing waits.
    closing: bool,
    /// This many waiting writes wake the runner, if it waits for writes.
    wake_at: usize,
    /// The number of committed transactions.
    commits: u64,
    /// A moving average of the duration of a transaction.
    commit: Duration,
    /// Which of the last eight were slow, one bit each.
    slow: u8,
    checkpoints: Checkpoints,
}

/// After a write that met others, this many writes are expected to meet others too.
const CROWD: u32 = 64;

/// How often a write that seems to be the only one checks that it is.
const POLITE_EVERY: u64 = 8;

/// The state of the queue when a write arrived.
enum Entrance {
    /// No other write: it continues with [`Writer::go_alone`]. If it is `polite`, it first lets the other
    /// tasks of its thread submit theirs. They then share one commit, and none of them starves behind a task
    /// that never has to wait. A runtime with several threads runs those tasks on other threads, and there
    /// being polite costs a lone task a tenth of its speed; so it is polite only now and then.
    Alone { polite: bool },
    /// Other writes exist: a runner takes this one along.
    Queued,
}

/// Whether all tasks of this runtime run on this thread.
fn shares_its_thread() -> bool {
    Handle::try_current()
        .map_or(true, |runtime| runtime.runtime_flavor() == RuntimeFlavor::CurrentThread)
}

/// The connection; none before the first use, and after an error that makes its state uncertain.
#[derive(Debug, Default)]
struct Slot(Option<Connection>);

#[derive(Debug)]
struct Job {
    ticket: u64,
    key: MemoryKey,
    request: Box<dyn JobRequest>,
    since: Instant,
    /// The clock to use.
    paused: Option<PausedRuntime>,
}

impl Writer {
    pub(crate) fn new(
        config: SqliteConfig,
        file: Arc<OpenFile>,
        connection: Connection,
        thread: WorkerThreads,
        watches: Arc<Registry>,
    ) -> Self {
        let state = State {
            parked: Some(Slot(Some(connection))),
            waiting: VecDeque::new(),
            tickets: 0,
            crowd: 0,
            closing: false,
            wake_at: 0,
            commits: 0,
            commit: Duration::ZERO,
            slow: 0,
            checkpoints: Checkpoints::new(),
        };
        let leases = LeaseObserver::new(config.clock().clone());
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Self { config, leases, state, changed, thread, watches, file }
    }

    /// Applies the command after all commands that were submitted before.
    ///
    /// # Cancel safety
    /// The command is applied as a whole, or, if the future is dropped while it still waits, not at
    /// all.
    pub(crate) async fn submit<C: Command>(
        self: &Arc<Self>,
        key: &MemoryKey,
        command: C,
    ) -> Result<C::Answer, StoreError> {
        let paused = PausedRuntime::current();
        let (mut waiting, entrance) = self.enqueue(key, command, paused.clone());
        if let Entrance::Alone { polite } = entrance {
            if polite {
                tokio::task::yield_now().await;
            }
            self.go_alone(waiting.ticket);
        }
        let answer = answer(&mut waiting.reply, paused.as_ref()).await;
        // Only a panic in the runner drops a job that was taken.
        answer.unwrap_or_else(|_| {
            let kind =
                StoreErrorKind::Other("the writer ended early; send the request again".into());
            Err(StoreError::new(C::OPERATION, kind).at(key).possibly_applied())
        })
    }

    /// Closes the connection. Waits for the end of a transaction in progress (of a caller that dropped its
    /// future), so that nothing touches the file after the store was dropped. If the transaction takes too
    /// long, its thread closes the connection after it. If the reads ended too, the file itself is closed, and
    /// the last process to do so folds the log into it; otherwise the last user of the file closes it.
    pub(crate) fn close(&self, reads: Reads) {
        let mut state = self.lock();
        state.closing = true;
        self.changed.notify_all();
        let (mut state, _) = self
            .changed
            .wait_timeout_while(state, MAX_CLOSE_WAIT, |state| state.parked.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        let slot = state.parked.take();
        drop(state);
        let ended = slot.is_some();
        drop(slot);
        if ended && reads == Reads::Ended {
            self.file.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent between any two of its statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the job in line. It is alone if the turn is free and no job waits before it; the caller then
    /// continues with [`go_alone`](Self::go_alone). Otherwise the holder of the turn or a runner takes the
    /// job.
    fn enqueue<C: Command>(
        self: &Arc<Self>,
        key: &MemoryKey,
        command: C,
        paused: Option<PausedRuntime>,
    ) -> (Waiting<'_, C>, Entrance) {
        let light = command.is_light();
        let (request, reply) = request(command);
        let mut state = self.lock();
        state.tickets += 1;
        let ticket = state.tickets;
        let inline =
            self.config.commit_thread() == CommitThread::Caller && light && state.commits_fast();
        let alone = inline && state.waiting.is_empty() && state.parked.is_some();
        let job = Job { ticket, key: key.clone(), request, since: real_now(), paused };
        state.waiting.push_back(job);
        state.crowd = if alone { state.crowd.saturating_sub(1) } else { CROWD };
        let polite = state.crowd > 0 || ticket % POLITE_EVERY == 1 || shares_its_thread();
        let turn = if alone { None } else { self.take_turn(&mut state) };
        let wake = turn.is_none() && !alone && state.waiting.len() == state.wake_at;
        drop(state);
        if let Some(turn) = turn {
            turn.hand_to_runner(0, Before::Nothing);
        } else if wake {
            self.changed.notify_one();
        }
        let entrance = if alone { Entrance::Alone { polite } } else { Entrance::Queued };
        (Waiting { writer: self, ticket, reply }, entrance)
    }

    fn take_turn(self: &Arc<Self>, state: &mut State) -> Option<Turn> {
        let slot = state.parked.take()?;
        Some(Turn::new(Arc::clone(self), slot))
    }

    /// Commits the job of this ticket on this thread if it is still the only one; otherwise a runner commits
    /// it.
    fn go_alone(self: &Arc<Self>, ticket: u64) {
        let mut state = self.lock();
        let Some(turn) = self.take_turn(&mut state) else { return };
        let alone = state.waiting.len() == 1
            && state.waiting.front().is_some_and(|job| job.ticket == ticket);
        drop(state);
        if alone { turn.run_once() } else { turn.hand_to_runner(0, Before::Nothing) }
    }
}

/// A caller that waits for its job.
struct Waiting<'a, C: Command> {
    writer: &'a Writer,
    ticket: u64,
    reply: Receiver<C>,
}

impl<C: Command> Drop for Waiting<'_, C> {
    /// Removes the job from the line if it has not been taken yet.
    fn drop(&mut self) {
        if self.reply.is_terminated() {
            return;
        }
        let mut state = self.writer.lock();
        let place = state.waiting.binary_search_by_key(&self.ticket, |job| job.ticket);
        let removed = place.ok().and_then(|place| state.waiting.remove(place));
        drop(state);
        drop(removed);
    }
}

/// The monotonic clock of the machine.
#[expect(
    clippy::disallowed_methods,
    reason = "other processes are waited for in real time, which a paused test clock does not show"
)]
pub(crate) fn real_now() -> Instant {
    Instant::now()
}
