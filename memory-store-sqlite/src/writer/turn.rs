//! The right to write, and the work of its holder.

use std::sync::Arc;
use std::time::Instant;

use memory_core::store::{StoreError, StoreErrorKind};
use memory_sqlite_file::{PausedRuntime, SqliteErrorKind, classify};

use super::checkpoint;
use super::state::{Job, Slot, Writer};
use crate::commands::Batch;
use crate::error::JobError;
use crate::open::open_writer;
use crate::real_time::real_now;

/// A transaction takes no more jobs than this, and no more bytes: other processes wait for its end.
pub(super) const MOST_JOBS: usize = 512;
const MOST_BYTES: usize = 4 << 20;

/// Parks the connection when it is dropped, whatever happened.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) writer: Arc<Writer>,
    pub(super) slot: Option<Slot>,
}

/// The work of a runner before it commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    CopyRestOfLog,
}

/// The reason that a whole transaction failed.
struct TransactionError {
    error: JobError,
    /// Its commit may have taken effect.
    unknown: bool,
}

impl Turn {
    pub(super) const fn new(writer: Arc<Writer>, slot: Slot) -> Self {
        Self { writer, slot: Some(slot) }
    }

    /// Commits the one waiting job on this thread. If another process holds the file's lock, a runner waits
    /// for it.
    pub(super) fn run_once(mut self) {
        let started = real_now();
        let served = match self.begin() {
            Ok(()) => {
                let jobs = self.take_jobs();
                let jobs = self.execute(jobs, started);
                let checkpoint = self.checkpoint_is_due();
                reply_to(jobs);
                if checkpoint && self.copy_most_of_log() {
                    // Not on the caller's thread: it waits for the write lock.
                    return self.hand_to_runner(1, Before::CopyRestOfLog);
                }
                1
            }
            Err(error) if error.is_busy() => 0,
            Err(error) => {
                self.fail_waiting(&error);
                0
            }
        };
        if !self.give_back() {
            self.hand_to_runner(served, Before::Nothing);
        }
    }

    /// Parks the connection, unless more jobs wait: then the runner continues.
    pub(super) fn give_back(&mut self) -> bool {
        let mut state = self.writer.lock();
        if state.waiting.is_empty() {
            self.writer.park(&mut state, self.slot.take());
        }
        self.slot.is_none()
    }

    /// Begins a transaction, with a fresh connection if there is none. Waits for other processes at most for
    /// the busy timeout of the connection.
    pub(super) fn begin(&mut self) -> Result<(), JobError> {
        self.writer.file.check_before_write()?;
        let slot = self.slot.get_or_insert_default();
        let connection = match &mut slot.0 {
            Some(connection) => connection,
            none => none.insert(open_writer(&self.writer.file, &self.writer.config)?),
        };
        let begun = connection.prepare_cached("BEGIN IMMEDIATE").and_then(|mut s| s.execute(()));
        begun.map(drop).map_err(JobError::from).inspect_err(|error| {
            if !error.is_busy() {
                slot.0 = None;
            }
        })
    }

    /// Takes jobs from the front of the line and skips those whose callers dropped their futures.
    pub(super) fn take_jobs(&self) -> Vec<Job> {
        let mut state = self.writer.lock();
        let mut jobs = Vec::with_capacity(state.waiting.len().min(MOST_JOBS));
        let mut bytes = 0_usize;
        while let Some(job) = state.waiting.pop_front() {
            if job.request.is_abandoned() {
                continue;
            }
            bytes = bytes.saturating_add(job.request.bytes());
            if !jobs.is_empty() && bytes > MOST_BYTES {
                state.waiting.push_front(job);
                break;
            }
            jobs.push(job);
            if jobs.len() == MOST_JOBS {
                break;
            }
        }
        jobs
    }

    /// Applies the jobs in the open transaction, and commits. Each job then has its answer.
    pub(super) fn execute(&mut self, mut jobs: Vec<Job>, started: Instant) -> Vec<Job> {
        match self.transact(&mut jobs) {
            Ok(()) => {
                let pages = jobs.iter().map(|job| job.request.pages()).sum();
                self.writer.lock().committed(started.elapsed(), pages);
            }
            Err(failed) if jobs.len() > 1 && !failed.unknown => {
                for job in &mut jobs {
                    self.execute_singly(job);
                }
            }
            Err(failed) => {
                for job in &mut jobs {
                    self.fail(job, &failed);
                }
            }
        }
        jobs
    }

    /// One job has failed the shared transaction, so each job gets a separate one.
    fn execute_singly(&mut self, job: &mut Job) {
        let deadline = job.since + self.writer.config.operation_timeout();
        let begun = loop {
            match self.begin() {
                Err(error) if error.is_busy() && real_now() < deadline => {}
                begun => break begun,
            }
        };
        let done = begun
            .map_err(|error| TransactionError { error, unknown: false })
            .and_then(|()| self.transact(std::slice::from_mut(job)));
        match done {
            Ok(()) => self.writer.lock().checkpoints.committed(job.request.pages()),
            Err(failed) => self.fail(job, &failed),
        }
    }

    /// Applies the jobs and commits. After an error none of the changes remain, and the answers that the jobs keep
    /// are not valid.
    fn transact(&mut self, jobs: &mut [Job]) -> Result<(), TransactionError> {
        let Some(Slot(Some(connection))) = &self.slot else {
            let kind = StoreErrorKind::Other("a transaction without a connection".into());
            return Err(TransactionError { error: kind.into(), unknown: false });
        };
        let paused = jobs.iter().find_map(|job| job.paused.clone());
        let clock = paused.as_ref().map(PausedRuntime::enter);
        let now = self.writer.config.now_micros();
        let mut batch = Batch::new(connection, &self.writer.leases, now);
        let applied = jobs
            .iter_mut()
            .try_for_each(|job| job.request.apply(&mut batch, &job.key))
            .and_then(|()| batch.finish())
            .map_err(|error| TransactionError { error, unknown: false });
        drop(clock);
        let done = applied.and_then(|changes| {
            let done = match connection.prepare_cached("COMMIT").and_then(|mut s| s.execute(())) {
                // A commit to a file that no path names must not be acknowledged.
                Ok(_) => self
                    .writer
                    .file
                    .check()
                    .map_err(|error| TransactionError { unknown: true, error }),
                Err(error) => {
                    let error = JobError::from(error);
                    Err(TransactionError { unknown: error.leaves_commit_unknown(), error })
                }
            };
            if done.as_ref().map_or_else(|failure| failure.unknown, |()| true) {
                // Here, because the callers may have dropped their futures.
                self.writer.watches.committed(&changes);
            }
            done
        });
        if let Err(failed) = &done {
            // Already rolled back, or closed with the connection.
            let rolled_back =
                connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok();
            let sound = match &failed.error {
                JobError::Refused(_) => true,
                JobError::Sqlite(error) => {
                    matches!(classify(error), SqliteErrorKind::Busy | SqliteErrorKind::Full)
                }
            };
            if !(rolled_back && sound) {
                self.slot = Some(Slot(None));
            }
        }
        done
    }

    pub(super) fn checkpoint_is_due(&self) -> bool {
        let Some(Slot(Some(connection))) = &self.slot else { return false };
        if !self.writer.lock().checkpoints.look() {
            return false;
        }
        let log = checkpoint::log(connection);
        log.is_some_and(|log| self.writer.lock().checkpoints.is_due(log))
    }

    /// Copies most of the log into the file, whose path was checked after the last commit. Returns whether
    /// other processes have added to it meanwhile.
    pub(super) fn copy_most_of_log(&self) -> bool {
        let Some(Slot(Some(connection))) = &self.slot else { return false };
        checkpoint::copy_most(connection)
    }

    /// Copies the rest of the log with the write lock.
    pub(super) fn copy_rest_of_log(&self) {
        if let Some(Slot(Some(connection))) = &self.slot {
            self.writer.file.with_anchor(|anchor| checkpoint::copy_rest(connection, anchor));
        }
    }

    fn fail(&self, job: &mut Job, failed: &TransactionError) {
        let error = failed.error.to_error(job.request.operation(), self.writer.config.path());
        let error = error.at(&job.key);
        job.request.fail(if failed.unknown { error.possibly_applied() } else { error });
    }

    /// Returns to all jobs in line the error that the file cannot be written.
    pub(super) fn fail_waiting(&self, error: &JobError) {
        let path = self.writer.config.path();
        self.answer_waiting(|job| error.to_error(job.request.operation(), path));
    }

    /// Returns an error to all jobs in line; none of them was applied.
    pub(super) fn answer_waiting(&self, error: impl Fn(&Job) -> StoreError) {
        let jobs = std::mem::take(&mut self.writer.lock().waiting);
        for job in jobs {
            let error = error(&job);
            job.refuse(error);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        // A panic leaves a transaction open.
        let slot = if std::thread::panicking() { Slot(None) } else { slot };
        let mut state = self.writer.lock();
        self.writer.park(&mut state, Some(slot));
        // Jobs are left only where the runner panicked.
        let stranded = std::mem::take(&mut state.waiting);
        drop(state);
        let reason = "the writing thread stopped early; try again";
        let error = JobError::Refused(StoreErrorKind::Unavailable(reason.into()));
        for job in stranded {
            let error = error.to_error(job.request.operation(), self.writer.config.path());
            job.refuse(error);
        }
    }
}

pub(super) fn reply_to(jobs: Vec<Job>) {
    for job in jobs {
        job.request.reply();
    }
}
