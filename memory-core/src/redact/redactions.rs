//! The record of what a redaction replaced.

use std::collections::BTreeSet;

use super::RedactPreset;

/// A record of a redaction: numbers and positions in the policy, no text.
///
/// ```
/// use memory_core::Message;
/// use memory_core::resource::{Redactions, Redactor};
///
/// let redactor = Redactor::new(&["no-match", r"\d{4}"], "*").map_err(|(_, error)| error)?;
/// let mut redactions = Redactions::default();
/// let message = redactor.redact_counting(Message::user("1234 and 5678"), &mut redactions);
/// assert_eq!(message.text(), "* and *");
/// assert_eq!((redactions.replaced(), redactions.patterns()), (2, vec![1]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redactions {
    replaced: u64,
    presets: BTreeSet<RedactPreset>,
    patterns: BTreeSet<usize>,
}

impl Redactions {
    /// Whether nothing was replaced.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.replaced == 0
    }

    /// The number of replaced places. Overlapping matches are one.
    #[must_use]
    pub const fn replaced(&self) -> u64 {
        self.replaced
    }

    /// The presets that matched.
    #[must_use]
    pub fn presets(&self) -> Vec<RedactPreset> {
        self.presets.iter().copied().collect()
    }

    /// The indexes of the patterns that matched, in ascending order, from 0.
    #[must_use]
    pub fn patterns(&self) -> Vec<usize> {
        self.patterns.iter().copied().collect()
    }

    /// Adds another record.
    pub fn add(&mut self, other: Self) {
        self.replaced = self.replaced.saturating_add(other.replaced);
        self.presets.extend(other.presets);
        self.patterns.extend(other.patterns);
    }

    pub(super) fn found_by_preset(&mut self, preset: RedactPreset) {
        self.presets.insert(preset);
    }

    pub(super) fn found_by_pattern(&mut self, index: usize) {
        self.patterns.insert(index);
    }

    pub(super) const fn replaced_one(&mut self) {
        self.replaced = self.replaced.saturating_add(1);
    }
}
