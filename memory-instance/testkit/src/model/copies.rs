//! Two memories, the second of which may be a copy of the first.
//!
//! A copy takes a state of the first memory, with its first request, and later becomes the second one, with its last.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::{KnownGeneration, ModelPart, SequentialMemory, State};
use crate::history::{Answer, Call, Copied, Recorded, Totals};
use crate::linear::{Model, Operation};

/// Both memories of a program.
#[derive(Debug, Clone)]
pub(crate) struct Memories {
    memories: [SequentialMemory; 2],
    /// The states that copies took, by their versions.
    copies: BTreeMap<u64, Arc<State>>,
    /// The copy that made the second memory.
    begun: Option<u128>,
}

/// An operation on the memory with this number.
pub(crate) type OfMemory = Operation<(usize, Call), Answer>;

impl Memories {
    pub(crate) const fn new(memories: [SequentialMemory; 2]) -> Self {
        Self { memories, copies: BTreeMap::new(), begun: None }
    }

    /// The same model, ignoring this part of the answers.
    pub(crate) fn without(&self, part: ModelPart) -> Self {
        let memories = self.memories.each_ref().map(|memory| memory.without(part));
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
        let memory = self.memories.get_mut(key)?;
        match state {
            Some(state) if memory.state.last == 0 => {
                memory.state = state;
                self.begun = Some(copy);
            }
            // Only the copy that made the memory is recognized.
            _ if answer.is_some() && self.begun != Some(copy) => return None,
            _ => {}
        }
        Some(self)
    }

    /// One history of both memories.
    pub(crate) fn history(of: [&[Recorded]; 2]) -> Vec<OfMemory> {
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

impl Model for Memories {
    type Call = (usize, Call);
    type Answer = Answer;

    fn step(&self, (key, call): &(usize, Call), answer: Option<&Answer>) -> Option<Self> {
        let mut next = self.clone();
        match call {
            // Without an answer the copy was not continued.
            Call::Snapshot => {
                if let Some(Answer::Version(version)) = answer {
                    let state = &self.memories.get(*key)?.state;
                    next.copies.insert(*version, Arc::new(state.clone()));
                }
            }
            Call::Begin { copy, version, copied } => {
                let state = self.copies.get(version)?.copied(*copied);
                return next.begin(*key, *copy, Some(state), answer);
            }
            Call::Fork { copy, generation, at } => {
                let source = &self.memories.first()?.state;
                let is_current = source.generation.may_be(*generation);
                let state = is_current.then(|| source.copied(Copied::Fork(*at)));
                return next.begin(*key, *copy, state, answer);
            }
            call => {
                let memory = next.memories.get_mut(*key)?;
                *memory = memory.step(call, answer)?;
            }
        }
        Some(next)
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.memories.iter().for_each(|memory| memory.state.hash(&mut hasher));
        (&self.copies, self.begun).hash(&mut hasher);
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
