//! Work of a caller that others wait behind, and that is revoked if the caller does not poll it.
//!
//! A future may be polled once and then kept: in a `select!` loop with `&mut future`, behind a long handler
//! of another branch, in a collection that is not driven. The resources that it holds while it waits (the
//! turn of its key, a lease that was handed to it) would be held for as long as it is kept. Therefore the
//! work of a caller is dropped when it was woken and is not polled for [`MAX_UNPOLLED`]. A drop is safe at
//! every await point and passes on these resources. A caller that polls later starts over.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::time::Instant;

use crate::key::LockKey;

/// The longest time for which woken work may stay unpolled. If all threads of a runtime are busy for
/// longer, its waiters lose their places in line, and nothing else.
const MAX_UNPOLLED: Duration = Duration::from_millis(500);
/// The interval between two checks of the waiting work.
const UNPOLLED_CHECK_INTERVAL: Duration = Duration::from_millis(250);

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Work that is dropped if it was woken and is not polled; it then returns `None`.
pub(crate) struct Revocable<T: Send + 'static> {
    attendance: Arc<Attendance>,
    key: LockKey,
    slot: Arc<Slot<T>>,
    /// Its number in the list of checked work, once it has had to wait.
    number: Option<u64>,
}

struct Slot<T> {
    work: Mutex<Option<Work<T>>>,
    /// Woken since the last poll.
    woken: AtomicBool,
    polls: AtomicU64,
    caller: Mutex<Option<Waker>>,
}

impl<T: Send + 'static> Revocable<T> {
    pub(crate) fn new(
        attendance: &Arc<Attendance>,
        key: &LockKey,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        let slot = Slot {
            work: Mutex::new(Some(Box::pin(work))),
            woken: AtomicBool::new(false),
            polls: AtomicU64::new(0),
            caller: Mutex::default(),
        };
        let (attendance, key) = (Arc::clone(attendance), key.clone());
        Self { attendance, key, slot: Arc::new(slot), number: None }
    }
}

impl<T: Send + 'static> Future for Revocable<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let slot = Arc::clone(&self.slot);
        slot.caller().get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
        slot.woken.store(false, Ordering::SeqCst);
        slot.polls.fetch_add(1, Ordering::SeqCst);
        let mut work = slot.work.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = work.as_mut() else { return Poll::Ready(None) };
        let waker = Waker::from(Arc::clone(&slot));
        let polled = running.as_mut().poll(&mut Context::from_waker(&waker));
        let done = if polled.is_ready() { work.take() } else { None };
        drop(work);
        drop(done);
        if polled.is_pending() {
            let this = &mut *self;
            let seen = Arc::downgrade(&slot) as Weak<dyn Attended>;
            this.number = this.attendance.enter(&this.key, this.number, seen);
        }
        polled.map(Some)
    }
}

impl<T: Send + 'static> Drop for Revocable<T> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.attendance.leave(number);
        }
        // Also breaks the reference cycle of the work and the wakers that it has given out.
        drop(self.slot.take());
    }
}

impl<T> Slot<T> {
    fn caller(&self) -> MutexGuard<'_, Option<Waker>> {
        self.caller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Work<T>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T: Send + 'static> Wake for Slot<T> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ask();
    }
}

/// Work as its attendance uses it.
trait Attended: Send + Sync {
    /// Woken, and not polled since.
    fn is_due(&self) -> bool;
    /// The number of polls.
    fn polls(&self) -> u64;
    /// Wakes it, to see whether it is polled.
    fn ask(&self);
    /// Drops it, unless it is being polled now.
    fn revoke(&self);
}

impl<T: Send + 'static> Attended for Slot<T> {
    fn is_due(&self) -> bool {
        self.woken.load(Ordering::SeqCst)
    }

    fn polls(&self) -> u64 {
        self.polls.load(Ordering::SeqCst)
    }

    fn ask(&self) {
        self.woken.store(true, Ordering::SeqCst);
        let caller = self.caller().clone();
        if let Some(caller) = caller {
            caller.wake();
        }
    }

    fn revoke(&self) {
        let work = match self.work.try_lock() {
            Ok(mut work) => work.take(),
            Err(TryLockError::Poisoned(work)) => work.into_inner().take(),
            Err(TryLockError::WouldBlock) => return,
        };
        // The drop passes on its resources, which must not happen while the work is locked.
        drop(work);
        self.ask();
    }
}

/// Watches the work of all waiters of one manager. Each runtime on which callers wait has a task for it,
/// which ends when no work is left: a runtime that exists and is not driven stalls its task, and the tasks
/// of other runtimes continue.
#[derive(Default)]
pub(crate) struct Attendance {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// In order of arrival, so that each run checks them in the same order.
    waiting: BTreeMap<u64, WaitingWork>,
    last: u64,
    /// The tasks: the number of each, by its runtime.
    running: HashMap<Id, u64>,
    started: u64,
    /// The time of the last run of a task.
    looked: Option<Instant>,
}

struct WaitingWork {
    key: LockKey,
    work: Weak<dyn Attended>,
    due: Option<Due>,
}

/// The time since which work is due, and its number of polls at that time.
#[derive(Clone, Copy)]
struct Due {
    since: Instant,
    polls: u64,
}

impl Attendance {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the table is complete before anything in it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches this work from now on. Without a runtime it is only listed, and tasks of other runtimes watch it.
    fn enter(
        self: &Arc<Self>,
        key: &LockKey,
        number: Option<u64>,
        work: Weak<dyn Attended>,
    ) -> Option<u64> {
        let runtime = Handle::try_current().ok();
        let mut state = self.state();
        let number = number.unwrap_or_else(|| {
            state.last += 1;
            let number = state.last;
            state.waiting.insert(number, WaitingWork { key: key.clone(), work, due: None });
            number
        });
        if let Some(runtime) = runtime
            && !state.running.contains_key(&runtime.id())
        {
            state.started += 1;
            let task = state.started;
            state.running.insert(runtime.id(), task);
            let task =
                Task { attendance: Arc::downgrade(self), runtime: runtime.id(), number: task };
            // Not while the table is locked: a runtime that shuts down drops the task at once.
            drop(state);
            runtime.spawn(task.run());
            // A worker thread keeps the task that it spawned last for itself; this empty one takes that
            // place.
            runtime.spawn(std::future::ready(()));
        }
        Some(number)
    }

    fn leave(&self, number: u64) {
        let entry = self.state().waiting.remove(&number);
        drop(entry);
    }

    /// Revokes work that was due for too long. False when no work is left.
    fn look(&self, runtime: Id, task: u64) -> bool {
        let now = Instant::now();
        let (mut overdue, mut others) = (Vec::new(), Vec::new());
        let mut state = self.state();
        if state.running.get(&runtime) != Some(&task) || state.waiting.is_empty() {
            state.ended(runtime, task);
            return false;
        }
        // The task of another runtime has just checked all of them.
        let since = state.looked.and_then(|at| now.checked_duration_since(at));
        if since.is_some_and(|since| since < UNPOLLED_CHECK_INTERVAL / 2) {
            return true;
        }
        state.looked = Some(now);
        let mut suspects = HashSet::new();
        for entry in state.waiting.values_mut() {
            let Some(work) = entry.work.upgrade() else { continue };
            let polls = work.polls();
            if !work.is_due() {
                entry.due = None;
                continue;
            }
            match entry.due {
                Some(due) if due.polls == polls => {
                    if now.duration_since(due.since) >= MAX_UNPOLLED {
                        overdue.push(work);
                    }
                }
                _ => {
                    entry.due = Some(Due { since: now, polls });
                    suspects.insert(entry.key.clone());
                }
            }
        }
        // Waiters behind it may be kept too. All are woken at once, because one after the other would take
        // as many times as long.
        if !suspects.is_empty() {
            for entry in state.waiting.values_mut() {
                if entry.due.is_none()
                    && suspects.contains(&entry.key)
                    && let Some(work) = entry.work.upgrade()
                {
                    entry.due = Some(Due { since: now, polls: work.polls() });
                    others.push(work);
                }
            }
        }
        drop(state);
        for work in others {
            work.ask();
        }
        // The last one first: otherwise the resources of the first would pass to one that is dropped next.
        for work in overdue.into_iter().rev() {
            work.revoke();
        }
        true
    }
}

impl State {
    fn ended(&mut self, runtime: Id, task: u64) {
        if self.running.get(&runtime) == Some(&task) {
            self.running.remove(&runtime);
        }
    }
}

impl fmt::Debug for Attendance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attendance").field("waiting", &self.state().waiting.len()).finish()
    }
}

/// The task. It does not keep the manager alive.
struct Task {
    attendance: Weak<Attendance>,
    runtime: Id,
    number: u64,
}

impl Task {
    async fn run(self) {
        loop {
            tokio::time::sleep(UNPOLLED_CHECK_INTERVAL).await;
            let Some(attendance) = self.attendance.upgrade() else { return };
            if !attendance.look(self.runtime, self.number) {
                return;
            }
        }
    }
}

impl Drop for Task {
    /// A runtime that shuts down ends the task early: the next caller that is polled starts another.
    fn drop(&mut self) {
        if let Some(attendance) = self.attendance.upgrade() {
            attendance.state().ended(self.runtime, self.number);
        }
    }
}
