use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use memory_core::health::{ServerHealth, ServerWarning};
use memory_core::lease::{LeaseDomain, LeaseProof};
use memory_core::store::{
    Access, Append, Appended, ArchivedRemoval, CaughtUp, Clear, Cleared, CopyProgress, CopyWrite,
    Counters, Cursor, Durability, Erase, Erased, Erasure, FlushReceipt, Fork, ForkOrigin, Forked,
    Frame, FrameWriters, Head, KnownBatch, Metadata, Outline, Page, PageLimit, Read, RemainingCopy,
    RemoveUnused, RemovedUnused, Replace, ReplaceAll, ReplacedAll, Restore, Scrubbed, Splice,
    StoreError, StoreOperation, StoreWatch, UnusedPage, UnusedQuery, UpdateMetadata,
};
use memory_core::{Clock, MemoryKey, MemoryStore, Sequence, StoredMessage};
use memory_redis_link::{Acknowledge, LinkErrorKind, RedisConfig, RedisLink};
use redis::Cmd;

use crate::append::{append_script, appended};
use crate::config::{RedisStoreConfig, TokenChecks};
use crate::error::store_error;
use crate::names::FoundNames;
use crate::watch::{ServerWatch, Watches};

/// Memories in Redis or Valkey, shared by all machines that reach the server.
///
/// Leases of `RedisLock` of `memory-lock` on the same link are checked within each write.
#[derive(Debug, Clone)]
pub struct RedisStore {
    link: RedisLink,
    config: RedisStoreConfig,
    /// The names that sweeps in progress have found.
    pub(crate) found: Arc<FoundNames>,
    pub(crate) watches: Arc<Watches>,
}

impl RedisStore {
    /// Connects, and checks whether the server supports the required features.
    ///
    /// # Errors
    /// As [`RedisLink::open`].
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub async fn open(config: RedisConfig) -> Result<Self, StoreError> {
        let link = RedisLink::open(config).await;
        link.map(Self::new).map_err(|fault| store_error(StoreOperation::Open, None, fault))
    }

    /// Opens the store on the server of this link.
    #[must_use]
    pub fn new(link: RedisLink) -> Self {
        Self::with_config(link, RedisStoreConfig::default())
    }

    /// The same with custom settings.
    #[must_use]
    pub fn with_config(link: RedisLink, config: RedisStoreConfig) -> Self {
        let watches = Arc::<Watches>::default();
        let listener: Weak<Watches> = Arc::downgrade(&watches);
        link.add_listener(listener);
        Self { link, config, found: Arc::default(), watches }
    }

    /// The link.
    #[must_use]
    pub const fn link(&self) -> &RedisLink {
        &self.link
    }

    /// The time by the custom clock, if there is one.
    pub(crate) fn now(&self) -> Option<u64> {
        self.config.clock.as_ref().map(Clock::now_micros)
    }

    /// Whether leases are stored elsewhere.
    pub(crate) fn tokens_alone(&self) -> bool {
        self.config.checks == TokenChecks::TokensAlone
    }

    /// The arguments that all scripts except the append script begin with.
    pub(crate) fn begin(&self, call: &mut Cmd) {
        match self.now() {
            Some(now) => call.arg(now),
            None => call.arg(""),
        };
        call.arg(u8::from(self.tokens_alone()));
        call.arg(u8::from(self.link.confirms()));
    }
}

#[async_trait]
impl MemoryStore for RedisStore {
    async fn append(
        &self,
        key: &MemoryKey,
        access: Access,
        append: &Append,
    ) -> Result<Appended, StoreError> {
        const OPERATION: StoreOperation = StoreOperation::Append;
        let refuse = |kind| StoreError::new(OPERATION, kind).not_applied().at(key);
        let (call, token) = self.append_call(key, access, append).map_err(refuse)?;
        let answer =
            self.write(OPERATION, key, append_script(append.expected), &call, token).await?;
        appended(answer, append.messages.len())
            .map_err(|fault| store_error(OPERATION, Some(key), fault))
    }

    async fn replace(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &Replace,
    ) -> Result<Counters, StoreError> {
        self.replace_one(key, access, replace).await
    }

    async fn splice(
        &self,
        key: &MemoryKey,
        access: Access,
        splice: &Splice,
    ) -> Result<Counters, StoreError> {
        self.splice_in(key, access, splice).await
    }

    async fn clear(
        &self,
        key: &MemoryKey,
        access: Access,
        clear: &Clear,
    ) -> Result<Cleared, StoreError> {
        self.clear_all(key, access, clear).await
    }

    async fn replace_all(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &ReplaceAll,
    ) -> Result<ReplacedAll, StoreError> {
        self.replace_all_by(key, access, replace).await
    }

    async fn restore(
        &self,
        key: &MemoryKey,
        access: Access,
        restore: &Restore,
    ) -> Result<Counters, StoreError> {
        self.restore_removal(key, access, restore).await
    }

    async fn removals(
        &self,
        key: &MemoryKey,
        before: Option<u64>,
        limit: NonZeroUsize,
    ) -> Result<Vec<ArchivedRemoval>, StoreError> {
        self.list_removals(key, before, limit).await
    }

    async fn archived(
        &self,
        key: &MemoryKey,
        removal: u64,
        after: Sequence,
        limit: PageLimit,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        self.archived_messages(key, removal, after, limit).await
    }

    async fn erase(
        &self,
        key: &MemoryKey,
        access: Access,
        erase: &Erase,
    ) -> Result<Erased, StoreError> {
        self.erase_places(key, access, erase).await
    }

    async fn erasures(&self, key: &MemoryKey) -> Result<Vec<Erasure>, StoreError> {
        self.kept_erasures(key).await
    }

    async fn scrub(&self) -> Result<Scrubbed, StoreError> {
        Ok(Scrubbed::Unsupported)
    }

    fn remaining_copies(&self) -> &'static [RemainingCopy] {
        use RemainingCopy::{AppendOnlyFile, Backups, Replicas, Snapshot};
        &[AppendOnlyFile, Snapshot, Replicas, Backups]
    }

    async fn frame(&self, key: &MemoryKey, writers: FrameWriters) -> Result<Frame, StoreError> {
        self.whole_frame(key, writers).await
    }

    async fn write_copy(
        &self,
        key: &MemoryKey,
        access: Access,
        write: &CopyWrite,
    ) -> Result<CopyProgress, StoreError> {
        self.copy_step(key, access, write).await
    }

    async fn fork(
        &self,
        key: &MemoryKey,
        access: Access,
        fork: &Fork,
    ) -> Result<Forked, StoreError> {
        self.fork_in_one_step(key, access, fork).await
    }

    async fn origin(&self, key: &MemoryKey) -> Result<Option<ForkOrigin>, StoreError> {
        self.fork_origin(key).await
    }

    async fn metadata(&self, key: &MemoryKey) -> Result<Metadata, StoreError> {
        self.read_metadata(key).await
    }

    async fn update_metadata(
        &self,
        key: &MemoryKey,
        access: Access,
        update: &UpdateMetadata,
    ) -> Result<Metadata, StoreError> {
        self.merge_metadata(key, access, update).await
    }

    async fn claim(&self, key: &MemoryKey, lease: LeaseProof) -> Result<(), StoreError> {
        self.raise_token(key, lease).await
    }

    async fn head(&self, key: &MemoryKey) -> Result<Head, StoreError> {
        self.whole_head(key).await
    }

    async fn read(&self, key: &MemoryKey, read: Read) -> Result<Page, StoreError> {
        self.read_page(key, read).await
    }

    async fn catch_up(
        &self,
        key: &MemoryKey,
        after: Cursor,
        known: &[KnownBatch],
    ) -> Result<CaughtUp, StoreError> {
        self.changes_after(key, after, known).await
    }

    async fn read_before(
        &self,
        key: &MemoryKey,
        before: Option<Cursor>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        self.page_before(key, before, limit).await
    }

    async fn outline(&self, key: &MemoryKey) -> Result<Outline, StoreError> {
        self.whole_outline(key).await
    }

    async fn fetch(
        &self,
        key: &MemoryKey,
        snapshot: Cursor,
        places: &[Sequence],
    ) -> Result<Vec<StoredMessage>, StoreError> {
        self.fetch_places(key, snapshot, places).await
    }

    async fn receipts(&self, key: &MemoryKey) -> Result<Vec<FlushReceipt>, StoreError> {
        self.kept_receipts(key).await
    }

    async fn keys(
        &self,
        after: Option<&MemoryKey>,
        limit: NonZeroUsize,
    ) -> Result<Vec<MemoryKey>, StoreError> {
        self.list_keys(after, limit).await
    }

    async fn unused(&self, query: &UnusedQuery) -> Result<UnusedPage, StoreError> {
        self.list_unused(query).await
    }

    async fn remove(
        &self,
        key: &MemoryKey,
        remove: RemoveUnused,
    ) -> Result<RemovedUnused, StoreError> {
        self.remove_unused(key, remove).await
    }

    /// The server publishes the writes of others. If it is full, or the user may not write or subscribe, the state of
    /// the memory is read each second.
    async fn watch(&self, key: &MemoryKey) -> Result<Box<dyn StoreWatch>, StoreError> {
        Ok(Box::new(ServerWatch::begin(self, key).await?))
    }

    async fn server(&self) -> Result<Option<ServerHealth>, StoreError> {
        let status = match self.link.status().await {
            Ok(status) => status,
            // The user has no permission to ask, and the store works without it.
            Err(fault) if *fault.kind() == LinkErrorKind::NotPermitted => return Ok(None),
            Err(fault) => return Err(store_error(StoreOperation::AskServer, None, fault)),
        };
        let mut server = ServerHealth::default();
        server.software = status.version;
        server.role = status.role.to_string();
        server.replicas = status.replicas;
        server.persistence = status.persistence;
        server.warnings = ServerWarning::of_policy(&status.eviction_policy).into_iter().collect();
        Ok(Some(server))
    }

    fn lease_domain(&self) -> Option<&LeaseDomain> {
        (self.config.checks == TokenChecks::LiveLeases).then(|| self.link.domain())
    }

    fn durability(&self) -> Durability {
        match self.link.acknowledge() {
            Acknowledge::Disk => Durability::Disk,
            _ => Durability::Process,
        }
    }
}
