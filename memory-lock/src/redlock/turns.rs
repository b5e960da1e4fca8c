//! One call after the other, for each owner at each server.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memory_core::lease::OwnerId;
use tokio::sync::Notify;

/// What one server is asked on behalf of one owner, one thing after the other.
///
/// A call returns as soon as its outcome is certain, and goes on in the background at the servers that
/// are slow, up to taking back what came too late. The next call of the same owner must not be
/// overtaken by that: it would lose what it was granted.
#[derive(Debug, Default)]
pub(super) struct Turns {
    queues: Mutex<HashMap<OwnerId, VecDeque<Arc<Notify>>>>,
}

impl Turns {
    fn queues(&self) -> MutexGuard<'_, HashMap<OwnerId, VecDeque<Arc<Notify>>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place behind all that came before on behalf of any of these owners.
    pub(super) fn enter(self: &Arc<Self>, owners: &[OwnerId]) -> Turn {
        let called = Arc::new(Notify::new());
        let mut owners = owners.to_vec();
        owners.sort_unstable();
        owners.dedup();
        // All at once, so that two of them cannot wait for each other.
        let mut queues = self.queues();
        for owner in &owners {
            queues.entry(*owner).or_default().push_back(Arc::clone(&called));
        }
        drop(queues);
        Turn { turns: Arc::clone(self), owners, called }
    }
}

/// A place in line; over when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    owners: Vec<OwnerId>,
    called: Arc<Notify>,
}

impl Turn {
    /// Ends when nothing that came before is under way.
    pub(super) async fn come(&self) {
        while !self.is_first() {
            self.called.notified().await;
        }
    }

    fn is_first(&self) -> bool {
        let queues = self.turns.queues();
        let first = |owner| queues.get(owner).and_then(VecDeque::front);
        self.owners.iter().all(|owner| first(owner).is_some_and(|it| Arc::ptr_eq(it, &self.called)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queues = self.turns.queues();
        for owner in &self.owners {
            let Some(queue) = queues.get_mut(owner) else { continue };
            queue.retain(|place| !Arc::ptr_eq(place, &self.called));
            match queue.front() {
                Some(next) => next.notify_one(),
                None => {
                    queues.remove(owner);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn owner(number: u128) -> OwnerId {
        OwnerId::new(number)
    }

    #[test]
    fn calls_of_one_owner_run_in_order() {
        let turns = Arc::new(Turns::default());
        let (first, second) = (turns.enter(&[owner(1)]), turns.enter(&[owner(1)]));
        let other = turns.enter(&[owner(2)]);
        assert!(first.come().now_or_never().is_some());
        assert!(second.come().now_or_never().is_none());
        assert!(other.come().now_or_never().is_some());
        drop(first);
        assert!(second.come().now_or_never().is_some());
    }

    #[test]
    fn canceled_turn_keeps_the_order() {
        let turns = Arc::new(Turns::default());
        let first = turns.enter(&[owner(1)]);
        let (left, last) = (turns.enter(&[owner(1)]), turns.enter(&[owner(1)]));
        drop(left);
        assert!(last.come().now_or_never().is_none());
        drop(first);
        assert!(last.come().now_or_never().is_some());
    }

    #[tokio::test]
    async fn turn_for_several_owners_waits_for_all() {
        let turns = Arc::new(Turns::default());
        let (one, two) = (turns.enter(&[owner(1)]), turns.enter(&[owner(2)]));
        let both = turns.enter(&[owner(2), owner(1), owner(1)]);
        let after = turns.enter(&[owner(1)]);
        let waiting = tokio::spawn(async move { both.come().await });
        drop(one);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished() && after.come().now_or_never().is_none());
        drop(two);
        waiting.await.unwrap();
        assert!(after.come().now_or_never().is_some());
        drop(after);
        assert!(turns.queues().is_empty());
    }
}
