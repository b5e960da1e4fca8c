//! Several memories, each of which may be a copy of the one before it.
//!
//! A copy takes a state of that memory, with its first request, and later becomes the next one, with its last.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::{KnownGeneration, ModelPart, SequentialMemory, State};
use crate::history::{Answer, Call, Copied, Recorded, Totals};
use crate::linear::{Model, Operation};

/// All memories of a program.
#[derive(Debug, Clone)]
pub(crate) struct Memories {
    memories: Vec<SequentialMemory>,
    /// The states that copies took: of which memory, by their generations and versions.
    copies: BTreeMap<(usize, (u64, u64)), Taken>,
}

/// A state that a copy took.
#[derive(Debug, Clone, Hash)]
struct Taken {
    state: Arc<State>,
    /// The time for which its archived messages are kept has ended since.
    is_archive_over: bool,
}

/// An operation on the memory with this number.
pub(crate) type OfMemory = Operation<(usize, Call), Answer>;

impl Memories {
    pub(crate) const fn new(memories: Vec<SequentialMemory>) -> Self {
        Self { memories, copies: BTreeMap::new() }
    }

    /// The same model, ignoring this part of the answers.
    pub(crate) fn without(&self, part: ModelPart) -> Self {
        let memories = self.memories.iter().map(|memory| memory.without(part)).collect();
        Self { memories, ..self.clone() }
    }

    /// A copy with this state becomes the memory, unless it exists. Without a state the copy is refused.
    fn begin(
        mut self,
        key: usize,
        copy: u128,
        state: Option<State>,
        answer: Option<&Answer>,
    ) -> Option<Self> {
        let memory = &mut self.memories.get_mut(key)?.state;
        match state {
            Some(state) if memory.last == 0 => {
                let (moves, rollbacks, kept) =
                    (memory.moves + 1, memory.rollbacks, memory.kept.take());
                let of_rolled_back = state.was_rolled_back();
                let copy = Some(copy);
                *memory = State { moves, rollbacks, kept, of_rolled_back, copy, ..state };
            }
            // Only the copy that made the memory is recognized.
            _ if answer.is_some() && memory.copy != Some(copy) => return None,
            _ => {}
        }
        Some(self)
    }

    /// One history of all memories.
    pub(crate) fn history(of: &[&[Recorded]]) -> Vec<OfMemory> {
        let all = (0..).zip(of).flat_map(|(key, operations)| {
            operations.iter().map(move |Operation { call, called, returned }| Operation {
                call: (key, call.clone()),
                called: *called,
                returned: returned.clone(),
            })
        });
        all.collect()
    }
}

impl Taken {
    /// The state of this copy, by whose counters this many messages were ever appended.
    fn copied(&self, copied: Copied, appended: u64) -> State {
        let mut whole = self.state.copied(copied);
        if self.is_archive_over {
            whole.archive.clear();
            // The archived messages of a fork are counted if it read them before.
            if matches!(copied, Copied::Fork(_)) && whole.totals.appended != appended {
                let without = State { archive: Vec::new(), ..(*self.state).clone() };
                return without.copied(copied);
            }
        }
        whole
    }
}

impl Model for Memories {
    type Call = (usize, Call);
    type Answer = Answer;

    fn step(&self, (key, call): &(usize, Call), answer: Option<&Answer>) -> Option<Self> {
        let mut next = self.clone();
        let source = || key.checked_sub(1);
        match call {
            // Without an answer the copy was not continued.
            Call::Snapshot => {
                if let Some(Answer::Version(version)) = answer {
                    let state = Arc::new(self.memories.get(*key)?.state.clone());
                    let taken = Taken { state, is_archive_over: false };
                    next.copies.insert((*key, *version), taken);
                }
            }
            Call::Begin { copy, state, copied, appended } => {
                let state = self.copies.get(&(source()?, *state))?.copied(*copied, *appended);
                return next.begin(*key, *copy, Some(state), answer);
            }
            Call::Fork { copy, generation, at } => {
                let source = &self.memories.get(source()?)?.state;
                let is_current = source.generation.may_be(*generation);
                let state = is_current.then(|| source.copied(Copied::Fork(*at)));
                return next.begin(*key, *copy, state, answer);
            }
            call => {
                if *call == Call::EndArchives {
                    let of_key = next.copies.iter_mut().filter(|((of, _), _)| of == key);
                    of_key.for_each(|(_, taken)| taken.is_archive_over = true);
                }
                let memory = next.memories.get_mut(*key)?;
                *memory = memory.step(call, answer)?;
            }
        }
        Some(next)
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.memories.iter().for_each(|memory| memory.state.hash(&mut hasher));
        self.copies.hash(&mut hasher);
        hasher.finish()
    }
}

impl State {
    /// The state of a copy.
    fn copied(&self, copied: Copied) -> Self {
        let at = match copied {
            // A turn on the source, which may be running, is none on the copy.
            Copied::Whole => {
                return Self { generation: KnownGeneration::After(0), turn: None, ..self.clone() };
            }
            Copied::Fork(at) => at,
        };
        let mut fork = Self {
            last: at,
            generation: KnownGeneration::After(0),
            moves: self.moves,
            receipts: self.receipts.iter().filter(|one| one.last <= at).copied().collect(),
            erased: self.erased.clone(),
            rewritten: self.rewritten.clone(),
            of_rolled_back: self.was_rolled_back(),
            ..Self::default()
        };
        for (place, stored) in self.items.range(..=at) {
            fork.put(*place, *stored);
            let totals = &mut fork.totals;
            *(if stored.summary { &mut totals.summaries } else { &mut totals.appended }) += 1;
        }
        let has_all = |kept: &&Arc<super::Removal>| kept.messages.keys().all(|place| *place <= at);
        fork.archive = self.archive.iter().filter(has_all).cloned().collect();
        let Self { archive, totals, .. } = &mut fork;
        let archived = archive.iter().flat_map(|kept| kept.messages.values());
        for (_, count) in archived.filter(|(stored, _)| !stored.summary) {
            count_archived(totals, *count);
        }
        fork
    }
}

fn count_archived(totals: &mut Totals, count: super::archive::Count) {
    if let Some(counter) = totals.count(count) {
        *counter += 1;
        totals.appended += 1;
    }
}
