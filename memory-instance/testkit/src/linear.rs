//! Linearizability of a recorded history.
//!
//! The search of J. Wing and C. Gong ("Testing and verifying concurrent objects", 1993) with the memo of G. Lowe
//! ("Testing for linearizability", 2017): depth first over the operations that were called before the earliest answer
//! that is not explained yet, never twice from the same set of explained operations and the same state. An operation
//! that changes nothing is explained at once: without an answer it may have had no effect, and with an answer that is
//! valid here it needs no other place.

use std::collections::HashSet;

/// A sequential model of the object.
pub trait Model: Clone {
    /// An operation with its arguments.
    type Call;
    /// The answer.
    type Answer;

    /// The state after the operation, if it can give this answer here; `None` for an answer that was never received.
    ///
    /// An operation that can give its answer in a state and does not change it must not be needed later for its effect
    /// on another one, because the search explains it at once and tries no other place. A model that violates this
    /// makes the search reject possible histories, but never accept impossible ones.
    fn step(&self, call: &Self::Call, answer: Option<&Self::Answer>) -> Option<Self>;

    /// Equal for equal states, and hardly ever equal for others.
    fn fingerprint(&self) -> u64;
}

/// One operation of a history. Times come from one counter, so no two are equal.
#[derive(Debug, Clone)]
pub struct Operation<C, A> {
    /// The operation.
    pub call: C,
    /// The time of the call.
    pub called: u64,
    /// The time of the answer, and the answer. `None` if no answer was received: the operation may have been applied at
    /// any time since, or may be applied later, or never.
    pub returned: Option<(u64, A)>,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explanation {
    /// It could have happened one operation at a time.
    Linearizable,
    /// It could not.
    Impossible {
        /// The longest order that explains a part of it, as indices.
        explained: Vec<usize>,
        /// The operation whose answer could then not be explained in time.
        stuck: usize,
    },
    /// The search exceeded its budget. This does not pass.
    OutOfBudget,
}

/// Checks a history. `budget` is the maximum number of model steps.
pub fn check<M: Model>(
    initial: &M,
    history: &[Operation<M::Call, M::Answer>],
    mut budget: u64,
) -> Explanation {
    let words = history.len().div_ceil(64);
    let mut seen = HashSet::new();
    let mut longest = (Vec::new(), 0);
    let start = Level::new(initial.clone(), initial.fingerprint(), vec![0; words], None, history);
    let mut path: Vec<Level<M>> = vec![start];
    loop {
        let Some(level) = path.last_mut() else {
            let (explained, stuck) = longest;
            return Explanation::Impossible { explained, stuck };
        };
        let Some(deadline) = level.deadline else { return Explanation::Linearizable };
        let Some(index) = level.candidates.pop() else {
            path.pop();
            continue;
        };
        if budget == 0 {
            return Explanation::OutOfBudget;
        }
        budget -= 1;
        let Some(operation) = history.get(index) else { continue };
        let answer = operation.returned.as_ref().map(|(_, answer)| answer);
        let Some(state) = level.state.step(&operation.call, answer) else {
            if path.len() > longest.0.len() {
                longest = (path.iter().filter_map(|level| level.chosen).collect(), deadline);
            }
            continue;
        };
        let fingerprint = state.fingerprint();
        if fingerprint == level.fingerprint {
            if answer.is_none() {
                continue;
            }
            level.candidates.clear();
        }
        let mut done = level.done.clone();
        if let Some(word) = done.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
        if seen.insert((done.clone(), fingerprint)) {
            path.push(Level::new(state, fingerprint, done, Some(index), history));
        }
    }
}

/// An explained part of a history.
struct Level<M> {
    state: M,
    fingerprint: u64,
    done: Vec<u64>,
    chosen: Option<usize>,
    /// The candidates for the next operation, best last.
    candidates: Vec<usize>,
    /// The operation with the earliest answer that is not explained yet; `None` if all are explained.
    deadline: Option<usize>,
}

impl<M: Model> Level<M> {
    fn new(
        state: M,
        fingerprint: u64,
        done: Vec<u64>,
        chosen: Option<usize>,
        history: &[Operation<M::Call, M::Answer>],
    ) -> Self {
        let is_done =
            |index: &usize| done.get(index / 64).is_some_and(|w| w >> (index % 64) & 1 == 1);
        let returned = |index: &usize| {
            history.get(*index).and_then(|op| op.returned.as_ref()).map_or(u64::MAX, |(at, _)| *at)
        };
        let open = || (0..history.len()).filter(|index| !is_done(index));
        let deadline = open().min_by_key(returned).filter(|index| returned(index) != u64::MAX);
        let limit = deadline.as_ref().map_or(0, returned);
        let mut candidates: Vec<_> = open()
            .filter(|index| history.get(*index).is_some_and(|op| op.called < limit))
            .collect();
        candidates.sort_by_key(|index| std::cmp::Reverse(returned(index)));
        Self { state, fingerprint, done, chosen, candidates, deadline }
    }
}
