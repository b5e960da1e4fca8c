use serde::{Deserialize, Serialize};

use super::StoreErrorKind;
use super::generation::spread_of_write;
use crate::receipt::SequenceSet;
use crate::write::WriteId;

/// A request to erase the messages at some places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erase {
    /// Recognizes a retry.
    pub write: WriteId,
    /// The places.
    pub places: SequenceSet,
    /// The reason, which is recorded. It must not repeat what is erased.
    pub reason: String,
}

impl Erase {
    /// The most bytes of a [reason](Self::reason).
    pub const MAX_REASON: usize = 256;

    /// The most places of one erasure.
    pub const MAX_PLACES: u64 = 1_000;

    /// The distance beyond the next generation, as used by [`Generation::after`](super::Generation::after).
    #[must_use]
    pub fn spread(&self) -> u16 {
        spread_of_write(self.write)
    }

    /// Validates the request without looking at the memory. Every store calls this first.
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`] without places, with more than [`MAX_PLACES`](Self::MAX_PLACES), and for a reason
    /// that is empty or longer than [`MAX_REASON`](Self::MAX_REASON).
    pub fn check(&self) -> Result<(), StoreErrorKind> {
        let problem = if self.places.is_empty() {
            "name at least one place to erase"
        } else if self.places.len() > Self::MAX_PLACES {
            "more than 1,000 places to erase; erase them in several calls"
        } else if self.reason.trim().is_empty() {
            "give a reason for the erasure, which is recorded"
        } else if self.reason.len() > Self::MAX_REASON {
            "the reason for the erasure is longer than 256 bytes; shorten it"
        } else {
            return Ok(());
        };
        Err(StoreErrorKind::Invalid(problem.into()))
    }
}
