//! Messages grouped into units, as far as the messages alone determine them.

use std::collections::{HashMap, HashSet};

use super::open::{CallId, CallsOf, OpenCalls, SharedCall};
use super::{NONE, Unit, UnitState, narrow};
use crate::link::{AnswerItem, ToolLink};
use crate::stored::{MessageMeta, Sequence};

/// Messages grouped into units, as far as the messages alone determine them: calls that wait for a result are neither
/// [open](UnitState::Open) nor [abandoned](UnitState::Abandoned) yet, because that depends on the time.
///
/// Grows at its end by the messages that are added, each once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Grouping {
    /// In the order of their first messages. A unit that was joined into another one is without messages.
    pub(super) units: Vec<Unit>,
    /// For each message the position of the next message of its unit; [`NONE`] for the last and for messages beyond
    /// its length. Empty until a unit has two messages.
    pub(super) next: Vec<u32>,
    /// The units that are not plain conversation, ascending.
    pub(super) special: Vec<u32>,
    /// The tokens of conversation in each [`BLOCK`] of units, so that a search from the end skips most of a long history.
    talk: Vec<u64>,
    /// The number of all messages.
    messages: usize,
    totals: Totals,
    /// Maps a unit that was joined into another one to that unit.
    joined: HashMap<usize, usize>,
    /// The item of an answer that was added last.
    item: Option<Item>,
    open: OpenCalls,
}

/// The units whose conversation is summed up together.
const BLOCK: usize = 128;

/// Sums over all units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// The tokens of all messages.
    pub(crate) tokens: u64,
    /// The calls without a result.
    pub(crate) unanswered: u64,
    /// The messages that are not the first of their unit.
    pub(crate) further: u64,
}

/// An item of a model's answer, and the unit that it is in.
#[derive(Debug, Clone)]
struct Item {
    kind: AnswerItem,
    sequence: Sequence,
    unit: usize,
    /// The ids of the calls in the answer so far.
    ids: HashSet<CallId>,
}

/// The tokens of these units.
fn sum_of<'u>(units: impl IntoIterator<Item = &'u Unit>) -> u64 {
    units.into_iter().map(|unit| unit.tokens).fold(0, u64::saturating_add)
}

impl Grouping {
    /// Groups the messages that were added to `metas` since the last call. All earlier ones must be the same.
    pub(crate) fn extend(&mut self, metas: &[MessageMeta]) {
        let new = metas.get(self.messages..).unwrap_or_default();
        super::count::grouped(new.len());
        self.units.reserve(new.len());
        for (position, meta) in (self.messages..).zip(new) {
            self.add(position, meta);
        }
        self.messages += new.len();
    }

    pub(crate) const fn totals(&self) -> Totals {
        self.totals
    }

    /// The bytes of heap memory that it occupies, apart from unused capacity.
    pub(crate) const fn heap_bytes(&self) -> usize {
        let narrow = self.next.len() + self.special.len();
        self.units.len() * size_of::<Unit>() + narrow * size_of::<u32>() + self.open.heap_bytes()
    }

    /// Calls `visit` with the unit and the position of each message with an unanswered call.
    pub(super) fn visit_unanswered(&self, visit: &mut dyn FnMut(usize, usize)) {
        self.open.visit_unanswered(&mut |unit, position| visit(self.find_root(unit), position));
    }

    /// Removes the units that were joined into others. No message can be added after it.
    pub(super) fn compact(&mut self) {
        if self.joined.is_empty() {
            return;
        }
        self.units.retain(|unit| unit.messages > 0);
        let all = self.units.iter().enumerate();
        let special = all.filter(|(_, unit)| !unit.is_plain);
        self.special = special.map(|(index, _)| narrow(index)).collect();
        self.sum_talk();
    }

    /// Sets the tokens of all units, in their order.
    pub(super) fn set_tokens(&mut self, tokens: Vec<u64>) {
        for (unit, tokens) in self.units.iter_mut().zip(tokens) {
            unit.tokens = tokens;
        }
        self.totals.tokens = sum_of(&self.units);
        self.sum_talk();
    }

    /// Sums up the conversation of each block.
    fn sum_talk(&mut self) {
        let talk = |units: &[Unit]| sum_of(units.iter().filter(|unit| unit.is_conversation));
        self.talk = self.units.chunks(BLOCK).map(talk).collect();
    }

    /// The first unit from which on the conversation before `end` has at most this many tokens. The newest unit of
    /// conversation always counts as within it.
    pub(super) fn recent_from(&self, end: usize, window: u64) -> usize {
        let (mut sum, mut is_newest) = (0_u64, true);
        let mut from = end.min(self.units.len());
        while let Some(index) = from.checked_sub(1) {
            let block = from.is_multiple_of(BLOCK).then(|| self.talk.get(index / BLOCK)).flatten();
            let with_block = block.map(|talk| sum.saturating_add(*talk));
            if let Some(with_block) = with_block.filter(|sum| !is_newest && *sum <= window) {
                (sum, from) = (with_block, from - BLOCK);
                continue;
            }
            if let Some(unit) = self.units.get(index).filter(|unit| unit.is_conversation) {
                sum = sum.saturating_add(unit.tokens);
                if !std::mem::take(&mut is_newest) && sum > window {
                    break;
                }
            }
            from = index;
        }
        from
    }

    /// Adds tokens to the conversation of a unit.
    fn add_talk(&mut self, unit: usize, tokens: u64) {
        let block = unit / BLOCK;
        if self.talk.len() <= block {
            self.talk.resize(block + 1, 0);
        }
        if let Some(talk) = self.talk.get_mut(block) {
            *talk = talk.saturating_add(tokens);
        }
    }

    /// Adds the next message.
    fn add(&mut self, position: usize, meta: &MessageMeta) {
        let ToolLink { calls, results, item } = &meta.link;
        self.totals.tokens = self.totals.tokens.saturating_add(meta.tokens.into());
        if calls.is_empty() && results.is_empty() && item.is_none() {
            self.item = None;
            self.push(Unit::of(position, meta));
            return;
        }
        let mut unit = Unit::of(position, meta);
        let mut home = self.continued(meta);
        let mut has_stray = false;
        for result in results.iter() {
            let Some(answered) = self.open.answer(result) else {
                has_stray = true;
                continue;
            };
            self.totals.unanswered = self.totals.unanswered.saturating_sub(1);
            let answered = self.root(answered);
            if let Some(unit) = self.unit_mut(answered) {
                unit.unanswered = unit.unanswered.saturating_sub(1);
            }
            home = Some(home.map_or(answered, |home| self.join(home, answered)));
        }
        let at = if let Some(home) = home {
            self.extend_unit(home, position, meta);
            home
        } else {
            if has_stray && calls.is_empty() {
                unit.state = UnitState::Orphan;
                has_stray = false;
            }
            self.push(unit)
        };
        let before = self.item.take();
        // Nothing is between two calls of one answer.
        let of = match before {
            Some(Item { kind: AnswerItem::Call, .. }) => CallsOf::SameAnswer,
            _ => CallsOf::NextAnswer,
        };
        let mut is_malformed = !calls.is_empty() && self.open.push(at, position, calls, of);
        self.item = item.map(|kind| {
            let mut ids = before.map(|item| item.ids).unwrap_or_default();
            for call in SharedCall::all(calls).filter(|call| !call.id().is_empty()) {
                is_malformed |= !ids.insert(CallId(call));
            }
            Item { kind, sequence: meta.sequence, unit: at, ids }
        });
        self.totals.unanswered = self.totals.unanswered.saturating_add(calls.len() as u64);
        if let Some(unit) = self.unit_mut(at) {
            unit.unanswered = unit.unanswered.saturating_add(narrow(calls.len()));
            unit.malformed |= is_malformed || has_stray;
        }
    }

    /// Adds a unit, and returns its index.
    fn push(&mut self, unit: Unit) -> usize {
        let index = self.units.len();
        if !unit.is_plain {
            self.special.push(narrow(index));
        }
        if unit.is_conversation {
            self.add_talk(index, unit.tokens);
        }
        self.units.push(unit);
        index
    }

    /// Notes that a unit is not plain conversation any more.
    fn make_special(&mut self, index: usize) {
        let index = narrow(index);
        if let Err(at) = self.special.binary_search(&index) {
            self.special.insert(at, index);
        }
    }

    /// The unit of the answer that this message is a further item of. Nothing may have been between the two, even if
    /// it was removed since: groups must not change when their surroundings do.
    fn continued(&mut self, meta: &MessageMeta) -> Option<usize> {
        self.item = self.item.take().filter(|before| {
            let is_next = before.sequence.plus(1) == meta.sequence;
            is_next && meta.link.item.is_some_and(|kind| kind.continues(before.kind))
        });
        let unit = self.item.as_ref()?.unit;
        Some(self.root(unit))
    }

    /// The unit that this one is now part of.
    fn find_root(&self, unit: usize) -> usize {
        let mut root = unit;
        while let Some(into) = self.joined.get(&root) {
            root = *into;
        }
        root
    }

    /// As [`find_root`](Self::find_root), with a shorter way to it for the next time.
    fn root(&mut self, unit: usize) -> usize {
        let root = self.find_root(unit);
        if root != unit {
            self.joined.insert(unit, root);
        }
        root
    }

    /// Appends a message to a unit.
    fn extend_unit(&mut self, index: usize, position: usize, meta: &MessageMeta) {
        let Some(unit) = self.unit_mut(index) else { return };
        let last = std::mem::replace(&mut unit.last, narrow(position));
        unit.messages += 1;
        unit.tokens = unit.tokens.saturating_add(meta.tokens.into());
        unit.is_plain &= Unit::of(position, meta).is_plain;
        let (is_plain, is_conversation) = (unit.is_plain, unit.is_conversation);
        self.totals.further += 1;
        if is_conversation {
            self.add_talk(index, meta.tokens.into());
        }
        if !is_plain {
            self.make_special(index);
        }
        self.link(last, narrow(position));
    }

    /// Joins two units and returns the remaining one.
    fn join(&mut self, one: usize, other: usize) -> usize {
        if one == other {
            return one;
        }
        let (kept, gone) = (one.min(other), one.max(other));
        let ends =
            |unit: usize| self.units.get(unit).map_or((NONE, NONE), |at| (at.first, at.last));
        let ((_, kept_last), (gone_first, gone_last)) = (ends(kept), ends(gone));
        let last = if kept_last < gone_first {
            self.link(kept_last, gone_first);
            gone_last
        } else {
            self.interleave(kept, gone);
            kept_last.max(gone_last)
        };
        // Neither messages nor conversation are left in it.
        let emptied = |gone: &mut Unit| {
            let empty = Unit {
                messages: 0,
                tokens: 0,
                unanswered: 0,
                is_conversation: false,
                is_plain: false,
                ..*gone
            };
            std::mem::replace(gone, empty)
        };
        let Some(joined) = self.unit_mut(gone).map(emptied) else { return kept };
        let Unit { tokens, unanswered, malformed, messages, is_plain, .. } = joined;
        self.totals.further += 1;
        if joined.is_conversation
            && let Some(talk) = self.talk.get_mut(gone / BLOCK)
        {
            *talk = talk.saturating_sub(tokens);
        }
        if self.units.get(kept).is_some_and(|kept| kept.is_conversation) {
            self.add_talk(kept, tokens);
        }
        if let Some(unit) = self.unit_mut(kept) {
            unit.last = last;
            unit.messages += messages;
            unit.tokens = unit.tokens.saturating_add(tokens);
            unit.unanswered += unanswered;
            unit.malformed |= malformed;
            unit.is_plain &= is_plain;
        }
        if !is_plain {
            self.make_special(kept);
        }
        self.joined.insert(gone, kept);
        kept
    }

    /// Links the messages of two units in order.
    fn interleave(&mut self, one: usize, other: usize) {
        let mut positions = Vec::new();
        for unit in [one, other] {
            let mut at = self.units.get(unit).map_or(NONE, |unit| unit.first);
            while at != NONE {
                positions.push(at);
                at = self.next.get(at as usize).copied().unwrap_or(NONE);
            }
        }
        positions.sort_unstable();
        let behind = positions.iter().skip(1).copied().chain([NONE]);
        for (position, following) in positions.iter().zip(behind) {
            self.link(*position, following);
        }
    }

    /// The unit with this index. Units are never removed while they are grouped, so every index that was given out
    /// has a unit.
    fn unit_mut(&mut self, unit: usize) -> Option<&mut Unit> {
        debug_assert!(unit < self.units.len(), "there is no unit {unit}");
        self.units.get_mut(unit)
    }

    /// Sets the message of the same unit that follows the one at this position.
    fn link(&mut self, position: u32, following: u32) {
        let position = position as usize;
        if self.next.len() <= position {
            self.next.resize(position + 1, NONE);
        }
        if let Some(link) = self.next.get_mut(position) {
            *link = following;
        }
    }
}
