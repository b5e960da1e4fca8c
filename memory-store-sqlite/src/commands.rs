//! Each write as a function over a transaction.

mod append;
mod archive;
mod batch;
mod claim;
mod clear;
mod copy;
mod erase;
mod fork;
mod index;
mod metadata;
mod remove;
mod replace;
mod replace_all;
mod restore;
mod secure;
mod splice;
mod step;

use std::fmt::Debug;

use memory_core::MemoryKey;
use memory_core::store::StoreOperation;

pub(crate) use self::append::AppendRows;
pub(crate) use self::archive::places_of;
pub(crate) use self::batch::{Batch, Changes, bad_head};
pub(crate) use self::claim::ClaimToken;
pub(crate) use self::clear::ClearRows;
pub(crate) use self::copy::CopyRows;
pub(crate) use self::erase::{EraseRows, read_erasure};
pub(crate) use self::fork::ForkRows;
pub(crate) use self::index::{DropIndex, IndexRows, Indexed, Unindexed, indexed_to, merge_index};
pub(crate) use self::metadata::MetadataRow;
pub(crate) use self::remove::RemoveRows;
pub(crate) use self::replace::ReplaceRow;
pub(crate) use self::replace_all::ReplaceAllRows;
pub(crate) use self::restore::RestoreRows;
pub(crate) use self::splice::SpliceRows;
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
