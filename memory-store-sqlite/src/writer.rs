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
mod runner;
mod state;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use memory_core::MemoryKey;
use memory_core::store::{StoreError, StoreErrorKind};
use memory_sqlite_file::{LeaseObserver, PausedRuntime, WorkerThreads, answer};
use rusqlite::Connection;
use tokio::runtime::{Handle, RuntimeFlavor};

use self::checkpoint::Checkpoints;
use self::request::{Receiver, request};
pub(crate) use self::state::Writer;
use self::state::{Job, Slot, State};
use self::turn::{Before, Turn};
use crate::commands::Command;
use crate::config::{CommitThread, SqliteConfig};
use crate::open::OpenFile;
use crate::readers::Reads;
use crate::real_time::{MAX_CLOSE_WAIT, real_now};
use crate::watches::Registry;

/// After a write that met others, this many writes are expected to meet others too.
const CROWD: u32 = 64;

/// How often a write that seems to be the only one checks that it is.
const POLITE_EVERY: u64 = 8;

/// The state of the queue when a write arrived.
enum Entrance {
    /// No other write: it continues on the calling thread. If it is `polite`, it first lets the other
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

    /// The file.
    pub(crate) fn file(&self) -> Arc<OpenFile> {
        Arc::clone(&self.file)
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
            let mut state = self.lock();
            let alone = state.has_only(waiting.ticket);
            let turn = self.take_turn(&mut state);
            drop(state);
            match turn {
                Some(turn) if alone => turn.run_once(),
                // Other writes have arrived: a runner commits all of them.
                Some(turn) => turn.hand_to_runner(0, Before::Nothing),
                None => {}
            }
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

    /// Puts the job in line. It is alone if the turn is free and no job waits before it; the caller then
    /// takes the turn. Otherwise the holder of the turn or a runner takes the job.
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
