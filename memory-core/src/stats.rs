//! Statistics of messages: totals, and groups by a property.

mod group_by;

use std::collections::BTreeMap;

use serde::Serialize;

pub use self::group_by::{GroupBy, GroupByError};
use crate::counters::{Counters, Tally};
use crate::priority::Class;
use crate::stored::StoredMessage;

/// The most groups of statistics. Messages of further groups are counted as [`other`](MessageStats::other).
pub const MAX_GROUPS: usize = 1_000;

/// The longest name of a group, in bytes. Messages with a longer one are counted as [`other`](MessageStats::other).
pub const MAX_GROUP_NAME: usize = 256;

/// The number of messages and of their tokens.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct MessageStats {
    /// Messages.
    pub messages: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Tokens of a message on average; 0 without messages.
    pub average_tokens: f64,
    /// Messages that were read for the statistics and could not be decoded. They are not counted elsewhere.
    pub unreadable: u64,
    /// The property of the groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_by: Option<GroupBy>,
    /// The groups, ascending by name.
    pub groups: Vec<GroupStats>,
    /// Messages of groups that are not listed.
    pub other: Tally,
}

/// One group of [`MessageStats`].
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct GroupStats {
    /// The common value of the property; `None` for messages without it.
    pub name: Option<String>,
    /// Messages.
    pub messages: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Tokens of a message on average.
    pub average_tokens: f64,
}

/// Counts messages for [`MessageStats`]. Its size does not depend on the number of messages.
///
/// ```
/// use memory_core::stats::{GroupBy, StatsCount};
/// use memory_core::store::Counters;
///
/// let mut count = StatsCount::new(Some(GroupBy::Priority));
/// assert!(!count.needs_messages(), "counters are enough");
/// count.add_counters("support", &Counters::default());
/// assert_eq!(count.finish().average_tokens, 0.0);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct StatsCount {
    group_by: Option<GroupBy>,
    total: Tally,
    unreadable: u64,
    groups: BTreeMap<Option<String>, Tally>,
    other: Tally,
}

impl StatsCount {
    /// A count of nothing.
    #[must_use]
    pub const fn new(group_by: Option<GroupBy>) -> Self {
        let (total, other) = (Tally { messages: 0, tokens: 0 }, Tally { messages: 0, tokens: 0 });
        Self { group_by, total, unreadable: 0, groups: BTreeMap::new(), other }
    }

    /// Whether the groups depend on what only the messages have. Otherwise [`add_counters`](Self::add_counters) gives the
    /// same result.
    #[must_use]
    pub const fn needs_messages(&self) -> bool {
        matches!(self.group_by, Some(GroupBy::Role | GroupBy::Extra(_)))
    }

    /// Counts a message of a memory of this resource.
    pub fn add(&mut self, resource: &str, message: &StoredMessage) {
        let tally = Tally { messages: 1, tokens: message.meta.tokens.into() };
        let name = self.group_by.as_ref().map(|by| by.name_of(resource, message));
        self.count(name, tally);
    }

    /// Counts all present messages of a memory of this resource. Without effect on the groups if these
    /// [need messages](Self::needs_messages).
    pub fn add_counters(&mut self, resource: &str, counters: &Counters) {
        let by_class = |class: &Class| match self.group_by {
            Some(GroupBy::Priority) => class.priority.map(|priority| priority.to_string()),
            _ => Some(class.content_type.as_str().to_owned()),
        };
        match self.group_by {
            Some(GroupBy::Priority | GroupBy::ContentType) => {
                let classes: Vec<_> = counters
                    .classes
                    .iter()
                    .map(|(class, tally)| (by_class(class), *tally))
                    .collect();
                for (name, tally) in classes {
                    self.count(Some(name), tally);
                }
            }
            Some(GroupBy::Resource) if counters.present.messages > 0 => {
                self.count(Some(Some(resource.to_owned())), counters.present);
            }
            _ => self.count(None, counters.present),
        }
    }

    /// Counts messages that cannot be decoded.
    pub const fn add_unreadable(&mut self, messages: u64) {
        self.unreadable = self.unreadable.saturating_add(messages);
    }

    /// Adds the count of other messages by the same property.
    pub fn merge(&mut self, other: Self) {
        add(&mut self.total, other.total);
        add(&mut self.other, other.other);
        self.add_unreadable(other.unreadable);
        for (name, tally) in other.groups {
            self.count_in_group(name, tally);
        }
    }

    fn count(&mut self, name: Option<Option<String>>, tally: Tally) {
        add(&mut self.total, tally);
        if let Some(name) = name {
            self.count_in_group(name, tally);
        }
    }

    fn count_in_group(&mut self, name: Option<String>, tally: Tally) {
        let is_short = name.as_ref().is_none_or(|name| name.len() <= MAX_GROUP_NAME);
        let is_listed = self.groups.len() < MAX_GROUPS || self.groups.contains_key(&name);
        if is_short && is_listed {
            add(self.groups.entry(name).or_default(), tally);
        } else {
            add(&mut self.other, tally);
        }
    }

    /// The statistics of what was counted.
    #[must_use]
    pub fn finish(self) -> MessageStats {
        let Self { group_by, total, unreadable, groups, other } = self;
        let group = |(name, tally): (Option<String>, Tally)| {
            let Tally { messages, tokens } = tally;
            GroupStats { name, messages, tokens, average_tokens: average(tally) }
        };
        let Tally { messages, tokens } = total;
        MessageStats {
            messages,
            tokens,
            average_tokens: average(total),
            unreadable,
            group_by,
            groups: groups.into_iter().map(group).collect(),
            other,
        }
    }
}

const fn add(to: &mut Tally, more: Tally) {
    to.messages = to.messages.saturating_add(more.messages);
    to.tokens = to.tokens.saturating_add(more.tokens);
}

#[expect(clippy::cast_precision_loss, reason = "an average for display")]
fn average(Tally { messages, tokens }: Tally) -> f64 {
    if messages == 0 { 0.0 } else { tokens as f64 / messages as f64 }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::message::Message;
    use crate::priority::{ContentType, Priority};
    use crate::stored::{MessageId, NewMessage, Sequence};
    use crate::testkit::{history, metas};

    fn stored(message: Message, tokens: u32) -> StoredMessage {
        let new = NewMessage {
            id: MessageId::new(Uuid::nil()),
            message,
            tokens,
            priority: Some(Priority::IMPORTANT),
            content_type: ContentType::Conversation,
            created_at: Timestamp::UNIX_EPOCH,
        };
        new.stored_at(Sequence::new(1))
    }

    fn stats<'a>(by: &str, of: impl IntoIterator<Item = &'a StoredMessage>) -> MessageStats {
        let mut count = StatsCount::new(Some(by.parse().unwrap()));
        of.into_iter().for_each(|message| count.add("m", message));
        count.finish()
    }

    fn groups(stats: &MessageStats) -> Vec<(Option<&str>, u64, u64)> {
        let group = |it: &'_ GroupStats| (it.messages, it.tokens);
        let named = stats.groups.iter().map(|it| (it.name.as_deref(), group(it)));
        named.map(|(name, (messages, tokens))| (name, messages, tokens)).collect()
    }

    #[test]
    fn messages_are_grouped_by_property() {
        let messages = [
            stored(Message::user("a").with_field("team", "blue"), 10),
            stored(Message::assistant("b").with_field("team", 7_u64), 20),
            stored(Message::user("c"), 40),
            stored(Message::user("d").with_field("team", "x".repeat(MAX_GROUP_NAME + 1)), 80),
        ];
        let by_role = stats("role", &messages);
        assert_eq!(groups(&by_role), [(Some("assistant"), 1, 20), (Some("user"), 3, 130)]);
        assert_eq!((by_role.messages, by_role.tokens, by_role.average_tokens), (4, 150, 37.5));
        assert!((by_role.groups[0].average_tokens - 20.0).abs() < 1e-9);
        let by_team = stats("extra.team", &messages);
        assert_eq!(groups(&by_team), [(None, 1, 40), (Some("7"), 1, 20), (Some("blue"), 1, 10)]);
        assert_eq!(by_team.other, Tally { messages: 1, tokens: 80 });
        assert_eq!(groups(&stats("priority", &messages)), [(Some("1"), 4, 150)]);
        assert_eq!(groups(&stats("resource", &messages)), [(Some("m"), 4, 150)]);
        assert_eq!(groups(&stats("content_type", [])), []);
    }

    #[test]
    fn further_groups_are_counted_as_other() {
        let number = |number: u64| stored(Message::user("u").with_field("n", number), 2);
        let mut count = StatsCount::new(Some(GroupBy::Extra("n".into())));
        let (mut half, most) = (count.clone(), MAX_GROUPS as u64);
        (0..most - 1).for_each(|at| count.add("m", &number(at)));
        (most - 2..most + 3).for_each(|at| half.add("m", &number(at)));
        count.merge(half);
        let stats = count.finish();
        assert_eq!((stats.groups.len(), stats.messages), (MAX_GROUPS, most + 4));
        assert_eq!(stats.other, Tally { messages: 3, tokens: 6 });
    }

    proptest! {
        #[test]
        fn counters_give_the_same_groups(messages in history(30)) {
            let counters = Counters::recount(&metas(&messages));
            for by in ["priority", "content_type", "resource"] {
                let mut count = StatsCount::new(Some(by.parse().unwrap()));
                count.add_counters("m", &counters);
                prop_assert_eq!(count.finish(), stats(by, &messages));
            }
            let (mut total, mut each) = (StatsCount::new(None), StatsCount::new(None));
            total.add_counters("m", &counters);
            messages.iter().for_each(|message| each.add("m", message));
            prop_assert_eq!(total, each);
        }
    }
}
