//! Unanswered calls.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::link::ToolRef;

/// No call.
const NONE: usize = usize::MAX;

/// The unanswered calls.
///
/// Most results follow their call at once, so the calls of the newest answer are checked first, and they are hashed
/// only when another answer calls before they are answered. Hashing all calls took six times as long (bench
/// `plan_10k/group`).
#[derive(Debug, Clone)]
pub(super) struct OpenCalls {
    newest: Newest,
    /// The calls of earlier answers; each answer's calls are in reverse, so that the first of equal calls is found
    /// first.
    calls: Vec<Hashed>,
    /// How many of them are unanswered.
    unanswered: usize,
    /// The newest call with an id.
    by_id: HashMap<CallId, usize>,
    /// The newest call of a tool.
    by_name: HashMap<CallName, usize>,
    /// The newest call.
    top: usize,
}

/// Fewer hashed calls are not hashed again without the answered ones.
const FEW: usize = 64;

/// A call of a message. It shares the calls with the message.
#[derive(Debug, Clone)]
pub(super) struct SharedCall {
    calls: Arc<[ToolRef]>,
    index: usize,
}

impl SharedCall {
    pub(super) fn all(calls: &Arc<[ToolRef]>) -> impl DoubleEndedIterator<Item = Self> {
        (0..calls.len()).map(|index| Self { calls: Arc::clone(calls), index })
    }

    pub(super) fn id(&self) -> &str {
        self.calls.get(self.index).map_or("", |call| &call.id)
    }

    fn name(&self) -> &str {
        self.calls.get(self.index).map_or("", |call| &call.name)
    }
}

/// A call, identified by its id.
#[derive(Debug, Clone)]
pub(super) struct CallId(pub(super) SharedCall);

/// A call, identified by its name.
#[derive(Debug, Clone)]
struct CallName(SharedCall);

impl Borrow<str> for CallId {
    fn borrow(&self) -> &str {
        self.0.id()
    }
}

impl Borrow<str> for CallName {
    fn borrow(&self) -> &str {
        self.0.name()
    }
}

impl Hash for CallId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id().hash(state);
    }
}

impl Hash for CallName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name().hash(state);
    }
}

impl PartialEq for CallId {
    fn eq(&self, other: &Self) -> bool {
        self.0.id() == other.0.id()
    }
}

impl PartialEq for CallName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl Eq for CallId {}

impl Eq for CallName {}

/// Where the calls of a message belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallsOf {
    /// To the answer of the calls that were added last.
    SameAnswer,
    /// To another answer.
    NextAnswer,
}

/// The calls of the newest answer.
#[derive(Debug, Clone, Default)]
struct Newest {
    messages: Vec<Calling>,
    count: usize,
    /// The answered calls, one bit each. None is set if there are more calls than bits.
    answered: u16,
}

/// A message with calls.
#[derive(Debug, Clone)]
struct Calling {
    unit: usize,
    position: usize,
    calls: Arc<[ToolRef]>,
}

impl Newest {
    /// Whether a linear search is too slow, and there are more calls than bits.
    const fn is_long(&self) -> bool {
        self.count > u16::BITS as usize
    }

    const fn is_open(&self, index: usize) -> bool {
        self.is_long() || self.answered & (1 << index) == 0
    }

    /// The open calls in order, with their index and message.
    fn open(&self) -> impl Iterator<Item = (usize, &Calling, &ToolRef)> {
        let calls = self.messages.iter().flat_map(|at| at.calls.iter().map(move |call| (at, call)));
        let calls = calls.enumerate().map(|(index, (at, call))| (index, at, call));
        calls.filter(|(index, ..)| self.is_open(*index))
    }
}

#[derive(Debug, Clone)]
struct Hashed {
    unit: usize,
    position: usize,
    call: SharedCall,
    is_answered: bool,
    /// The previous call with the same id, with the same name, and of any kind.
    below_by_id: usize,
    below_by_name: usize,
    below: usize,
}

impl Default for OpenCalls {
    fn default() -> Self {
        Self {
            newest: Newest::default(),
            calls: Vec::new(),
            unanswered: 0,
            by_id: HashMap::new(),
            by_name: HashMap::new(),
            top: NONE,
        }
    }
}

impl OpenCalls {
    /// Adds the calls of a message. Returns whether two of them share an id.
    pub(super) fn push(
        &mut self,
        unit: usize,
        position: usize,
        calls: &Arc<[ToolRef]>,
        of: CallsOf,
    ) -> bool {
        if of == CallsOf::NextAnswer {
            self.hash_newest();
        }
        self.newest.messages.push(Calling { unit, position, calls: Arc::clone(calls) });
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
        self.forget_answered();
        let mut newest = std::mem::take(&mut self.newest);
        let mut index = newest.count;
        for at in newest.messages.iter().rev() {
            for call in SharedCall::all(&at.calls).rev() {
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

    fn hash(&mut self, unit: usize, position: usize, call: SharedCall) {
        let at = self.calls.len();
        let mut below_by_id = NONE;
        if !call.id().is_empty() {
            below_by_id = self.by_id.insert(CallId(call.clone()), at).unwrap_or(NONE);
        }
        let below_by_name = self.by_name.insert(CallName(call.clone()), at).unwrap_or(NONE);
        let below = std::mem::replace(&mut self.top, at);
        self.calls.push(Hashed {
            unit,
            position,
            call,
            is_answered: false,
            below_by_id,
            below_by_name,
            below,
        });
        self.unanswered += 1;
    }

    /// Hashes the unanswered calls again if most are answered: they must not add up in a history that grows.
    fn forget_answered(&mut self) {
        if self.calls.len() < FEW || self.calls.len() / 4 < self.unanswered {
            return;
        }
        let newest = std::mem::take(&mut self.newest);
        let Self { calls, .. } = std::mem::replace(self, Self { newest, ..Self::default() });
        for call in calls.into_iter().filter(|call| !call.is_answered) {
            self.hash(call.unit, call.position, call.call);
        }
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
        let unit = at.unit;
        self.newest.answered |= 1 << index;
        Some(unit)
    }

    fn take_by_id(&mut self, id: &str) -> Option<usize> {
        let top = self.by_id.get_mut(id)?;
        take(&mut self.calls, &mut self.unanswered, top, |call| call.below_by_id)
    }

    fn take_by_name(&mut self, name: &str) -> Option<usize> {
        let top = self.by_name.get_mut(name)?;
        take(&mut self.calls, &mut self.unanswered, top, |call| call.below_by_name)
    }

    fn take_any(&mut self) -> Option<usize> {
        take(&mut self.calls, &mut self.unanswered, &mut self.top, |call| call.below)
    }

    /// Calls `visit` with the unit and the position of each message with an unanswered call.
    pub(super) fn visit_unanswered(&self, visit: &mut dyn FnMut(usize, usize)) {
        for call in self.calls.iter().filter(|call| !call.is_answered) {
            visit(call.unit, call.position);
        }
        for (_, at, _) in self.newest.open() {
            visit(at.unit, at.position);
        }
    }

    /// The bytes of heap memory that it occupies.
    pub(super) const fn heap_bytes(&self) -> usize {
        let hashed =
            size_of::<Hashed>() + size_of::<(CallId, usize)>() + size_of::<(CallName, usize)>();
        self.calls.len() * hashed + self.newest.messages.len() * size_of::<Calling>()
    }
}

/// Takes the first unanswered call of a chain, and removes the answered calls before it.
fn take(
    calls: &mut [Hashed],
    unanswered: &mut usize,
    top: &mut usize,
    below: fn(&Hashed) -> usize,
) -> Option<usize> {
    while let Some(call) = calls.get_mut(*top) {
        *top = below(call);
        if !call.is_answered {
            call.is_answered = true;
            *unanswered -= 1;
            return Some(call.unit);
        }
    }
    None
}
