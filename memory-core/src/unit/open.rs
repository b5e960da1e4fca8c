//! Unanswered calls.

use std::collections::{HashMap, HashSet};

use crate::link::ToolRef;

/// No call.
const NONE: usize = usize::MAX;

/// The unanswered calls.
///
/// Most results follow their call at once, so the calls of the newest answer are checked first, and they are hashed
/// only when another answer calls before they are answered. Hashing all calls took six times as long (bench
/// `plan_10k/group`).
#[derive(Debug)]
pub(super) struct OpenCalls<'a> {
    newest: Newest<'a>,
    /// The calls of earlier answers; each answer's calls are in reverse, so that the first of equal calls is found
    /// first.
    calls: Vec<Hashed>,
    /// The newest call with an id.
    by_id: HashMap<&'a str, usize>,
    /// The newest call of a tool.
    by_name: HashMap<&'a str, usize>,
    /// The newest call.
    top: usize,
}

/// Where the calls of a message belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallsOf {
    /// To the answer of the calls that were added last.
    SameAnswer,
    /// To another answer.
    NextAnswer,
}

/// The calls of the newest answer.
#[derive(Debug, Default)]
struct Newest<'a> {
    messages: Vec<Calling<'a>>,
    count: usize,
    /// The answered calls, one bit each. None is set if there are more calls than bits.
    answered: u16,
}

/// A message with calls.
#[derive(Debug, Clone, Copy)]
struct Calling<'a> {
    unit: usize,
    position: usize,
    calls: &'a [ToolRef],
}

impl<'a> Newest<'a> {
    /// Whether a linear search is too slow, and there are more calls than bits.
    const fn is_long(&self) -> bool {
        self.count > u16::BITS as usize
    }

    const fn is_open(&self, index: usize) -> bool {
        self.is_long() || self.answered & (1 << index) == 0
    }

    /// The open calls in order, with their index and message.
    fn open(&self) -> impl Iterator<Item = (usize, Calling<'a>, &'a ToolRef)> {
        let calls = self.messages.iter().flat_map(|at| at.calls.iter().map(|call| (*at, call)));
        let calls = calls.enumerate().map(|(index, (at, call))| (index, at, call));
        calls.filter(|(index, ..)| self.is_open(*index))
    }
}

#[derive(Debug)]
struct Hashed {
    unit: usize,
    position: usize,
    is_answered: bool,
    /// The previous call with the same id, with the same name, and of any kind.
    below_by_id: usize,
    below_by_name: usize,
    below: usize,
}

impl Default for OpenCalls<'_> {
    fn default() -> Self {
        let (by_id, by_name) = (HashMap::new(), HashMap::new());
        Self { newest: Newest::default(), calls: Vec::new(), by_id, by_name, top: NONE }
    }
}

impl<'a> OpenCalls<'a> {
    /// Adds the calls of a message. Returns whether two of them share an id.
    pub(super) fn push(
        &mut self,
        unit: usize,
        position: usize,
        calls: &'a [ToolRef],
        of: CallsOf,
    ) -> bool {
        if of == CallsOf::NextAnswer {
            self.hash_newest();
        }
        self.newest.messages.push(Calling { unit, position, calls });
        self.newest.count += calls.len();
        if calls.len() > u16::BITS as usize {
            let mut ids = HashSet::with_capacity(calls.len());
            return calls.iter().any(|call| !call.id.is_empty() && !ids.insert(&*call.id));
        }
        calls.iter().enumerate().any(|(index, call)| {
            !call.id.is_empty() && calls.iter().skip(index + 1).any(|other| other.id == call.id)
        })
    }

    /// Hashes the open calls of the newest answer, the last one first.
    fn hash_newest(&mut self) {
        let mut newest = std::mem::take(&mut self.newest);
        let mut index = newest.count;
        for at in newest.messages.iter().rev() {
            for call in at.calls.iter().rev() {
                index -= 1;
                if newest.is_open(index) {
                    self.hash(at.unit, at.position, call);
                }
            }
        }
        // Keeps the allocation.
        newest.messages.clear();
        self.newest.messages = newest.messages;
    }

    /// Hashes the calls of an answer that has too many for a linear search.
    fn hash_long(&mut self) {
        if self.newest.is_long() {
            self.hash_newest();
        }
    }

    fn hash(&mut self, unit: usize, position: usize, call: &'a ToolRef) {
        let at = self.calls.len();
        let mut below_by_id = NONE;
        if !call.id.is_empty() {
            below_by_id = self.by_id.insert(&call.id, at).unwrap_or(NONE);
        }
        let below_by_name = self.by_name.insert(&call.name, at).unwrap_or(NONE);
        let below = std::mem::replace(&mut self.top, at);
        let is_answered = false;
        self.calls.push(Hashed { unit, position, is_answered, below_by_id, below_by_name, below });
    }

    /// Removes the call that this result answers, by the rules of [`ToolLink`](crate::plan::ToolLink), and returns its
    /// unit.
    pub(super) fn answer(&mut self, result: &ToolRef) -> Option<usize> {
        self.hash_long();
        if !result.id.is_empty() {
            return self
                .take_newest(|call| call.id == result.id)
                .or_else(|| self.take_by_id(&result.id));
        }
        if result.name.is_empty() {
            return self.take_newest(|_| true).or_else(|| self.take_any());
        }
        self.take_newest(|call| call.name == result.name)
            .or_else(|| self.take_by_name(&result.name))
            .or_else(|| self.take_newest(|call| call.name.is_empty()))
            .or_else(|| self.take_by_name(""))
    }

    fn take_newest(&mut self, is_it: impl Fn(&ToolRef) -> bool) -> Option<usize> {
        let (index, at, _) = self.newest.open().find(|(.., call)| is_it(call))?;
        self.newest.answered |= 1 << index;
        Some(at.unit)
    }

    fn take_by_id(&mut self, id: &str) -> Option<usize> {
        let top = self.by_id.get_mut(id)?;
        take(&mut self.calls, top, |call| call.below_by_id)
    }

    fn take_by_name(&mut self, name: &str) -> Option<usize> {
        let top = self.by_name.get_mut(name)?;
        take(&mut self.calls, top, |call| call.below_by_name)
    }

    fn take_any(&mut self) -> Option<usize> {
        take(&mut self.calls, &mut self.top, |call| call.below)
    }

    /// Calls `visit` with the unit and the position of each message with an unanswered call.
    pub(super) fn visit_unanswered(self, visit: &mut dyn FnMut(usize, usize)) {
        for call in self.calls.iter().filter(|call| !call.is_answered) {
            visit(call.unit, call.position);
        }
        for (_, at, _) in self.newest.open() {
            visit(at.unit, at.position);
        }
    }
}

/// Takes the first unanswered call of a chain, and removes the answered calls before it.
fn take(calls: &mut [Hashed], top: &mut usize, below: fn(&Hashed) -> usize) -> Option<usize> {
    while let Some(call) = calls.get_mut(*top) {
        *top = below(call);
        if !call.is_answered {
            call.is_answered = true;
            return Some(call.unit);
        }
    }
    None
}
