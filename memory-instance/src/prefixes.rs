//! The prefixes of the newest windows of a memory in this process.

use std::sync::{Mutex, PoisonError};

use memory_core::plan::PrefixMark;

/// The number of agents, or of other kinds of windows, whose prefixes are kept.
const KEPT: usize = 4;

/// The prefixes of the newest windows of a memory in this process, the newest first.
///
/// Memory is allocated with the first window.
#[derive(Debug, Default)]
pub(crate) struct Prefixes(Mutex<Vec<PrefixMark>>);

impl Prefixes {
    /// Keeps the prefix of a window of this many tokens. Returns the most tokens of it that an earlier window begins
    /// with.
    ///
    /// It takes the place of that window's if they share at least half, else it belongs to another agent or another
    /// kind of window.
    pub(crate) fn advance(&self, mark: PrefixMark, tokens: u64) -> u64 {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = kept.iter().map(|earlier| mark.unchanged_tokens(earlier)).enumerate();
        // The first of equal ones: the newest.
        let (at, unchanged) = shared.rev().max_by_key(|(_, shared)| *shared).unwrap_or_default();
        if unchanged >= tokens.div_ceil(2) && at < kept.len() {
            kept.remove(at);
        }
        kept.truncate(KEPT - 1);
        kept.insert(0, mark);
        unchanged
    }
}
