//! The custom content types in a memory, and the limit on their number.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use memory_core::ContentType;
use memory_core::limits::{LimitError, LimitKind};
use memory_core::store::{Counters, NewMessage};

/// The custom content types in the memory, as far as this instance knows.
///
/// A store keeps a counter for each, in the row that every append reads and writes, so their number is limited. Most
/// memories have none; then nothing is locked or looked up.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    known: Mutex<BTreeSet<ContentType>>,
}

fn is_own(kind: &ContentType) -> bool {
    matches!(kind, ContentType::Custom(_))
}

fn own(batch: &[NewMessage]) -> impl Iterator<Item = (usize, &ContentType)> {
    batch.iter().map(|message| &message.content_type).enumerate().filter(|(_, kind)| is_own(kind))
}

impl Kinds {
    /// Checks that the known types and those of this batch are at most `most`.
    pub(crate) fn check(&self, batch: &[NewMessage], most: u64) -> Result<(), LimitError> {
        if own(batch).next().is_none() {
            return Ok(());
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = BTreeSet::new();
        for (index, kind) in own(batch).filter(|(_, kind)| !known.contains(kind)) {
            new.insert(kind);
            let found = (known.len() + new.len()) as u64;
            if found > most {
                return Err(LimitError::new(LimitKind::ContentTypes, index, found, most));
            }
        }
        Ok(())
    }

    /// Checks that the types of this batch alone are at most `most`.
    pub(crate) fn check_alone(batch: &[NewMessage], most: u64) -> Result<(), LimitError> {
        Self::default().check(batch, most)
    }

    /// Updates the known types after this batch, if it contained custom ones.
    pub(crate) fn learn_from(&self, batch: &[NewMessage], counters: &Counters) {
        if own(batch).next().is_some() {
            self.learn(counters);
        }
    }

    /// Replaces the known types by those in the counters.
    pub(crate) fn learn(&self, counters: &Counters) {
        let there = counters.classes.keys().map(|class| &class.content_type);
        let there = there.filter(|kind| is_own(kind)).cloned().collect();
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = there;
    }
}
