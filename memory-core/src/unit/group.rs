//! Units under construction.

use std::collections::{HashMap, HashSet};

use super::open::{CallsOf, OpenCalls};
use super::{NONE, Unit, UnitState, narrow};
use crate::link::{AnswerItem, ToolLink};
use crate::stored::{MessageMeta, Sequence};

/// Units under construction.
pub(super) struct Group<'a> {
    pub(super) units: Vec<Unit>,
    /// For each message the position of the next message of its unit; [`NONE`] for the last. Empty until a unit has
    /// two messages.
    pub(super) next: Vec<u32>,
    /// The number of all messages.
    pub(super) messages: usize,
    /// Maps a unit that was joined into another one to that unit. It has no messages any more.
    pub(super) joined: HashMap<usize, usize>,
    /// The item of an answer that was added last.
    pub(super) item: Option<Item<'a>>,
}

/// An item of a model's answer, and the unit that it is in.
pub(super) struct Item<'a> {
    kind: AnswerItem,
    sequence: Sequence,
    unit: usize,
    /// The ids of the calls in the answer so far.
    ids: HashSet<&'a str>,
}

impl<'a> Group<'a> {
    /// Adds the next message.
    pub(super) fn add(&mut self, position: usize, meta: &'a MessageMeta, open: &mut OpenCalls<'a>) {
        let ToolLink { calls, results, item } = &meta.link;
        if calls.is_empty() && results.is_empty() && item.is_none() {
            self.item = None;
            self.units.push(Unit::of(position, meta));
            return;
        }
        let mut unit = Unit::of(position, meta);
        let mut home = self.continued(meta);
        let mut has_stray = false;
        for result in results.iter() {
            let Some(answered) = open.answer(result) else {
                has_stray = true;
                continue;
            };
            let answered = self.root(answered);
            if let Some(unit) = self.unit_mut(answered) {
                unit.unanswered = unit.unanswered.saturating_sub(1);
            }
            home = Some(home.map_or(answered, |home| self.join(home, answered)));
        }
        let at = if let Some(home) = home {
            self.extend(home, position, meta);
            home
        } else {
            if has_stray && calls.is_empty() {
                unit.state = UnitState::Orphan;
                has_stray = false;
            }
            self.units.push(unit);
            self.units.len() - 1
        };
        let before = self.item.take();
        // Nothing is between two calls of one answer.
        let of = match before {
            Some(Item { kind: AnswerItem::Call, .. }) => CallsOf::SameAnswer,
            _ => CallsOf::NextAnswer,
        };
        let mut is_malformed = !calls.is_empty() && open.push(at, position, calls, of);
        self.item = item.map(|kind| {
            let mut ids = before.map(|item| item.ids).unwrap_or_default();
            for call in calls.iter().filter(|call| !call.id.is_empty()) {
                is_malformed |= !ids.insert(&call.id);
            }
            Item { kind, sequence: meta.sequence, unit: at, ids }
        });
        if let Some(unit) = self.unit_mut(at) {
            unit.unanswered = unit.unanswered.saturating_add(narrow(calls.len()));
            unit.malformed |= is_malformed || has_stray;
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
    pub(super) fn root(&mut self, unit: usize) -> usize {
        let mut root = unit;
        while let Some(into) = self.joined.get(&root) {
            root = *into;
        }
        if root != unit {
            self.joined.insert(unit, root);
        }
        root
    }

    /// Appends a message to a unit.
    fn extend(&mut self, unit: usize, position: usize, meta: &MessageMeta) {
        let Some(unit) = self.unit_mut(unit) else { return };
        let last = std::mem::replace(&mut unit.last, narrow(position));
        unit.messages += 1;
        unit.tokens = unit.tokens.saturating_add(meta.tokens.into());
        unit.is_plain &= Unit::of(position, meta).is_plain;
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
        let Some(Unit { tokens, unanswered, malformed, messages, is_plain, .. }) =
            self.unit_mut(gone).map(|gone| std::mem::replace(gone, Unit { messages: 0, ..*gone }))
        else {
            return kept;
        };
        if let Some(unit) = self.unit_mut(kept) {
            unit.last = last;
            unit.messages += messages;
            unit.tokens = unit.tokens.saturating_add(tokens);
            unit.unanswered += unanswered;
            unit.malformed |= malformed;
            unit.is_plain &= is_plain;
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
        if self.next.is_empty() {
            self.next.resize(self.messages, NONE);
        }
        debug_assert!(
            (position as usize) < self.next.len(),
            "there is no message at position {position}"
        );
        if let Some(link) = self.next.get_mut(position as usize) {
            *link = following;
        }
    }
}
