//! The tasks that refresh the leases of a manager, in batches, and detect lost leases.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use memory_core::lease::OwnerId;
use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::answer::Renewal;
use crate::backend_client::BackendClient;
use crate::error::{LockError, LockOperation};
use crate::lease::Lease;
use crate::lost::LostReason;
use crate::time::{after, until};

/// The held leases of one manager, and the tasks that refresh them and notice their loss: one on each runtime
/// on which leases were taken.
///
/// A task exists while a lease is registered, and a second longer: it runs at least once a second, and ends
/// when it finds no lease. So registering a lease needs no timer, and wakes the task only if it must run
/// sooner than it planned to.
///
/// A lease is refreshed by the task of the runtime on which it was taken. If that task is late, because its
/// runtime exists but is not driven or its threads are blocked, another task does it.
#[derive(Debug)]
pub(crate) struct Refresher {
    client: Arc<BackendClient>,
    state: Mutex<State>,
}

/// A held lease, as the refresh tasks see it.
pub(crate) trait Refreshable: fmt::Debug + Send + Sync {
    fn lease(&self) -> &Lease;

    fn acquired_at(&self) -> Instant;

    /// The time from a refresh to the next one; `None` for a lease that is not refreshed.
    fn refresh_interval(&self) -> Option<Duration>;

    /// The moment at which the lease counts as lost, unless it is refreshed before.
    fn deadline(&self) -> Instant;

    /// The backend renewed the lease; the request was sent at `sent_at`.
    fn renewed(&self, sent_at: Instant);

    /// The deadline is over.
    fn expire(&self);

    /// The lease is lost for this reason.
    fn lose(&self, reason: LostReason);
}

#[derive(Debug, Default)]
struct State {
    /// By owner, so that the leases are processed in the same order in every run.
    held: BTreeMap<OwnerId, Held>,
    /// The tasks, by their runtimes.
    running: HashMap<Id, Running>,
    started: u64,
}

#[derive(Debug)]
struct Running {
    number: u64,
    runtime: Handle,
    wake: Arc<Notify>,
    /// The next planned run of the task.
    planned: Option<Instant>,
}

#[derive(Debug)]
struct Held {
    hold: Arc<dyn Refreshable>,
    /// The runtime on which it was taken. None if it was taken without a runtime, or if that has ended:
    /// each task may then refresh it.
    runtime: Option<Id>,
    /// The time of the next refresh; `None` if there is none. While one is in progress, the time at which
    /// another task may take over a refresh that this one does not complete.
    attempt_at: Option<Instant>,
    /// The runtime of the task that has a refresh in progress.
    under_way: Option<Id>,
    /// Attempts without a definite answer since the last successful one.
    failures: u32,
}

impl Held {
    /// The time at which the task of this runtime refreshes the lease; tasks of other runtimes wait a
    /// little longer.
    fn due_for(&self, runtime: Id) -> Option<Instant> {
        let at = self.attempt_at?;
        match (self.under_way, self.runtime) {
            // Its answer is pending.
            (Some(by), _) if by == runtime => None,
            (Some(_), _) | (None, None) => Some(at),
            (None, Some(own)) if own == runtime => Some(at),
            (None, Some(_)) => {
                let left = self.hold.deadline().saturating_duration_since(at);
                Some(after(at, STANDBY_DELAY.min(left / 2)))
            }
        }
    }
}

/// The longest time between two runs.
const MAX_REFRESH_SLEEP: Duration = Duration::from_secs(1);
/// Leases due within this time of another are refreshed with it.
const REFRESHED_TOGETHER: Duration = Duration::from_millis(50);
/// The most leases of one call: a call must not occupy a backend for long.
const MAX_BATCH: usize = 128;
/// The limit for the answer to a refresh.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(2);
/// The first pause after a failed refresh. Pauses double and are jittered.
const FIRST_REFRESH_PAUSE: Duration = Duration::from_millis(100);
/// The longest of these pauses.
const MAX_REFRESH_PAUSE: Duration = Duration::from_secs(1);
/// The delay of a task after which that of another runtime refreshes its leases.
const STANDBY_DELAY: Duration = Duration::from_millis(500);

impl Refresher {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the table half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn new(client: &Arc<BackendClient>) -> Self {
        Self { client: Arc::clone(client), state: Mutex::default() }
    }

    /// Refreshes the lease from now on. False if there is no runtime for it.
    pub(crate) fn register(self: &Arc<Self>, hold: Arc<dyn Refreshable>) -> bool {
        let attempt_at =
            hold.refresh_interval().map(|interval| after(hold.acquired_at(), interval));
        let due = attempt_at.map_or(hold.deadline(), |at| at.min(hold.deadline()));
        let current = Handle::try_current().ok();
        let runtime = current.as_ref().map(Handle::id);
        let owner = hold.lease().owner;
        let held = Held { hold, runtime, attempt_at, under_way: None, failures: 0 };
        let mut state = self.state();
        if current.is_none() && state.running.is_empty() {
            return false;
        }
        let start = current
            .filter(|current| !state.running.contains_key(&current.id()))
            .map(|current| state.begin(self, current));
        state.held.insert(owner, held);
        for (id, task) in &state.running {
            if runtime.is_none_or(|own| own == *id) && task.planned.is_some_and(|at| due < at) {
                task.wake.notify_one();
            }
        }
        drop(state);
        if let Some(start) = start {
            start.go();
        }
        true
    }

    /// Passes the leases of a task whose runtime ended to the other tasks, if there are any.
    fn leave_to_others(&self, task: &Task) {
        let mut state = self.state();
        if !state.ended(task.runtime, task.number) {
            return;
        }
        let now = Instant::now();
        for held in state.held.values_mut() {
            if held.runtime == Some(task.runtime) {
                held.runtime = None;
            }
            // Its requests in progress ended with the task.
            if held.under_way == Some(task.runtime) {
                (held.under_way, held.attempt_at) = (None, Some(now));
            }
        }
        for other in state.running.values() {
            self.client.note_runtime(&other.runtime);
            other.wake.notify_one();
        }
    }

    /// Stops refreshing the lease. Later answers to requests in progress have no effect.
    pub(crate) fn unregister(&self, owner: OwnerId) {
        let held = self.state().held.remove(&owner);
        drop(held);
    }

    /// Ends the lease of this owner, if it is held here: another owner took it.
    pub(crate) fn lose_stolen(&self, owner: OwnerId) {
        let held = self.state().held.remove(&owner);
        if let Some(held) = held {
            held.hold.lose(LostReason::Stolen);
        }
    }

    /// Ends all leases that are still held, at shutdown; returns their number.
    pub(crate) fn lose_all(&self) -> usize {
        let held = std::mem::take(&mut self.state().held);
        for held in held.values() {
            held.hold.lose(LostReason::ShutDown);
        }
        held.len()
    }

    /// The work that is due now, and the time of the next run; `None` ends the task. `under_way` is the number of its
    /// requests without an answer.
    fn look(&self, task: &Task, under_way: usize) -> Option<Look> {
        let now = Instant::now();
        let mut next = after(now, MAX_REFRESH_SLEEP);
        let mut lost = Vec::new();
        let mut due = Vec::new();
        let mut soon = Vec::new();
        let mut state = self.state();
        let is_present =
            state.running.get(&task.runtime).is_some_and(|it| it.number == task.number);
        if !is_present || (state.held.is_empty() && under_way == 0) {
            state.ended(task.runtime, task.number);
            return None;
        }
        for (owner, held) in &state.held {
            let deadline = held.hold.deadline();
            if deadline <= now {
                lost.push(*owner);
                continue;
            }
            next = next.min(deadline);
            match held.due_for(task.runtime) {
                Some(at) if at <= now => due.push(*owner),
                Some(at) => {
                    if at.duration_since(now) <= REFRESHED_TOGETHER {
                        soon.push((*owner, at));
                    } else {
                        next = next.min(at);
                    }
                }
                None => {}
            }
        }
        if due.is_empty() {
            next = soon.iter().fold(next, |next, (_, at)| next.min(*at));
        } else {
            due.extend(soon.iter().map(|(owner, _)| *owner));
        }
        let lost: Vec<_> = lost.iter().filter_map(|owner| state.held.remove(owner)).collect();
        // A lease near its deadline must not shorten the timeout of the other leases.
        let (mut well, mut late) = (Vec::new(), Vec::new());
        for owner in due {
            if let Some(held) = state.held.get_mut(&owner) {
                let left = until(held.hold.deadline()) / 4;
                held.under_way = Some(task.runtime);
                held.attempt_at =
                    Some(after(now, REFRESH_TIMEOUT.min(left) + STANDBY_DELAY.min(left)));
                let batch = if left >= REFRESH_TIMEOUT { &mut well } else { &mut late };
                batch.push(Arc::clone(&held.hold));
            }
        }
        if let Some(running) = state.running.get_mut(&task.runtime) {
            running.planned = Some(next);
            self.client.note_runtime(&running.runtime);
        }
        drop(state);
        for held in lost {
            held.hold.expire();
        }
        let batches =
            [well, late].iter().flat_map(|b| b.chunks(MAX_BATCH)).map(<[_]>::to_vec).collect();
        Some(Look { next, batches })
    }

    /// Processes the backend's answers.
    fn settle(&self, settled: Settled) {
        let client = &self.client;
        let Settled { batch, sent_at, answers } = settled;
        let mut lost = Vec::new();
        let mut state = self.state();
        let now = Instant::now();
        for (index, hold) in batch.iter().enumerate() {
            // Released meanwhile, or found lost by the clock: the answer comes too late.
            let Some(held) = state.held.get_mut(&hold.lease().owner) else { continue };
            if hold.deadline() <= now {
                continue;
            }
            held.under_way = None;
            match answers.as_ref().map(|answers| answers.get(index)) {
                Ok(Some(Renewal::Renewed)) => {
                    hold.renewed(sent_at);
                    client.counters.refreshed.one();
                    held.failures = 0;
                    held.attempt_at = hold.refresh_interval().map(|i| after(sent_at, i));
                }
                Ok(Some(Renewal::NotOwner)) => lost.push((hold, LostReason::Stolen)),
                Ok(Some(Renewal::Vanished)) => lost.push((hold, LostReason::Vanished)),
                Ok(None) | Err(_) => {
                    client.counters.refresh_failed.one();
                    let (first, most) = (FIRST_REFRESH_PAUSE, MAX_REFRESH_PAUSE);
                    let pause = first.saturating_mul(1 << held.failures.min(8)).min(most);
                    held.failures += 1;
                    held.attempt_at = Some(after(now, client.random.jittered(pause)));
                    if let Err(error) = &answers {
                        let left = until(hold.deadline());
                        tracing::debug!(key = %hold.lease().key, ?left, %error, "refresh failed");
                    }
                }
            }
        }
        for (hold, _) in &lost {
            state.held.remove(&hold.lease().owner);
        }
        drop(state);
        for (hold, reason) in lost {
            hold.lose(reason);
        }
    }
}

impl State {
    /// Creates a task, which must be started after the table is unlocked.
    fn begin(&mut self, refresher: &Arc<Refresher>, runtime: Handle) -> Start {
        self.started += 1;
        let (number, wake) = (self.started, Arc::<Notify>::default());
        let running =
            Running { number, runtime: runtime.clone(), wake: Arc::clone(&wake), planned: None };
        self.running.insert(runtime.id(), running);
        refresher.client.note_runtime(&runtime);
        let task =
            Task { refresher: Arc::downgrade(refresher), wake, number, runtime: runtime.id() };
        Start { runtime, task }
    }

    /// Returns whether this task was a current one.
    fn ended(&mut self, runtime: Id, number: u64) -> bool {
        let is_present = self.running.get(&runtime).is_some_and(|it| it.number == number);
        if is_present {
            self.running.remove(&runtime);
        }
        is_present
    }
}

struct Look {
    next: Instant,
    batches: Vec<Vec<Arc<dyn Refreshable>>>,
}

struct Settled {
    batch: Vec<Arc<dyn Refreshable>>,
    sent_at: Instant,
    answers: Result<Vec<Renewal>, LockError>,
}

/// The task. It keeps neither the manager nor the backend alive.
struct Task {
    refresher: Weak<Refresher>,
    wake: Arc<Notify>,
    number: u64,
    runtime: Id,
}

/// A task and its runtime.
struct Start {
    runtime: Handle,
    task: Task,
}

impl Start {
    /// Not while the table is locked: a runtime that shuts down drops the task at once, and the drop locks
    /// the table.
    fn go(self) {
        self.runtime.spawn(self.task.run());
        // A worker thread keeps the task that it spawned last for itself. If that were ours, work that now
        // blocks the thread would prevent it from ever starting. This empty task takes that place.
        self.runtime.spawn(std::future::ready(()));
    }
}

impl Task {
    async fn run(self) {
        let mut under_way = FuturesUnordered::new();
        loop {
            let next = {
                let Some(refresher) = self.refresher.upgrade() else { return };
                let Some(look) = refresher.look(&self, under_way.len()) else { return };
                let client = &refresher.client;
                under_way.extend(look.batches.into_iter().map(|batch| refresh(client, batch)));
                look.next
            };
            tokio::select! {
                biased;
                Some(settled) = under_way.next(), if !under_way.is_empty() => {
                    let Some(refresher) = self.refresher.upgrade() else { return };
                    refresher.settle(settled);
                }
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }
}

impl Drop for Task {
    /// A runtime that shuts down ends the task early: the tasks of other runtimes take over its leases, or
    /// else the task of the next runtime that takes one.
    fn drop(&mut self) {
        if let Some(refresher) = self.refresher.upgrade() {
            refresher.leave_to_others(self);
        }
    }
}

/// Sends one refresh of these leases.
fn refresh(
    client: &Arc<BackendClient>,
    batch: Vec<Arc<dyn Refreshable>>,
) -> BoxFuture<'static, Settled> {
    let client = Arc::clone(client);
    let sent_at = Instant::now();
    let leases: Vec<Lease> = batch.iter().map(|hold| hold.lease().clone()).collect();
    let left = batch.iter().map(|hold| until(hold.deadline())).min().unwrap_or(REFRESH_TIMEOUT);
    Box::pin(async move {
        let call = client.backend.renew(&leases);
        let answers =
            client.answer(LockOperation::Renew, REFRESH_TIMEOUT.min(left / 4), call).await;
        Settled { batch, sent_at, answers }
    })
}
