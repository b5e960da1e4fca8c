//! Each write as a function over a transaction.

mod batch;
mod remove;
mod replace;
mod splice;
mod step;

use memory_core::lease::LeaseProof;
use memory_core::store::{
    Append, Appended, Clear, Counters, RemoveUnused, RemovedUnused, Replace, Splice,
};

pub(crate) use self::batch::{Batch, bad_head};
use crate::codec::Encoded;

/// A write, ready to be applied.
#[derive(Debug)]
pub(crate) enum Command {
    Append { append: Append, encoded: Vec<Encoded> },
    Replace { replace: Box<Replace>, encoded: Encoded },
    Splice { splice: Box<Splice>, summary: Option<Encoded> },
    Clear(Clear),
    Claim(LeaseProof),
    Remove(RemoveUnused),
}

/// The result of a write that was not refused.
#[derive(Debug)]
pub(crate) enum Answer {
    Appended(Appended),
    Counters(Counters),
    Removed(RemovedUnused),
    Done,
}

impl Command {
    pub(crate) const fn operation(&self) -> &'static str {
        match self {
            Self::Append { .. } => "append to",
            Self::Replace { .. } => "replace a message of",
            Self::Splice { .. } => "flush",
            Self::Clear(_) => "clear",
            Self::Claim(_) => "claim",
            Self::Remove(_) => "remove",
        }
    }

    /// The approximate number of bytes that it adds.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Append { encoded, .. } => encoded.iter().map(|m| m.body.len() + 64).sum(),
            Self::Replace { encoded, .. } => encoded.body.len() + 64,
            Self::Splice { splice, .. } => 64 * places(splice),
            Self::Clear(_) | Self::Claim(_) | Self::Remove(_) => 0,
        }
    }

    /// The approximate number of pages that it changes; a lower bound for a removal, whose messages may be
    /// anywhere.
    pub(crate) fn pages(&self) -> usize {
        match self {
            Self::Append { .. } | Self::Replace { .. } => self.bytes() / 4_096,
            Self::Splice { splice, .. } => places(splice),
            Self::Claim(_) => 0,
            Self::Clear(_) | Self::Remove(_) => 64,
        }
    }

    /// Whether it takes no longer than a commit.
    pub(crate) fn is_light(&self) -> bool {
        match self {
            Self::Append { .. } | Self::Replace { .. } => self.bytes() <= 256 << 10,
            Self::Splice { splice, .. } => places(splice) <= 64,
            Self::Claim(_) => true,
            Self::Clear(_) | Self::Remove(_) => false,
        }
    }
}

const fn places(splice: &Splice) -> usize {
    splice.summarised.len() + splice.evicted.len() + splice.closed.len()
}
