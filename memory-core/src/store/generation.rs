use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::lease::FencingToken;
use crate::stored::Sequence;
use crate::write::WriteId;

/// Changes whenever a message is removed or changed; appends do not change it. Generations of a memory never repeat,
/// not even after its TTL.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(u64);

impl Generation {
    /// The generation of a memory that was never written.
    pub const NONE: Self = Self(0);

    /// The generation with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The generation after this one, at a store whose clock shows `now_micros`. The clock prevents repeated numbers
    /// after the store forgot an expired memory.
    #[must_use]
    pub const fn next(self, now_micros: u64) -> Self {
        Self(FencingToken::new(self.0).next(now_micros).number())
    }

    /// The generation after a splice or a clear: [`next`](Self::next). If the clock is behind the memory, the result
    /// is further ahead by the [`Splice::spread`](crate::store::Splice::spread) or [`Clear::spread`](crate::store::Clear::spread)
    /// of the change. Otherwise, after a rollback, the next change would get the number of the one that was lost.
    #[must_use]
    pub const fn after(self, now_micros: u64, spread: u16) -> Self {
        let next = self.next(now_micros).0;
        let is_behind = now_micros < next;
        // Widening; `From` is not const.
        Self(if is_behind { next.saturating_add(spread as u64) } else { next })
    }
}

/// The most that a change moves the generation ahead of its clock: about a millisecond.
const SPREAD: u128 = (1 << 10) - 1;

/// The spread of a change, derived from its id.
fn spread(bits: u128) -> u16 {
    // Ids of tests and of named writers differ in few bits, so all bits are mixed (Fibonacci hashing).
    let mixed = bits.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835) >> 64;
    u16::try_from(mixed & SPREAD).unwrap_or_default()
}

/// The spread of a flush, or without a receipt of a change at these places.
pub(super) fn spread_of_splice(
    receipt: Option<Uuid>,
    places: impl IntoIterator<Item = Sequence>,
) -> u16 {
    let places = places
        .into_iter()
        .fold(0_u128, |sum, place| sum.wrapping_mul(31).wrapping_add(u128::from(place.number())));
    spread(receipt.map_or(places, |id| id.as_u128()))
}

/// The spread of a clear or a replacement.
pub(super) fn spread_of_write(WriteId { writer, number }: WriteId) -> u16 {
    spread(writer.bits().wrapping_mul(31).wrapping_add(u128::from(number)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::write::WriterId;

    #[test]
    fn generation_grows_even_with_a_stopped_clock() {
        let next = |now| Generation::new(10).next(now).number();
        assert_eq!([0, 11, 500].map(next), [11, 11, 500]);
        assert_eq!(Generation::NONE.number(), 0);
        assert_eq!(Generation::new(10).after(500, 3).number(), 500);
        assert_eq!(Generation::new(10).after(7, 3).number(), 14);
        assert_eq!(Generation::new(u64::MAX).after(0, 1_000).number(), u64::MAX);
    }

    #[test]
    fn spread_depends_on_the_id() {
        let flushes = (0..64).map(|id| spread_of_splice(Some(Uuid::from_u128(id)), []));
        assert!(flushes.collect::<HashSet<_>>().len() > 55);
        let clears = (0..64).map(|number| spread_of_write(WriterId::new(1).write(number)));
        assert!(clears.collect::<HashSet<_>>().len() > 55);
        let closed = (1..64).map(|place| spread_of_splice(None, [Sequence::new(place)]));
        assert!(closed.collect::<HashSet<_>>().len() > 55);
    }
}
