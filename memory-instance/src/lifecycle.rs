//! The flushes and turns that are under way, and how far a shutdown has come.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memory_core::MemoryKey;
use memory_lock::{LeaseScope, ReleaseOutcome};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

/// The result of [`MemoryManager::shutdown`](crate::MemoryManager::shutdown), counted from its first call.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Flushes that ended within the grace; receipts and health report their results.
    pub finished_flushes: u64,
    /// Memories whose flush was abandoned. Their messages are as they were before the flush, unless it was dropped
    /// within its commit; then a receipt shows that it was committed. The next flush starts over.
    pub abandoned_flushes: Vec<MemoryKey>,
    /// Turns that ended within the grace.
    pub finished_turns: u64,
    /// Memories whose turn was dropped at an await point or in line. The turn's completed appends remain.
    pub abandoned_turns: Vec<MemoryKey>,
    /// Memories with a writers' or flushers' lease whose release was not confirmed: other processes may wait for
    /// the lease's TTL.
    pub unreleased_leases: Vec<MemoryKey>,
    /// The duration of the call, in milliseconds.
    pub waited_ms: u64,
}

impl ShutdownReport {
    /// Whether all work ended and all leases were released.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.abandoned_flushes.is_empty()
            && self.abandoned_turns.is_empty()
            && self.unreleased_leases.is_empty()
    }

    fn give_up(&mut self, entry: &mut ActiveCall) {
        entry.given_up = true;
        match entry.activity {
            Activity::Flush => self.abandoned_flushes.push(entry.key.clone()),
            Activity::Turn => self.abandoned_turns.push(entry.key.clone()),
        }
    }
}

/// An activity that a shutdown waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    Flush,
    Turn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    /// No new activity starts.
    Closing,
    /// The grace has ended.
    Abandoning,
}

/// The flushes and turns of a manager that are under way, and the phase of its shutdown.
pub(crate) struct Lifecycle {
    phase: watch::Sender<Phase>,
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Default)]
struct State {
    next: u64,
    underway: BTreeMap<u64, ActiveCall>,
    report: ShutdownReport,
}

struct ActiveCall {
    activity: Activity,
    key: MemoryKey,
    lease: Option<LeaseScope>,
    /// The activity is reported as abandoned and holds no lease; it may block its thread forever.
    given_up: bool,
}

impl Default for Lifecycle {
    fn default() -> Self {
        let phase = watch::Sender::new(Phase::Open);
        Self { phase, state: Mutex::default(), ended: Notify::new() }
    }
}

impl Lifecycle {
    /// Registers a flush or a turn, unless the manager is shutting down.
    pub(crate) fn begin(self: &Arc<Self>, activity: Activity, key: &MemoryKey) -> Option<Underway> {
        let mut state = self.state();
        if self.phase() != Phase::Open {
            return None;
        }
        let id = state.next;
        state.next += 1;
        let entry = ActiveCall { activity, key: key.clone(), lease: None, given_up: false };
        state.underway.insert(id, entry);
        Some(Underway { lifecycle: Arc::clone(self), id, ended: false })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether the grace has ended, so that no turn of this manager may continue.
    pub(crate) fn is_abandoning(&self) -> bool {
        self.phase() == Phase::Abandoning
    }

    /// Lets no new activity start.
    pub(crate) fn close(&self) {
        let _state = self.state();
        self.raise(Phase::Closing);
    }

    /// Ends the grace, and returns the leases of the remaining work. No lease is taken after this.
    pub(crate) fn abandon(&self) -> Vec<(u64, LeaseScope)> {
        let mut state = self.state();
        self.raise(Phase::Abandoning);
        let State { underway, report, .. } = &mut *state;
        let mut leases = Vec::new();
        for (id, entry) in underway.iter_mut().filter(|(_, entry)| !entry.given_up) {
            match &entry.lease {
                Some(lease) => leases.push((*id, lease.clone())),
                None => report.give_up(entry),
            }
        }
        leases
    }

    fn raise(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let raised = *phase < to;
            *phase = to.max(*phase);
            raised
        });
    }

    /// Waits until no activity is under way that may still release a lease.
    pub(crate) async fn until_ended(&self, deadline: Instant) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            let idle = self.state().underway.values().all(|entry| entry.given_up);
            if idle || timeout_at(deadline, ended).await.is_err() {
                return;
            }
        }
    }

    /// Records the result of revoking an activity's lease.
    pub(crate) fn revoked(&self, id: u64, outcome: ReleaseOutcome) {
        let mut state = self.state();
        let State { underway, report, .. } = &mut *state;
        let Some(entry) = underway.get_mut(&id) else { return };
        match outcome {
            // The activity released the lease itself and waits for the answer.
            ReleaseOutcome::NotOwner => return,
            ReleaseOutcome::Released => {}
            ReleaseOutcome::Unknown => report.unreleased_leases.push(entry.key.clone()),
        }
        report.give_up(entry);
    }

    /// The report; remaining activities count as abandoned.
    pub(crate) fn report(&self, waited: Duration) -> ShutdownReport {
        let mut state = self.state();
        let State { underway, report, .. } = &mut *state;
        for entry in underway.values_mut().filter(|entry| !entry.given_up) {
            report.give_up(entry);
            report.unreleased_leases.push(entry.key.clone());
        }
        report.waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        report.clone()
    }
}

impl fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle")
            .field("phase", &self.phase())
            .field("underway", &self.state().underway.len())
            .finish_non_exhaustive()
    }
}

/// A flush or a turn that is under way. Dropping it before [`ended`](Self::ended) marks it as abandoned.
pub(crate) struct Underway {
    lifecycle: Arc<Lifecycle>,
    id: u64,
    ended: bool,
}

impl Underway {
    /// Records the lease of the activity, which a shutdown revokes at the end of its grace. Returns whether the
    /// activity may continue.
    pub(crate) fn holds(&self, lease: &LeaseScope) -> bool {
        let mut state = self.lifecycle.state();
        if let Some(entry) = state.underway.get_mut(&self.id) {
            entry.lease = Some(lease.clone());
        }
        !self.is_abandoned()
    }

    /// Completes when the grace has ended while the activity has no lease yet.
    pub(crate) async fn abandoned_in_line(&self) {
        let mut phase = self.lifecycle.phase.subscribe();
        // The sender lives as long as `self`.
        let _ = phase.wait_for(|phase| *phase == Phase::Abandoning).await;
        let entry =
            |state: &State| state.underway.get(&self.id).is_some_and(|it| it.lease.is_some());
        if entry(&self.lifecycle.state()) {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.lifecycle.is_abandoning()
    }

    /// Marks the activity as ended, successful or not.
    pub(crate) fn ended(mut self) {
        self.ended = true;
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let mut state = self.lifecycle.state();
        let State { underway, report, .. } = &mut *state;
        if let Some(mut entry) = underway.remove(&self.id)
            && self.lifecycle.phase() != Phase::Open
            && !entry.given_up
        {
            match (self.ended, entry.activity) {
                (true, Activity::Flush) => report.finished_flushes += 1,
                (true, Activity::Turn) => report.finished_turns += 1,
                (false, _) => report.give_up(&mut entry),
            }
        }
        drop(state);
        self.lifecycle.ended.notify_waiters();
    }
}
