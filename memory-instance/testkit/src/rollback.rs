//! Data for explaining histories with rollbacks: the times of rollbacks, and the requests that may have been applied
//! more than once.
//!
//! A request whose effect was lost may be applied again: the facade resends a write until it is answered, and the
//! server does not recognize a write that it lost. One recorded operation then represents several effects. The search
//! for an order has one step per operation, so the other effects are added to the history as operations without an
//! answer, which may have been applied or not.

use std::collections::BTreeMap;

use crate::history::{Answer, Call, Ensured, Recorded};

/// The times of rollbacks. The end of a TTL and a deletion are some, to the empty state.
#[derive(Debug, Default)]
pub(crate) struct Rollbacks(Vec<u64>);

impl Rollbacks {
    pub(crate) fn of(operations: &[Recorded]) -> Self {
        let is_one =
            |call: &Call| matches!(call, Call::GoBack | Call::Expire | Call::Delete { .. });
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
    /// When each operation changed its memory.
    writes: BTreeMap<usize, Vec<u64>>,
}

impl Effects {
    pub(crate) fn applied(&mut self, operation: usize, now: u64) {
        self.writes.entry(operation).or_default().push(now);
    }

    /// Operations that represent the additional effects of the recorded ones, which are given with their numbers.
    pub(crate) fn repeated<'o>(
        &self,
        operations: impl Iterator<Item = (usize, &'o Recorded)>,
        rollbacks: &Rollbacks,
    ) -> Vec<Recorded> {
        let mut repeated = Vec::new();
        if rollbacks.is_empty() {
            return repeated;
        }
        for (number, operation) in operations {
            let returned = operation.returned.as_ref();
            let end = returned.map_or(u64::MAX, |(at, _)| *at);
            // A splice is recorded per request, and each is applied at most once. But the search explains an answer that
            // changes nothing at once. So a splice that was recognized by the state before a rollback may be needed after
            // it.
            if let Some((_, Answer::Spliced(_))) = returned
                && rollbacks.any_in(operation.called, end)
            {
                repeated.push(again(operation, operation.called));
            }
            let Some(times) = self.writes.get(&number) else { continue };
            let (Some(first), Some(last)) = (times.first(), times.last()) else { continue };
            let end = returned.map_or(*last, |_| end.max(*last));
            if !rollbacks.any_in(operation.called, end) {
                continue;
            }
            // The operation itself represents one effect, unless its answer may be that of no change.
            let own = usize::from(returned.is_none_or(|(_, answer)| is_change(answer)));
            let others = times.len().saturating_sub(own);
            repeated.extend((0..others).map(|_| again(operation, *first)));
        }
        repeated
    }
}

/// Whether an answer says that the operation changed something.
const fn is_change(answer: &Answer) -> bool {
    match answer {
        Answer::Appended { duplicate, .. } => !*duplicate,
        Answer::Ensured(change, _) => !matches!(change, Ensured::Unchanged),
        Answer::Undone | Answer::Replaced | Answer::Erased(..) => true,
        _ => false,
    }
}

/// The same operation, from this time on, without an answer.
fn again(operation: &Recorded, called: u64) -> Recorded {
    Recorded { call: operation.call.clone(), called, returned: None }
}
