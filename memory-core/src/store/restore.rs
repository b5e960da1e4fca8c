use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::generation::spread_of_write;
use crate::write::WriteId;

/// A request to undo a flush: its originals return to their places, and its summary is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// Recognizes a retry.
    pub write: WriteId,
    /// The id of the receipt of the flush, or of the messages that were taken back.
    pub receipt: Uuid,
}

impl Restore {
    /// The distance beyond the next generation, as used by [`Generation::after`](super::Generation::after).
    #[must_use]
    pub fn spread(&self) -> u16 {
        spread_of_write(self.write)
    }
}

/// The mark of the next flush after a [`Restore`]: no automatic flush, until a flush that a caller asks for has
/// committed. A replacement and a closed call, which remove other marks, keep it.
pub const FLUSH_HELD: u64 = i64::MAX.cast_unsigned();
