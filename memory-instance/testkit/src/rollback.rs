//! Data for explaining histories with rollbacks: the times of rollbacks, and the requests that may have been applied
//! more than once.
//!
//! A request whose effect was lost may be applied again: the facade resends a batch until it is answered, and the
//! server does not recognize a batch that it lost. One recorded operation then represents several effects. The search
//! for an order has one step per operation, so the other effects are added to the history as operations without an
//! answer, which may have been applied or not.

use std::collections::BTreeMap;

use memory_core::store::{WriteId, WriterId};

use crate::history::{Answer, Call, Recorded, Tag};

/// The times of rollbacks. The end of a TTL and a deletion are some, to the empty state.
#[derive(Debug, Default)]
pub(crate) struct Rollbacks(Vec<u64>);

impl Rollbacks {
    pub(crate) fn of(operations: &[Recorded]) -> Self {
        let is_one = |call: &Call| matches!(call, Call::GoBack | Call::Expire | Call::Delete);
        let rollbacks = operations.iter().filter(|operation| is_one(&operation.call));
        Self(rollbacks.map(|operation| operation.called).collect())
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there was a rollback in this time.
    pub(crate) fn any_in(&self, from: u64, to: u64) -> bool {
        self.0.iter().any(|at| (from..=to).contains(at))
    }

    /// The number of rollbacks before this time; `None` if one was in it.
    pub(crate) fn before(&self, from: u64, to: u64) -> Option<usize> {
        let before = self.0.iter().filter(|at| **at < from).count();
        (!self.any_in(from, to)).then_some(before)
    }
}

/// Applied writes, from the answers that passed the connections, received or not.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Batches that were appended, not recognized, by their first messages.
    appends: BTreeMap<Tag, Vec<u64>>,
    /// Clears of each memory, recognized or not.
    clears: BTreeMap<(usize, WriterId, u64), Vec<u64>>,
}

impl Effects {
    pub(crate) fn appended(&mut self, first: Tag, now: u64) {
        self.appends.entry(first).or_default().push(now);
    }

    pub(crate) fn cleared(&mut self, key: usize, write: WriteId, now: u64) {
        self.clears.entry((key, write.writer, write.number)).or_default().push(now);
    }

    /// Operations that represent the additional effects of the recorded ones.
    pub(crate) fn repeated(
        &self,
        key: usize,
        operations: &[Recorded],
        rollbacks: &Rollbacks,
    ) -> Vec<Recorded> {
        let mut repeated = Vec::new();
        if rollbacks.is_empty() {
            return repeated;
        }
        self.repeat_appends(operations, &mut repeated);
        self.repeat_clears(key, operations, rollbacks, &mut repeated);
        // A splice is recorded per request, and each is applied at most once. But the search explains an answer that
        // changes nothing at once. So a splice that was recognized by the state before a rollback may be needed after
        // it.
        let spliced = operations.iter().filter(|operation| match &operation.returned {
            Some((at, Answer::Spliced(_))) => rollbacks.any_in(operation.called, *at),
            _ => false,
        });
        repeated.extend(spliced.map(|splice| again(splice, splice.called)));
        repeated
    }

    /// For each batch with several effects, those that no answer reported. An answer that recognized the batch reports
    /// none.
    fn repeat_appends(&self, operations: &[Recorded], repeated: &mut Vec<Recorded>) {
        for times in self.appends.iter().filter(|(_, times)| times.len() > 1) {
            let (tag, times) = times;
            let sends = operations.iter().filter(|operation| match &operation.call {
                Call::Append { pieces, .. } => pieces.first().is_some_and(|one| one.tag == *tag),
                _ => false,
            });
            let sends: Vec<_> = sends.collect();
            let is_new = |operation: &&&Recorded| {
                matches!(operation.returned, Some((_, Answer::Appended { duplicate: false, .. })))
            };
            let told = sends.iter().filter(is_new).count();
            let Some(send) = sends.first() else { continue };
            let others = times.iter().take(times.len().saturating_sub(told));
            repeated.extend(others.map(|at| again(send, *at)));
        }
    }

    /// One per request of each clear that was sent again with a rollback in between. Connections do not know the
    /// agent's operation of a request, so all of them are used.
    fn repeat_clears(
        &self,
        key: usize,
        operations: &[Recorded],
        rollbacks: &Rollbacks,
        repeated: &mut Vec<Recorded>,
    ) {
        let of_key = self.clears.iter().filter(|((of, ..), _)| *of == key);
        let sent_again = of_key.filter(|(_, times)| match times.as_slice() {
            [first, .., last] => rollbacks.any_in(*first, *last),
            _ => false,
        });
        let most: usize = sent_again.map(|(_, times)| times.len()).sum();
        let clears = operations.iter().filter(|one| matches!(one.call, Call::Clear(_)));
        for clear in clears {
            repeated.extend((0..most).map(|_| again(clear, clear.called)));
        }
    }
}

/// The same operation, from this time on, without an answer.
fn again(operation: &Recorded, called: u64) -> Recorded {
    Recorded { call: operation.call.clone(), called, returned: None }
}
