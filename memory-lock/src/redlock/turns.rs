//! The calls of one owner to one server are sequential.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memory_core::lease::OwnerId;
use tokio::sync::Notify;

/// The requests to one server for one owner, one after the other.
///
/// A call returns as soon as its outcome is certain, and continues in the background at slow servers,
/// including the withdrawal of late grants. That must not overtake the next call of the same owner, which
/// would lose its grant.
#[derive(Debug, Default)]
pub(super) struct Turns {
    queues: Mutex<HashMap<OwnerId, VecDeque<Arc<Notify>>>>,
}

impl Turns {
    fn queues(&self) -> MutexGuard<'_, HashMap<OwnerId, VecDeque<Arc<Notify>>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place behind all earlier requests for any of these owners.
    pub(super) fn enter(self: &Arc<Self>, owners: &[OwnerId]) -> Turn {
        let called = Arc::new(Notify::new());
        let mut owners = owners.to_vec();
        owners.sort_unstable();
        owners.dedup();
        // All at once, so that two callers cannot wait for each other.
        let mut queues = self.queues();
        for owner in &owners {
            queues.entry(*owner).or_default().push_back(Arc::clone(&called));
        }
        drop(queues);
        Turn { turns: Arc::clone(self), owners, called }
    }
}

/// A place in line. The turn ends when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    owners: Vec<OwnerId>,
    called: Arc<Notify>,
}

impl Turn {
    /// Ends when no earlier request is in progress.
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
