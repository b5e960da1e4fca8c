//! Erasure: the removal of contents on demand, and of a whole memory.

use std::num::NonZeroUsize;

use jiff::Timestamp;
use memory_core::lease::LeaseProof;
use memory_core::store::{
    Access, Counters, Erase, Erased, Erasure, MessageMeta, RemainingCopy, RemoveUnused,
    RemovedUnused, Scrubbed, SequenceSet, StoreErrorKind, StoreOperation, UnusedMemory,
};
use memory_core::{MemoryKey, Sequence};
use memory_lock::{LockGuard, LockKey};
use serde::Serialize;
use tokio::time::Instant;

use crate::asking::Answering;
use crate::audit::{Audit, AuditOperation, AuditOutcome, Audited};
use crate::error::{MemoryError, WriteError};
use crate::inner::{ATTEMPTS, Inner};
use crate::instance::MemoryInstance;
use crate::manager::MemoryManager;
use crate::sweep::non_zero;
use crate::telemetry::{Operation, WaitSpan, note, operation};
use crate::views::Views;
use crate::write::WriteRequest;

/// The number of messages that one step of a deletion removes. Other memories are written between steps.
const PART: NonZeroUsize = non_zero(256);

/// The record of an erasure, and where copies of the texts may remain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ErasureReceipt {
    /// The record, which the memory keeps. It lists the summaries that may repeat what was erased.
    pub erasure: Erasure,
    /// The counters of the memory after it.
    pub counters: Counters,
    /// Copies that the erasure did not reach.
    pub remaining: Vec<RemainingCopy>,
}

/// The record of the deletion of a memory. It is not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeletionReceipt {
    /// The key of the memory.
    pub key: MemoryKey,
    /// The time, by the clock of this process.
    pub deleted_at: Timestamp,
    /// The number of present messages that were deleted. Archived ones are not counted.
    pub messages: u64,
    /// Copies that the deletion did not reach.
    pub remaining: Vec<RemainingCopy>,
}

impl MemoryInstance {
    /// Erases the messages at these places, present and archived, with a reason that is recorded. A place is the number
    /// of a message ([`MessageMeta::sequence`]); all messages that have or had it are erased, also a summary.
    ///
    /// The messages are counted as withdrawn. Flushes that removed one of them can no longer be undone. Views of this
    /// process are dropped at once, those of other processes at their next read. Summaries that were written from
    /// the messages remain and are [listed](Erasure::summaries): have them
    /// [rewritten](Self::rewrite_summaries), or erase them too if they repeat the text. The reason must not repeat it.
    /// [Metadata](Self::update_metadata) is neither searched nor changed.
    ///
    /// A store cannot reach all copies; the receipt lists the [remaining](ErasureReceipt::remaining) ones.
    /// [`MemoryManager::scrub`] reaches those within the files of SQLite.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use memory_instance::{Message, Sequence};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// memory.append_all(["Hello", "My card is 4929 1111"].map(Message::user)).await?;
    /// let receipt = memory.erase([Sequence::new(2)], "request of the customer").await?;
    /// assert_eq!(receipt.erasure.messages, 1);
    /// assert_eq!(memory.len().await?, 1);
    /// manager.scrub().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`] without places, with more than 1,000, or for a reason that is empty or longer than
    /// 256 bytes. Otherwise as [`clear`](Self::clear). After an error with an unknown effect, erase again: places that
    /// were erased are then reported as not found, and [`erasures`](Self::erasures) has the first record.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the messages erased or not, never some of them.
    #[doc(alias = "forget")]
    pub async fn erase(
        &self,
        places: impl IntoIterator<Item = Sequence> + Send,
        reason: &str,
    ) -> Result<ErasureReceipt, MemoryError> {
        let work = async {
            self.writable("erase messages of")?;
            let places: SequenceSet = places.into_iter().collect();
            let reason = self.inner.persistable_text(reason, Erase::MAX_REASON);
            self.inner.erase(places, &reason).await
        };
        operation!(&*self.inner, "erase", work).await
    }

    /// The records of the newest erasures, newest first; at most 64.
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn erasures(&self) -> Result<Vec<Erasure>, MemoryError> {
        let work = async { Ok(self.inner.store().erasures(&self.inner.key).await?) };
        operation!(&*self.inner, "erasures", work).await
    }

    /// Deletes the memory: messages, archive, receipts, records of erasures and of writers. Only what fences stale
    /// leases off remains. The memory then reads like one that was never written, and may be written again.
    ///
    /// It waits in line for the leases of writers and flushers. A write that was sent before and is not acknowledged
    /// may be applied after the deletion, to a new memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use memory_instance::Message;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// memory.append(Message::user("Forget me")).await?;
    /// let receipt = memory.delete().await?;
    /// assert_eq!(receipt.messages, 1);
    /// assert_eq!(memory.counters().await?.appended, 0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Lock`] if a writer or a flush keeps its lease for too long. Otherwise as [`clear`](Self::clear);
    /// deleting again continues a deletion that failed.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the memory unchanged, or deleted for all readers; the next deletion, or a sweep of
    /// expired memories, frees the rest of its storage.
    pub async fn delete(&self) -> Result<DeletionReceipt, MemoryError> {
        let work = async {
            self.writable("delete")?;
            let started = Instant::now();
            let inner = &self.inner;
            let deleted = inner.delete().await;
            let (telemetry, policy) = (&inner.rules.telemetry, &inner.rules.policy);
            telemetry.ended(Operation::Delete, started, &deleted);
            note(|totals| totals.messages = deleted.as_ref().map_or(0, |receipt| receipt.messages));
            if deleted.is_ok() {
                telemetry.drops(&inner.key, &inner.held, policy);
            }
            deleted
        };
        operation!(&*self.inner, "delete", work).await
    }
}

impl MemoryManager {
    /// Overwrites what removed messages of all memories left in the store's files. On SQLite it rewrites the file and
    /// truncates its log; other writers of the file wait meanwhile, about a second for each 100 MB.
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Dropping the future does not end work that has begun, which changes no message.
    pub async fn scrub(&self) -> Result<Scrubbed, MemoryError> {
        let work = async { Ok(self.store().scrub().await?) };
        operation!(self, "scrub", work).await
    }
}

impl ErasureReceipt {
    /// The receipt after a scrub, which reached the copies within the store's files.
    #[must_use]
    pub fn after(mut self, scrubbed: Scrubbed) -> Self {
        self.remaining = left_by(scrubbed, self.remaining);
        self
    }
}

impl DeletionReceipt {
    /// The receipt after a scrub, which reached the copies within the store's files.
    #[must_use]
    pub fn after(mut self, scrubbed: Scrubbed) -> Self {
        self.remaining = left_by(scrubbed, self.remaining);
        self
    }
}

fn left_by(scrubbed: Scrubbed, mut remaining: Vec<RemainingCopy>) -> Vec<RemainingCopy> {
    if scrubbed == Scrubbed::Done {
        use RemainingCopy::{FreeSpace, SearchIndex, WriteAheadLog};
        let is_reached = |copy| matches!(copy, WriteAheadLog | FreeSpace | SearchIndex);
        remaining.retain(|copy| !is_reached(*copy));
    }
    remaining
}

impl WriteRequest for Erase {
    type Answer = Erased;
    const OPERATION: StoreOperation = StoreOperation::Erase;

    fn audited(&self) -> Option<Audited> {
        Some(Audited { messages: self.places.len(), ..Audited::all(AuditOperation::Erase) })
    }

    fn counters(answer: &Self::Answer) -> Option<&Counters> {
        Some(&answer.counters)
    }

    fn send<'a>(&'a self, inner: &'a Inner, lease: Option<LeaseProof>) -> Answering<'a, Erased> {
        inner.store().erase(&inner.key, Access { lease }, self)
    }
}

/// A part of a deletion, which is recorded as a whole. Sent again after the last part it removes nothing.
impl WriteRequest for RemoveUnused {
    type Answer = RemovedUnused;
    const OPERATION: StoreOperation = StoreOperation::Remove;

    fn audited(&self) -> Option<Audited> {
        None
    }

    fn send<'a>(&'a self, inner: &'a Inner, _: Option<LeaseProof>) -> Answering<'a, RemovedUnused> {
        inner.store().remove(&inner.key, *self)
    }
}

/// Drops the view of a memory, also if the caller drops its future: the text may be erased already.
pub(crate) struct ForgetView<'a>(pub(crate) &'a Views, pub(crate) &'a MemoryKey);

impl Drop for ForgetView<'_> {
    fn drop(&mut self) {
        self.0.forget(self.1);
    }
}

impl Inner {
    async fn erase(
        &self,
        places: SequenceSet,
        reason: &str,
    ) -> Result<ErasureReceipt, MemoryError> {
        // Also after the answer: a reader may have begun before.
        let _forget = ForgetView(&self.backend.views, &self.key);
        let request = |write| Erase { write, places: places.clone(), reason: reason.to_owned() };
        let Erased { erasure, counters, .. } = self.write_new(None, request).await?;
        Ok(ErasureReceipt { erasure, counters, remaining: self.remaining_copies() })
    }

    fn remaining_copies(&self) -> Vec<RemainingCopy> {
        let stored = self.store().remaining_copies().iter().copied();
        stored.chain([RemainingCopy::OtherViews, RemainingCopy::Forks]).collect()
    }

    async fn delete(&self) -> Result<DeletionReceipt, MemoryError> {
        self.not_in_own_turn("delete")?;
        let _forget = ForgetView(&self.backend.views, &self.key);
        let mut audit = Audit::begin(self, || Some(Audited::all(AuditOperation::Delete)));
        let [flusher, memory] = match self.deletion_leases().await {
            Ok(leases) => leases,
            Err(error) => {
                audit.record(AuditOutcome::NotApplied, Some(error.code()));
                return Err(error);
            }
        };
        let deleted = self.delete_under(&memory, &flusher).await;
        memory.release().await;
        flusher.release().await;
        let messages =
            deleted.inspect_err(|error| audit.record(AuditOutcome::Unknown, Some(error.code())))?;
        audit.record(AuditOutcome::Applied, None);
        Ok(DeletionReceipt {
            key: self.key.clone(),
            deleted_at: self.backend.now(),
            messages,
            remaining: self.remaining_copies(),
        })
    }

    /// The leases of flushers and of writers.
    async fn deletion_leases(&self) -> Result<[LockGuard; 2], MemoryError> {
        // In the order of a flush, which waits for the writers' lease at its commit: otherwise both would wait, and so
        // would appends while a summarizer runs.
        let flusher = self.wait_for_lease(&self.flush_lease).await?;
        let memory = self.wait_for_lease(&self.lease).await?;
        Ok([flusher, memory])
    }

    /// A lease, for work that no holder of it may do meanwhile.
    pub(crate) async fn wait_for_lease(&self, name: &LockKey) -> Result<LockGuard, MemoryError> {
        let wait = WaitSpan::begin();
        let taken = self.backend.locks.lock(name, &self.rules.lock).await;
        drop(wait);
        Ok(taken.map_err(|reason| self.lock_error(reason))?)
    }

    /// The number of deleted messages.
    async fn delete_under(
        &self,
        memory: &LockGuard,
        flusher: &LockGuard,
    ) -> Result<u64, MemoryError> {
        let mut messages = 0_u64;
        let waits = self.rules.lock.wait_timeout();
        for _ in 0..ATTEMPTS {
            let outline = match self.outline().await {
                Err(error) if error.kind() == &StoreErrorKind::Unfinished => {
                    self.discard_copy(memory.proof()).await?;
                    return Ok(messages);
                }
                outline => outline?,
            };
            let head = &outline.head;
            let mut listed = UnusedMemory::new(self.key.clone(), head.generation, head.version);
            let newest = outline.metas.last().filter(|newest| newest.sequence == head.last);
            listed.newest = newest.map(MessageMeta::newest);
            let remove = RemoveUnused {
                access: Access::with_lease(memory.proof()),
                flusher: Some(flusher.proof()),
                ..RemoveUnused::new(&listed, PART)
            };
            let before = messages;
            loop {
                match self.write(&remove, Some(memory.proof()), waits).await {
                    Ok(RemovedUnused { messages: some, more, .. }) => {
                        messages = messages.saturating_add(some);
                        if !more {
                            // An answer with a part of them may have been lost.
                            let all = before.saturating_add(head.counters.present.messages);
                            return Ok(messages.max(all));
                        }
                    }
                    Err(WriteError::Store(error)) if error.kind() == &StoreErrorKind::Conflict => {
                        break;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            // A write that was sent before the lease was granted, an expired memory or one whose deletion was not
            // completed, or a damaged newest message: a memory that starts over empty can be removed.
            if messages == before {
                messages = messages.saturating_add(head.counters.present.messages);
            }
            self.clear(Some(memory.proof()), None, None).await?;
        }
        Err(self.contended("delete"))
    }
}
