//! Whether a recorded history could have happened one operation at a time.
//!
//! The search of J. Wing and C. Gong ("Testing and verifying concurrent objects", 1993) with the memo of
//! G. Lowe ("Testing for linearizability", 2017): depth first over the operations that were called
//! before the earliest answer that is still to be explained, never twice from the same set of
//! explained operations and the same state. What changes nothing is not put off: an operation without
//! an answer may as well have had no effect, and one with an answer that holds here needs no other place.

use std::collections::HashSet;

/// What the object would do if it were used by one caller at a time.
pub trait Model: Clone {
    /// An operation, with what it was asked.
    type Call;
    /// What it answered.
    type Answer;

    /// The state after the operation, if it can give this answer here; `None` for an answer that was
    /// never heard.
    ///
    /// An operation that can give its answer in a state, and leaves it as it is, must not be needed later
    /// for what it does to another one: the search then explains it at once, and looks no further. A model
    /// that breaks this makes the search reject what is possible, and never accept what is not.
    fn step(&self, call: &Self::Call, answer: Option<&Self::Answer>) -> Option<Self>;

    /// Equal for equal states, and hardly ever equal for others.
    fn fingerprint(&self) -> u64;
}

/// One operation of a history. Times come from one counter, so no two are equal.
#[derive(Debug, Clone)]
pub struct Operation<C, A> {
    /// What was asked.
    pub call: C,
    /// When.
    pub called: u64,
    /// When it was answered, and what. `None` where no answer was heard: it may have had its effect at
    /// any time since, or may have it later, or never.
    pub returned: Option<(u64, A)>,
}

/// What is known about a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It could have happened one operation at a time.
    Linearizable,
    /// It could not.
    Impossible {
        /// The longest order that explains a part of it, as indices.
        explained: Vec<usize>,
        /// The operation whose answer could then not be explained in time.
        stuck: usize,
    },
    /// The search was given up. This is no pass.
    OutOfBudget,
}

/// Checks a history. `budget` is the most steps of the model that are tried.
pub fn check<M: Model>(
    initial: &M,
    history: &[Operation<M::Call, M::Answer>],
    mut budget: u64,
) -> Verdict {
    let words = history.len().div_ceil(64);
    let mut seen = HashSet::new();
    let mut longest = (Vec::new(), 0);
    let start = Level::new(initial.clone(), initial.fingerprint(), vec![0; words], None, history);
    let mut path: Vec<Level<M>> = vec![start];
    loop {
        let Some(level) = path.last_mut() else {
            let (explained, stuck) = longest;
            return Verdict::Impossible { explained, stuck };
        };
        let Some(deadline) = level.deadline else { return Verdict::Linearizable };
        let Some(index) = level.candidates.pop() else {
            path.pop();
            continue;
        };
        if budget == 0 {
            return Verdict::OutOfBudget;
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

/// A part of a history that is explained.
struct Level<M> {
    state: M,
    fingerprint: u64,
    done: Vec<u64>,
    chosen: Option<usize>,
    /// What may come next, best last.
    candidates: Vec<usize>,
    /// The operation whose answer came first of those still to be explained; `None` once all are.
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
