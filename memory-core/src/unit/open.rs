//! Unanswered calls.

use std::collections::HashMap;

use crate::link::ToolRef;

/// No call.
const NONE: usize = usize::MAX;

/// The unanswered calls.
///
/// Most results follow their call at once, so the newest calling message is checked first, and its calls are hashed
/// only when another message calls before they are answered. Hashing all calls took six times as long (bench
/// `plan_10k/group`).
#[derive(Debug)]
pub(super) struct OpenCalls<'a> {
    newest: Option<Newest<'a>>,
    /// The calls of earlier messages; each message's calls are in reverse, so that the first of equal calls is found
    /// first.
    calls: Vec<Hashed>,
    /// The newest call with an id.
    by_id: HashMap<&'a str, usize>,
    /// The newest call of a tool.
    by_name: HashMap<&'a str, usize>,
    /// The newest call.
    top: usize,
}

/// The newest message with calls.
#[derive(Debug)]
struct Newest<'a> {
    unit: usize,
    position: usize,
    calls: &'a [ToolRef],
    /// The answered calls, one bit each.
    answered: u16,
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
        Self { newest: None, calls: Vec::new(), by_id, by_name, top: NONE }
    }
}

impl<'a> OpenCalls<'a> {
    /// Adds the calls of a message. Returns whether two of them share an id.
    pub(super) fn push(&mut self, unit: usize, position: usize, calls: &'a [ToolRef]) -> bool {
        if let Some(Newest { unit, position, calls, answered }) = self.newest.take() {
            for (index, call) in calls.iter().enumerate().rev() {
                if answered & (1 << index) == 0 {
                    self.hash(unit, position, call);
                }
            }
        }
        // More calls than bits, and too many for a linear search.
        if calls.len() > u16::BITS as usize {
            let mut is_repeated = false;
            for call in calls.iter().rev() {
                is_repeated |= self.hash(unit, position, call);
            }
            return is_repeated;
        }
        self.newest = Some(Newest { unit, position, calls, answered: 0 });
        calls.iter().enumerate().any(|(index, call)| {
            !call.id.is_empty() && calls.iter().skip(index + 1).any(|other| other.id == call.id)
        })
    }

    /// Adds one call. Returns whether another call of its message has the same id.
    fn hash(&mut self, unit: usize, position: usize, call: &'a ToolRef) -> bool {
        let at = self.calls.len();
        let mut below_by_id = NONE;
        if !call.id.is_empty() {
            below_by_id = self.by_id.insert(&call.id, at).unwrap_or(NONE);
        }
        let below_by_name = self.by_name.insert(&call.name, at).unwrap_or(NONE);
        let below = std::mem::replace(&mut self.top, at);
        let is_answered = false;
        self.calls.push(Hashed { unit, position, is_answered, below_by_id, below_by_name, below });
        self.calls.get(below_by_id).is_some_and(|other| other.position == position)
    }

    /// Removes the call that this result answers, by the rules of [`ToolLink`](crate::plan::ToolLink), and returns its
    /// unit.
    pub(super) fn answer(&mut self, result: &ToolRef) -> Option<usize> {
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
        let Newest { unit, calls, answered, .. } = self.newest.as_mut()?;
        let mut open = calls.iter().enumerate().filter(|(index, _)| *answered & (1 << index) == 0);
        let (index, _) = open.find(|(_, call)| is_it(call))?;
        *answered |= 1 << index;
        Some(*unit)
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
        if let Some(Newest { unit, position, calls, answered }) = self.newest
            && (answered.count_ones() as usize) < calls.len()
        {
            visit(unit, position);
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
