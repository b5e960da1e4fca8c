//! The changes of a flush, as ranges of places, and the weights of the messages that it removes.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use memory_core::store::{Removed, Splice, Tally};
use memory_redis_link::{LinkError, Reply};

use crate::scripts::PART;

/// The change to a range of places: `s` summarized, `e` evicted, `w` withdrawn, `c` closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) kind: char,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// The weights of the removed messages: summaries, summarized, evicted and withdrawn, and by class.
#[derive(Debug, Default)]
pub(crate) struct Weighed {
    pub(crate) counts: [u64; 4],
    pub(crate) classes: BTreeMap<String, Tally>,
}

impl From<&Removed> for Weighed {
    fn from(removed: &Removed) -> Self {
        let Removed { classes, summaries, summarized, evicted, withdrawn, .. } = removed;
        let classes = classes.iter().map(|(class, tally)| (class.to_string(), *tally));
        Self { counts: [*summaries, *summarized, *evicted, *withdrawn], classes: classes.collect() }
    }
}

impl Weighed {
    pub(crate) fn add(&mut self, reply: &mut Reply) -> Result<(), LinkError> {
        for count in &mut self.counts {
            *count += reply.number::<u64>()?;
        }
        while !reply.is_empty() {
            let tally = self.classes.entry(reply.text()?).or_default();
            tally.messages += reply.number::<u64>()?;
            tally.tokens += reply.number::<u64>()?;
        }
        Ok(())
    }
}

/// The same ranges, cut into lists of at most [`PART`] places.
pub(crate) fn in_parts<'a>(changes: impl Iterator<Item = &'a Change>) -> Vec<Vec<Change>> {
    let mut parts: Vec<Vec<Change>> = Vec::new();
    let mut room = 0;
    for Change { kind, mut first, last } in changes.copied() {
        while first <= last {
            if room == 0 {
                parts.push(Vec::new());
                room = PART as u64;
            }
            let end = last.min(first.saturating_add(room - 1));
            if let Some(part) = parts.last_mut() {
                part.push(Change { kind, first, last: end });
            }
            room -= end - first + 1;
            first = end + 1;
        }
    }
    parts
}

/// The change at each place, in ascending order; nothing if a place is removed twice. With an archive, messages that
/// are both closed and removed follow, because they are archived as closed.
pub(crate) fn changes(splice: &Splice) -> Option<Vec<Change>> {
    let mut kinds: BTreeMap<u64, char> = BTreeMap::new();
    let removed = [(&splice.summarized, 's'), (&splice.evicted, 'e'), (&splice.withdrawn, 'w')];
    for (places, kind) in removed {
        for place in places {
            if kinds.insert(place.number(), kind).is_some() {
                return None;
            }
        }
    }
    let closed: BTreeSet<u64> = splice.closed.iter().map(|place| place.number()).collect();
    let mut closed_and_removed = Vec::new();
    for place in closed {
        match kinds.entry(place) {
            Entry::Vacant(free) => {
                free.insert('c');
            }
            Entry::Occupied(_) if splice.archive.is_some() => closed_and_removed.push(place),
            // Nothing is left of it.
            Entry::Occupied(_) => {}
        }
    }
    let mut ranges: Vec<Change> = Vec::new();
    let more = closed_and_removed.into_iter().map(|place| (place, 'c'));
    for (place, kind) in kinds.into_iter().chain(more) {
        match ranges.last_mut() {
            Some(before) if before.kind == kind && before.last + 1 == place => before.last = place,
            _ => ranges.push(Change { kind, first: place, last: place }),
        }
    }
    Some(ranges)
}

#[cfg(test)]
mod tests {
    use memory_core::Sequence;
    use memory_core::store::{Generation, Retention};

    use super::*;

    fn places(numbers: &[u64]) -> Vec<Sequence> {
        numbers.iter().copied().map(Sequence::new).collect()
    }

    #[test]
    fn changes_are_sent_as_ranges() {
        let splice = Splice {
            // A place between them is kept.
            summarized: places(&[2, 3, 5]),
            evicted: places(&[6, 7]),
            closed: places(&[3, 9]),
            ..Splice::new(Generation::new(1))
        };
        let ranges = [('s', 2, 3), ('s', 5, 5), ('e', 6, 7), ('c', 9, 9)];
        let ranges = ranges.map(|(kind, first, last)| Change { kind, first, last });
        assert_eq!(changes(&splice), Some(ranges.to_vec()));
        let archived = Splice {
            archive: Some(Retention::forever()),
            closed: places(&[3, 9, 6]),
            ..splice.clone()
        };
        let closed = [3, 6].map(|place| Change { kind: 'c', first: place, last: place });
        assert_eq!(changes(&archived), Some([&ranges[..], &closed].concat()));
        let twice = Splice { evicted: places(&[2]), ..splice };
        assert_eq!(changes(&twice), None);
    }

    #[test]
    fn removals_are_split_into_short_parts() {
        let change = |kind, first, last| Change { kind, first, last };
        let part = PART as u64;
        let changes = [change('s', 1, 3), change('e', 5, 2 * part + 9), change('s', 999, 999)];
        let expected = [
            vec![change('s', 1, 3), change('e', 5, part + 1)],
            vec![change('e', part + 2, 2 * part + 1)],
            vec![change('e', 2 * part + 2, 2 * part + 9), change('s', 999, 999)],
        ];
        assert_eq!(in_parts(changes.iter()), expected);
        assert_eq!(in_parts([change('e', 1, part)].iter()).len(), 1);
        assert!(in_parts([].iter()).is_empty());
    }
}
