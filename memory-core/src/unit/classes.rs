//! The classes of units under a policy, by which an eviction orders them.

use super::{Unit, Units, count};
use crate::policy::Policy;
use crate::priority::{ContentType, Priority};

/// The class of a unit under a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitClass<'a> {
    /// The most critical priority among its messages.
    pub priority: Priority,
    /// The content type of its first message; conversation is split into recent and historical.
    pub content_type: &'a ContentType,
    /// The index of the block in [`Policy::blocks`] that names the content type.
    pub block: Option<usize>,
    /// Whether it is plain conversation, whose class follows from recency.
    pub conversation: bool,
}

impl<'a> Units<'a> {
    /// The class of each unit under a policy, in the order of [`iter`](Self::iter).
    ///
    /// A unit's content type is that of its first message. Conversation is split by recency: counted from the newest
    /// unit back, it is recent while its total tokens are within [`Policy::recent_window`]; the newest conversation
    /// unit is always recent. A unit's priority is the most critical one of its messages. A message without a
    /// priority has that of its content type or, if it is conversation, that of its unit's.
    #[must_use]
    pub fn classify(&self, policy: &Policy) -> Vec<UnitClass<'a>> {
        count::classified(self.len());
        let mut recency = Recency::new(policy);
        let class = |unit| self.class_of(unit, recency.standing(unit), policy);
        let mut classes: Vec<_> = self.iter().rev().map(class).collect();
        classes.reverse();
        classes
    }

    /// Updates the [classes](Self::classify) of these units, which were those of other tokens: they differ only for
    /// conversation that became recent, or that is no longer recent.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_core::plan::{Policy, Units};
    /// # let policy = Policy::with_max_tokens(8_000);
    /// # let units = Units::group(&[], jiff::Timestamp::UNIX_EPOCH, std::time::Duration::ZERO);
    /// let mut classes = units.classify(&policy);
    /// let units = units.with_tokens_of(&[]);
    /// units.reclassify(&policy, &mut classes);
    /// assert_eq!(classes, units.classify(&policy));
    /// ```
    pub fn reclassify(&self, policy: &Policy, classes: &mut [UnitClass<'a>]) {
        let mut recency = Recency::new(policy);
        for (unit, class) in self.iter().zip(classes).rev() {
            if let Some(standing) = recency.standing(unit)
                && class.content_type != standing.content_type
            {
                count::classified(1);
                *class = self.class_of(unit, Some(standing), policy);
            }
        }
    }

    fn class_of(
        &self,
        unit: &Unit,
        recency: Option<Standing<'a>>,
        policy: &Policy,
    ) -> UnitClass<'a> {
        let standing = recency.unwrap_or_else(|| Standing::new(policy, self.content_type(unit)));
        UnitClass {
            priority: self.rank(unit, policy).priority(standing.priority),
            content_type: standing.content_type,
            block: standing.block,
            conversation: unit.is_conversation,
        }
    }

    /// The content type of a unit's first message.
    pub(crate) fn content_type(&self, unit: &Unit) -> &'a ContentType {
        let first = self.metas.get(unit.first());
        first.map_or(&ContentType::HistoricalMessages, |meta| &meta.content_type)
    }

    /// The priority of a unit, as far as its messages determine it.
    pub(crate) fn rank(&self, unit: &Unit, policy: &Policy) -> Rank {
        if unit.is_plain {
            return Rank { fixed: None, follows_unit: true };
        }
        let mut rank = Rank { fixed: None, follows_unit: false };
        for meta in self.members(unit) {
            let own = match (meta.priority, &meta.content_type) {
                (Some(priority), _) => priority,
                (None, ContentType::Conversation) => {
                    rank.follows_unit = true;
                    continue;
                }
                (None, fixed) => policy.priority_of(fixed),
            };
            rank.fixed = Some(rank.fixed.map_or(own, |fixed| fixed.min(own)));
        }
        rank
    }
}

/// The priority of a unit, as far as its messages determine it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rank {
    /// The most critical priority of the messages that have their own.
    fixed: Option<Priority>,
    /// Whether other messages have that of the unit's content type.
    follows_unit: bool,
}

impl Rank {
    /// The priority in a unit whose content type has this one.
    pub(crate) fn priority(self, standing: Priority) -> Priority {
        match self.fixed {
            Some(fixed) if self.follows_unit => fixed.min(standing),
            Some(fixed) => fixed,
            None => standing,
        }
    }

    /// Whether it depends on the content type.
    pub(crate) const fn follows_unit(self) -> bool {
        self.follows_unit
    }
}

/// Splits conversation into recent and historical, from the newest unit back.
struct Recency {
    recent: Standing<'static>,
    historical: Standing<'static>,
    window: u64,
    /// The total tokens of conversation so far; `None` before the first.
    talk: Option<u64>,
}

impl Recency {
    fn new(policy: &Policy) -> Self {
        Self {
            recent: Standing::new(policy, &ContentType::RecentContext),
            historical: Standing::new(policy, &ContentType::HistoricalMessages),
            window: policy.recent_window,
            talk: None,
        }
    }

    /// The standing of the next older unit; `None` if it is not plain conversation.
    fn standing(&mut self, unit: &Unit) -> Option<Standing<'static>> {
        if !unit.is_conversation {
            return None;
        }
        let sum = self.talk.unwrap_or(0).saturating_add(unit.tokens);
        let newest = self.talk.replace(sum).is_none();
        Some(if newest || sum <= self.window { self.recent } else { self.historical })
    }
}

/// The class of a content type under a policy.
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
