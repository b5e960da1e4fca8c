//! Forks within one store, as one atomic step.

use uuid::Uuid;

use super::{ForkOrigin, Generation};
use crate::key::MemoryKey;

/// A fork of one memory as another one, within one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The memory that is forked.
    pub from: MemoryKey,
    /// The generation at which it must be.
    pub generation: Generation,
    /// The id of the copy, by which a request that is sent again is recognized.
    pub copy: Uuid,
    /// The origin that the fork records, with the place of the last message that it takes.
    pub origin: ForkOrigin,
}

/// The outcome of a [`Fork`] that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// The fork is complete.
    Complete,
    /// The store cannot do it in one step, and nothing was changed; write a [copy](super::CopyWrite) in parts.
    InParts,
}
