//! What a history with rollbacks needs to be explained: when the server went back, and which requests may
//! have had an effect more than once.
//!
//! A request whose effect was lost may have it again: the facade sends a batch again until it is
//! answered, and what the server has lost it does not recognize. One recorded operation then stands for several
//! effects. The search for an order has one step for each operation, so the others are added to the history as
//! operations without an answer, which may have an effect or none.

use std::collections::BTreeMap;

use memory_core::{WriteId, WriterId};

use crate::history::{Answer, Call, Recorded, Tag};

/// When the server went back.
#[derive(Debug, Default)]
pub(crate) struct Rollbacks(Vec<u64>);

impl Rollbacks {
    pub(crate) fn of(operations: &[Recorded]) -> Self {
        let rollbacks = operations.iter().filter(|operation| operation.call == Call::GoBack);
        Self(rollbacks.map(|operation| operation.called).collect())
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there was one in this time.
    pub(crate) fn any_in(&self, from: u64, to: u64) -> bool {
        self.0.iter().any(|at| (from..=to).contains(at))
    }

    /// How many there were before this time; `None` if one was in it.
    pub(crate) fn before(&self, from: u64, to: u64) -> Option<usize> {
        let before = self.0.iter().filter(|at| **at < from).count();
        (!self.any_in(from, to)).then_some(before)
    }
}

/// Writes that took effect, as the links carried their answers, heard or not.
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

    /// Operations that stand for the effects that the recorded ones had besides their own.
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
        // A splice is recorded request by request, and each has one effect at most. But the search explains an
        // answer that changes nothing at once: so one that was recognized, by the state before the server went
        // back, may be needed after it.
        let spliced = operations.iter().filter(|operation| match &operation.returned {
            Some((at, Answer::Spliced(_))) => rollbacks.any_in(operation.called, *at),
            _ => false,
        });
        repeated.extend(spliced.map(|splice| again(splice, splice.called)));
        repeated
    }

    /// For each batch that had several effects, those that no answer told of. An answer by which the batch was
    /// recognized tells of none.
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

    /// As many as there were requests for each clear that was sent again with a rollback in between. Links do
    /// not know which of the agents' operations a request belongs to, so all have them.
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
