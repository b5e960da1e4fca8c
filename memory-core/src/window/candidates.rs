//! The units that a window may contain, ranked once.

use crate::counters::Tally;
use crate::policy::Policy;
use crate::priority::{ContentType, Priority};
use crate::render::bug::{RenderBug, is_planted};
use crate::stored::{MessageMeta, Sequence};
use crate::unit::{Rank, Unit, UnitState, Units};

/// Estimated tokens of the synthetic result of an open call.
const SYNTHETIC: u64 = 24;

/// The units of a history as candidates for a window.
///
/// Most units of most histories are plain conversation: their rank follows from their position alone, so nothing is
/// stored for them.
#[derive(Debug)]
pub(super) struct Candidates<'a> {
    pub(super) metas: &'a [MessageMeta],
    pub(super) units: Units<'a>,
    /// All other units, in order.
    special: Vec<Special>,
    recent: Priority,
    historical: Priority,
    recent_window: u64,
    reminders_kept: usize,
    /// Estimated tokens of the name of a result's tool.
    per_result: u64,
    /// The units of which it is known that nothing can be sent, ascending.
    void: Vec<usize>,
    /// The true tokens of a unit, if they are known.
    corrected: Option<(usize, u64)>,
    /// All messages.
    all: Tally,
    /// The estimated tokens of all units that can be sent.
    sendable: u64,
}

/// A unit that is not plain conversation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Special {
    pub(super) unit: usize,
    rank: Rank,
    /// The priority of its content type; `None` for conversation, where it follows from recency.
    standing: Option<Priority>,
    is_reminder: bool,
}

impl<'a> Candidates<'a> {
    pub(super) fn new(
        metas: &'a [MessageMeta],
        units: Units<'a>,
        policy: &Policy,
        per_result: u64,
    ) -> Self {
        let recent = policy.priority_of(&ContentType::RecentContext);
        let historical = policy.priority_of(&ContentType::HistoricalMessages);
        let has_critical_talk = recent.is_critical() || historical.is_critical();
        let totals = units.totals();
        let all = Tally { messages: metas.len() as u64, tokens: totals.tokens };
        let extra = totals.unanswered.saturating_mul(SYNTHETIC);
        let extra = extra.saturating_add(totals.further.saturating_mul(per_result));
        let ranked = |index: usize| {
            // A unit that was joined into another one is no candidate.
            let unit = units.as_slice().get(index).filter(|unit| unit.messages() > 0)?;
            let content_type = units.content_type(unit);
            Some(Special {
                unit: index,
                rank: units.rank(unit, policy),
                standing: (!unit.is_conversation()).then(|| policy.priority_of(content_type)),
                is_reminder: matches!(content_type, ContentType::Reminder),
            })
        };
        let special: Vec<_> = if has_critical_talk {
            (0..units.len()).filter_map(ranked).collect()
        } else {
            units.special().filter_map(ranked).collect()
        };
        crate::unit::count::classified(special.len());
        Self {
            metas,
            void: Vec::new(),
            units,
            special,
            recent,
            historical,
            recent_window: policy.recent_window,
            reminders_kept: usize::try_from(policy.reminders_kept).unwrap_or(usize::MAX),
            per_result,
            corrected: None,
            all,
            sendable: all.tokens.saturating_add(extra),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.units.len()
    }

    pub(super) fn unit(&self, index: usize) -> Option<&Unit> {
        self.units.as_slice().get(index)
    }

    pub(super) const fn special(&self) -> &[Special] {
        self.special.as_slice()
    }

    /// All messages.
    pub(super) const fn all(&self) -> Tally {
        self.all
    }

    /// The estimated tokens of all units that can be sent, older reminders included.
    pub(super) const fn sendable_tokens(&self) -> u64 {
        self.sendable
    }

    /// The place of a unit.
    pub(super) fn place(&self, index: usize) -> Option<Sequence> {
        Some(self.metas.get(self.unit(index)?.first())?.sequence)
    }

    /// The tokens of a unit, known or estimated.
    pub(super) fn cost(&self, index: usize) -> u64 {
        match self.corrected {
            Some((corrected, cost)) if corrected == index => cost,
            _ => self.unit(index).map_or(0, |unit| {
                unit.tokens().saturating_add(extra_tokens(unit, self.per_result))
            }),
        }
    }

    /// The tokens of a unit without its messages from this position on.
    pub(super) fn cost_before(&self, index: usize, position: usize) -> u64 {
        let Some(unit) = self.unit(index).filter(|unit| unit.last() >= position) else {
            return self.cost(index);
        };
        let (mut tokens, mut calls, mut results) = (0_u64, 0_usize, 0_usize);
        let mut messages = 0_u64;
        for meta in self.units.members_before(unit, position) {
            tokens = tokens.saturating_add(meta.tokens.into());
            calls = calls.saturating_add(meta.link.calls.len());
            results = results.saturating_add(meta.link.results.len());
            messages += 1;
        }
        let unanswered = calls.saturating_sub(results) as u64;
        let named = messages.saturating_sub(1).saturating_mul(self.per_result);
        tokens.saturating_add(unanswered.saturating_mul(SYNTHETIC)).saturating_add(named)
    }

    /// Sets the true tokens of a unit.
    pub(super) const fn correct(&mut self, index: usize, cost: u64) {
        self.corrected = Some((index, cost));
    }

    /// The completeness of a unit.
    pub(super) fn state(&self, index: usize) -> Option<UnitState> {
        self.units.state_of(index)
    }

    /// Whether nothing of a unit can be sent.
    pub(super) fn is_void(&self, index: usize) -> bool {
        self.void.binary_search(&index).is_ok()
            || self.unit(index).is_none_or(|unit| unit.messages() == 0)
    }

    /// The units of which nothing can be sent, ascending.
    pub(super) fn void(&self) -> &[usize] {
        &self.void
    }

    /// Notes that nothing of a unit can be sent. Returns whether this is new.
    pub(super) fn set_void(&mut self, index: usize) -> bool {
        debug_assert!(index < self.len(), "unit {index} is no candidate");
        let Err(at) = self.void.binary_search(&index) else { return false };
        self.void.insert(at, index);
        self.sendable = self.sendable.saturating_sub(self.cost(index));
        true
    }

    /// Whether a unit is conversation of which something can be sent.
    pub(super) fn is_talk(&self, index: usize) -> bool {
        self.unit(index).is_some_and(Unit::is_conversation) && !self.is_void(index)
    }

    /// The units before `end` that are reminders before the newest ones, ascending. Only the most recent of repeated
    /// reminders are relevant. Critical ones are always kept, and do not count.
    pub(super) fn old_reminders(&self, end: usize) -> Vec<usize> {
        if is_planted(RenderBug::OldRemindersKept) {
            return Vec::new();
        }
        let recent_from = self.recent_from(end);
        let reminders = self.special.iter().rev().filter(|special| {
            special.is_reminder
                && special.unit < end
                && !self.is_void(special.unit)
                && !self.priority(special, recent_from).is_critical()
        });
        let mut old: Vec<_> = reminders.skip(self.reminders_kept).map(|old| old.unit).collect();
        old.reverse();
        old
    }

    /// The first unit of the recent conversation in a history that ends before this unit.
    pub(super) fn recent_from(&self, end: usize) -> usize {
        if self.recent == self.historical && !self.special.iter().any(Special::follows_recency) {
            return end;
        }
        self.units.recent_from(end, self.recent_window)
    }

    /// The priority of a special unit.
    pub(super) fn priority(&self, special: &Special, recent_from: usize) -> Priority {
        special
            .rank
            .priority(special.standing.unwrap_or_else(|| self.talk(special.unit, recent_from)))
    }

    /// The priority of conversation.
    const fn talk(&self, unit: usize, recent_from: usize) -> Priority {
        if unit >= recent_from { self.recent } else { self.historical }
    }

    /// The critical units of which something can be sent.
    pub(super) fn critical(&self) -> impl Iterator<Item = usize> {
        let recent_from = self.recent_from(self.len());
        let special = self.special.iter().filter(move |special| {
            !self.is_void(special.unit) && self.priority(special, recent_from).is_critical()
        });
        special.map(|special| special.unit)
    }

    /// The priorities of recent and of historical conversation.
    pub(super) const fn talk_priorities(&self) -> (Priority, Priority) {
        (self.recent, self.historical)
    }

    /// Whether a unit is plain conversation. Never so if conversation may be critical.
    pub(super) fn is_plain(&self, index: usize) -> bool {
        let (recent, historical) = self.talk_priorities();
        self.unit(index).is_some_and(Unit::is_plain)
            && !recent.is_critical()
            && !historical.is_critical()
    }
}

impl Special {
    const fn follows_recency(&self) -> bool {
        self.standing.is_none() && self.rank.follows_unit()
    }
}

/// Estimated tokens that a unit needs besides its messages.
fn extra_tokens(unit: &Unit, per_result: u64) -> u64 {
    let results = unit.messages().saturating_sub(1);
    (unit.unanswered() as u64)
        .saturating_mul(SYNTHETIC)
        .saturating_add(results.saturating_mul(per_result))
}
