//! Groups messages into units that are kept whole: a tool call with the results that answer it.

mod classes;
pub(crate) mod count;
mod group;
mod members;
mod open;

use std::borrow::Cow;
use std::slice;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

pub(crate) use self::classes::Rank;
pub use self::classes::UnitClass;
pub(crate) use self::group::{Grouping, Totals};
pub use self::members::Members;
use crate::priority::ContentType;
use crate::stored::MessageMeta;

/// The messages of a memory, grouped into units in the order of each unit's first message.
///
/// A message with tool calls and the messages with the results that answer them form one unit; every other message is
/// a unit by itself. [`ToolLink`](crate::plan::ToolLink) defines which call a result answers: ids may repeat from turn to
/// turn, and messages of other agents may be in between. The items of one answer in OpenAI's Responses API (reasoning,
/// text, calls) form one unit if they directly follow each other, like the single message that Chat uses for them. A
/// message that answers calls of several units joins them into one. A message that both calls and answers belongs to
/// the unit that it answers.
///
/// One pass over the messages, which must be in ascending order of their places.
#[derive(Debug, Clone)]
pub struct Units<'a> {
    metas: &'a [MessageMeta],
    /// Units that were joined into others are part of a borrowed grouping only.
    grouping: Cow<'a, Grouping>,
    /// The states of the units with unanswered calls, ascending, if the grouping is borrowed.
    waiting: Vec<(usize, UnitState)>,
}

/// No position: no memory holds this many messages.
const NONE: u32 = u32::MAX;

/// A position as it is kept: half the size, because plans of long histories are bound by memory.
fn narrow(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(NONE)
}

impl<'a> Units<'a> {
    /// Groups the messages; calls that have been open for longer than `open_call_timeout` at `now`
    /// are [abandoned](UnitState::Abandoned).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use jiff::Timestamp;
    /// use memory_core::plan::{ToolLink, ToolRef, UnitState, Units};
    /// use memory_core::store::MessageMeta;
    /// use memory_core::{ContentType, Sequence};
    /// # use memory_core::store::MessageId;
    ///
    /// let now = Timestamp::UNIX_EPOCH;
    /// # let id = MessageId::new(uuid::Uuid::nil());
    /// let meta = |place, link| {
    ///     let mut meta = MessageMeta::new(Sequence::new(place), id, ContentType::Conversation, now);
    ///     meta.link = link;
    ///     meta
    /// };
    /// let metas = [
    ///     meta(1, ToolLink::of_calls([ToolRef::by_id("call-1")])),
    ///     meta(2, ToolLink::default()),
    ///     meta(3, ToolLink::of_results([ToolRef::by_id("call-1")])),
    /// ];
    /// let units = Units::group(&metas, now, Duration::from_secs(600));
    /// // The call and its result, and the message between them.
    /// let sizes: Vec<_> = units.iter().map(|unit| unit.messages()).collect();
    /// assert_eq!(sizes, [2, 1]);
    /// assert!(units.iter().all(|unit| unit.state() != UnitState::Open));
    /// ```
    #[must_use]
    pub fn group(metas: &'a [MessageMeta], now: Timestamp, open_call_timeout: Duration) -> Self {
        let mut grouping = Grouping::default();
        grouping.extend(metas);
        for (index, state) in waiting(&grouping, metas, now, open_call_timeout) {
            if let Some(unit) = grouping.units.get_mut(index) {
                unit.state = state;
            }
        }
        grouping.compact();
        Self { metas, grouping: Cow::Owned(grouping), waiting: Vec::new() }
    }

    /// The same units, of the same messages with other tokens.
    ///
    /// # Examples
    ///
    /// ```
    /// # use jiff::Timestamp;
    /// # use memory_core::store::{MessageId, MessageMeta};
    /// # use memory_core::{ContentType, Sequence};
    /// use memory_core::plan::Units;
    ///
    /// # let (id, now) = (MessageId::new(uuid::Uuid::nil()), Timestamp::UNIX_EPOCH);
    /// let mut meta = MessageMeta::new(Sequence::new(1), id, ContentType::Conversation, now);
    /// meta.tokens = 900;
    /// let metas = [meta.clone()];
    /// let units = Units::group(&metas, now, std::time::Duration::from_secs(600));
    /// meta.tokens = 20;
    /// let shorter = [meta];
    /// let units = units.with_tokens_of(&shorter);
    /// assert_eq!(units.iter().next().map(|unit| unit.tokens()), Some(20));
    /// ```
    #[must_use]
    pub fn with_tokens_of<'m>(&self, metas: &'m [MessageMeta]) -> Units<'m> {
        debug_assert!(
            metas.iter().map(|meta| meta.id).eq(self.metas.iter().map(|meta| meta.id)),
            "other messages"
        );
        let mut units = Units {
            metas,
            grouping: Cow::Owned(self.grouping().clone()),
            waiting: self.waiting.clone(),
        };
        let tokens = units.iter().map(|unit| {
            let members = units.members(unit);
            members.fold(0_u64, |sum, meta| sum.saturating_add(meta.tokens.into()))
        });
        let tokens: Vec<_> = tokens.collect();
        units.grouping.to_mut().set_tokens(tokens);
        units
    }

    /// As [`group`](Self::group), with messages that are grouped already. Among these units are some without messages,
    /// and their [`state`](Unit::state) is not that of calls without a result: see [`state_of`](Self::state_of).
    pub(crate) fn grouped(
        metas: &'a [MessageMeta],
        grouping: &'a Grouping,
        now: Timestamp,
        open_call_timeout: Duration,
    ) -> Self {
        let waiting = waiting(grouping, metas, now, open_call_timeout);
        Self { metas, grouping: Cow::Borrowed(grouping), waiting }
    }

    /// The completeness of the unit with this index.
    pub(crate) fn state_of(&self, index: usize) -> Option<UnitState> {
        let found = self.waiting.binary_search_by_key(&index, |(unit, _)| *unit).ok();
        let waiting = found.and_then(|at| self.waiting.get(at)).map(|(_, state)| *state);
        waiting.or_else(|| Some(self.as_slice().get(index)?.state))
    }

    /// The indices of the units that are not plain conversation, ascending.
    pub(crate) fn special(&self) -> impl Iterator<Item = usize> {
        self.grouping().special.iter().map(|index| *index as usize)
    }

    /// The first unit from which on the conversation before the unit `end` has at most this many tokens. The newest unit
    /// of conversation always counts as within it.
    pub(crate) fn recent_from(&self, end: usize, window: u64) -> usize {
        self.grouping().recent_from(end, window)
    }

    pub(crate) const fn totals(&self) -> Totals {
        self.grouping().totals()
    }

    /// The units, in the order of their first messages.
    pub fn iter(&self) -> slice::Iter<'_, Unit> {
        self.as_slice().iter()
    }

    /// The number of units.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there are no units.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// The messages of one of these units, in order: a call before its results.
    #[must_use]
    pub const fn members(&self, unit: &Unit) -> Members<'_, 'a> {
        Members::new(self, unit)
    }

    /// The messages of one of these units before this position.
    pub(crate) fn members_before<'u>(
        &'u self,
        unit: &Unit,
        position: usize,
    ) -> impl Iterator<Item = &'a MessageMeta> + use<'u, 'a> {
        let mut members = self.members(unit);
        std::iter::from_fn(move || {
            let at = members.next_position().filter(|at| *at < position)?;
            self.metas.get(at)
        })
    }

    /// The grouped messages.
    pub(crate) const fn metas(&self) -> &'a [MessageMeta] {
        self.metas
    }

    pub(crate) const fn as_slice(&self) -> &[Unit] {
        self.grouping().units.as_slice()
    }

    const fn grouping(&self) -> &Grouping {
        match &self.grouping {
            Cow::Borrowed(grouping) => grouping,
            Cow::Owned(grouping) => grouping,
        }
    }
}

impl<'u> IntoIterator for &'u Units<'_> {
    type Item = &'u Unit;
    type IntoIter = slice::Iter<'u, Unit>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The states of the units with unanswered calls, ascending: [abandoned](UnitState::Abandoned) if every such call is.
fn waiting(
    grouping: &Grouping,
    metas: &[MessageMeta],
    now: Timestamp,
    open_call_timeout: Duration,
) -> Vec<(usize, UnitState)> {
    // A timeout beyond the range of the clock never expires.
    let timeout = SignedDuration::try_from(open_call_timeout).unwrap_or(SignedDuration::MAX);
    let mut waiting = Vec::new();
    grouping.visit_unanswered(&mut |unit, position| {
        let Some(call) = metas.get(position) else {
            debug_assert!(false, "an open call has no message");
            return;
        };
        let is_abandoned = call.closed || now.duration_since(call.created_at) > timeout;
        waiting.push((unit, is_abandoned));
    });
    // Those that are not abandoned come first.
    waiting.sort_unstable();
    waiting.dedup_by_key(|(unit, _)| *unit);
    let state = |is_abandoned| if is_abandoned { UnitState::Abandoned } else { UnitState::Open };
    waiting.into_iter().map(|(unit, is_abandoned)| (unit, state(is_abandoned))).collect()
}

/// One unit: a message, or a tool call with its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    tokens: u64,
    first: u32,
    last: u32,
    messages: u32,
    unanswered: u32,
    malformed: bool,
    /// Whether its content type is conversation.
    is_conversation: bool,
    /// Whether all its messages are conversation without a priority.
    is_plain: bool,
    state: UnitState,
}

impl Unit {
    fn of(position: usize, meta: &MessageMeta) -> Self {
        let is_conversation = matches!(meta.content_type, ContentType::Conversation);
        Self {
            tokens: meta.tokens.into(),
            first: narrow(position),
            last: narrow(position),
            messages: 1,
            unanswered: 0,
            malformed: false,
            is_conversation,
            is_plain: is_conversation && meta.priority.is_none(),
            state: UnitState::Whole,
        }
    }

    /// The index of its first message among the grouped messages.
    #[must_use]
    pub const fn first(&self) -> usize {
        self.first as usize
    }

    /// The index of its last message among the grouped messages.
    pub(crate) const fn last(&self) -> usize {
        self.last as usize
    }

    /// Whether its content type is conversation.
    pub(crate) const fn is_conversation(&self) -> bool {
        self.is_conversation
    }

    /// Whether all its messages are conversation without a priority.
    pub(crate) const fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// The number of its messages.
    #[must_use]
    pub const fn messages(&self) -> u64 {
        self.messages as u64
    }

    /// The total tokens of its messages.
    #[must_use]
    pub const fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Whether all its calls are answered.
    #[must_use]
    pub const fn state(&self) -> UnitState {
        self.state
    }

    /// The number of its calls without a result.
    #[must_use]
    pub const fn unanswered(&self) -> usize {
        self.unanswered as usize
    }

    /// Whether it must be kept under any pressure: it is critical or still open.
    #[must_use]
    pub const fn is_pinned(&self, class: &UnitClass<'_>) -> bool {
        class.priority.is_critical() || matches!(self.state, UnitState::Open)
    }

    /// Whether a message or an answer in it makes two calls with one id, or has the result of a removed call beside other content.
    /// No model API accepts that.
    #[must_use]
    pub const fn is_malformed(&self) -> bool {
        self.malformed
    }
}

/// The completeness of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnitState {
    /// A message by itself, or a call with all its results.
    Whole,
    /// The unit still waits for a result and is neither evicted nor summarized.
    Open,
    /// A result is missing, and the call was closed explicitly or exceeded the timeout.
    Abandoned,
    /// A result whose call was removed, never existed, or is answered already.
    Orphan,
}

#[cfg(test)]
mod tests;
