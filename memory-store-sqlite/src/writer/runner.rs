//! The runner: commits the jobs of many callers on a thread of the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use memory_core::store::Durability;
use memory_sqlite_file::NoThread;

use super::turn::{Before, MOST_JOBS, Turn, reply_to};
use crate::error::{JobError, no_thread};
use crate::real_time::real_now;

/// How long the runner waits for the callers that it has just served, because they may submit again soon.
const MIN_GROUP_WAIT: Duration = Duration::from_micros(100);
const MAX_GROUP_WAIT: Duration = Duration::from_micros(400);

impl Turn {
    /// `served` callers have just received their results.
    pub(super) fn hand_to_runner(self, served: usize, before: Before) {
        let writer = Arc::clone(&self.writer);
        let refused = writer.thread.run((self, served), move |(turn, served)| {
            if before == Before::CopyRestOfLog {
                turn.copy_rest_of_log();
            }
            turn.run(served);
        });
        if let Err(NoThread { input: (turn, _), source }) = refused {
            let source = Arc::new(source);
            turn.answer_waiting(|job| no_thread(job.request.operation(), &source));
        }
    }

    /// Commits all waiting jobs, and those that arrive meanwhile.
    fn run(mut self, mut served: usize) {
        while self.gather(served) {
            let started = match self.begin_patiently() {
                Ok(Some(started)) => started,
                Ok(None) => return,
                Err(error) => {
                    self.fail_waiting(&error);
                    served = 0;
                    continue;
                }
            };
            let jobs = self.take_jobs();
            let jobs = self.execute(jobs, started);
            // A caller that is served alone finds the connection free when it comes again, and does
            // not need a runner then.
            served = jobs.len();
            let checkpoint = self.checkpoint_is_due();
            let done = served < 2 && !checkpoint && self.give_back();
            reply_to(jobs);
            if done {
                return;
            }
            if checkpoint && self.copy_most_of_log() {
                self.copy_rest_of_log();
            }
        }
    }

    /// Waits briefly for the callers that were just served to submit again, so that callers that write
    /// sequentially share all their commits. Without it every second commit would serve the few callers that
    /// were first, and the others would wait for two commits. Parks the connection if no caller submits.
    fn gather(&mut self, served: usize) -> bool {
        let mut state = self.writer.lock();
        let waiting = state.waiting.len();
        // Where a commit does not wait for the disk, a small one costs less than waiting for more.
        let syncs = self.writer.config.durability() == Durability::Disk;
        let callers = if syncs { served + waiting } else { 1 };
        if served > 0 && waiting < callers.min(MOST_JOBS) && served + waiting > 1 {
            state.wake_at = callers.min(MOST_JOBS);
            let limit = (state.commit / 2).clamp(MIN_GROUP_WAIT, MAX_GROUP_WAIT);
            let waited = self.writer.changed.wait_timeout_while(state, limit, |state| {
                state.waiting.len() < state.wake_at && !state.closing
            });
            drop(waited);
        } else {
            drop(state);
        }
        !self.give_back()
    }

    /// Begins a transaction, or ends with `None` when all jobs have run out of time.
    fn begin_patiently(&mut self) -> Result<Option<Instant>, JobError> {
        loop {
            let started = real_now();
            match self.begin() {
                Err(error) if error.is_busy() => {
                    if self.give_up_late(&error) {
                        return Ok(None);
                    }
                }
                done => return done.map(|()| Some(started)),
            }
        }
    }

    /// Refuses the jobs that have waited for too long. True if none is left; the turn is then given back.
    fn give_up_late(&mut self, error: &JobError) -> bool {
        let (now, timeout) = (real_now(), self.writer.config.operation_timeout());
        let mut late = Vec::new();
        let mut state = self.writer.lock();
        while state.waiting.front().is_some_and(|job| {
            job.request.is_abandoned() || now.duration_since(job.since) >= timeout
        }) {
            late.extend(state.waiting.pop_front());
        }
        if state.waiting.is_empty() {
            self.writer.park(&mut state, self.slot.take());
        }
        drop(state);
        for job in late {
            let error = error.to_error(job.request.operation(), self.writer.config.path());
            job.refuse(error);
        }
        self.slot.is_none()
    }
}
