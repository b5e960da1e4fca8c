//! The contract between a memory and the place that keeps it.

mod append;
mod cursor;
mod error;
mod generation;
mod in_memory;
mod replace;
mod splice;
mod state;
mod unused;

use std::fmt::Debug;
use std::num::NonZeroUsize;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::append::{Append, AppendOutcome, Appended};
pub use self::cursor::{Cursor, Newest};
pub use self::error::{StoreError, StoreErrorKind};
pub use self::generation::Generation;
use self::generation::spread_of_write;
pub use self::in_memory::{InMemoryStore, SavedMemories};
pub use self::replace::Replace;
pub use self::splice::{Removed, Splice};
pub use self::state::MemoryState;
pub use self::unused::{RemoveUnused, RemovedUnused, UnusedMemory, UnusedPage, UnusedQuery};
use crate::counters::Counters;
use crate::health::ServerHealth;
use crate::key::MemoryKey;
use crate::lease::{FencingToken, LeaseDomain, LeaseProof};
use crate::receipt::FlushReceipt;
use crate::stored::{MessageMeta, Sequence, StoredMessage};
use crate::write::WriteId;

/// Keeps memories: their messages, counters, receipts, and the tokens that fence stale writers off.
///
/// A memory that was never written, or whose TTL has run out, reads as empty and is not an error.
///
/// **Writes** ([`append`](Self::append), [`replace`](Self::replace), [`splice`](Self::splice),
/// [`clear`](Self::clear)) are atomic, and take these steps in this order within their one atomic step:
/// 1. A retry is recognized by its id, and answered without being applied again. A write by a writer whose
///    record was pruned ([`WriterId`](crate::WriterId)) is refused with
///    [`StoreErrorKind::WriterForgotten`].
/// 2. With a lease ([`Access::lease`]) whose token is lower than the newest that the memory has
///    seen, the write is refused with [`StoreErrorKind::Fenced`]; otherwise the newest is raised to
///    it. A store that shares the lease's [domain](Self::lease_domain) also refuses it where the
///    lease is no longer live and this owner's; its name is [`MemoryKey::lease_name`].
/// 3. Without a lease, a store that shares the domain refuses the write with
///    [`StoreErrorKind::Locked`] while anybody holds a live lease on the memory. Another store
///    cannot know; there the caller takes the lease first.
/// 4. Messages, counters, version and TTL change together, or not at all.
///
/// A write that was refused changed nothing.
///
/// **A store may go back** to an earlier state: a fail-over loses the newest writes, an operator restores
/// a snapshot. The numbers that were lost are then given again, so a generation and a place do not
/// identify what a reader or a planner saw. The id of the message there does: [`Cursor`] carries it,
/// and a store compares it in [`read`](Self::read), [`fetch`](Self::fetch) and
/// [`splice`](Self::splice). This takes ids that no two requests share: a batch that is sent again because
/// its answer was lost should carry [new ids](Append::with_new_ids), else it may get its old place again
/// behind other messages than before. Retries are recognized by their [`WriteId`], not by these ids.
///
/// **Every call ends in bounded time**: a store over a network gives up with
/// [`StoreErrorKind::Unavailable`]. Callers bound the time of writes by themselves; they do not do so
/// for reads.
///
/// # A store of one's own
///
/// [`MemoryState`] is these rules as plain functions over one memory, for a store that can hold a memory
/// in its process. `memory_core::conformance` (feature `conformance`) is the suite that every store must
/// pass, and says how to run it. `memory-core/tests/file_store` in the repository is a whole store over a
/// plain file, made to be copied from.
#[async_trait]
pub trait MemoryStore: Debug + Send + Sync + 'static {
    /// Adds a batch of messages at the end.
    ///
    /// # Correctness
    /// The batch gets contiguous sequence numbers and becomes visible as a whole. It is recognized
    /// as a duplicate if its [`WriteId`] is not newer than the newest of the same writer. When this
    /// returns, the batch is as durable as the store's configuration says.
    ///
    /// # Errors
    /// [`StoreError`]; its [`applied`](StoreError::applied) says whether the batch may be there
    /// nevertheless. Sending the same request again is always safe.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the batch either appended as a whole or not at all.
    async fn append(&self, key: &MemoryKey, append: Append) -> Result<Appended, StoreError>;

    /// Puts another message in the place of one.
    ///
    /// # Correctness
    /// Applied only if the message at [`Replace::sequence`] is the one with the id [`Replace::replaced`]. The new
    /// message keeps the place, and whether the old one was a summary or had its calls closed; the calls
    /// and results are the same, else the request is refused. The counters of what is there, by class too, are
    /// those of the new message; what was appended, summarized, evicted and cleared stays as it was. The generation
    /// changes ([`Generation::after`]), so that readers and planners of the old message start over, and the mark of
    /// the last flush is removed. The TTL goes on as before: a message is also replaced to take a text out, which
    /// must not keep the rest for longer. Recognized by its [`WriteId`] like an append: sent again it
    /// changes nothing, even if the message was replaced once more since.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`] where another message or none is at the place; [`StoreErrorKind::Invalid`]
    /// for a message with other calls or results, or with the id of the one that it replaces; else as
    /// [`append`](Self::append).
    ///
    /// # Cancel safety
    /// As [`append`](Self::append).
    async fn replace(&self, key: &MemoryKey, replace: Replace) -> Result<Counters, StoreError>;

    /// Replaces planned messages by a summary, or drops them, if nothing but appends happened since
    /// the snapshot that the plan was made from.
    ///
    /// # Correctness
    /// Applied only if the memory's generation is still [`Splice::generation`] and the message
    /// [`Splice::newest`] is still at its place; what was appended since is kept. The generation changes
    /// ([`Generation::after`]) if anything was removed, inserted or closed. A splice with the receipt id of
    /// the newest receipt is recognized and not applied again.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`] where the generation is another, or the newest message is not the
    /// one that the planner saw; else as [`append`](Self::append).
    ///
    /// # Cancel safety
    /// As [`append`](Self::append).
    async fn splice(&self, key: &MemoryKey, splice: Splice) -> Result<Counters, StoreError>;

    /// Removes all messages and receipts, and counts the messages as cleared.
    ///
    /// # Correctness
    /// Sequence numbers go on, and the generation changes. Recognized by its [`WriteId`] like an
    /// append.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    ///
    /// # Cancel safety
    /// As [`append`](Self::append).
    async fn clear(&self, key: &MemoryKey, clear: Clear) -> Result<Counters, StoreError>;

    /// Raises the newest fencing token that the memory has seen to this lease's, before its holder
    /// reads: else a late write of the holder before could land between that read and a write.
    ///
    /// # Correctness
    /// Durable in the same way as an append; idempotent.
    ///
    /// # Errors
    /// [`StoreErrorKind::Fenced`] for a lease that is no longer the newest.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the token raised or not.
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

    /// Messages in order, after a place.
    ///
    /// # Correctness
    /// One snapshot: never half a batch or half a flush. If the memory's generation is no longer
    /// that of [`Read::after`], or the message at its place is another or is not there, what was read
    /// before may be gone, and the page begins at the start and says so in [`Page::restarted`]. The cost is
    /// that of the page and of one message looked up by its place, not of the history.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    async fn read(&self, key: &MemoryKey, read: Read) -> Result<Page, StoreError>;

    /// The head, and everything but the text of all messages: what plans are made from.
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

    /// The messages at these places, in ascending order of their places.
    ///
    /// # Correctness
    /// Messages do not change within a generation, so this and the outline that `snapshot` is the
    /// [cursor](Outline::cursor) of are one snapshot, up to its place. `places` is ascending; a place where
    /// no message stands, or one that cannot be decoded, is passed over.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`] if the generation is no longer this one, or the message at the
    /// snapshot's place is another or is not there.
    ///
    /// # Cancel safety
    /// Reads have no effect.
    async fn fetch(
        &self,
        key: &MemoryKey,
        snapshot: Cursor,
        places: &[Sequence],
    ) -> Result<Vec<StoredMessage>, StoreError>;

    /// The receipts of the last flushes, newest first; at most
    /// [`KEPT_RECEIPTS`](crate::KEPT_RECEIPTS).
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

    /// Memories with at least one message, in ascending order of their keys, after a key.
    ///
    /// # Correctness
    /// Each page is one snapshot; a listing over several pages sees every memory that was there
    /// throughout.
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

    /// Memories that nobody uses: those whose TTL has run out and that still take up room, or that were not
    /// written for a time.
    ///
    /// # Correctness
    /// Looks at no more than [`UnusedQuery::limit`] memories, in ascending order of their keys, and says
    /// where to go on. A store that shares the [domain](Self::lease_domain) leaves out memories under a
    /// live lease, of writers or flushers. A memory that was removed as a whole is not listed. The time of
    /// the last write is the later of the newest message's `created_at` and of the [`Generation`], which
    /// is never behind the store's clock at the last write that was no append.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    async fn unused(&self, query: &UnusedQuery) -> Result<UnusedPage, StoreError>;

    /// Removes a memory that [`unused`](Self::unused) listed, or a part of it: its messages, receipts and
    /// writers. It then reads as one that was never written.
    ///
    /// # Correctness
    /// The first part ends the memory in one atomic step, as if its TTL had run out; further parts only
    /// free room, so that no step takes long. A memory that was written since it was listed stays as
    /// it is: generation, version and newest message are compared, because a store that went back gives the
    /// same numbers again. Fencing tokens are kept where safety needs them (see [`LeaseDomain`]), and later
    /// generations differ from all earlier ones. Where nothing is left, nothing is done.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`] if the memory was written since; [`StoreErrorKind::Locked`] where the
    /// store shares the domain and somebody holds a live lease on the memory, as writer or flusher;
    /// [`StoreErrorKind::Fenced`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the part removed or not. What is left of a memory is listed as expired.
    async fn remove(
        &self,
        key: &MemoryKey,
        remove: RemoveUnused,
    ) -> Result<RemovedUnused, StoreError>;

    /// What the server behind this store says about itself; `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    async fn server(&self) -> Result<Option<ServerHealth>, StoreError>;

    /// Where this store looks up leases within its own atomic step, if it does. All leases of its writers
    /// must be kept there then: one that it does not find is over.
    fn lease_domain(&self) -> Option<&LeaseDomain>;

    /// What an acknowledged write outlives.
    fn durability(&self) -> Durability;
}

/// What an acknowledged write outlives; each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Durability {
    /// The task that made it.
    Memory,
    /// The crash of this process, or its `kill -9`.
    Process,
    /// The loss of power: it has been synced to the disk.
    Disk,
}

/// By what right a write is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Access {
    /// The lease on the memory that the writer holds, if it holds one.
    pub lease: Option<LeaseProof>,
}

impl Access {
    /// Without a lease: nobody else may hold one.
    pub const OPEN: Self = Self { lease: None };

    /// Under a lease on the memory.
    #[must_use]
    pub const fn with_lease(lease: LeaseProof) -> Self {
        Self { lease: Some(lease) }
    }
}

/// The order to clear a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clear {
    /// Recognizes a retry.
    pub write: WriteId,
    /// By what right.
    pub access: Access,
}

impl Clear {
    /// How far it moves the generation beyond the next: [`Generation::after`].
    #[must_use]
    pub fn spread(&self) -> u16 {
        spread_of_write(self.write)
    }
}

/// A memory without its messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// What is there, and what became of the rest.
    pub counters: Counters,
    /// Changes when messages go.
    pub generation: Generation,
    /// The number of writes so far.
    pub version: u64,
    /// The place of the newest message ever appended.
    pub last: Sequence,
    /// The newest token of a writer's lease.
    pub fence: FencingToken,
    /// The newest token of a flusher's lease.
    pub flush_fence: FencingToken,
    /// The size at which the next flush is worth its while, as the last flush left it: a number that a
    /// store keeps and does not read.
    pub next_flush_at: Option<u64>,
    /// When the memory's TTL runs out.
    pub expires_at: Option<Timestamp>,
}

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Read {
    /// Where the reader has come to; `None` to begin at the start.
    pub after: Option<Cursor>,
    /// The most messages to return; `None` for all.
    pub limit: Option<NonZeroUsize>,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Page {
    /// The messages, in order.
    pub messages: Vec<StoredMessage>,
    /// Where the reader has come to now.
    pub cursor: Cursor,
    /// The page begins at the start, because what was read before may be gone.
    pub restarted: bool,
    /// There is more after the cursor.
    pub more: bool,
    /// The places of messages that could not be decoded, ascending. They are passed over, so that one
    /// damaged message does not keep the others from being read, and stay until they are evicted or
    /// cleared.
    pub unreadable: Vec<Sequence>,
}

/// A memory without the text of its messages.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outline {
    /// The counters and state.
    pub head: Head,
    /// Everything but the text, in order.
    pub metas: Vec<MessageMeta>,
    /// The places of messages whose description could not be decoded, ascending. Plans do not know
    /// them.
    pub unreadable: Vec<Sequence>,
}

impl Outline {
    /// What identifies this snapshot: its generation, and its newest message.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        match self.metas.last() {
            Some(newest) => Cursor::at(self.head.generation, newest),
            None => Cursor::from(self.head.generation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_json() {
        let first = Sequence::new(3);
        let cursor = Cursor::unidentified(Generation::new(5), first);
        let page = Page {
            messages: vec![],
            cursor,
            restarted: false,
            more: true,
            unreadable: vec![first],
        };
        let json = serde_json::to_value(&page).unwrap();
        assert_eq!((&json["more"], &json["unreadable"][0]), (&true.into(), &3.into()));
        assert_eq!(serde_json::from_value::<Cursor>(json["cursor"].clone()).unwrap(), cursor);
    }

    #[test]
    fn a_write_is_made_under_a_lease_or_without_one() {
        let lease = LeaseProof { owner: crate::OwnerId::new(1), token: FencingToken::new(2) };
        assert_eq!(Access::with_lease(lease), Access { lease: Some(lease) });
        assert_eq!(Access::OPEN, Access::default());
        let splice = Splice::new(Generation::new(5));
        assert_eq!((splice.generation, splice.access), (Generation::new(5), Access::OPEN));
        assert!(splice.summarised.is_empty() && splice.evicted.is_empty());
        assert!(Durability::Memory < Durability::Process && Durability::Process < Durability::Disk);
    }
}
