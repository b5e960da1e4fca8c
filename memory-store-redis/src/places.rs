//! The places of the messages of a memory.

use memory_core::store::Head;
use redis::Value;

/// The places of all messages, as ascending ranges.
#[derive(Debug)]
pub(crate) struct Places(Vec<(u64, u64)>);

impl Places {
    /// Reads the index, which lists the places up to `base`; each one after it has a message. `None` for an index that
    /// is not sound.
    pub(crate) fn read(head: &Head, base: u64, index: &Value) -> Option<Self> {
        let index = match index {
            Value::BulkString(bytes) if base > 0 => std::str::from_utf8(bytes).ok()?,
            _ => "",
        };
        let last = head.last.number();
        let numbers: Vec<u64> = index.split(' ').filter_map(|number| number.parse().ok()).collect();
        let (pairs, []) = numbers.as_chunks() else { return None };
        let mut ranges: Vec<(u64, u64)> =
            pairs.iter().map(|[first, last]| (*first, *last)).collect();
        if last > base {
            ranges.push((base + 1, last));
        }
        let (mut total, mut before) = (0_u64, 0);
        for (first, end) in &ranges {
            total = total.checked_add(end.checked_sub(*first)?.checked_add(1)?)?;
            if *first <= before || *end > last {
                return None;
            }
            before = *end;
        }
        (total == head.counters.present.messages).then_some(Self(ranges))
    }

    /// The places, in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// Whether there is a message at this place.
    pub(crate) fn contains(&self, place: u64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= place);
        let range = after.checked_sub(1).and_then(|at| self.0.get(at));
        range.is_some_and(|(_, last)| place <= *last)
    }
}
