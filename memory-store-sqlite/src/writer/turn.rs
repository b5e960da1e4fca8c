//! The right to write, and what its holder does with it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use memory_core::{StoreError, StoreErrorKind};
use memory_lock::sqlite::{SqliteFailure, classify};
use rusqlite::Connection;

use super::{Job, Slot, State, Writer, real_now, spawn};
use crate::commands::{Answer, Batch};
use crate::error::Fault;
use crate::open::open_writer;

/// A transaction takes no more jobs than this, and no more bytes: other processes wait for its end.
const MOST_JOBS: usize = 512;
const MOST_BYTES: usize = 4 << 20;

/// How long the runner waits for the next write before it gives the turn back, if its last commit
/// served several writes: their callers are about to come again.
const LINGER: Duration = Duration::from_micros(300);

/// Parks the connection when it is dropped, whatever happened.
#[derive(Debug)]
pub(super) struct Turn {
    writer: Arc<Writer>,
    slot: Option<Slot>,
}

/// Why a transaction as a whole came to nothing.
struct Failure {
    fault: Fault,
    /// Its commit may have taken effect.
    unknown: bool,
}

impl Turn {
    pub(super) const fn new(writer: Arc<Writer>, slot: Slot) -> Self {
        Self { writer, slot: Some(slot) }
    }

    /// Commits the one job that waits, on this thread. If another process holds the file's lock, a
    /// runner waits for that.
    pub(super) fn run_once(mut self) {
        let started = real_now();
        match self.begin() {
            Ok(()) => {
                let jobs = self.take_jobs();
                self.execute(jobs, started);
            }
            Err(fault) if fault.is_busy() => {}
            Err(fault) => self.fail_waiting(&fault),
        }
        if self.wait_for_more(1) {
            self.hand_to_runner();
        }
    }

    pub(super) fn hand_to_runner(self) {
        spawn(move || self.run());
    }

    /// Commits everything that waits, and what comes meanwhile.
    fn run(mut self) {
        loop {
            let started = match self.begin_patiently() {
                Ok(Some(started)) => started,
                Ok(None) => return,
                Err(fault) => {
                    self.fail_waiting(&fault);
                    if self.wait_for_more(1) {
                        continue;
                    }
                    return;
                }
            };
            let jobs = self.take_jobs();
            let served = jobs.len();
            self.execute(jobs, started);
            if !self.wait_for_more(served) {
                return;
            }
        }
    }

    /// Whether there is more to do; if there is not, the turn is given back before anybody else can
    /// put a job in line.
    fn wait_for_more(&mut self, served: usize) -> bool {
        let mut state = self.writer.lock();
        if state.waiting.is_empty() && served > 1 {
            let arrived = &self.writer.arrived;
            state = arrived
                .wait_timeout_while(state, LINGER, |state| state.waiting.is_empty())
                .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
        if state.waiting.is_empty() {
            state.parked = self.slot.take();
        }
        self.slot.is_some()
    }

    /// Begins a transaction, or ends with `None` when all jobs have run out of time.
    fn begin_patiently(&mut self) -> Result<Option<Instant>, Fault> {
        loop {
            let started = real_now();
            match self.begin() {
                Err(fault) if fault.is_busy() => {
                    if self.give_up_late(&fault) {
                        return Ok(None);
                    }
                }
                done => return done.map(|()| Some(started)),
            }
        }
    }

    /// Begins a transaction, with a fresh connection if there is none. Waits for other processes for
    /// no more than the busy timeout of the connection.
    fn begin(&mut self) -> Result<(), Fault> {
        let slot = self.slot.get_or_insert_default();
        let connection = match &mut slot.0 {
            Some(connection) => connection,
            none => none.insert(open_writer(&self.writer.config)?),
        };
        let begun = connection.prepare_cached("BEGIN IMMEDIATE").and_then(|mut s| s.execute(()));
        begun.map(drop).map_err(Fault::from).inspect_err(|fault| {
            if !fault.is_busy() {
                slot.0 = None;
            }
        })
    }

    /// Takes jobs from the front of the line, without those whose callers have gone.
    fn take_jobs(&self) -> Vec<Job> {
        let mut state = self.writer.lock();
        let mut jobs = Vec::with_capacity(state.waiting.len().min(MOST_JOBS));
        let mut bytes = 0_usize;
        while let Some(job) = state.waiting.pop_front() {
            if job.reply.is_closed() {
                continue;
            }
            bytes = bytes.saturating_add(job.command.bytes());
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

    /// Applies the jobs in the transaction that has begun, commits, and tells their callers.
    fn execute(&mut self, jobs: Vec<Job>, started: Instant) {
        match self.transact(&jobs) {
            Ok(answers) => {
                self.writer.lock().note(started.elapsed());
                for (job, answer) in jobs.into_iter().zip(answers) {
                    job.tell(answer);
                }
            }
            Err(failure) if jobs.len() > 1 && !failure.unknown => self.execute_singly(jobs),
            Err(failure) => {
                for job in jobs {
                    let error = self.error(&job, &failure);
                    job.tell(Err(error));
                }
            }
        }
    }

    /// One job has spoilt the transaction of all; each gets one of its own.
    fn execute_singly(&mut self, jobs: Vec<Job>) {
        for job in jobs {
            let deadline = job.since + self.writer.config.operation_timeout();
            let begun = loop {
                match self.begin() {
                    Err(fault) if fault.is_busy() && real_now() < deadline => {}
                    begun => break begun,
                }
            };
            let outcome = match begun {
                Ok(()) => self.transact(std::slice::from_ref(&job)).map(|mut answers| answers.pop()),
                Err(fault) => Err(Failure { fault, unknown: false }),
            };
            let answer = match outcome {
                Ok(Some(answer)) => answer,
                Ok(None) => continue,
                Err(failure) => Err(self.error(&job, &failure)),
            };
            job.tell(answer);
        }
    }

    /// Applies the jobs and commits. After an error nothing of it is left.
    fn transact(&mut self, jobs: &[Job]) -> Result<Vec<Result<Answer, StoreError>>, Failure> {
        let Some(Slot(Some(connection))) = &self.slot else { return Ok(Vec::new()) };
        let now = self.writer.config.now_micros();
        let done = apply(connection, jobs, now).and_then(|answers| {
            match connection.prepare_cached("COMMIT").and_then(|mut s| s.execute(())) {
                Ok(_) => Ok(answers),
                Err(error) => {
                    let fault = Fault::from(error);
                    Err(Failure { unknown: fault.leaves_commit_unknown(), fault })
                }
            }
        });
        if let Err(failure) = &done {
            // Rolled back already, or gone with the connection.
            let rolled_back = connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok();
            let sound = match &failure.fault {
                Fault::Refused(_) => true,
                Fault::Sqlite(error) => {
                    matches!(classify(error), SqliteFailure::Busy | SqliteFailure::Full)
                }
            };
            if !(rolled_back && sound) {
                self.slot = Some(Slot(None));
            }
        }
        done
    }

    fn error(&self, job: &Job, failure: &Failure) -> StoreError {
        let error = failure.fault.to_error(job.command.operation(), self.writer.config.path());
        let error = error.at(&job.key);
        if failure.unknown { error.possibly_applied() } else { error }
    }

    /// Tells the jobs that have waited for too long. True if none is left, the turn being given back.
    fn give_up_late(&mut self, fault: &Fault) -> bool {
        let (now, timeout) = (real_now(), self.writer.config.operation_timeout());
        let mut late = Vec::new();
        let mut state = self.writer.lock();
        while state
            .waiting
            .front()
            .is_some_and(|job| job.reply.is_closed() || now.duration_since(job.since) >= timeout)
        {
            late.extend(state.waiting.pop_front());
        }
        if state.waiting.is_empty() {
            state.parked = self.slot.take();
        }
        drop(state);
        for job in late {
            job.refuse(fault, self.writer.config.path());
        }
        self.slot.is_none()
    }

    /// Tells all jobs in line that the file cannot be written at all.
    fn fail_waiting(&self, fault: &Fault) {
        let jobs = std::mem::take(&mut self.writer.lock().waiting);
        for job in jobs {
            job.refuse(fault, self.writer.config.path());
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        let mut state = self.writer.lock();
        state.parked = Some(slot);
        // Jobs are left only where the runner could not be started, or panicked.
        let stranded = std::mem::take(&mut state.waiting);
        drop(state);
        let reason = "the runtime that should have written is shutting down; try again";
        let fault = Fault::Refused(StoreErrorKind::Unavailable(reason.into()));
        for job in stranded {
            job.refuse(&fault, self.writer.config.path());
        }
    }
}

impl State {
    fn note(&mut self, took: Duration) {
        self.commit = (self.commit * 3 + took) / 4;
    }
}

impl Job {
    fn tell(self, answer: Result<Answer, StoreError>) {
        // A caller that has gone does not care.
        let _ = self.reply.send(answer);
    }

    /// Tells the caller that nothing was done.
    fn refuse(self, fault: &Fault, path: &Path) {
        let error = fault.to_error(self.command.operation(), path).at(&self.key);
        self.tell(Err(error));
    }
}

fn apply(
    connection: &Connection,
    jobs: &[Job],
    now: u64,
) -> Result<Vec<Result<Answer, StoreError>>, Failure> {
    let failed = |fault| Failure { fault, unknown: false };
    let mut batch = Batch::new(connection, now);
    let mut answers = Vec::with_capacity(jobs.len());
    for job in jobs {
        answers.push(match batch.apply(&job.key, &job.command) {
            Ok(answer) => Ok(answer),
            Err(Fault::Refused(kind)) => {
                Err(StoreError::new(job.command.operation(), kind).at(&job.key))
            }
            Err(fault @ Fault::Sqlite(_)) => return Err(failed(fault)),
        });
    }
    batch.finish().map_err(failed)?;
    Ok(answers)
}
