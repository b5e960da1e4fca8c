//! Each write as a function over a transaction.

mod batch;
mod remove;
mod replace;
mod splice;
mod step;

use std::fmt::Debug;

use memory_core::MemoryKey;
use memory_core::lease::LeaseProof;
use memory_core::store::{
    Access, Append, Appended, Clear, Counters, RemoveUnused, RemovedUnused, Replace, Splice,
    StoreOperation,
};

pub(crate) use self::batch::{Batch, Changes, bad_head};
pub(crate) use self::remove::ENDED;
use crate::codec::Encoded;
use crate::error::JobError;

/// A write, ready to be applied.
pub(crate) trait Command: Debug + Send + 'static {
    /// The result of a write that was not refused.
    type Answer: Debug + Send;

    /// The operation, as named in errors.
    const OPERATION: StoreOperation;

    /// Applies it, or refuses it before its first change.
    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<Self::Answer, JobError>;

    /// The approximate number of bytes that it adds.
    fn bytes(&self) -> usize {
        0
    }

    /// The approximate number of pages that it changes; a lower bound for a removal, whose messages may be
    /// anywhere.
    fn pages(&self) -> usize;

    /// Whether it takes no longer than a commit.
    fn is_light(&self) -> bool;
}

/// The bytes that a light command adds at most.
const LIGHT_BYTES: usize = 256 << 10;

/// The pages that a command changes that removes all messages of a memory.
const PAGES_OF_REMOVAL: usize = 64;

const fn bytes_of(encoded: &Encoded) -> usize {
    encoded.body.len() + 64
}

#[derive(Debug)]
pub(crate) struct AppendRows {
    pub(crate) access: Access,
    pub(crate) append: Append,
    pub(crate) encoded: Vec<Encoded>,
}

impl Command for AppendRows {
    type Answer = Appended;
    const OPERATION: StoreOperation = StoreOperation::Append;

    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<Appended, JobError> {
        batch.step(key)?.append(self.access, &self.append, &self.encoded)
    }

    fn bytes(&self) -> usize {
        self.encoded.iter().map(bytes_of).sum()
    }

    fn pages(&self) -> usize {
        self.bytes() / 4_096
    }

    fn is_light(&self) -> bool {
        self.bytes() <= LIGHT_BYTES
    }
}

#[derive(Debug)]
pub(crate) struct ReplaceRow {
    pub(crate) access: Access,
    pub(crate) replace: Replace,
    pub(crate) encoded: Encoded,
}

impl Command for ReplaceRow {
    type Answer = Counters;
    const OPERATION: StoreOperation = StoreOperation::Replace;

    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<Counters, JobError> {
        batch.step(key)?.replace(self.access, &self.replace, &self.encoded)
    }

    fn bytes(&self) -> usize {
        bytes_of(&self.encoded)
    }

    fn pages(&self) -> usize {
        self.bytes() / 4_096
    }

    fn is_light(&self) -> bool {
        self.bytes() <= LIGHT_BYTES
    }
}

#[derive(Debug)]
pub(crate) struct SpliceRows {
    pub(crate) access: Access,
    pub(crate) splice: Splice,
    pub(crate) summary: Option<Encoded>,
}

impl SpliceRows {
    const fn places(&self) -> usize {
        let Splice { summarized, evicted, closed, .. } = &self.splice;
        summarized.len() + evicted.len() + closed.len()
    }
}

impl Command for SpliceRows {
    type Answer = Counters;
    const OPERATION: StoreOperation = StoreOperation::Splice;

    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<Counters, JobError> {
        batch.step(key)?.splice(self.access, &self.splice, self.summary.as_ref())
    }

    fn bytes(&self) -> usize {
        64 * self.places()
    }

    fn pages(&self) -> usize {
        self.places()
    }

    fn is_light(&self) -> bool {
        self.places() <= 64
    }
}

#[derive(Debug)]
pub(crate) struct ClearRows {
    pub(crate) access: Access,
    pub(crate) clear: Clear,
}

impl Command for ClearRows {
    type Answer = Counters;
    const OPERATION: StoreOperation = StoreOperation::Clear;

    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<Counters, JobError> {
        batch.step(key)?.clear(self.access, &self.clear)
    }

    fn pages(&self) -> usize {
        PAGES_OF_REMOVAL
    }

    fn is_light(&self) -> bool {
        false
    }
}

#[derive(Debug)]
pub(crate) struct ClaimToken(pub(crate) LeaseProof);

impl Command for ClaimToken {
    type Answer = ();
    const OPERATION: StoreOperation = StoreOperation::Claim;

    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<(), JobError> {
        batch.step(key)?.claim(self.0)
    }

    fn pages(&self) -> usize {
        0
    }

    fn is_light(&self) -> bool {
        true
    }
}

#[derive(Debug)]
pub(crate) struct RemoveRows(pub(crate) RemoveUnused);

impl Command for RemoveRows {
    type Answer = RemovedUnused;
    const OPERATION: StoreOperation = StoreOperation::Remove;

    fn apply(&self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<RemovedUnused, JobError> {
        batch.remove(key, &self.0)
    }

    fn pages(&self) -> usize {
        PAGES_OF_REMOVAL
    }

    fn is_light(&self) -> bool {
        false
    }
}
