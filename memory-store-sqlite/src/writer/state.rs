//! The state of the writer: the connection, and the jobs that wait for it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memory_core::MemoryKey;
use memory_core::store::StoreError;
use memory_sqlite_file::{LeaseObserver, PausedRuntime, WorkerThreads};
use rusqlite::Connection;

use super::checkpoint::Checkpoints;
use super::request::JobRequest;
use crate::config::SqliteConfig;
use crate::open::OpenFile;
use crate::watches::Registry;

/// A commit that takes longer than this blocks the calling thread for too long.
const FAST_COMMIT: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(crate) struct Writer {
    pub(super) config: SqliteConfig,
    pub(super) leases: LeaseObserver,
    pub(super) state: Mutex<State>,
    /// Signals that enough writes have arrived, that the connection is back, or that the store closes.
    pub(super) changed: Condvar,
    /// The thread of the runner.
    pub(super) thread: WorkerThreads,
    pub(super) watches: Arc<Registry>,
    /// Dropped after the connection, which is in the state.
    pub(super) file: Arc<OpenFile>,
}

#[derive(Debug)]
pub(super) struct State {
    /// The connection, while the turn is free.
    pub(super) parked: Option<Slot>,
    pub(super) waiting: VecDeque<Job>,
    pub(super) tickets: u64,
    /// The number of further writes that are expected to meet others.
    pub(super) crowd: u32,
    /// The store is being dropped: the holder of the turn gives it back as soon as nothing waits.
    pub(super) closing: bool,
    /// This many waiting writes wake the runner, if it waits for writes.
    pub(super) wake_at: usize,
    /// The number of committed transactions.
    pub(super) commits: u64,
    /// A moving average of the duration of a transaction.
    pub(super) commit: Duration,
    /// Which of the last eight were slow, one bit each.
    pub(super) slow: u8,
    pub(super) checkpoints: Checkpoints,
}

/// The connection; none before the first use, and after an error that makes its state uncertain.
#[derive(Debug, Default)]
pub(super) struct Slot(pub(super) Option<Connection>);

#[derive(Debug)]
pub(super) struct Job {
    pub(super) ticket: u64,
    pub(super) key: MemoryKey,
    pub(super) request: Box<dyn JobRequest>,
    pub(super) since: Instant,
    /// The clock to use.
    pub(super) paused: Option<PausedRuntime>,
}

impl Writer {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent between any two of its statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn park(&self, state: &mut State, slot: Option<Slot>) {
        state.parked = slot;
        if state.closing {
            self.changed.notify_all();
        }
    }
}

impl State {
    /// Whether the job of this ticket is the only one that waits.
    pub(super) fn has_only(&self, ticket: u64) -> bool {
        self.waiting.len() == 1 && self.waiting.front().is_some_and(|job| job.ticket == ticket)
    }

    pub(super) fn committed(&mut self, took: Duration, pages: usize) {
        self.commits += 1;
        self.checkpoints.committed(pages);
        self.commit = (self.commit * 3 + took) / 4;
        self.slow = self.slow << 1 | u8::from(took > FAST_COMMIT);
    }

    /// Whether most of the last commits were fast. Not the average: on a disk that others use too,
    /// one commit in ten takes ten times as long.
    pub(super) const fn commits_fast(&self) -> bool {
        self.slow.count_ones() <= 4
    }
}

impl Job {
    /// Returns to the caller that nothing was done.
    pub(super) fn refuse(mut self, error: StoreError) {
        self.request.fail(error.at(&self.key));
        self.request.reply();
    }
}
