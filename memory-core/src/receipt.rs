//! Flush receipts: the record of a flush and its reasons.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::stored::{MessageId, Sequence};

/// The number of receipts that a store keeps for each memory: the most recent ones.
pub const KEPT_RECEIPTS: usize = 16;

/// The record of one flush.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FlushReceipt {
    /// The id of the flush; a splice sent twice is recognized by it.
    pub id: Uuid,
    /// The strategy that planned it.
    pub strategy: String,
    /// The start of the flush.
    pub started_at: Timestamp,
    /// The duration, including the summarizer.
    #[serde(rename = "duration_ms", with = "millis")]
    pub duration: Duration,
    /// The tokens of the snapshot before the flush.
    pub tokens_before: u64,
    /// The tokens of the snapshot after the flush.
    pub tokens_after: u64,
    /// The messages of the snapshot before the flush.
    pub messages_before: u64,
    /// The messages of the snapshot after the flush.
    pub messages_after: u64,
    /// The places of evicted messages.
    pub evicted: SequenceSet,
    /// The places of summarized messages.
    #[serde(rename = "summarised", alias = "summarized")]
    pub summarized: SequenceSet,
    /// The places of the newest messages that were taken back.
    #[serde(default, skip_serializing_if = "SequenceSet::is_empty")]
    pub withdrawn: SequenceSet,
    /// The messages that were replaced in their places: those whose tool results were cleared. Ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<ReplacedRecord>,
    /// The ids of the removed messages that have a name in their id, such as system prompts. A message of the same name may
    /// take their place, and then they must not return.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named: Vec<MessageId>,
    /// The summary, if one was written.
    pub summary: Option<SummaryRecord>,
    /// Why the flush did not reach its target, if it did not.
    pub shortfall: Option<Shortfall>,
    /// Whether this is the plan of a flush that did not take place. It has no summary, and `tokens_after` is with a
    /// summary of the maximum size.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dry_run: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl FlushReceipt {
    /// The receipt of a flush that removed nothing. The caller sets the other fields.
    #[must_use]
    pub fn new(id: Uuid, strategy: impl Into<String>, started_at: Timestamp) -> Self {
        Self {
            id,
            strategy: strategy.into(),
            started_at,
            duration: Duration::ZERO,
            tokens_before: 0,
            tokens_after: 0,
            messages_before: 0,
            messages_after: 0,
            evicted: SequenceSet::default(),
            summarized: SequenceSet::default(),
            withdrawn: SequenceSet::default(),
            replaced: Vec::new(),
            named: Vec::new(),
            summary: None,
            shortfall: None,
            dry_run: false,
        }
    }

    /// The tokens that the replaced messages had more than those in their places.
    #[must_use]
    pub fn tokens_cleared(&self) -> u64 {
        let freed = |one: &ReplacedRecord| one.tokens_before.saturating_sub(one.tokens_after);
        self.replaced.iter().map(|one| u64::from(freed(one))).fold(0, u64::saturating_add)
    }
}

impl FlushReceipt {
    /// The places of all removed messages, by reason.
    pub(crate) const fn removed(&self) -> [&SequenceSet; 3] {
        [&self.summarized, &self.evicted, &self.withdrawn]
    }
}

/// A message that a flush replaced in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReplacedRecord {
    /// Its place.
    pub sequence: Sequence,
    /// The id of the message that is there now.
    pub id: MessageId,
    /// The size of the original in tokens.
    pub tokens_before: u32,
    /// The size of the message that is there now, in tokens.
    pub tokens_after: u32,
}

impl ReplacedRecord {
    /// A message at this place, replaced by the one with this id.
    #[must_use]
    pub const fn new(
        sequence: Sequence,
        id: MessageId,
        tokens_before: u32,
        tokens_after: u32,
    ) -> Self {
        Self { sequence, id, tokens_before, tokens_after }
    }
}

/// The summary of a flush.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SummaryRecord {
    /// The id of its message.
    pub id: MessageId,
    /// Its place.
    pub sequence: Sequence,
    /// Its size in tokens.
    pub tokens: u32,
    /// The summarizer that wrote it.
    pub summarizer: String,
    /// Why the preferred summarizer did not write it, if a fallback did.
    pub fallback: Option<String>,
}

impl SummaryRecord {
    /// A summary at this place, written by the first summarizer.
    #[must_use]
    pub fn new(
        id: MessageId,
        sequence: Sequence,
        tokens: u32,
        summarizer: impl Into<String>,
    ) -> Self {
        Self { id, sequence, tokens, summarizer: summarizer.into(), fallback: None }
    }
}

/// Why a flush could not reach its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Shortfall {
    /// The remaining messages are critical.
    Critical,
    /// The remaining messages are calls that still wait for results.
    OpenCalls,
    /// The remaining messages are critical or calls that wait for results.
    CriticalAndOpenCalls,
    /// The summary takes up the tokens that it freed.
    SummaryTooLarge,
    /// The memory was empty.
    Empty,
    /// A custom strategy chose to leave more.
    Strategy,
}

/// Places in a memory, stored as inclusive ranges.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SequenceSet(Vec<(Sequence, Sequence)>);

impl SequenceSet {
    /// The inclusive ranges, in order.
    #[must_use]
    pub fn ranges(&self) -> &[(Sequence, Sequence)] {
        &self.0
    }

    /// The number of places.
    #[must_use]
    pub fn len(&self) -> u64 {
        // Ranges that were read from a store may be damaged, with the end before the start.
        let places = |(first, last): &(Sequence, Sequence)| {
            last.number().saturating_add(1).saturating_sub(first.number())
        };
        self.0.iter().map(places).fold(0, u64::saturating_add)
    }

    /// Whether there are no places.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The places of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut ranges: Vec<_> = self.0.iter().chain(&other.0).copied().collect();
        ranges.sort_unstable();
        let mut merged: Vec<(Sequence, Sequence)> = Vec::new();
        // Damaged ranges, with the end before the start, are left out.
        for (first, last) in ranges.into_iter().filter(|(first, last)| first <= last) {
            match merged.last_mut() {
                Some((_, end)) if first <= end.plus(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// Whether it contains this place.
    #[must_use]
    pub fn contains(&self, sequence: Sequence) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&sequence))
    }

    /// The places, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Sequence> {
        let numbers = |(first, last): &(Sequence, Sequence)| first.number()..=last.number();
        self.0.iter().flat_map(numbers).map(Sequence::new)
    }

    /// Whether it has a place in common with another set.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let meet = |(first, last): &(Sequence, Sequence)| {
            other.0.iter().any(|(from, to)| from <= last && first <= to)
        };
        self.0.iter().any(meet)
    }

    /// The places that are not in another set.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        for (first, last) in &self.0 {
            let mut from = Some(*first);
            for (start, end) in other.0.iter().filter(|(start, end)| start <= last && first <= end)
            {
                if let Some(begin) = from.filter(|begin| begin < start) {
                    left.push((begin, Sequence::new(start.number().saturating_sub(1))));
                }
                from = (end < last).then(|| end.plus(1));
            }
            left.extend(from.map(|begin| (begin, *last)));
        }
        Self(left)
    }
}

impl FromIterator<Sequence> for SequenceSet {
    fn from_iter<I: IntoIterator<Item = Sequence>>(places: I) -> Self {
        let mut places: Vec<_> = places.into_iter().collect();
        places.sort_unstable();
        let mut ranges: Vec<(Sequence, Sequence)> = Vec::new();
        for place in places {
            match ranges.last_mut() {
                Some((_, last)) if place <= last.plus(1) => *last = place.max(*last),
                _ => ranges.push((place, place)),
            }
        }
        Self(ranges)
    }
}

/// Durations as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sequence_set_holds_exactly_its_places(places in prop::collection::btree_set(0..40_u64, 0..20)) {
            let set: SequenceSet = places.iter().rev().copied().map(Sequence::new).collect();
            prop_assert_eq!(set.len(), places.len() as u64);
            let held: BTreeSet<u64> =
                (0..45).filter(|n| set.contains(Sequence::new(*n))).collect();
            prop_assert_eq!(held, places);
            prop_assert!(set.ranges().windows(2).all(|w| w[0].1.plus(1) < w[1].0));
        }

        #[test]
        fn sequence_sets_subtract_and_meet_as_sets(
            one in prop::collection::btree_set(0..30_u64, 0..20),
            other in prop::collection::btree_set(0..30_u64, 0..20),
        ) {
            let set = |places: &BTreeSet<u64>| places.iter().copied().map(Sequence::new).collect();
            let (a, b): (SequenceSet, SequenceSet) = (set(&one), set(&other));
            prop_assert_eq!(a.iter().map(Sequence::number).collect::<BTreeSet<_>>(), one.clone());
            prop_assert_eq!(a.without(&b), set(&(&one - &other)));
            prop_assert_eq!(a.meets(&b), !one.is_disjoint(&other));
        }
    }

    proptest! {
        #[test]
        fn union_holds_the_places_of_both(
            ones in prop::collection::btree_set(0..40_u64, 0..20),
            others in prop::collection::btree_set(0..40_u64, 0..20),
        ) {
            let set = |places: &BTreeSet<u64>| -> SequenceSet {
                places.iter().copied().map(Sequence::new).collect()
            };
            let both: BTreeSet<u64> = ones.union(&others).copied().collect();
            prop_assert_eq!(set(&ones).union(&set(&others)), set(&both));
        }
    }

    #[test]
    fn adjacent_places_merge_and_damaged_ranges_are_empty() {
        let places = [7, 1, 2, 3, 5, 3, 8].map(Sequence::new);
        let set: SequenceSet = places.into_iter().collect();
        let ranges = [(1, 3), (5, 5), (7, 8)].map(|(a, b)| (Sequence::new(a), Sequence::new(b)));
        assert_eq!((set.ranges(), set.len(), set.is_empty()), (&ranges[..], 6, false));
        assert_eq!(serde_json::to_string(&set).unwrap(), "[[1,3],[5,5],[7,8]]");
        let none = SequenceSet::default();
        assert_eq!((none.len(), none.is_empty()), (0, true));
        let damaged: SequenceSet = serde_json::from_str("[[9,3],[1,1]]").unwrap();
        assert_eq!((damaged.len(), damaged.contains(Sequence::new(5))), (1, false));
        let all: SequenceSet = serde_json::from_str("[[0,18446744073709551615],[1,2]]").unwrap();
        assert_eq!(all.len(), u64::MAX);
    }

    #[test]
    fn receipt_round_trips_with_milliseconds() {
        let receipt = FlushReceipt {
            id: Uuid::from_u128(1),
            strategy: "fifo".into(),
            started_at: Timestamp::UNIX_EPOCH,
            duration: Duration::from_micros(1_999),
            tokens_before: 10,
            tokens_after: 5,
            messages_before: 4,
            messages_after: 2,
            evicted: [Sequence::new(1), Sequence::new(2)].into_iter().collect(),
            summarized: SequenceSet::default(),
            withdrawn: SequenceSet::default(),
            replaced: vec![ReplacedRecord::new(
                Sequence::new(3),
                MessageId::new(Uuid::nil()),
                90,
                20,
            )],
            named: vec![MessageId::new(Uuid::nil())],
            summary: None,
            shortfall: Some(Shortfall::CriticalAndOpenCalls),
            dry_run: false,
        };
        assert_eq!(receipt.tokens_cleared(), 70);
        let mut json = serde_json::to_value(&receipt).unwrap();
        assert_eq!(
            (&json["duration_ms"], &json["shortfall"]),
            (&1.into(), &"critical_and_open_calls".into())
        );
        let read: FlushReceipt = serde_json::from_value(json.clone()).unwrap();
        let receipt = FlushReceipt { duration: Duration::from_millis(1), ..receipt };
        assert_eq!(read, receipt);
        // Earlier versions wrote no replaced and no named messages.
        for name in ["replaced", "named"] {
            json.as_object_mut().unwrap().remove(name).unwrap();
        }
        let read: FlushReceipt = serde_json::from_value(json).unwrap();
        assert_eq!(read, FlushReceipt { replaced: Vec::new(), named: Vec::new(), ..receipt });
    }
}
