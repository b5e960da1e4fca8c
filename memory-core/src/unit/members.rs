//! The messages of one unit.

use super::{Unit, Units};
use crate::stored::MessageMeta;

/// The messages of a unit, from [`Units::members`].
#[derive(Debug, Clone)]
pub struct Members<'u, 'a> {
    units: &'u Units<'a>,
    at: u32,
    left: u32,
}

impl<'u, 'a> Members<'u, 'a> {
    pub(super) const fn new(units: &'u Units<'a>, unit: &Unit) -> Self {
        Self { units, at: unit.first, left: unit.messages }
    }

    /// The index of the next message among the grouped messages.
    pub(crate) fn next_position(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let position = self.at as usize;
        if self.left > 0 {
            self.at = *self.units.grouping().next.get(position)?;
        }
        Some(position)
    }
}

impl<'a> Iterator for Members<'_, 'a> {
    type Item = &'a MessageMeta;

    fn next(&mut self) -> Option<Self::Item> {
        let position = self.next_position()?;
        self.units.metas.get(position)
    }
}
