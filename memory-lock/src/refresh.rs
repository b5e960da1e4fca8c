//! The task that refreshes what a manager holds, in batches, and notices what it lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use memory_core::OwnerId;
use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::answer::Renewal;
use crate::error::{LockError, LockOperation};
use crate::hold::Hold;
use crate::lease::Lease;
use crate::lost::LostReason;
use crate::shared::{Shared, until};
use crate::time::after;

/// The held leases of one manager, and the one task that refreshes them and notices their loss.
///
/// The task exists while something is registered, and a second longer: it looks once a second at
/// the least, and ends when it finds nothing. So registering a lease costs no timer, and no wake-up
/// of the task unless it must look sooner than it planned to.
#[derive(Debug, Default)]
pub(crate) struct Refresher {
    state: Mutex<State>,
    wake: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    /// By owner, so that the same leases are looked after in the same order in every run.
    held: BTreeMap<OwnerId, Held>,
    /// Which task is the present one, if there is one.
    running: Option<u64>,
    started: u64,
    /// When the task looks next.
    planned: Option<Instant>,
    runtime: Option<Handle>,
}

#[derive(Debug)]
struct Held {
    hold: Arc<Hold>,
    /// Where it was taken; the task can go on there.
    runtime: Option<Handle>,
    /// When the next refresh is due; `None` while one is under way, or if there is none to be.
    attempt_at: Option<Instant>,
    /// Attempts without a definite answer since the last success.
    failures: u32,
}

/// The longest time between two looks.
const TICK: Duration = Duration::from_secs(1);
/// Leases due within this time of another are refreshed with it.
const TOGETHER: Duration = Duration::from_millis(50);
/// How many leases one call renews: a backend must not be kept from others for long.
const MAX_BATCH: usize = 128;
/// The longest that the answer to a refresh is waited for.
const ATTEMPT: Duration = Duration::from_secs(2);
/// The pauses after refreshes that failed: from the first to the second, doubling, jittered.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

impl Refresher {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the table half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A runtime on which this manager's leases were taken.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        self.state().runtime.clone()
    }

    /// Looks after the lease from now on. False if there is no runtime for it.
    pub(crate) fn register(&self, hold: &Arc<Hold>) -> bool {
        let attempt_at =
            hold.refresh_interval().map(|interval| after(hold.acquired_at(), interval));
        let due = attempt_at.map_or(hold.deadline(), |at| at.min(hold.deadline()));
        let runtime = Handle::try_current().ok();
        let held =
            Held { hold: Arc::clone(hold), runtime: runtime.clone(), attempt_at, failures: 0 };
        let mut state = self.state();
        let mut starts = None;
        if state.running.is_none() {
            let Some(runtime) = runtime else { return false };
            starts = Some(self.begin(&mut state, hold.shared(), runtime, Vec::new()));
        }
        state.held.insert(hold.owner(), held);
        if state.planned.is_some_and(|planned| due < planned) {
            self.wake.notify_one();
        }
        drop(state);
        if let Some(start) = starts {
            start.go();
        }
        true
    }

    /// Makes a task, which is to be started once the table is not locked.
    fn begin(
        &self,
        state: &mut State,
        shared: &Arc<Shared>,
        runtime: Handle,
        ended: Vec<Id>,
    ) -> Start {
        state.started += 1;
        let number = state.started;
        state.running = Some(number);
        state.planned = None;
        state.runtime = Some(runtime.clone());
        // Attempts that were under way ended with the task before, if there was one.
        for held in state.held.values_mut().filter(|held| held.attempt_at.is_none()) {
            held.attempt_at = held.hold.refresh_interval().map(|_| Instant::now());
        }
        let (shared, wake) = (Arc::downgrade(shared), Arc::clone(&self.wake));
        let task = Task { shared, wake, number, runtime: runtime.id(), ended };
        Start { runtime, task }
    }

    /// Goes on with a task whose runtime ended, on another runtime on which a lease was taken that is held.
    fn carry_on(&self, shared: &Arc<Shared>, task: &mut Task) {
        let mut state = self.state();
        if state.running != Some(task.number) {
            return;
        }
        state.ended(task.number);
        task.ended.push(task.runtime);
        let mut runtimes = state.held.values().filter_map(|held| held.runtime.as_ref());
        let runtime = runtimes.find(|runtime| !task.ended.contains(&runtime.id())).cloned();
        let Some(runtime) = runtime else { return };
        let start = self.begin(&mut state, shared, runtime, std::mem::take(&mut task.ended));
        drop(state);
        start.go();
    }

    /// Looks after the lease no longer; answers that are still under way have no effect.
    pub(crate) fn unregister(&self, owner: OwnerId) {
        let held = self.state().held.remove(&owner);
        drop(held);
    }

    /// Ends the lease of this owner, if it is held here: another took it.
    pub(crate) fn lose_stolen(&self, owner: OwnerId) {
        let held = self.state().held.remove(&owner);
        if let Some(held) = held {
            held.hold.lose(LostReason::Stolen);
        }
    }

    /// Ends all leases that are still held, for a shutdown; how many there were.
    pub(crate) fn lose_all(&self) -> usize {
        let held = std::mem::take(&mut self.state().held);
        for held in held.values() {
            held.hold.lose(LostReason::ShutDown);
        }
        held.len()
    }

    /// What is to be done now, and when to look again; `None` ends the task.
    fn look(&self, number: u64, refreshing: bool) -> Option<Look> {
        let now = Instant::now();
        let mut next = after(now, TICK);
        let mut lost = Vec::new();
        let mut due = Vec::new();
        let mut soon = Vec::new();
        let mut state = self.state();
        if state.running != Some(number) || (state.held.is_empty() && !refreshing) {
            state.ended(number);
            return None;
        }
        for (owner, held) in &state.held {
            let deadline = held.hold.deadline();
            if deadline <= now {
                lost.push(*owner);
                continue;
            }
            next = next.min(deadline);
            match held.attempt_at {
                Some(at) if at <= now => due.push(*owner),
                Some(at) => {
                    if at.duration_since(now) <= TOGETHER {
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
        // A lease near its deadline must not cut short the time of those that are well.
        let (mut well, mut late) = (Vec::new(), Vec::new());
        for owner in due {
            if let Some(held) = state.held.get_mut(&owner) {
                held.attempt_at = None;
                let is_well = until(held.hold.deadline()) / 4 >= ATTEMPT;
                let batch = if is_well { &mut well } else { &mut late };
                batch.push(Arc::clone(&held.hold));
            }
        }
        state.planned = Some(next);
        drop(state);
        for held in lost {
            // By the clock, so it says itself why.
            let _ = held.hold.ensure_held();
        }
        let batches =
            [well, late].iter().flat_map(|b| b.chunks(MAX_BATCH)).map(<[_]>::to_vec).collect();
        Some(Look { next, batches })
    }

    /// Takes in what the backend answered.
    fn settle(&self, shared: &Shared, settled: Settled) {
        let Settled { batch, sent_at, answers } = settled;
        let mut lost = Vec::new();
        let mut state = self.state();
        let now = Instant::now();
        for (index, hold) in batch.iter().enumerate() {
            // Given up meanwhile, or found lost by the clock: the answer comes too late.
            let Some(held) = state.held.get_mut(&hold.owner()) else { continue };
            if hold.deadline() <= now {
                continue;
            }
            match answers.as_ref().map(|answers| answers.get(index)) {
                Ok(Some(Renewal::Renewed)) => {
                    hold.renewed(sent_at);
                    shared.counters.refreshed.one();
                    held.failures = 0;
                    held.attempt_at = hold.refresh_interval().map(|i| after(sent_at, i));
                }
                Ok(Some(Renewal::NotOwner)) => lost.push((hold, LostReason::Stolen)),
                Ok(Some(Renewal::Vanished)) => lost.push((hold, LostReason::Vanished)),
                Ok(None) | Err(_) => {
                    shared.counters.refresh_failed.one();
                    let (first, most) = RETRY;
                    let pause = first.saturating_mul(1 << held.failures.min(8)).min(most);
                    held.failures += 1;
                    held.attempt_at = Some(after(now, shared.random.jittered(pause)));
                    if let Err(error) = &answers {
                        let left = until(hold.deadline());
                        tracing::debug!(key = %hold.key(), ?left, %error, "refresh failed");
                    }
                }
            }
        }
        for (hold, _) in &lost {
            state.held.remove(&hold.owner());
        }
        drop(state);
        for (hold, reason) in lost {
            hold.lose(reason);
        }
    }
}

impl State {
    fn ended(&mut self, number: u64) {
        if self.running == Some(number) {
            self.running = None;
            self.planned = None;
        }
    }
}

struct Look {
    next: Instant,
    batches: Vec<Vec<Arc<Hold>>>,
}

struct Settled {
    batch: Vec<Arc<Hold>>,
    sent_at: Instant,
    answers: Result<Vec<Renewal>, LockError>,
}

/// The task. It keeps neither the manager nor the backend alive.
struct Task {
    shared: Weak<Shared>,
    wake: Arc<Notify>,
    number: u64,
    runtime: Id,
    /// The runtimes that ended under it before.
    ended: Vec<Id>,
}

/// A task and where it is to run.
struct Start {
    runtime: Handle,
    task: Task,
}

impl Start {
    /// Not with the table locked: a runtime that shuts down drops the task at once, which looks there.
    fn go(self) {
        self.runtime.spawn(self.task.run());
        // A worker thread keeps the task it spawned last to itself: were that ours, work that now blocks the
        // thread would keep it from ever starting. This one takes that place.
        self.runtime.spawn(std::future::ready(()));
    }
}

impl Task {
    async fn run(self) {
        let mut under_way = FuturesUnordered::new();
        loop {
            let next = {
                let Some(shared) = self.shared.upgrade() else { return };
                let refreshing = !under_way.is_empty();
                let Some(look) = shared.refresher.look(self.number, refreshing) else { return };
                under_way.extend(look.batches.into_iter().map(|batch| refresh(&shared, batch)));
                look.next
            };
            tokio::select! {
                biased;
                Some(settled) = under_way.next(), if !under_way.is_empty() => {
                    let Some(shared) = self.shared.upgrade() else { return };
                    shared.refresher.settle(&shared, settled);
                }
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }
}

impl Drop for Task {
    /// A runtime that shuts down ends the task early: another one that holds a lease goes on with it, or else
    /// the next that takes one.
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.refresher.carry_on(&shared, self);
        }
    }
}

/// Sends one refresh of these leases.
fn refresh(shared: &Arc<Shared>, batch: Vec<Arc<Hold>>) -> BoxFuture<'static, Settled> {
    let shared = Arc::clone(shared);
    let sent_at = Instant::now();
    let leases: Vec<Lease> = batch.iter().map(|hold| hold.lease().clone()).collect();
    let left = batch.iter().map(|hold| until(hold.deadline())).min().unwrap_or(ATTEMPT);
    Box::pin(async move {
        let call = shared.backend.renew(&leases);
        let answers = shared.answer(LockOperation::Renew, ATTEMPT.min(left / 4), call).await;
        Settled { batch, sent_at, answers }
    })
}
