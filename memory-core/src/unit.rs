//! Grouping messages into the units that stay whole: a call of tools and the results that answer it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::slice;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::message::ToolLink;
use crate::policy::Policy;
use crate::priority::{ContentType, Priority};
use crate::stored::MessageMeta;

/// The messages of a memory, grouped into units in the order of each unit's first message.
///
/// An assistant message with tool calls and the results that answer them are one unit; every other
/// message is one by itself. A result belongs to the nearest call before it that has its id and is
/// still unanswered: ids may repeat from turn to turn, and messages of other agents may stand
/// between. One pass over the messages, which must be in ascending order of their places.
#[derive(Debug, Clone)]
pub struct Units<'a> {
    metas: &'a [MessageMeta],
    units: Vec<Unit>,
    /// For each message the position of the next one of its unit; [`NONE`] for the last.
    next: Vec<usize>,
}

/// No position: no memory holds as many messages.
const NONE: usize = usize::MAX;

impl<'a> Units<'a> {
    /// Groups the messages; calls that have been open for longer than `open_call_timeout` at `now`
    /// are [abandoned](UnitState::Abandoned).
    #[must_use]
    pub fn group(metas: &'a [MessageMeta], now: Timestamp, open_call_timeout: Duration) -> Self {
        let mut units: Vec<Unit> = Vec::with_capacity(metas.len());
        let mut next = vec![NONE; metas.len()];
        let mut open = OpenCalls::default();
        for (position, meta) in metas.iter().enumerate() {
            let mut unit = Unit::of(position, meta);
            match &meta.link {
                ToolLink::None => {}
                ToolLink::Calls(ids) => {
                    unit.unanswered = ids.len();
                    unit.malformed = open.push(units.len(), ids);
                }
                ToolLink::Result(id) => {
                    if let Some(call) = open.answer(id).and_then(|index| units.get_mut(index)) {
                        if let Some(link) = next.get_mut(call.last) {
                            *link = position;
                        }
                        call.last = position;
                        call.messages += 1;
                        call.tokens = call.tokens.saturating_add(meta.tokens.into());
                        call.unanswered -= 1;
                        continue;
                    }
                    unit.state = UnitState::Orphan;
                }
            }
            units.push(unit);
        }
        // A timeout beyond what a clock can show never passes.
        let timeout = SignedDuration::try_from(open_call_timeout).unwrap_or(SignedDuration::MAX);
        for unit in units.iter_mut().filter(|unit| unit.unanswered > 0) {
            let given_up = metas
                .get(unit.first)
                .is_some_and(|call| call.closed || now.duration_since(call.created_at) > timeout);
            unit.state = if given_up { UnitState::Abandoned } else { UnitState::Open };
        }
        Self { metas, units, next }
    }

    /// The units, in the order of their first messages.
    pub fn iter(&self) -> slice::Iter<'_, Unit> {
        self.units.iter()
    }

    /// How many units there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.units.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// The messages of one of these units, in order: a call first, then its results.
    #[must_use]
    pub const fn members(&self, unit: &Unit) -> Members<'_, 'a> {
        Members { units: self, at: unit.first }
    }

    /// What each unit counts as under a policy, in the order of [`iter`](Self::iter).
    ///
    /// A unit's content type is that of its first message. Talk is split by recency: from the newest
    /// unit back, talk is recent while its tokens together are within
    /// [`Policy::recent_window`]; the newest unit of talk always is. A unit's priority is the most
    /// critical one of its messages, where a message without one has that of its content type, or
    /// of its unit's if it is talk.
    #[must_use]
    pub fn classify(&self, policy: &Policy) -> Vec<UnitClass<'a>> {
        let recent = Standing::new(policy, &RECENT);
        let historical = Standing::new(policy, &HISTORICAL);
        // The tokens of the talk so far, from the newest unit back; nothing before the first.
        let mut talk: Option<u64> = None;
        let mut classes: Vec<_> = self
            .units
            .iter()
            .rev()
            .map(|unit| {
                let own = self.metas.get(unit.first).map(|meta| &meta.content_type);
                let own = own.unwrap_or(&HISTORICAL);
                let conversation = matches!(own, ContentType::Conversation);
                let standing = if conversation {
                    let sum = talk.unwrap_or(0).saturating_add(unit.tokens);
                    let newest = talk.replace(sum).is_none();
                    if newest || sum <= policy.recent_window { recent } else { historical }
                } else {
                    Standing::new(policy, own)
                };
                let priority =
                    self.members(unit).map(|meta| match (meta.priority, &meta.content_type) {
                        (Some(priority), _) => priority,
                        (None, ContentType::Conversation) => standing.priority,
                        (None, fixed) => policy.priority_of(fixed),
                    });
                UnitClass {
                    priority: priority.min().unwrap_or(standing.priority),
                    content_type: standing.content_type,
                    block: standing.block,
                    conversation,
                }
            })
            .collect();
        classes.reverse();
        classes
    }
}

impl<'u> IntoIterator for &'u Units<'_> {
    type Item = &'u Unit;
    type IntoIter = slice::Iter<'u, Unit>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One unit: a message, or a call of tools with its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    first: usize,
    last: usize,
    messages: usize,
    tokens: u64,
    unanswered: usize,
    malformed: bool,
    state: UnitState,
}

impl Unit {
    fn of(position: usize, meta: &MessageMeta) -> Self {
        Self {
            first: position,
            last: position,
            messages: 1,
            tokens: meta.tokens.into(),
            unanswered: 0,
            malformed: false,
            state: UnitState::Whole,
        }
    }

    /// The position of its first message among those that were grouped.
    #[must_use]
    pub const fn first(&self) -> usize {
        self.first
    }

    /// How many messages it has.
    #[must_use]
    pub const fn messages(&self) -> u64 {
        self.messages as u64
    }

    /// Their tokens.
    #[must_use]
    pub const fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Whether all its calls are answered.
    #[must_use]
    pub const fn state(&self) -> UnitState {
        self.state
    }

    /// How many of its calls have no result.
    #[must_use]
    pub const fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Whether it stays, whatever the pressure: it is critical or still open.
    #[must_use]
    pub const fn is_pinned(&self, class: &UnitClass<'_>) -> bool {
        class.priority.is_critical() || matches!(self.state, UnitState::Open)
    }

    /// Whether it makes two calls with one id, or a call without one: no model API takes that.
    #[must_use]
    pub const fn is_malformed(&self) -> bool {
        self.malformed
    }
}

/// Whether a unit is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnitState {
    /// A message by itself, or a call with all its results.
    Whole,
    /// A result is still awaited: the unit is neither evicted nor summarised.
    Open,
    /// A result is missing, and the call was closed by hand or has been open for too long.
    Abandoned,
    /// A result whose call is gone, never was, or is answered already.
    Orphan,
}

/// What a unit counts as under a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitClass<'a> {
    /// The most critical priority among its messages.
    pub priority: Priority,
    /// The content type of its first message, talk split into recent and historical.
    pub content_type: &'a ContentType,
    /// Which of [`Policy::blocks`] names the content type.
    pub block: Option<usize>,
    /// Whether it is plain talk, whose standing follows from recency.
    pub conversation: bool,
}

static RECENT: ContentType = ContentType::RecentContext;
static HISTORICAL: ContentType = ContentType::HistoricalMessages;

/// What a content type counts as under a policy.
#[derive(Clone, Copy)]
struct Standing<'a> {
    priority: Priority,
    content_type: &'a ContentType,
    block: Option<usize>,
}

impl<'a> Standing<'a> {
    fn new(policy: &Policy, content_type: &'a ContentType) -> Self {
        Self {
            priority: policy.priority_of(content_type),
            content_type,
            block: policy
                .blocks
                .iter()
                .position(|block| block.content_types.contains(content_type)),
        }
    }
}

/// The messages of a unit, from [`Units::members`].
#[derive(Debug, Clone)]
pub struct Members<'u, 'a> {
    units: &'u Units<'a>,
    at: usize,
}

impl Members<'_, '_> {
    /// The position of the next message among those that were grouped.
    pub(crate) fn next_position(&mut self) -> Option<usize> {
        let position = self.at;
        self.at = *self.units.next.get(position)?;
        Some(position)
    }
}

impl<'a> Iterator for Members<'_, 'a> {
    type Item = &'a MessageMeta;

    fn next(&mut self) -> Option<Self::Item> {
        let position = self.next_position()?;
        self.units.metas.get(position)
    }
}

/// The calls that are not answered yet.
///
/// Most results follow their call at once, so the newest message that calls is looked at first, and
/// its calls are hashed only when another message calls before they are answered. Hashing all of
/// them took six times as long (bench `plan_10k/group`).
#[derive(Debug, Default)]
struct OpenCalls<'a> {
    /// The newest message that calls: its unit, its ids, and which of them are answered, a bit each.
    newest: Option<(usize, &'a [Box<str>], u16)>,
    /// The newest call with an id, of the messages before.
    by_id: HashMap<&'a str, usize>,
    /// The unit of each of those calls, and the call with the same id below it.
    calls: Vec<(usize, usize)>,
}

impl<'a> OpenCalls<'a> {
    /// Adds the calls of a unit. Whether one has no id, or the id of another one of them.
    fn push(&mut self, unit: usize, ids: &'a [Box<str>]) -> bool {
        if let Some((unit, ids, answered)) = self.newest.take() {
            for (index, id) in ids.iter().enumerate() {
                if answered & (1 << index) == 0 {
                    self.hash(unit, id);
                }
            }
        }
        // More calls than there are bits, and more than it pays to compare one by one.
        if ids.len() > u16::BITS as usize {
            let mut malformed = false;
            for id in ids {
                malformed |= self.hash(unit, id);
            }
            return malformed;
        }
        self.newest = Some((unit, ids, 0));
        let repeated = |index: usize, id| ids.iter().skip(index + 1).any(|other| other == id);
        ids.iter().enumerate().any(|(index, id)| id.is_empty() || repeated(index, id))
    }

    /// Adds one call. Whether it has no id, or the id of another call of its unit.
    fn hash(&mut self, unit: usize, id: &'a str) -> bool {
        if id.is_empty() {
            return true;
        }
        let call = self.calls.len();
        let below = match self.by_id.entry(id) {
            Entry::Occupied(mut entry) => entry.insert(call),
            Entry::Vacant(entry) => {
                entry.insert(call);
                NONE
            }
        };
        self.calls.push((unit, below));
        self.calls.get(below).is_some_and(|(other, _)| *other == unit)
    }

    /// Takes the newest call with this id away and returns its unit.
    fn answer(&mut self, id: &'a str) -> Option<usize> {
        if id.is_empty() {
            return None;
        }
        if let Some((unit, ids, answered)) = &mut self.newest {
            for (index, open) in ids.iter().enumerate() {
                if **open == *id && *answered & (1 << index) == 0 {
                    *answered |= 1 << index;
                    return Some(*unit);
                }
            }
        }
        let Entry::Occupied(mut entry) = self.by_id.entry(id) else { return None };
        let (unit, below) = *self.calls.get(*entry.get())?;
        if below == NONE {
            entry.remove();
        } else {
            entry.insert(below);
        }
        Some(unit)
    }
}

#[cfg(test)]
mod tests;
