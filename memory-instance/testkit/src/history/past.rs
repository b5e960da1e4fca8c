//! Operations on the past of a memory, and their answers.

use memory_core::Message;
use memory_core::store::{
    ArchivedRemoval, ForkOrigin, FoundIn, Frame, RemovalCause, RestoreRefusal, SearchHit,
    SequenceSet,
};

use super::{Tag, tag_in};
use crate::run::key_number;

/// A message that a flush writes: a summary, or the message in place of a tool result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Its id.
    pub id: u128,
    /// Its size.
    pub tokens: u32,
    /// Its bytes in an archive.
    pub bytes: u32,
}

/// A copy of one memory to the key of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Copied {
    /// Everything, with all counters.
    Whole,
    /// A fork that ends at this place.
    Fork(u64),
}

impl Copied {
    /// The copy with this frame to the memory with this number, of the one before it. That may be a fork itself.
    pub(crate) fn of(frame: &Frame, to: usize) -> Self {
        let is_source = |origin: &ForkOrigin| key_number(&origin.key) + 1 == to;
        match frame.origin.as_ref().filter(|origin| is_source(origin)) {
            Some(_) => Self::Fork(frame.last.number()),
            None => Self::Whole,
        }
    }
}

/// A removal that is in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The number that the store gave it.
    pub number: u64,
    /// The cause.
    pub cause: RemovalCause,
    /// The flush, or the rewind.
    pub receipt: Option<u128>,
    /// The places of its messages.
    pub places: Vec<u64>,
    /// The places of its erased messages.
    pub erased: Vec<u64>,
}

impl Removed {
    pub(crate) fn of(removal: &ArchivedRemoval) -> Self {
        Self {
            number: removal.number,
            cause: removal.cause,
            receipt: removal.receipt.as_ref().map(|receipt| receipt.id.as_u128()),
            places: numbers(&removal.places),
            erased: numbers(&removal.erased),
        }
    }
}

/// A message that a search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    /// Its place.
    pub place: u64,
    /// Whether it is in the archive.
    pub archived: bool,
    /// The message; `None` if the part of its text that is shown does not say so.
    pub tag: Option<Tag>,
}

impl Hit {
    pub(crate) fn of(hit: &SearchHit) -> Self {
        Self {
            place: hit.sequence.number(),
            archived: hit.found_in != FoundIn::Present,
            tag: tag_in(&hit.snippet.text),
        }
    }
}

/// The reason for which an undo was refused.
pub(crate) type Refusal = RestoreRefusal;

pub(crate) fn numbers(places: &SequenceSet) -> Vec<u64> {
    places.iter().map(memory_core::Sequence::number).collect()
}

/// The bytes of a message in an archive.
pub(crate) fn bytes_of(message: &Message) -> u32 {
    message.to_json().map_or(0, |json| u32::try_from(json.len()).unwrap_or(u32::MAX))
}
