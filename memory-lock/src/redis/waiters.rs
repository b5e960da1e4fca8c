//! The waiters of this process, which the server's messages wake.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memory_core::lease::OwnerId;
use memory_redis_link::PushListener;
use tokio::sync::Notify;

use crate::key::LockKey;

/// The waiters for each lease, and their places in line at the server.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<LockKey, Vec<Arc<Waiter>>>,
    /// Owners that have a place in line at the server.
    places: HashSet<(LockKey, OwnerId)>,
}

#[derive(Debug)]
struct Waiter {
    owner: Option<OwnerId>,
    /// The lease was released, and may be reserved for another waiter.
    released: Notify,
    kept_for_another: AtomicBool,
}

/// The time for which a released lease is reserved for the next in line. A live waiter takes it within a
/// round trip; one that has left delays the others by this time.
pub(super) const RESERVED_FOR_WAITER: Duration = Duration::from_millis(50);

/// The TTL of a line. A waiter renews it with each request, at least once in a poll interval.
pub(super) const LINE_TTL: Duration = Duration::from_secs(60);

impl Waiters {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `owner name`, where the owner is the next in line, if there is one.
    fn released(&self, payload: &[u8]) {
        let Ok(payload) = std::str::from_utf8(payload) else { return };
        let Some((next, name)) = payload.split_once(' ') else { return };
        let next: Option<OwnerId> = next.parse().ok();
        let state = self.state();
        for waiter in state.waiting.get(name).into_iter().flatten() {
            let for_another = next.is_some() && waiter.owner.is_some() && waiter.owner != next;
            if for_another { waiter.wake_later() } else { waiter.wake() }
        }
    }

    /// Waits for a release of this lease from now on.
    pub(super) fn wait(self: &Arc<Self>, key: &LockKey, owner: Option<OwnerId>) -> Waiting {
        let waiter = Arc::new(Waiter {
            owner,
            released: Notify::new(),
            kept_for_another: AtomicBool::new(false),
        });
        self.state().waiting.entry(key.clone()).or_default().push(Arc::clone(&waiter));
        Waiting { waiters: Arc::clone(self), key: key.clone(), waiter }
    }

    /// Returns whether this owner waits in line for the lease.
    pub(super) fn waits(&self, key: &LockKey, owner: OwnerId) -> bool {
        let state = self.state();
        state.waiting.get(key).is_some_and(|all| all.iter().any(|w| w.owner == Some(owner)))
    }
}

impl Waiters {
    /// Records that the server keeps a place in line for this owner.
    pub(super) fn add_place(&self, key: &LockKey, owner: OwnerId) {
        self.state().places.insert((key.clone(), owner));
    }

    /// Records that the server keeps no place in line for this owner.
    pub(super) fn remove_place(&self, key: &LockKey, owner: OwnerId) {
        let mut state = self.state();
        if !state.places.is_empty() {
            state.places.remove(&(key.clone(), owner));
        }
    }

    /// Returns whether this owner has left without giving up its place; the place is then given up.
    pub(super) fn takes_back_place(&self, key: &LockKey, owner: OwnerId) -> bool {
        let mut state = self.state();
        let waits =
            state.waiting.get(key).is_some_and(|all| all.iter().any(|w| w.owner == Some(owner)));
        !waits && state.places.remove(&(key.clone(), owner))
    }

    pub(super) fn keeps_place(&self, key: &LockKey, owner: OwnerId) -> bool {
        self.state().places.contains(&(key.clone(), owner))
    }
}

impl Waiter {
    /// The lease may be free for this waiter.
    fn wake(&self) {
        self.kept_for_another.store(false, Ordering::Relaxed);
        self.released.notify_one();
    }

    /// The lease was released, and is reserved for another waiter.
    fn wake_later(&self) {
        self.kept_for_another.store(true, Ordering::Relaxed);
        self.released.notify_one();
    }
}

impl PushListener for Waiters {
    fn message(&self, _channel: &[u8], payload: &[u8]) {
        self.released(payload);
    }

    fn disconnected(&self) {
        // A release may have been missed, so every waiter asks again.
        for waiter in self.state().waiting.values().flatten() {
            waiter.wake();
        }
    }
}

/// A registered waiter; unregistered when dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    waiters: Arc<Waiters>,
    key: LockKey,
    waiter: Arc<Waiter>,
}

impl Waiting {
    /// Ends when the lease may be free for this one.
    pub(super) async fn released(&self) {
        self.waiter.released.notified().await;
        if self.waiter.kept_for_another.load(Ordering::Relaxed) {
            // The waiter for which it is reserved announces its release. If that waiter has left, the lease
            // is free when the reservation ends.
            let _ =
                tokio::time::timeout(RESERVED_FOR_WAITER, self.waiter.released.notified()).await;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.waiters.state();
        if let Some(all) = state.waiting.get_mut(&self.key) {
            all.retain(|waiter| !Arc::ptr_eq(waiter, &self.waiter));
            if all.is_empty() {
                state.waiting.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> LockKey {
        LockKey::new("a b").unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn next_in_line_is_woken_first() {
        let waiters = Arc::new(Waiters::default());
        let (first, second) = (OwnerId::new(1), OwnerId::new(2));
        let (one, two) = (waiters.wait(&key(), Some(first)), waiters.wait(&key(), Some(second)));
        let anyone = waiters.wait(&key(), None);
        let begun = tokio::time::Instant::now();
        waiters.message(b"c", format!("{first} a b").as_bytes());
        one.released().await;
        anyone.released().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        two.released().await;
        assert_eq!(begun.elapsed(), RESERVED_FOR_WAITER);
    }

    #[tokio::test(start_paused = true)]
    async fn broken_connection_wakes_all_waiters() {
        let waiters = Arc::new(Waiters::default());
        let one = waiters.wait(&key(), Some(OwnerId::new(1)));
        waiters.disconnected();
        one.released().await;
    }

    #[test]
    fn dropped_waiter_is_unregistered() {
        let waiters = Arc::new(Waiters::default());
        let waiting = waiters.wait(&key(), Some(OwnerId::new(1)));
        assert!(waiters.waits(&key(), OwnerId::new(1)));
        drop(waiting);
        assert!(!waiters.waits(&key(), OwnerId::new(1)));
        assert!(waiters.state().waiting.is_empty());
    }
}
