//! A store whose calls a test delays, breaks or counts.

use std::num::NonZeroUsize;
use std::sync::Arc;

use async_trait::async_trait;
use memory_core::health::ServerHealth;
use memory_core::lease::{LeaseDomain, LeaseProof};
use memory_core::store::{
    Access, Append, Appended, ArchivedRemoval, CaughtUp, Clear, Cleared, CopyProgress, CopyWrite,
    Counters, Cursor, Durability, Erase, Erased, Erasure, FlushReceipt, Fork, ForkOrigin, Forked,
    Frame, FrameWriters, Head, KnownBatch, Metadata, Outline, Page, PageLimit, Read, RemainingCopy,
    RemoveUnused, RemovedUnused, Replace, ReplaceAll, ReplacedAll, Restore, Scrubbed, SearchQuery,
    SearchResults, Splice, StoreError, StoreWatch, UnusedPage, UnusedQuery, UpdateMetadata,
};
use memory_core::{MemoryKey, MemoryStore, Sequence, StoredMessage};

/// The methods of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the methods of the trait have docs")]
pub enum Method {
    Append,
    Replace,
    ReplaceAll,
    Splice,
    Clear,
    Restore,
    Erase,
    Copy,
    Fork,
    Claim,
    UpdateMetadata,
    Metadata,
    Head,
    Frame,
    Origin,
    Read,
    CatchUp,
    ReadBefore,
    Outline,
    Fetch,
    Receipts,
    Removals,
    Archived,
    Erasures,
    Scrub,
    Search,
    RebuildIndex,
    Keys,
    Unused,
    Remove,
    Watch,
    Server,
}

impl Method {
    /// Whether it changes a memory.
    #[must_use]
    pub fn is_write(self) -> bool {
        use Method::{
            Append, Claim, Clear, Copy, Erase, Fork, Remove, Replace, ReplaceAll, Restore, Splice,
            UpdateMetadata,
        };
        matches!(
            self,
            Append
                | Replace
                | ReplaceAll
                | Splice
                | Clear
                | Restore
                | Erase
                | Copy
                | Fork
                | Claim
                | UpdateMetadata
                | Remove
        )
    }
}

/// The code around each call of an [`Intercept`].
pub trait Hook: std::fmt::Debug + Send + Sync + 'static {
    /// Answers a call; `call` makes it. A hook that does not await `call` prevents it.
    fn around<T: Send>(
        &self,
        method: Method,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> impl Future<Output = Result<T, StoreError>> + Send;
}

/// A store that forwards each call through a hook.
#[derive(Debug)]
pub struct Intercept<H> {
    store: Arc<dyn MemoryStore>,
    hook: H,
}

impl<H: Hook> Intercept<H> {
    /// A store in front of this one.
    pub fn new(store: Arc<dyn MemoryStore>, hook: H) -> Self {
        Self { store, hook }
    }

    /// The hook.
    pub fn hook(&self) -> &H {
        &self.hook
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<H: Hook> MemoryStore for Intercept<H> {
    async fn append(
        &self,
        key: &MemoryKey,
        access: Access,
        append: &Append,
    ) -> Result<Appended, StoreError> {
        self.hook.around(Method::Append, self.store.append(key, access, append)).await
    }

    async fn replace(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &Replace,
    ) -> Result<Counters, StoreError> {
        self.hook.around(Method::Replace, self.store.replace(key, access, replace)).await
    }

    async fn splice(
        &self,
        key: &MemoryKey,
        access: Access,
        splice: &Splice,
    ) -> Result<Counters, StoreError> {
        self.hook.around(Method::Splice, self.store.splice(key, access, splice)).await
    }

    async fn clear(
        &self,
        key: &MemoryKey,
        access: Access,
        clear: &Clear,
    ) -> Result<Cleared, StoreError> {
        self.hook.around(Method::Clear, self.store.clear(key, access, clear)).await
    }

    async fn replace_all(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &ReplaceAll,
    ) -> Result<ReplacedAll, StoreError> {
        self.hook.around(Method::ReplaceAll, self.store.replace_all(key, access, replace)).await
    }

    async fn restore(
        &self,
        key: &MemoryKey,
        access: Access,
        restore: &Restore,
    ) -> Result<Counters, StoreError> {
        self.hook.around(Method::Restore, self.store.restore(key, access, restore)).await
    }

    async fn removals(
        &self,
        key: &MemoryKey,
        before: Option<u64>,
        limit: NonZeroUsize,
    ) -> Result<Vec<ArchivedRemoval>, StoreError> {
        let removals = self.store.removals(key, before, limit);
        self.hook.around(Method::Removals, removals).await
    }

    async fn archived(
        &self,
        key: &MemoryKey,
        removal: u64,
        after: Sequence,
        limit: PageLimit,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let archived = self.store.archived(key, removal, after, limit);
        self.hook.around(Method::Archived, archived).await
    }

    async fn erase(
        &self,
        key: &MemoryKey,
        access: Access,
        erase: &Erase,
    ) -> Result<Erased, StoreError> {
        self.hook.around(Method::Erase, self.store.erase(key, access, erase)).await
    }

    async fn erasures(&self, key: &MemoryKey) -> Result<Vec<Erasure>, StoreError> {
        self.hook.around(Method::Erasures, self.store.erasures(key)).await
    }

    async fn search(
        &self,
        key: &MemoryKey,
        query: &SearchQuery,
    ) -> Result<SearchResults, StoreError> {
        self.hook.around(Method::Search, self.store.search(key, query)).await
    }

    async fn rebuild_index(&self, key: &MemoryKey) -> Result<Option<u64>, StoreError> {
        self.hook.around(Method::RebuildIndex, self.store.rebuild_index(key)).await
    }

    async fn scrub(&self) -> Result<Scrubbed, StoreError> {
        self.hook.around(Method::Scrub, self.store.scrub()).await
    }

    fn remaining_copies(&self) -> &'static [RemainingCopy] {
        self.store.remaining_copies()
    }

    async fn frame(&self, key: &MemoryKey, writers: FrameWriters) -> Result<Frame, StoreError> {
        self.hook.around(Method::Frame, self.store.frame(key, writers)).await
    }

    async fn write_copy(
        &self,
        key: &MemoryKey,
        access: Access,
        write: &CopyWrite,
    ) -> Result<CopyProgress, StoreError> {
        self.hook.around(Method::Copy, self.store.write_copy(key, access, write)).await
    }

    async fn fork(
        &self,
        key: &MemoryKey,
        access: Access,
        fork: &Fork,
    ) -> Result<Forked, StoreError> {
        self.hook.around(Method::Fork, self.store.fork(key, access, fork)).await
    }

    async fn origin(&self, key: &MemoryKey) -> Result<Option<ForkOrigin>, StoreError> {
        self.hook.around(Method::Origin, self.store.origin(key)).await
    }

    async fn metadata(&self, key: &MemoryKey) -> Result<Metadata, StoreError> {
        self.hook.around(Method::Metadata, self.store.metadata(key)).await
    }

    async fn update_metadata(
        &self,
        key: &MemoryKey,
        access: Access,
        update: &UpdateMetadata,
    ) -> Result<Metadata, StoreError> {
        let update = self.store.update_metadata(key, access, update);
        self.hook.around(Method::UpdateMetadata, update).await
    }

    async fn claim(&self, key: &MemoryKey, lease: LeaseProof) -> Result<(), StoreError> {
        self.hook.around(Method::Claim, self.store.claim(key, lease)).await
    }

    async fn head(&self, key: &MemoryKey) -> Result<Head, StoreError> {
        self.hook.around(Method::Head, self.store.head(key)).await
    }

    async fn read(&self, key: &MemoryKey, read: Read) -> Result<Page, StoreError> {
        self.hook.around(Method::Read, self.store.read(key, read)).await
    }

    async fn catch_up(
        &self,
        key: &MemoryKey,
        after: Cursor,
        known: &[KnownBatch],
    ) -> Result<CaughtUp, StoreError> {
        self.hook.around(Method::CatchUp, self.store.catch_up(key, after, known)).await
    }

    async fn read_before(
        &self,
        key: &MemoryKey,
        before: Option<Cursor>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        let read = self.store.read_before(key, before, limit);
        self.hook.around(Method::ReadBefore, read).await
    }

    async fn outline(&self, key: &MemoryKey) -> Result<Outline, StoreError> {
        self.hook.around(Method::Outline, self.store.outline(key)).await
    }

    async fn fetch(
        &self,
        key: &MemoryKey,
        snapshot: Cursor,
        places: &[Sequence],
    ) -> Result<Vec<StoredMessage>, StoreError> {
        self.hook.around(Method::Fetch, self.store.fetch(key, snapshot, places)).await
    }

    async fn receipts(&self, key: &MemoryKey) -> Result<Vec<FlushReceipt>, StoreError> {
        self.hook.around(Method::Receipts, self.store.receipts(key)).await
    }

    async fn keys(
        &self,
        after: Option<&MemoryKey>,
        limit: NonZeroUsize,
    ) -> Result<Vec<MemoryKey>, StoreError> {
        self.hook.around(Method::Keys, self.store.keys(after, limit)).await
    }

    async fn unused(&self, query: &UnusedQuery) -> Result<UnusedPage, StoreError> {
        self.hook.around(Method::Unused, self.store.unused(query)).await
    }

    async fn remove(
        &self,
        key: &MemoryKey,
        remove: RemoveUnused,
    ) -> Result<RemovedUnused, StoreError> {
        self.hook.around(Method::Remove, self.store.remove(key, remove)).await
    }

    async fn watch(&self, key: &MemoryKey) -> Result<Box<dyn StoreWatch>, StoreError> {
        self.hook.around(Method::Watch, self.store.watch(key)).await
    }

    async fn server(&self) -> Result<Option<ServerHealth>, StoreError> {
        self.hook.around(Method::Server, self.store.server()).await
    }

    fn lease_domain(&self) -> Option<&LeaseDomain> {
        self.store.lease_domain()
    }

    fn durability(&self) -> Durability {
        self.store.durability()
    }
}
