//! Forks: a memory that begins as another one was.

use std::sync::Arc;

use memory_core::lease::LeaseProof;
use memory_core::plan::Units;
use memory_core::store::{
    Access, Fork, ForkOrigin, Forked, Frame, FrameWriters, SequenceSet, StoreError, StoreErrorKind,
    StoreOperation,
};
use memory_core::{MemoryKey, Sequence};
use serde::Serialize;
use uuid::Uuid;

use crate::asking::Answering;
use crate::audit::{AuditOperation, Audited};
use crate::backup::{BackupError, Done, Extent, Stopped, StoreReader, id_of_copy};
use crate::error::MemoryError;
use crate::inner::{ATTEMPTS, Inner};
use crate::instance::MemoryInstance;
use crate::telemetry::operation;
use crate::write::WriteRequest;

/// The options of [`MemoryInstance::fork`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ForkOptions {
    /// The place of the last message that the fork takes. Default: the newest.
    pub at: Option<Sequence>,
    /// The id of the fork: a repeated call with the same id returns the result of the first. Default: a random one, so
    /// that a repeated call is refused.
    pub id: Option<Uuid>,
}

impl ForkOptions {
    /// A fork of the whole memory.
    #[must_use]
    pub const fn new() -> Self {
        Self { at: None, id: None }
    }

    /// Ends the fork at this place.
    #[must_use]
    pub const fn with_end(mut self, at: Sequence) -> Self {
        self.at = Some(at);
        self
    }

    /// Sets the id, by which a repeated call is recognized.
    #[must_use]
    pub const fn with_id(mut self, id: Uuid) -> Self {
        self.id = Some(id);
        self
    }
}

/// The result of a fork.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ForkReceipt {
    /// The key of the fork.
    pub key: MemoryKey,
    /// The id of the fork.
    pub id: Uuid,
    /// The memory that it was forked from, as it is recorded in the fork.
    pub origin: ForkOrigin,
    /// Whether a call with the same id had completed it before.
    pub completed_before: bool,
}

impl MemoryInstance {
    /// Forks the memory: another one, which must not exist, begins with its messages up to a place, and is independent
    /// afterwards. The fork records its origin ([`origin`](Self::origin), [`health`](Self::health)).
    ///
    /// The fork has the present messages up to the place with their ids, places, priorities and types, the archived
    /// removals and receipts of which all places are up to it, and the records of erasures that concern it. Flushes
    /// whose originals it has can be undone in it. Its counters begin with the messages that it holds, present and
    /// archived. It has no records of earlier writers: a source that numbers its writes begins anew in it. Its TTL is
    /// that of the origin until its first append.
    ///
    /// Within one manager on SQLite or `memory://`, a fork is one atomic step; other writers of the file wait for it, about as
    /// long as for an append of as many messages. The same holds on one Redis server for a memory of at most about 2,000
    /// messages and 2 MiB. A larger one would block all clients of the server for too long, so it is written in parts, as are forks
    /// on a Redis Cluster, whose two keys may be in different slots, and between different stores. Until such a fork is complete
    /// it can be neither read nor written
    /// ([`StoreErrorKind::Unfinished`]). A fork that was interrupted is completed by another call, or ends an hour after its last
    /// part. A part that an interrupted call had sent and that arrives late is refused.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use memory_instance::{ForkOptions, Message, Sequence};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// memory.append_all(["Hello", "Refund it", "Done"].map(Message::user)).await?;
    /// let other = manager.memory("support", "case-4711-without-refund")?;
    /// let fork = memory.fork(&other, ForkOptions::new().with_end(Sequence::new(1))).await?;
    /// assert_eq!(&fork.origin.key, memory.key());
    /// other.append(Message::user("Send it again")).await?;
    /// assert_eq!((memory.len().await?, other.len().await?), (3, 2));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`StoreErrorKind::Exists`] if the new key has a memory; [`StoreErrorKind::Invalid`] for a place that the memory
    /// never had, one within the messages of a summary, or one between a tool call and its results;
    /// [`MemoryError::Contended`] if the memory was flushed or changed during each of eight attempts.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the fork complete, absent or, if it is written in parts, unfinished. Fork again to
    /// complete it.
    #[doc(alias = "branch")]
    #[doc(alias = "ForkUnfinished")]
    pub async fn fork(&self, new: &Self, options: ForkOptions) -> Result<ForkReceipt, MemoryError> {
        let work = async {
            new.writable("fork to")?;
            let id = options.id.unwrap_or_else(Uuid::new_v4);
            // The origin may have changed since, so that the fork would now be refused.
            if options.id.is_some()
                && let Some(before) = self.inner.forked_before(&new.inner, id).await?
            {
                return Ok(before);
            }
            for _ in 0..ATTEMPTS {
                match self.inner.fork_once(&new.inner, id, options.at).await {
                    Ok(receipt) => return Ok(receipt),
                    Err(Stopped::Changed) => {}
                    Err(Stopped::Failed(BackupError::Memory(error))) => {
                        // Another attempt may have completed it meanwhile.
                        let before = match error.store_kind() {
                            Some(StoreErrorKind::Exists) => {
                                self.inner.forked_before(&new.inner, id).await?
                            }
                            _ => None,
                        };
                        return before.ok_or(error);
                    }
                    Err(Stopped::Failed(error)) => {
                        return Err(self.inner.refused(error.to_string()));
                    }
                }
            }
            Err(self.inner.contended("fork"))
        };
        operation!(&*self.inner, "fork", work).await
    }

    /// The memory that this one was forked from, if it is a fork.
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn origin(&self) -> Result<Option<ForkOrigin>, MemoryError> {
        let work = async { Ok(self.inner.store().origin(&self.inner.key).await?) };
        operation!(&*self.inner, "origin", work).await
    }
}

impl WriteRequest for Fork {
    type Answer = Forked;
    const OPERATION: StoreOperation = StoreOperation::Copy;

    fn audited(&self) -> Option<Audited> {
        Some(Audited::all(AuditOperation::Copy))
    }

    fn send<'a>(&'a self, inner: &'a Inner, lease: Option<LeaseProof>) -> Answering<'a, Forked> {
        inner.store().fork(&inner.key, Access { lease }, self)
    }
}

impl Inner {
    /// The result of a fork with this id that was completed before.
    async fn forked_before(
        &self,
        new: &Self,
        id: Uuid,
    ) -> Result<Option<ForkReceipt>, MemoryError> {
        match new.store().origin(&new.key).await {
            Ok(Some(origin)) if origin.id == Some(id) && origin.key == self.key => {
                let key = new.key.clone();
                Ok(Some(ForkReceipt { key, id, origin, completed_before: true }))
            }
            Err(error) if error.kind() != &StoreErrorKind::Unfinished => Err(error.into()),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    async fn fork_once(
        &self,
        new: &Self,
        id: Uuid,
        at: Option<Sequence>,
    ) -> Result<ForkReceipt, Stopped> {
        let frame = self.store().frame(&self.key, FrameWriters::LeftOut).await;
        let frame = frame.map_err(MemoryError::from)?;
        let at = at.unwrap_or(frame.last);
        if !frame.is_written() || at == Sequence::ZERO || at > frame.last {
            let last = frame.last;
            let problem = format!("a fork ends at one of its numbers, 1 to {last}, not {at}");
            return Err(self.refused(problem).into());
        }
        if at < frame.last {
            self.check_end(&frame, at).await?;
        }
        let (key, version) = (self.key.clone(), frame.version);
        let origin = ForkOrigin { key, at, version, forked_at: self.backend.now(), id: Some(id) };
        let key = new.key.clone();
        if Arc::ptr_eq(&self.backend.store, &new.backend.store) {
            let (from, generation) = (self.key.clone(), frame.generation);
            let copy = id_of_copy(&self.key, &frame, std::iter::empty(), Some((id, at)));
            let fork = Fork { from, generation, copy, origin: origin.clone() };
            let waits = new.rules.lock.wait_timeout();
            match new.write(&fork, None, waits).await.map_err(MemoryError::from) {
                Ok(Forked::Complete) => {
                    return Ok(ForkReceipt { key, id, origin, completed_before: false });
                }
                Ok(Forked::InParts) => {}
                Err(error) if error.store_kind() == Some(&StoreErrorKind::Conflict) => {
                    return Err(Stopped::Changed);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let reader = StoreReader::with_frame(self, frame).await?;
        // Another state of the origin has another id, so that parts of two attempts are not mixed.
        let copy = reader.id_of_copy(Some((id, at)));
        let chunks = reader.of(Extent::UpTo(at, origin.clone()));
        match new.receive(copy, chunks).await? {
            Done::Copied { .. } => Ok(ForkReceipt { key, id, origin, completed_before: false }),
            Done::Before => {
                let first = new.store().origin(&key).await.map_err(MemoryError::from)?;
                let origin = first.unwrap_or(origin);
                Ok(ForkReceipt { key, id, origin, completed_before: true })
            }
        }
    }

    /// Refuses a place within a unit or within the messages of a summary.
    async fn check_end(&self, frame: &Frame, at: Sequence) -> Result<(), Stopped> {
        let outline = self.outline().await.map_err(MemoryError::from)?;
        if outline.head.generation != frame.generation {
            return Err(Stopped::Changed);
        }
        let timeout = self.rules.policy.open_call_timeout;
        let units = Units::group(&outline.metas, self.backend.now(), timeout);
        let is_cut = |unit| {
            let mut members = units.members(unit).map(|meta| meta.sequence);
            members.clone().any(|place| place <= at) && members.any(|place| place > at)
        };
        if let Some(unit) = units.iter().find(|unit| is_cut(unit)) {
            let places: SequenceSet = units.members(unit).map(|meta| meta.sequence).collect();
            let ranges = places.ranges();
            let (first, last) = (ranges.first().map(|it| it.0), ranges.last().map(|it| it.1));
            let (first, last) = (first.unwrap_or(at), last.unwrap_or(at));
            let problem = format!(
                "the fork would end between a call and its results, {first} to {last}; end it before or after them"
            );
            return Err(self.refused(problem).into());
        }
        for summary in outline.metas.iter().filter(|meta| meta.summary && meta.sequence <= at) {
            let last =
                self.end_of_summary(summary.sequence, &frame.receipts, &outline.metas).await?;
            if last > at {
                let problem = format!(
                    "the summary at {} covers messages up to {last}; end the fork there or later, or undo that flush first",
                    summary.sequence
                );
                return Err(self.refused(problem).into());
            }
        }
        self.check_removals(at).await
    }

    /// Refuses a place within messages that were removed together: the fork would take none of them.
    async fn check_removals(&self, at: Sequence) -> Result<(), Stopped> {
        let mut before = None;
        loop {
            let removals = self.store().removals(&self.key, before, crate::backup::AT_ONCE).await;
            let removals = removals.map_err(MemoryError::from)?;
            let Some(oldest) = removals.last() else { return Ok(()) };
            before = Some(oldest.number);
            for removal in &removals {
                let ranges = removal.places.ranges();
                let (Some((first, _)), Some((_, last))) = (ranges.first(), ranges.last()) else {
                    continue;
                };
                if *first <= at && *last > at {
                    let problem = format!(
                        "messages {first} to {last} were removed together, and the fork would end between them; end it before or after them, or undo the removal"
                    );
                    return Err(self.refused(problem).into());
                }
            }
        }
    }

    fn refused(&self, problem: String) -> MemoryError {
        let kind = StoreErrorKind::Invalid(problem);
        StoreError::new(StoreOperation::Copy, kind).not_applied().at(&self.key).into()
    }
}
