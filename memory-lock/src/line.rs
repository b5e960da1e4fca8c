//! Waiting in line within this process.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memory_core::lease::OwnerId;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::claim::Claim;
use crate::error::LockError;
use crate::key::LockKey;
use crate::shared::Shared;

/// The waiting lines of this process, one for each key that is in use: first come, first served.
///
/// A line exists while one task has the [`Turn`] of its key. Only that task talks to the backend
/// about the key; the others wait here.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    lines: Mutex<Keys>,
}

#[derive(Debug, Default)]
struct Keys {
    lines: HashMap<LockKey, Line>,
    /// Leases that the last of a line could not give up, for the first of the next.
    left_behind: HashMap<LockKey, LeftBehind>,
}

/// A lease that the backend may hold for an owner of this process who could not give it up, because the
/// runtime ended on which that was under way. The next with the turn frees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeftBehind {
    pub(crate) owner: OwnerId,
    /// When it has run out by itself.
    pub(crate) until: Instant,
}

impl Keys {
    /// Begins a line. Its first has the turn, and what the last of the line before left behind.
    fn begin(&mut self, shared: &Arc<Shared>, key: &LockKey) -> Turn {
        self.lines.insert(key.clone(), Line::default());
        let mut turn = Turn::new(shared, key);
        if !self.left_behind.is_empty() {
            turn.left_behind = self.left_behind.remove(key);
        }
        turn
    }

    /// Ends a line.
    fn end(&mut self, key: &LockKey, left_behind: Option<LeftBehind>) {
        self.lines.remove(key);
        if let Some(left) = left_behind {
            let now = Instant::now();
            self.left_behind.retain(|_, left| left.until > now);
            self.left_behind.insert(key.clone(), left);
        }
    }
}

#[derive(Debug, Default)]
struct Line {
    waiters: VecDeque<Waiter>,
    next_number: u64,
    /// The task with the turn waits for a lease that another process holds.
    contending: bool,
    /// The backend gives those who ask it about the key no definite answer.
    failing: Option<Failing>,
}

/// How a backend fails.
#[derive(Debug, Clone)]
pub(crate) struct Failing {
    /// When the first of the calls was sent that have failed in a row.
    pub(crate) since: Instant,
    /// The newest of their errors.
    pub(crate) error: LockError,
}

/// Somebody in a line.
#[derive(Debug)]
pub(crate) struct Waiter {
    number: u64,
    pub(crate) owner: OwnerId,
    pub(crate) ttl: Duration,
    call: oneshot::Sender<Pass>,
}

/// What a waiter is called up with.
#[derive(Debug)]
pub(crate) enum Pass {
    /// Its turn to ask the backend.
    Turn(Turn),
    /// The lease itself, granted to the waiter's owner id.
    Granted(Claim),
}

/// The right of one task in this process to deal with a key at the backend. Dropping it calls up
/// the next in line.
#[derive(Debug)]
pub(crate) struct Turn {
    shared: Arc<Shared>,
    key: LockKey,
    /// How many times in a row the lease was handed over without a release.
    pub(crate) hand_overs: u32,
    /// How many times it may be, once that is known.
    pub(crate) most_hand_overs: Option<u32>,
    /// Give other processes a moment first.
    pub(crate) hold_back: bool,
    /// The lease of whoever had the turn before, if it may not have been given up.
    pub(crate) left_behind: Option<LeftBehind>,
    passed: bool,
}

/// A place in a line; dropping it leaves the line.
#[derive(Debug)]
pub(crate) struct Ticket {
    shared: Arc<Shared>,
    key: LockKey,
    number: u64,
    pub(crate) called: oneshot::Receiver<Pass>,
}

pub(crate) enum Entered {
    First(Turn),
    Queued(Ticket),
}

impl Lines {
    fn lines(&self) -> MutexGuard<'_, Keys> {
        // Nothing that can panic runs while the map is locked.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the turn if nobody has it.
    pub(crate) fn try_enter(shared: &Arc<Shared>, key: &LockKey) -> Option<Turn> {
        let mut lines = shared.lines.lines();
        if lines.lines.contains_key(key) {
            return None;
        }
        Some(lines.begin(shared, key))
    }

    /// Takes the turn, or a place at the end of the line.
    pub(crate) fn enter(
        shared: &Arc<Shared>,
        key: &LockKey,
        owner: OwnerId,
        ttl: Duration,
    ) -> Entered {
        let mut lines = shared.lines.lines();
        let Some(line) = lines.lines.get_mut(key) else {
            return Entered::First(lines.begin(shared, key));
        };
        let number = line.next_number;
        line.next_number += 1;
        let (call, called) = oneshot::channel();
        line.waiters.push_back(Waiter { number, owner, ttl, call });
        Entered::Queued(Ticket { shared: Arc::clone(shared), key: key.clone(), number, called })
    }

    /// How many wait here.
    pub(crate) fn length(&self, key: &LockKey) -> usize {
        self.lines().lines.get(key).map_or(0, |line| line.waiters.len())
    }

    /// Takes the first out of the line, skipping those who are about to leave it.
    pub(crate) fn next(&self, key: &LockKey) -> Option<Waiter> {
        let mut lines = self.lines();
        let line = lines.lines.get_mut(key)?;
        while let Some(waiter) = line.waiters.pop_front() {
            if !waiter.call.is_closed() {
                return Some(waiter);
            }
        }
        None
    }

    pub(crate) fn has_waiters(&self, key: &LockKey) -> bool {
        self.lines().lines.get(key).is_some_and(|line| !line.waiters.is_empty())
    }

    /// How many wait for the key, the one who waits at the backend included.
    pub(crate) fn waiting(&self, key: &LockKey) -> usize {
        let lines = self.lines();
        lines.lines.get(key).map_or(0, |line| line.waiters.len() + usize::from(line.contending))
    }

    /// Whether those who ask the backend about the key get no definite answer now.
    pub(crate) fn failing(&self, key: &LockKey) -> Option<Failing> {
        self.lines().lines.get(key).and_then(|line| line.failing.clone())
    }

    /// What the task with the turn has heard: a definite answer, or an error of a call sent then.
    pub(crate) fn note(&self, key: &LockKey, failed: Option<(&LockError, Instant)>) {
        let mut lines = self.lines();
        let Some(line) = lines.lines.get_mut(key) else { return };
        line.failing = failed.map(|(error, sent_at)| Failing {
            since: line.failing.as_ref().map_or(sent_at, |failing| failing.since),
            error: error.clone(),
        });
    }

    /// Sends everybody in line away; their calls end with "shut down".
    pub(crate) fn close(&self) {
        let mut sent_away = Vec::new();
        for line in self.lines().lines.values_mut() {
            sent_away.extend(line.waiters.drain(..));
        }
    }

    /// Calls up the next in line, or ends the line. True if someone was called up.
    fn pass_on(
        shared: &Arc<Shared>,
        key: &LockKey,
        hold_back: bool,
        left_behind: Option<LeftBehind>,
    ) {
        loop {
            let waiter = {
                let mut lines = shared.lines.lines();
                let Some(line) = lines.lines.get_mut(key) else { return };
                line.contending = false;
                match line.waiters.pop_front() {
                    Some(waiter) => waiter,
                    None => {
                        lines.end(key, left_behind);
                        return;
                    }
                }
            };
            let mut turn = Turn::new(shared, key);
            turn.hold_back = hold_back;
            turn.left_behind = left_behind;
            match waiter.call.send(Pass::Turn(turn)) {
                // Dropping the turn here would call this function again, ever deeper.
                Err(Pass::Turn(mut turn)) => turn.passed = true,
                _ => return,
            }
        }
    }
}

impl Waiter {
    /// Gives it the turn to ask the backend. If it has left, the next one gets it.
    pub(crate) fn call_up(self, mut turn: Turn) {
        turn.hand_overs = 0;
        drop(self.call.send(Pass::Turn(turn)));
    }

    /// Gives it the lease that was granted to its owner id. If it has left, the turn comes back, and
    /// the lease is the caller's to pass on.
    pub(crate) fn grant(self, claim: Claim) -> Option<Turn> {
        match self.call.send(Pass::Granted(claim)) {
            Err(Pass::Granted(mut claim)) => {
                claim.disarm();
                claim.take_turn()
            }
            _ => None,
        }
    }
}

/// A lease on its way to the next in line. If whoever hands it over comes to no end, because the runtime
/// ended, the next gets the turn: it asks under the owner id to which the lease may have been passed.
#[derive(Debug)]
pub(crate) struct HandingOver(Option<(Waiter, Turn)>);

impl HandingOver {
    pub(crate) const fn new(next: Waiter, turn: Turn) -> Self {
        Self(Some((next, turn)))
    }

    pub(crate) fn done(mut self) -> Option<(Waiter, Turn)> {
        self.0.take()
    }
}

impl Drop for HandingOver {
    fn drop(&mut self) {
        if let Some((next, turn)) = self.0.take() {
            next.call_up(turn);
        }
    }
}

impl Turn {
    fn new(shared: &Arc<Shared>, key: &LockKey) -> Self {
        Self {
            shared: Arc::clone(shared),
            key: key.clone(),
            hand_overs: 0,
            most_hand_overs: None,
            hold_back: false,
            left_behind: None,
            passed: false,
        }
    }

    /// Counts the task with this turn among those who wait, or no longer.
    pub(crate) fn contending(&self, contending: bool) {
        if let Some(line) = self.shared.lines.lines().lines.get_mut(&self.key) {
            line.contending = contending;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.passed {
            Lines::pass_on(&self.shared, &self.key, self.hold_back, self.left_behind);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let left = {
            let mut lines = self.shared.lines.lines();
            lines.lines.get_mut(&self.key).and_then(|line| {
                // Numbers rise along the line.
                let found = line.waiters.binary_search_by_key(&self.number, |w| w.number);
                found.ok().and_then(|index| line.waiters.remove(index))
            })
        };
        // What its channel still holds may call up the next: not while the map is locked.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;
    use crate::{Clock, InProcessLock, ManagerOptions};

    const TTL: Duration = Duration::from_secs(10);

    /// A line whose turn is taken, and those who wait in it under the owner ids from 1 on.
    fn line_of(count: u128) -> (Arc<Shared>, LockKey, Turn, Vec<Ticket>) {
        let backend = Arc::new(InProcessLock::new(Clock::tokio()));
        let shared = Arc::new(Shared::new(backend, ManagerOptions::new()));
        let key = LockKey::new("k").unwrap();
        let enter = |owner| Lines::enter(&shared, &key, OwnerId::new(owner), TTL);
        let Entered::First(turn) = enter(0) else { panic!("nobody was there") };
        let wait = |owner| match enter(owner) {
            Entered::Queued(ticket) => ticket,
            Entered::First(_) => panic!("the turn is taken"),
        };
        let tickets = (1..=count).map(wait).collect();
        (shared, key, turn, tickets)
    }

    fn next_owner(shared: &Shared, key: &LockKey) -> Option<u128> {
        shared.lines.next(key).map(|waiter| waiter.owner.bits())
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_knows_how_many_wait() {
        let (shared, key, turn, tickets) = line_of(0);
        assert!(tickets.is_empty() && !shared.lines.has_waiters(&key));
        assert_eq!((shared.lines.length(&key), shared.lines.waiting(&key)), (0, 0));
        drop(turn);

        let (shared, key, turn, tickets) = line_of(2);
        assert!(shared.lines.has_waiters(&key));
        assert_eq!((shared.lines.length(&key), shared.lines.waiting(&key)), (2, 2));
        turn.contending(true);
        assert_eq!((shared.lines.length(&key), shared.lines.waiting(&key)), (2, 3));
        turn.contending(false);
        assert_eq!(shared.lines.waiting(&key), 2);
        drop(tickets);
        assert_eq!((shared.lines.length(&key), shared.lines.waiting(&key)), (0, 0));
        let other = LockKey::new("other").unwrap();
        assert_eq!((shared.lines.length(&other), shared.lines.waiting(&other)), (0, 0));
        assert!(!shared.lines.has_waiters(&other));
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_a_line_leaves_the_others_in_their_order() {
        let (shared, key, _turn, mut tickets) = line_of(4);
        drop(tickets.remove(1));
        // About to leave: it is passed over.
        tickets[0].called.close();
        assert_eq!(shared.lines.length(&key), 3);
        assert_eq!(next_owner(&shared, &key), Some(3));
        assert_eq!(next_owner(&shared, &key), Some(4));
        assert_eq!(next_owner(&shared, &key), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_goes_from_one_to_the_next_and_the_line_ends_with_the_last() {
        let (shared, key, mut turn, mut tickets) = line_of(2);
        assert!(Lines::try_enter(&shared, &key).is_none());
        turn.contending(true);
        turn.hold_back = true;
        drop(turn);
        assert!(matches!(tickets[1].called.try_recv(), Err(TryRecvError::Empty)));
        let Ok(Pass::Turn(mut turn)) = tickets[0].called.try_recv() else {
            panic!("not called up")
        };
        assert!(turn.hold_back, "it is told to give others a moment");
        assert_eq!(shared.lines.waiting(&key), 1, "who had the turn waits no longer");

        let waiter = shared.lines.next(&key).unwrap();
        turn.hand_overs = 3;
        waiter.call_up(turn);
        let Ok(Pass::Turn(turn)) = tickets[1].called.try_recv() else { panic!("not called up") };
        assert_eq!(turn.hand_overs, 0, "another row begins");
        drop(turn);
        assert!(Lines::try_enter(&shared, &key).is_some(), "the line has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_passes_over_any_number_who_have_left_without_going_deeper() {
        let (shared, key, turn, mut tickets) = line_of(50_000);
        tickets.iter_mut().for_each(|ticket| ticket.called.close());
        drop(turn);
        assert!(Lines::try_enter(&shared, &key).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_granted_to_one_who_has_left_brings_the_turn_back() {
        let (shared, key, turn, mut tickets) = line_of(1);
        let waiter = shared.lines.next(&key).unwrap();
        tickets[0].called.close();
        let mut claim = Claim::new(&shared, &key, waiter.owner, TTL, turn, Instant::now());
        claim.arm();
        let turn = waiter.grant(claim);
        assert!(turn.is_some() && Lines::try_enter(&shared, &key).is_none());

        drop(turn);
        let (shared, key, turn, mut tickets) = line_of(1);
        let waiter = shared.lines.next(&key).unwrap();
        let claim = Claim::new(&shared, &key, waiter.owner, TTL, turn, Instant::now());
        assert!(waiter.grant(claim).is_none());
        assert!(matches!(tickets[0].called.try_recv(), Ok(Pass::Granted(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_is_closed_sends_everybody_away() {
        let (shared, key, _turn, mut tickets) = line_of(2);
        shared.lines.close();
        assert_eq!(shared.lines.length(&key), 0);
        for ticket in &mut tickets {
            assert!(matches!(ticket.called.try_recv(), Err(TryRecvError::Closed)));
        }
    }
}
