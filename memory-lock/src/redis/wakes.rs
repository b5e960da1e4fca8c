//! The one subscription by which releases become known, whoever waits for whichever lease.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memory_core::OwnerId;
use redis::aio::SendError;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;

use crate::key::LockKey;

/// Who waits for what, and which channels the connection listens to: at most one for each bucket,
/// kept for as long as the connection lives.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    state: Mutex<State>,
    /// The newest connection that broke; every request looks. The first has the number 1.
    broken: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<LockKey, Vec<Arc<Waiter>>>,
    /// Owners that have a place in line at the server.
    places: HashSet<(LockKey, OwnerId)>,
    channels: HashSet<String>,
    /// The connection that carries the subscription.
    connection: u64,
}

#[derive(Debug)]
struct Waiter {
    owner: Option<OwnerId>,
    /// The lease was released, and may be kept for another in line.
    released: Notify,
    kept_for_another: AtomicBool,
}

/// For how long a released lease is kept for the next in line. One that is alive takes it within a
/// round trip; one that has gone costs the others this much.
pub(super) const KEPT: Duration = Duration::from_millis(50);

impl Wakes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the driver calls with what the server pushes on this connection.
    pub(super) fn listener(
        self: &Arc<Self>,
        number: u64,
    ) -> impl Fn(PushInfo) -> Result<(), SendError> + Send + Sync + 'static {
        let wakes = Arc::clone(self);
        move |push| {
            match push.kind {
                PushKind::Message | PushKind::SMessage => {
                    if let Some(Value::BulkString(payload)) = push.data.get(1) {
                        wakes.released(payload);
                    }
                }
                PushKind::Disconnection | PushKind::SUnsubscribe => wakes.disconnected(number),
                _ => {}
            }
            Ok(())
        }
    }

    /// Whether this connection listens to the channel already.
    pub(super) fn listens(&self, channel: &str, number: u64) -> bool {
        let state = self.state();
        state.connection == number && state.channels.contains(channel)
    }

    pub(super) fn listening(&self, channel: String, number: u64) {
        let mut state = self.state();
        if state.connection != number {
            state.connection = number;
            state.channels.clear();
        }
        state.channels.insert(channel);
    }

    /// Whether this connection is known to have broken.
    pub(super) fn is_broken(&self, number: u64) -> bool {
        self.broken.load(Ordering::Acquire) >= number
    }

    fn disconnected(&self, number: u64) {
        self.broken.fetch_max(number, Ordering::AcqRel);
        let mut state = self.state();
        if state.connection == number {
            state.channels.clear();
        }
        // A release may have been missed: everybody looks for himself.
        for waiter in state.waiting.values().flatten() {
            waiter.wake(false);
        }
    }

    /// `owner name`, where the owner is the next in line, or nobody.
    fn released(&self, payload: &[u8]) {
        let Ok(payload) = std::str::from_utf8(payload) else { return };
        let Some((next, name)) = payload.split_once(' ') else { return };
        let next: Option<OwnerId> = next.parse().ok();
        let state = self.state();
        for waiter in state.waiting.get(name).into_iter().flatten() {
            let for_another = next.is_some() && waiter.owner.is_some() && waiter.owner != next;
            waiter.wake(for_another);
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
        Waiting { wakes: Arc::clone(self), key: key.clone(), waiter }
    }

    /// Whether this owner waits in line for the lease.
    pub(super) fn waits(&self, key: &LockKey, owner: OwnerId) -> bool {
        let state = self.state();
        state.waiting.get(key).is_some_and(|all| all.iter().any(|w| w.owner == Some(owner)))
    }
}

impl Wakes {
    /// The server keeps this owner a place in line, or no longer.
    pub(super) fn has_place(&self, key: &LockKey, owner: OwnerId, has: bool) {
        let mut state = self.state();
        if has {
            state.places.insert((key.clone(), owner));
        } else if !state.places.is_empty() {
            state.places.remove(&(key.clone(), owner));
        }
    }

    /// Whether this owner has gone without giving up its place; then it has given it up.
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
    fn wake(&self, kept_for_another: bool) {
        self.kept_for_another.store(kept_for_another, Ordering::Relaxed);
        self.released.notify_one();
    }
}

/// One who waits; gone when dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    wakes: Arc<Wakes>,
    key: LockKey,
    waiter: Arc<Waiter>,
}

impl Waiting {
    /// Ends when the lease may be free for this one.
    pub(super) async fn released(&self) {
        self.waiter.released.notified().await;
        if self.waiter.kept_for_another.load(Ordering::Relaxed) {
            // The one it is kept for announces its own release; should it have gone, the lease is
            // free when it is kept no longer.
            let _ = tokio::time::timeout(KEPT, self.waiter.released.notified()).await;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.wakes.state();
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

    fn said(wakes: &Arc<Wakes>, payload: &str) {
        let data = vec![Value::BulkString(b"c".into()), Value::BulkString(payload.into())];
        wakes.listener(1)(PushInfo { kind: PushKind::Message, data }).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_in_line_is_woken_at_once_and_the_others_when_it_has_had_its_time() {
        let wakes = Arc::new(Wakes::default());
        let (first, second) = (OwnerId::new(1), OwnerId::new(2));
        let (one, two) = (wakes.wait(&key(), Some(first)), wakes.wait(&key(), Some(second)));
        let anyone = wakes.wait(&key(), None);
        let begun = tokio::time::Instant::now();
        said(&wakes, &format!("{first} a b"));
        one.released().await;
        anyone.released().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        two.released().await;
        assert_eq!(begun.elapsed(), KEPT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_connection_wakes_everybody_and_is_known() {
        let wakes = Arc::new(Wakes::default());
        let one = wakes.wait(&key(), Some(OwnerId::new(1)));
        wakes.listening("c".into(), 7);
        assert!(wakes.listens("c", 7) && !wakes.is_broken(7));
        wakes.listener(7)(PushInfo { kind: PushKind::Disconnection, data: vec![] }).unwrap();
        one.released().await;
        assert!(!wakes.listens("c", 7) && wakes.is_broken(7));
    }

    #[test]
    fn who_has_gone_waits_no_longer() {
        let wakes = Arc::new(Wakes::default());
        let waiting = wakes.wait(&key(), Some(OwnerId::new(1)));
        assert!(wakes.waits(&key(), OwnerId::new(1)));
        drop(waiting);
        assert!(!wakes.waits(&key(), OwnerId::new(1)));
        assert!(wakes.state().waiting.is_empty());
    }
}
