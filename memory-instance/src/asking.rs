//! Requests to the store of a memory: each is a part of the operation that makes it, with a span `store`.

use std::num::NonZeroUsize;
use std::pin::Pin;

use memory_core::health::ServerHealth;
use memory_core::lease::LeaseProof;
use memory_core::store::{
    Access, Append, Appended, ArchivedRemoval, CaughtUp, Clear, Cleared, CopyProgress, CopyWrite,
    Counters, Cursor, Erase, Erased, Erasure, FlushReceipt, Fork, ForkOrigin, Forked, Frame,
    FrameWriters, Head, KnownBatch, Metadata, Outline, Page, PageLimit, Read, RemainingCopy,
    RemoveUnused, RemovedUnused, Replace, ReplaceAll, ReplacedAll, Restore, SearchQuery,
    SearchResults, Splice, StoreError, StoreWatch, UpdateMetadata,
};
use memory_core::{MemoryKey, MemoryStore, Sequence, StoredMessage};
use tracing::instrument::Instrumented;

use crate::telemetry::part;

/// A store that is asked by an operation. Its methods are those of [`MemoryStore`].
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a>(pub(crate) &'a dyn MemoryStore);

/// The answer to a request that is being waited for.
pub(crate) type Answering<'a, T> =
    Instrumented<Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>>;

macro_rules! requests {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        impl<'a> Asking<'a> {
            $(pub(crate) fn $name(self, $($argument: $type),*) -> Answering<'a, $answer> {
                let span = || tracing::debug_span!("store", request = stringify!($name));
                part(span, self.0.$name($($argument),*))
            })*
        }
    };
}

requests! {
    append(key: &'a MemoryKey, access: Access, append: &'a Append) -> Appended;
    replace(key: &'a MemoryKey, access: Access, replace: &'a Replace) -> Counters;
    splice(key: &'a MemoryKey, access: Access, splice: &'a Splice) -> Counters;
    clear(key: &'a MemoryKey, access: Access, clear: &'a Clear) -> Cleared;
    replace_all(key: &'a MemoryKey, access: Access, replace: &'a ReplaceAll) -> ReplacedAll;
    restore(key: &'a MemoryKey, access: Access, restore: &'a Restore) -> Counters;
    erase(key: &'a MemoryKey, access: Access, erase: &'a Erase) -> Erased;
    write_copy(key: &'a MemoryKey, access: Access, write: &'a CopyWrite) -> CopyProgress;
    fork(key: &'a MemoryKey, access: Access, fork: &'a Fork) -> Forked;
    claim(key: &'a MemoryKey, lease: LeaseProof) -> ();
    remove(key: &'a MemoryKey, remove: RemoveUnused) -> RemovedUnused;
    update_metadata(key: &'a MemoryKey, access: Access, update: &'a UpdateMetadata) -> Metadata;
    metadata(key: &'a MemoryKey) -> Metadata;
    head(key: &'a MemoryKey) -> Head;
    read(key: &'a MemoryKey, read: Read) -> Page;
    catch_up(key: &'a MemoryKey, after: Cursor, known: &'a [KnownBatch]) -> CaughtUp;
    read_before(key: &'a MemoryKey, before: Option<Cursor>, limit: NonZeroUsize) -> Page;
    outline(key: &'a MemoryKey) -> Outline;
    fetch(key: &'a MemoryKey, snapshot: Cursor, places: &'a [Sequence]) -> Vec<StoredMessage>;
    receipts(key: &'a MemoryKey) -> Vec<FlushReceipt>;
    removals(key: &'a MemoryKey, before: Option<u64>, limit: NonZeroUsize) -> Vec<ArchivedRemoval>;
    archived(
        key: &'a MemoryKey,
        removal: u64,
        after: Sequence,
        limit: PageLimit
    ) -> Vec<StoredMessage>;
    erasures(key: &'a MemoryKey) -> Vec<Erasure>;
    search(key: &'a MemoryKey, query: &'a SearchQuery) -> SearchResults;
    rebuild_index(key: &'a MemoryKey) -> Option<u64>;
    frame(key: &'a MemoryKey, writers: FrameWriters) -> Frame;
    origin(key: &'a MemoryKey) -> Option<ForkOrigin>;
    watch(key: &'a MemoryKey) -> Box<dyn StoreWatch>;
    server() -> Option<ServerHealth>;
}

impl Asking<'_> {
    pub(crate) fn remaining_copies(self) -> &'static [RemainingCopy] {
        self.0.remaining_copies()
    }
}
