//! The waiting lines of one process: first come, first served.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memory_core::lease::OwnerId;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::LockError;
use crate::key::LockKey;

/// The waiting lines of this process, one for each key that is in use.
///
/// A line exists while one task has the [`Turn`] of its key. Only that task sends requests to the backend
/// about the key; the others wait here for the turn, or for `G`, a lease that is granted to them.
#[derive(Debug)]
pub(crate) struct Lines<G> {
    table: Mutex<Table<G>>,
}

#[derive(Debug)]
struct Table<G> {
    lines: HashMap<LockKey, Line<G>>,
    /// Leases that were not released when their line ended. The first task of the next line releases them.
    left_behind: HashMap<LockKey, LeftBehind>,
}

/// A lease that the backend may still hold for an owner of this process, because the runtime ended while the
/// release was in flight. The next task with the turn releases it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeftBehind {
    pub(crate) owner: OwnerId,
    /// When the lease expires without a release.
    pub(crate) until: Instant,
}

impl<G> Table<G> {
    /// Begins a line. Its first task gets the turn, and the lease that the previous line left behind.
    fn begin(&mut self, lines: &Arc<Lines<G>>, key: &LockKey) -> Turn<G> {
        self.lines.insert(key.clone(), Line::default());
        let mut turn = Turn::new(lines, key);
        if !self.left_behind.is_empty() {
            turn.left_behind = self.left_behind.remove(key);
        }
        turn
    }

    fn end(&mut self, key: &LockKey, left_behind: Option<LeftBehind>) {
        self.lines.remove(key);
        if let Some(left) = left_behind {
            let now = Instant::now();
            // Keys that are never used again must not pile up.
            self.left_behind.retain(|_, left| left.until > now);
            self.left_behind.insert(key.clone(), left);
        }
    }
}

#[derive(Debug)]
struct Line<G> {
    waiters: VecDeque<Waiter<G>>,
    next_number: u64,
    /// The task with the turn waits for a lease that another process holds.
    contending: bool,
    /// Set while requests about the key get no definite answer.
    failing: Option<Failing>,
}

/// A run of failed requests about one key.
#[derive(Debug, Clone)]
pub(crate) struct Failing {
    /// When the first request of the run was sent.
    pub(crate) since: Instant,
    /// The newest error.
    pub(crate) error: LockError,
}

/// A task that waits in a line.
#[derive(Debug)]
pub(crate) struct Waiter<G> {
    number: u64,
    pub(crate) owner: OwnerId,
    pub(crate) ttl: Duration,
    call: oneshot::Sender<Pass<G>>,
}

/// The message that ends a wait.
#[derive(Debug)]
pub(crate) enum Pass<G> {
    /// It is the waiter's turn to ask the backend.
    Turn(Turn<G>),
    /// The lease itself, granted to the waiter's owner id.
    Granted(G),
}

/// The right of one task in this process to send requests about a key to the backend. Dropping it calls the
/// next waiter.
#[derive(Debug)]
pub(crate) struct Turn<G> {
    lines: Arc<Lines<G>>,
    key: LockKey,
    /// How many times in a row the lease was handed over without a release.
    pub(crate) hand_overs: u32,
    /// The limit for `hand_overs`, once it is known.
    pub(crate) max_hand_overs: Option<u32>,
    /// The next task waits for a moment first, so that other processes get the lease.
    pub(crate) hold_back: bool,
    /// The lease of an earlier task, until its release is certain.
    pub(crate) left_behind: Option<LeftBehind>,
    passed: bool,
}

/// A place in a line; dropping it leaves the line.
#[derive(Debug)]
pub(crate) struct Ticket<G> {
    lines: Arc<Lines<G>>,
    key: LockKey,
    number: u64,
    pub(crate) called: oneshot::Receiver<Pass<G>>,
}

pub(crate) enum Entered<G> {
    First(Turn<G>),
    Queued(Ticket<G>),
}

impl<G> Lines<G> {
    fn table(&self) -> MutexGuard<'_, Table<G>> {
        // Nothing that can panic runs while the table is locked.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the turn if no task has it.
    pub(crate) fn try_enter(self: &Arc<Self>, key: &LockKey) -> Option<Turn<G>> {
        let mut table = self.table();
        if table.lines.contains_key(key) {
            return None;
        }
        Some(table.begin(self, key))
    }

    /// Takes the turn, or a place at the end of the line.
    pub(crate) fn enter(
        self: &Arc<Self>,
        key: &LockKey,
        owner: OwnerId,
        ttl: Duration,
    ) -> Entered<G> {
        let mut table = self.table();
        let Some(line) = table.lines.get_mut(key) else {
            return Entered::First(table.begin(self, key));
        };
        let number = line.next_number;
        line.next_number += 1;
        let (call, called) = oneshot::channel();
        line.waiters.push_back(Waiter { number, owner, ttl, call });
        Entered::Queued(Ticket { lines: Arc::clone(self), key: key.clone(), number, called })
    }

    /// How many tasks wait for the key, including the one that waits at the backend.
    pub(crate) fn waiting(&self, key: &LockKey) -> usize {
        let table = self.table();
        table.lines.get(key).map_or(0, |line| line.waiters.len() + usize::from(line.contending))
    }

    /// Whether requests about the key get no definite answer now.
    pub(crate) fn failing(&self, key: &LockKey) -> Option<Failing> {
        self.table().lines.get(key).and_then(|line| line.failing.clone())
    }

    /// Records the newest answer about the key: a definite one, or the error of a request sent then.
    pub(crate) fn note(&self, key: &LockKey, failed: Option<(&LockError, Instant)>) {
        let mut table = self.table();
        let Some(line) = table.lines.get_mut(key) else { return };
        line.failing = failed.map(|(error, sent_at)| Failing {
            since: line.failing.as_ref().map_or(sent_at, |failing| failing.since),
            error: error.clone(),
        });
    }

    /// Removes all waiters. Their channels close, which ends their calls.
    pub(crate) fn close(&self) {
        let mut removed = Vec::new();
        for line in self.table().lines.values_mut() {
            removed.extend(line.waiters.drain(..));
        }
    }

    /// Calls the next waiter, or ends the line.
    fn pass_on(self: &Arc<Self>, turn: &Turn<G>) {
        let Turn { ref key, hold_back, left_behind, .. } = *turn;
        loop {
            let waiter = {
                let mut table = self.table();
                let Some(line) = table.lines.get_mut(key) else { return };
                line.contending = false;
                match line.waiters.pop_front() {
                    Some(waiter) => waiter,
                    None => {
                        table.end(key, left_behind);
                        return;
                    }
                }
            };
            let mut turn = Turn::new(self, key);
            turn.hold_back = hold_back;
            turn.left_behind = left_behind;
            match waiter.call.send(Pass::Turn(turn)) {
                // Dropping the turn here would call this function again: a line of waiters that have left
                // would overflow the stack.
                Err(Pass::Turn(mut turn)) => turn.passed = true,
                _ => return,
            }
        }
    }
}

// Derived, these would ask for `G: Default`.
impl<G> Default for Lines<G> {
    fn default() -> Self {
        let table = Table { lines: HashMap::new(), left_behind: HashMap::new() };
        Self { table: Mutex::new(table) }
    }
}

impl<G> Default for Line<G> {
    fn default() -> Self {
        Self { waiters: VecDeque::new(), next_number: 0, contending: false, failing: None }
    }
}

impl<G> Waiter<G> {
    /// Passes it the turn. If it has left, the next waiter gets the turn.
    pub(crate) fn call_up(self, mut turn: Turn<G>) {
        turn.hand_overs = 0;
        drop(self.call.send(Pass::Turn(turn)));
    }

    /// Passes it the lease that was granted to its owner id. If it has left, the lease comes back: the
    /// backend holds it for that owner, and the caller has to pass it on.
    pub(crate) fn grant(self, granted: G) -> Option<G> {
        match self.call.send(Pass::Granted(granted)) {
            Err(Pass::Granted(granted)) => Some(granted),
            _ => None,
        }
    }
}

/// A hand-over in flight to the next waiter. If it is dropped, because the runtime ended, that waiter gets the
/// turn and asks under the owner id to which the lease may have been handed over.
#[derive(Debug)]
pub(crate) struct HandingOver<G>(Option<(Waiter<G>, Turn<G>)>);

impl<G> HandingOver<G> {
    pub(crate) const fn new(next: Waiter<G>, turn: Turn<G>) -> Self {
        Self(Some((next, turn)))
    }

    pub(crate) fn done(mut self) -> Option<(Waiter<G>, Turn<G>)> {
        self.0.take()
    }
}

impl<G> Drop for HandingOver<G> {
    fn drop(&mut self) {
        if let Some((next, turn)) = self.0.take() {
            next.call_up(turn);
        }
    }
}

impl<G> Turn<G> {
    fn new(lines: &Arc<Lines<G>>, key: &LockKey) -> Self {
        Self {
            lines: Arc::clone(lines),
            key: key.clone(),
            hand_overs: 0,
            max_hand_overs: None,
            hold_back: false,
            left_behind: None,
            passed: false,
        }
    }

    /// Counts the task with this turn as waiting.
    pub(crate) fn contend(&self) {
        self.with_line(|line| line.contending = true);
    }

    /// Counts the task with this turn as not waiting.
    pub(crate) fn stop_contending(&self) {
        self.with_line(|line| line.contending = false);
    }

    fn with_line(&self, change: impl FnOnce(&mut Line<G>)) {
        if let Some(line) = self.lines.table().lines.get_mut(&self.key) {
            change(line);
        }
    }

    /// How many tasks wait for this turn.
    pub(crate) fn waiters(&self) -> usize {
        self.lines.table().lines.get(&self.key).map_or(0, |line| line.waiters.len())
    }

    /// Takes the first waiter out of the line. Skips waiters that are about to leave it.
    pub(crate) fn next_waiter(&self) -> Option<Waiter<G>> {
        let mut table = self.lines.table();
        let line = table.lines.get_mut(&self.key)?;
        while let Some(waiter) = line.waiters.pop_front() {
            if !waiter.call.is_closed() {
                return Some(waiter);
            }
        }
        None
    }
}

impl<G> Drop for Turn<G> {
    fn drop(&mut self) {
        if !self.passed {
            self.lines.pass_on(self);
        }
    }
}

impl<G> Drop for Ticket<G> {
    fn drop(&mut self) {
        let left = {
            let mut table = self.lines.table();
            table.lines.get_mut(&self.key).and_then(|line| {
                // Numbers rise along the line.
                let found = line.waiters.binary_search_by_key(&self.number, |w| w.number);
                found.ok().and_then(|index| line.waiters.remove(index))
            })
        };
        // Not while the table is locked: a turn in its channel calls the next waiter when dropped.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    /// In place of a lease: the turn alone.
    type TestLines = Lines<Granted>;

    #[derive(Debug)]
    struct Granted(Turn<Self>);

    /// A line whose turn is taken, and waiters with the owner ids from 1 on.
    fn line_of(count: u128) -> (Arc<TestLines>, LockKey, Turn<Granted>, Vec<Ticket<Granted>>) {
        let lines = Arc::new(TestLines::default());
        let key = LockKey::new("k").unwrap();
        let enter = |owner| lines.enter(&key, OwnerId::new(owner), TTL);
        let Entered::First(turn) = enter(0) else { panic!("the line is new") };
        let wait = |owner| match enter(owner) {
            Entered::Queued(ticket) => ticket,
            Entered::First(_) => panic!("the turn is taken"),
        };
        let tickets = (1..=count).map(wait).collect();
        (lines, key, turn, tickets)
    }

    fn next_owner(turn: &Turn<Granted>) -> Option<u128> {
        turn.next_waiter().map(|waiter| waiter.owner.bits())
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_tasks_are_counted() {
        let (lines, key, turn, tickets) = line_of(0);
        assert!(tickets.is_empty());
        assert_eq!((turn.waiters(), lines.waiting(&key)), (0, 0));
        drop(turn);

        let (lines, key, turn, tickets) = line_of(2);
        assert_eq!((turn.waiters(), lines.waiting(&key)), (2, 2));
        turn.contend();
        assert_eq!((turn.waiters(), lines.waiting(&key)), (2, 3));
        turn.stop_contending();
        assert_eq!(lines.waiting(&key), 2);
        drop(tickets);
        assert_eq!((turn.waiters(), lines.waiting(&key)), (0, 0));
        assert_eq!(lines.waiting(&LockKey::new("other").unwrap()), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn leaving_keeps_the_order_of_the_others() {
        let (_lines, _key, turn, mut tickets) = line_of(4);
        drop(tickets.remove(1));
        // About to leave, so it is skipped.
        tickets[0].called.close();
        assert_eq!(turn.waiters(), 3);
        assert_eq!(next_owner(&turn), Some(3));
        assert_eq!(next_owner(&turn), Some(4));
        assert_eq!(next_owner(&turn), None);
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_turn_passes_to_the_next_waiter() {
        let (lines, key, mut turn, mut tickets) = line_of(2);
        assert!(lines.try_enter(&key).is_none());
        turn.contend();
        turn.hold_back = true;
        drop(turn);
        assert!(matches!(tickets[1].called.try_recv(), Err(TryRecvError::Empty)));
        let Ok(Pass::Turn(mut turn)) = tickets[0].called.try_recv() else {
            panic!("not called up")
        };
        assert!(turn.hold_back);
        assert_eq!(lines.waiting(&key), 1, "the task that had the turn waits no longer");

        let waiter = turn.next_waiter().unwrap();
        turn.hand_overs = 3;
        waiter.call_up(turn);
        let Ok(Pass::Turn(turn)) = tickets[1].called.try_recv() else { panic!("not called up") };
        assert_eq!(turn.hand_overs, 0, "the count starts over");
        drop(turn);
        assert!(lines.try_enter(&key).is_some(), "the line has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn skipping_many_waiters_does_not_recurse() {
        let (lines, key, turn, mut tickets) = line_of(50_000);
        tickets.iter_mut().for_each(|ticket| ticket.called.close());
        drop(turn);
        assert!(lines.try_enter(&key).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn lease_for_a_waiter_that_left_comes_back() {
        let (lines, key, turn, mut tickets) = line_of(1);
        let waiter = turn.next_waiter().unwrap();
        tickets[0].called.close();
        let granted = waiter.grant(Granted(turn));
        assert!(granted.is_some() && lines.try_enter(&key).is_none());
        drop(granted);
        assert!(lines.try_enter(&key).is_some());

        let (_lines, _key, turn, mut tickets) = line_of(1);
        let waiter = turn.next_waiter().unwrap();
        assert!(waiter.grant(Granted(turn)).is_none());
        let Ok(Pass::Granted(Granted(turn))) = tickets[0].called.try_recv() else {
            panic!("nothing was granted")
        };
        assert_eq!(turn.waiters(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_removes_all_waiters() {
        let (lines, _key, turn, mut tickets) = line_of(2);
        lines.close();
        assert_eq!(turn.waiters(), 0);
        for ticket in &mut tickets {
            assert!(matches!(ticket.called.try_recv(), Err(TryRecvError::Closed)));
        }
    }
}
