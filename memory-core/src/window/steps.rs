//! The steps in which the start of a window moves.

use super::candidates::Candidates;

/// A step is this part of the budget.
const PART: u64 = 5;
/// A step is at most this part of the room, if most of the budget is reserved.
const PART_OF_ROOM: u64 = 4;
/// Room is used in this part of a step, so that a calibration that differs by a few tokens moves nothing.
const FINE: u64 = 10;

/// The steps in which the start of a window moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Steps {
    /// The tokens of a step.
    pub(super) size: u64,
    /// The steps by which the window is shorter, because it turned out to be too large.
    pub(super) shorter_by: u64,
    /// The tokens that are reserved for the user message at the start.
    pub(super) pinned: u64,
    /// Whether to start at a step even if everything seems to fit.
    pub(super) is_forced: bool,
}

impl Steps {
    /// The tokens of a step for this budget, of which this much is for messages. `None` if it is too small.
    pub(super) fn size(budget: u64, room: u64) -> Option<u64> {
        let size = (budget / PART).min(room / PART_OF_ROOM);
        (size >= FINE).then_some(size)
    }

    /// The part of the room that is used.
    pub(super) const fn usable(self, room: u64) -> u64 {
        match (self.size / FINE).checked_sub(1) {
            Some(less) => room - room % (less + 1),
            None => room,
        }
    }
}

/// The last point of a history at which its total tokens reached a multiple of the step.
///
/// The total is counted from the first message that is present. A flush removes messages and so moves all marks, once;
/// appends move none. Every process with the same messages finds the same mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The first message that reaches beyond the point.
    pub(super) position: usize,
    /// The first unit that starts there or later.
    pub(super) unit: usize,
    /// The tokens from that message to the next point.
    pub(super) reserve: u64,
}

impl Mark {
    pub(super) fn new(candidates: &Candidates<'_>, step: u64) -> Option<Self> {
        let total = candidates.all().tokens;
        let point = total - total.checked_rem(step)?;
        let mut before = total;
        let mut position = candidates.metas.len();
        for (index, meta) in candidates.metas.iter().enumerate().rev() {
            if before <= point {
                break;
            }
            before = before.saturating_sub(meta.tokens.into());
            position = index;
        }
        let units = candidates.units.as_slice();
        let unit = units.partition_point(|unit| unit.first() < position);
        let reserve = point.checked_add(step)?.saturating_sub(before);
        Some(Self { position, unit, reserve })
    }
}
