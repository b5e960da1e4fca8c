//! The trait that every store implements.

use std::fmt::Debug;
use std::num::NonZeroUsize;

use async_trait::async_trait;

use super::{
    Access, Append, Appended, ArchivedRemoval, CaughtUp, Clear, Cleared, CopyProgress, CopyWrite,
    Counters, Cursor, Durability, Erase, Erased, Erasure, FlushReceipt, Fork, ForkOrigin, Forked,
    Frame, FrameWriters, Head, KnownBatch, Metadata, Outline, Page, PageLimit, Read, RemainingCopy,
    RemoveUnused, RemovedUnused, Replace, ReplaceAll, ReplacedAll, Restore, RestoreRefusal,
    Scrubbed, SearchQuery, SearchResults, Splice, StoreError, StoreErrorKind, StoreOperation,
    StoreWatch, UnusedPage, UnusedQuery, UpdateMetadata,
};
#[cfg(doc)]
use super::{
    COPY_LIFETIME, CopyStep, FLUSH_HELD, Generation, KEPT_ERASURES, KEPT_RECEIPTS, LocalWatchers,
    MAX_SEARCH_HITS, MemoryState, SearchCoverage, SummaryRecord, Version, WriteId, WriterId,
};
use crate::health::ServerHealth;
use crate::key::MemoryKey;
use crate::lease::{LeaseDomain, LeaseProof};
use crate::stored::{Sequence, StoredMessage};

#[doc = include_str!("contract/store.md")]
#[async_trait]
pub trait MemoryStore: Debug + Send + Sync + 'static {
    /// Adds a batch of messages at the end.
    ///
    /// # Correctness
    /// The batch gets contiguous sequence numbers and becomes visible as a whole. It is recognized as a duplicate if
    /// its [`WriteId`] is not newer than the newest of the same writer; this comes first, so a retry of a batch that
    /// was applied is answered with its first result. A batch with an [expected version](Append::expected) is then
    /// refused if the memory is no longer at this version. When this returns, the batch has the store's configured
    /// durability.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`] if the memory is not at the expected version. Otherwise [`StoreError`]; its [`applied`](StoreError::applied) reports whether the batch may have been stored despite
    /// the error. Sending the same request again is always safe.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the batch either appended as a whole or not at all.
    async fn append(
        &self,
        key: &MemoryKey,
        access: Access,
        append: &Append,
    ) -> Result<Appended, StoreError>;

    /// Replaces one message by another.
    ///
    /// # Correctness
    /// Applied only if the message at [`Replace::sequence`] has the id [`Replace::replaced`]. The new message keeps
    /// the sequence number, the summary flag and the closed flag of the old one. Its calls and results must be the
    /// same, otherwise the request is refused. The counters of present messages, in total and by class, are updated
    /// to the new message; appended, summarized, evicted and cleared do not change. The generation changes
    /// ([`Generation::after`]), so that readers and planners of the old message start over, and the mark of the last
    /// flush is removed. The TTL is not renewed, because a message is also replaced to redact a text, which must not
    /// extend the life of the rest. A summary, or a message with tool results, whose text stays is still
    /// the one that a flush wrote: receipts, archived removals and erasures that name it have its new id from then
    /// on. A retry is recognized by its [`WriteId`], as for an append: it changes nothing,
    /// even if the message was replaced again since.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`] if the place holds another message or none; [`StoreErrorKind::Invalid`] for a
    /// message with other calls or results, or with the id of the message that it replaces; else as
    /// [`append`](Self::append).
    ///
    /// # Cancel safety
    /// As [`append`](Self::append).
    async fn replace(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &Replace,
    ) -> Result<Counters, StoreError>;

    /// Replaces planned messages by a summary, or evicts them, if nothing but appends happened since the snapshot
    /// that the plan was made from.
    ///
    /// # Correctness
    /// Applied only if the memory's generation is still [`Splice::generation`] and the message [`Splice::newest`] is
    /// still at its place. Messages appended since are kept; a splice that [withdraws](Splice::withdrawn) messages is
    /// refused if there are any. The generation changes ([`Generation::after`]) if any
    /// message was removed, inserted or closed. A splice with the receipt id of the newest receipt is recognized as a
    /// retry and not applied again.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`] if the generation changed, or if the newest message is not the one that the
    /// planner saw; else as [`append`](Self::append).
    ///
    /// # Cancel safety
    /// As [`append`](Self::append).
    async fn splice(
        &self,
        key: &MemoryKey,
        access: Access,
        splice: &Splice,
    ) -> Result<Counters, StoreError>;

    /// Removes all messages and receipts, and counts the messages as cleared. The metadata stays.
    ///
    /// # Correctness
    /// Sequence numbers continue, and the generation changes. A retry is recognized by its [`WriteId`], as for an
    /// append, and its answer has no [receipt](Cleared::receipt). A clear with an [expected version](Clear::expected) is
    /// refused if a message was appended, replaced or removed since.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`] if the memory is not in the expected state; otherwise as [`append`](Self::append).
    ///
    /// # Cancel safety
    /// As [`append`](Self::append).
    async fn clear(
        &self,
        key: &MemoryKey,
        access: Access,
        clear: &Clear,
    ) -> Result<Cleared, StoreError>;

    /// Replaces all messages by a batch: [clears](Self::clear) the memory and [appends](Self::append) in one step.
    ///
    /// # Correctness
    /// One atomic step, with the effects of both: the old messages are counted as cleared, receipts are removed, the
    /// generation changes, and the batch gets the next places. A batch with an
    /// [expected version](Append::expected) is refused if the memory is no longer at this version. A retry is
    /// recognized first by its [`WriteId`] and answered with its first result, without a
    /// [receipt](ReplacedAll::receipt). The default method refuses.
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`] without a message, and by the default method; otherwise as
    /// [`append`](Self::append).
    ///
    /// # Cancel safety
    /// As [`append`](Self::append).
    async fn replace_all(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &ReplaceAll,
    ) -> Result<ReplacedAll, StoreError> {
        let _ = (access, replace);
        let problem = "this store does not implement the replacement of all messages";
        let kind = StoreErrorKind::Invalid(problem.into());
        Err(StoreError::new(StoreOperation::ReplaceAll, kind).not_applied().at(key))
    }

    /// Undoes a removal whose messages are in the archive: they return to their places, and the summary of the flush
    /// is removed.
    ///
    /// # Correctness
    /// One atomic step. The messages have the ids, places, tokens and marks that they had. They are no longer counted
    /// as summarized, evicted or withdrawn; the summary is counted nowhere. The removal leaves the archive. The
    /// generation changes, and the mark of the next flush becomes [`FLUSH_HELD`]. Messages that came since stay. The
    /// TTL is not renewed. A retry is recognized by its [`WriteId`], as for an append.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotRestorable`] with the reason. A store without an archive, as the default method, refuses
    /// each request with [`RestoreRefusal::NotArchived`]. Otherwise as [`append`](Self::append).
    ///
    /// # Cancel safety
    /// As [`append`](Self::append).
    async fn restore(
        &self,
        key: &MemoryKey,
        access: Access,
        restore: &Restore,
    ) -> Result<Counters, StoreError> {
        let _ = (access, restore);
        let kind = StoreErrorKind::NotRestorable(RestoreRefusal::NotArchived);
        Err(StoreError::new(StoreOperation::Restore, kind).not_applied().at(key))
    }

    /// The removals whose messages are in the archive, newest first, before a number.
    ///
    /// # Correctness
    /// One snapshot. Removals whose retention has ended are not listed. The default method lists nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    async fn removals(
        &self,
        key: &MemoryKey,
        before: Option<u64>,
        limit: NonZeroUsize,
    ) -> Result<Vec<ArchivedRemoval>, StoreError> {
        let _ = (key, before, limit);
        Ok(Vec::new())
    }

    /// The messages of an archived removal in ascending order of their places, after a place.
    ///
    /// # Correctness
    /// One snapshot. A removal that is not in the archive has no messages. Messages that cannot be decoded are
    /// skipped. The default method returns nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    async fn archived(
        &self,
        key: &MemoryKey,
        removal: u64,
        after: Sequence,
        limit: PageLimit,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let _ = (key, removal, after, limit);
        Ok(Vec::new())
    }

    #[doc = include_str!("contract/search.md")]
    async fn search(
        &self,
        key: &MemoryKey,
        query: &SearchQuery,
    ) -> Result<SearchResults, StoreError> {
        crate::search::scan(self, key, query).await
    }

    /// Builds the index for [`search`](Self::search) anew; returns the number of places in it, or `None` from a store without an
    /// index, as the default method. Searches meanwhile look at what is not in the index yet.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves a part of the index; the next search completes it.
    async fn rebuild_index(&self, key: &MemoryKey) -> Result<Option<u64>, StoreError> {
        let _ = key;
        Ok(None)
    }

    #[doc = include_str!("contract/erase.md")]
    async fn erase(
        &self,
        key: &MemoryKey,
        access: Access,
        erase: &Erase,
    ) -> Result<Erased, StoreError> {
        let _ = (access, erase);
        let kind = StoreErrorKind::Invalid("this store does not implement erasure".into());
        Err(StoreError::new(StoreOperation::Erase, kind).not_applied().at(key))
    }

    /// The records of the most recent erasures, newest first; at most [`KEPT_ERASURES`]. One snapshot. The default method
    /// returns nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    async fn erasures(&self, key: &MemoryKey) -> Result<Vec<Erasure>, StoreError> {
        let _ = key;
        Ok(Vec::new())
    }

    /// Overwrites the remains of removed messages in the files of the store, of all memories: free space and logs.
    ///
    /// After [`Scrubbed::Done`], the files have no byte of a message that was removed before the call. The cost is that
    /// of all data, and other writers wait. The default method returns [`Scrubbed::Unsupported`].
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Dropping the future does not end work that has begun, which changes no message.
    async fn scrub(&self) -> Result<Scrubbed, StoreError> {
        Ok(Scrubbed::Unsupported)
    }

    /// Where copies of removed messages may remain, out of the store's reach. Default: nowhere.
    fn remaining_copies(&self) -> &'static [RemainingCopy] {
        &[]
    }

    /// Everything of a memory except its messages and its archive.
    ///
    /// # Correctness
    /// One snapshot. [`Frame::newest`] is the message at [`Frame::last`] if it is present: a reader compares it to detect that
    /// the store returned to an earlier state. Its messages up to [`Frame::last`] and its archive are those that reads return as long as the
    /// generation does not change, except removals whose retention ends meanwhile.
    ///
    /// # Errors
    /// [`StoreError`]. The default method returns [`StoreErrorKind::Invalid`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    async fn frame(&self, key: &MemoryKey, writers: FrameWriters) -> Result<Frame, StoreError> {
        let _ = writers;
        let kind = StoreErrorKind::Invalid("this store does not implement copies".into());
        Err(StoreError::new(StoreOperation::Read, kind).not_applied().at(key))
    }

    #[doc = include_str!("contract/write_copy.md")]
    async fn write_copy(
        &self,
        key: &MemoryKey,
        access: Access,
        write: &CopyWrite,
    ) -> Result<CopyProgress, StoreError> {
        let _ = (access, write);
        let kind = StoreErrorKind::Invalid("this store does not implement copies".into());
        Err(StoreError::new(StoreOperation::Copy, kind).not_applied().at(key))
    }

    #[doc = include_str!("contract/fork.md")]
    async fn fork(
        &self,
        key: &MemoryKey,
        access: Access,
        fork: &Fork,
    ) -> Result<Forked, StoreError> {
        let _ = (key, access, fork);
        Ok(Forked::InParts)
    }

    /// The memory that this one was forked from, if it is a fork. The default method returns nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    async fn origin(&self, key: &MemoryKey) -> Result<Option<ForkOrigin>, StoreError> {
        let _ = key;
        Ok(None)
    }

    /// The metadata of the memory. The default method returns none.
    ///
    /// # Correctness
    /// One snapshot, which reflects every write that was acknowledged before the call.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    async fn metadata(&self, key: &MemoryKey) -> Result<Metadata, StoreError> {
        let _ = key;
        Ok(Metadata::default())
    }

    #[doc = include_str!("contract/update_metadata.md")]
    async fn update_metadata(
        &self,
        key: &MemoryKey,
        access: Access,
        update: &UpdateMetadata,
    ) -> Result<Metadata, StoreError> {
        let _ = (access, update);
        let kind = StoreErrorKind::Invalid("this store does not implement metadata".into());
        Err(StoreError::new(StoreOperation::UpdateMetadata, kind).not_applied().at(key))
    }

    /// Raises the newest fencing token that the memory has seen to the token of this lease. A holder calls this
    /// before it reads; otherwise a late write of the previous holder could be applied between that read and a write.
    ///
    /// # Correctness
    /// As durable as an append; idempotent.
    ///
    /// # Errors
    /// [`StoreErrorKind::Fenced`] if a newer lease was seen.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the token either raised or unchanged.
    async fn claim(&self, key: &MemoryKey, lease: LeaseProof) -> Result<(), StoreError>;

    /// The counters and the state of the memory, without its messages.
    ///
    /// # Correctness
    /// Reflects every write that was acknowledged before the call.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    async fn head(&self, key: &MemoryKey) -> Result<Head, StoreError>;

    /// Messages in order, after a cursor.
    ///
    /// # Correctness
    /// One snapshot: never half a batch or half a flush. The page starts at the beginning and sets
    /// [`Page::restarted`] if the memory's generation is not that of [`Read::after`], or if the cursor's place holds
    /// another message or none, because messages that were read before may have been removed. The cost is that of the
    /// page and of one lookup by place; it does not depend on the length of the history.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    async fn read(&self, key: &MemoryKey, read: Read) -> Result<Page, StoreError>;

    /// All messages after a cursor, without those of batches that the reader appended itself and still has.
    ///
    /// # Correctness
    /// One snapshot, in which the cursor is compared as in [`read`](Self::read). If the page restarts, `known` is
    /// ignored. Otherwise a known batch is confirmed only if its newest place holds the message with its id; the page
    /// then lacks its messages. Each batch is compared, not only the newest: after a rollback another writer's message
    /// may precede a later batch of the reader within one generation. `known` is ascending, and each batch was sent
    /// after the reader had seen the cursor's generation. Such a batch has no gap: every removal and every change of a
    /// message changes the generation, and a [`splice`](Self::splice) that keeps it removes, inserts and closes nothing.
    /// A store may confirm fewer batches. The default method calls [`read`](Self::read) and confirms none.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    async fn catch_up(
        &self,
        key: &MemoryKey,
        after: Cursor,
        known: &[KnownBatch],
    ) -> Result<CaughtUp, StoreError> {
        let _ = known;
        Ok(self.read(key, Read { after: Some(after), limit: None }).await?.into())
    }

    /// The nearest messages before a cursor, in ascending order; without a cursor, the newest.
    ///
    /// # Correctness
    /// One snapshot. [`Page::cursor`] is the position of the page's first message: pass it to the next call to page
    /// backward. [`Page::more`] reports older messages. The page has the newest messages and sets
    /// [`Page::restarted`] if the memory's generation is not that of `before`, or if the cursor's place holds another
    /// message or none. At most `limit` messages are returned; messages that cannot be decoded are listed and do not
    /// count. The cost is that of the page and of one lookup by place; it does not depend on the length of the
    /// history.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    async fn read_before(
        &self,
        key: &MemoryKey,
        before: Option<Cursor>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError>;

    /// The head and the metadata of all messages: the input of planners.
    ///
    /// # Correctness
    /// One snapshot.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    async fn outline(&self, key: &MemoryKey) -> Result<Outline, StoreError>;

    /// The messages with these sequence numbers, in ascending order.
    ///
    /// # Correctness
    /// Messages do not change within a generation, so the result and the outline whose [cursor](Outline::cursor) is
    /// `snapshot` form one snapshot up to the cursor's place. `places` is ascending. Places without a message, and
    /// messages that cannot be decoded, are skipped.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`] if the generation changed, or if the snapshot's place holds another message or
    /// none.
    ///
    /// # Cancel safety
    /// Reads have no effect.
    async fn fetch(
        &self,
        key: &MemoryKey,
        snapshot: Cursor,
        places: &[Sequence],
    ) -> Result<Vec<StoredMessage>, StoreError>;

    /// The receipts of the most recent flushes, newest first; at most [`KEPT_RECEIPTS`].
    ///
    /// # Correctness
    /// One snapshot.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    async fn receipts(&self, key: &MemoryKey) -> Result<Vec<FlushReceipt>, StoreError>;

    /// Keys of memories with at least one message, in ascending order, after a key.
    ///
    /// # Correctness
    /// Each page is one snapshot. A listing over several pages includes every memory that existed throughout.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    async fn keys(
        &self,
        after: Option<&MemoryKey>,
        limit: NonZeroUsize,
    ) -> Result<Vec<MemoryKey>, StoreError>;

    /// Lists unused memories: expired ones that still occupy storage, or ones not written for a given time.
    ///
    /// # Correctness
    /// Examines at most [`UnusedQuery::limit`] memories in ascending order of their keys, and returns the key to
    /// continue from. A store that shares the [domain](Self::lease_domain) leaves out memories under a live lease of
    /// a writer or flusher. A memory that was removed completely is not listed. The time of the last write is the
    /// latest of the newest message's `created_at`, the newest update of the metadata, and the [`Generation`], which is
    /// never behind the store's clock at the last write of another kind.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    async fn unused(&self, query: &UnusedQuery) -> Result<UnusedPage, StoreError>;

    #[doc = include_str!("contract/remove.md")]
    async fn remove(
        &self,
        key: &MemoryKey,
        remove: RemoveUnused,
    ) -> Result<RemovedUnused, StoreError>;

    /// Watches a memory, which need not exist: a signal when it may have changed.
    ///
    /// # Correctness
    /// Every write that is acknowledged after this returned, by any process, ends the next
    /// [`changed`](StoreWatch::changed): writes of this process at once, others within the time that the store
    /// documents. The end of a TTL is not a write and is not signaled. Writes of memories without a watch cost no
    /// additional request. The watch ends when it is dropped. A store that only this process writes returns a watch
    /// of its [`LocalWatchers`].
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Dropping the future ends the watch.
    async fn watch(&self, key: &MemoryKey) -> Result<Box<dyn StoreWatch>, StoreError>;

    /// The state of the server behind this store; `None` if there is no server.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    async fn server(&self) -> Result<Option<ServerHealth>, StoreError>;

    /// The domain of the leases that this store checks within the atomic step of a write, if it checks them. All
    /// leases of its writers must then be kept there: a lease that the store does not find is treated as over.
    fn lease_domain(&self) -> Option<&LeaseDomain>;

    /// The failures that an acknowledged write survives.
    fn durability(&self) -> Durability;
}
