//! Copies of whole memories: the parts in which a memory is read, and is written under an absent key.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    ArchivedRemoval, Counters, Erasure, FLUSH_HELD, FlushReceipt, Generation, Head, KEPT_ERASURES,
    KEPT_RECEIPTS, MessageMeta, Metadata, Newest, RemovalCause, Removed, StoreErrorKind,
};
use crate::key::MemoryKey;
use crate::receipt::SequenceSet;
use crate::stored::{Sequence, StoredMessage};
use crate::write::WriterId;

/// How long an unfinished copy is kept after its last part. Then its key is free again, and a sweep removes what is
/// left.
pub const COPY_LIFETIME: Duration = Duration::from_secs(3_600);

/// The places of a memory are below this number in every store (SQLite's keys of rows have 36 bits for them).
const MOST_PLACES: u64 = 1 << 36;
/// Other numbers are below this one in every store (Redis scripts count in doubles).
const MOST_NUMBER: u64 = 1 << 53;

/// Everything of a memory except its messages and its archive.
///
/// Fencing tokens are not part of it, because they belong to the leases of one store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Frame {
    /// The counters.
    pub counters: Counters,
    /// The generation. A copy gets another one.
    pub generation: Generation,
    /// The number of writes.
    pub version: u64,
    /// The place of the newest message ever appended.
    pub last: Sequence,
    /// The mark of the next flush.
    pub next_flush_at: Option<u64>,
    /// When the TTL runs out.
    pub expires_at: Option<Timestamp>,
    /// The receipts that are kept, newest first.
    pub receipts: Vec<FlushReceipt>,
    /// The records of erasures, newest first.
    pub erasures: Vec<Erasure>,
    /// The newest write of each writer; session writers in the order of their first writes.
    pub writers: Vec<WriterRecord>,
    /// The newest creation time of a session writer whose record was pruned, in milliseconds since 1970.
    pub forgotten_millis: u64,
    /// The metadata.
    #[serde(default, skip_serializing_if = "Metadata::is_unset")]
    pub metadata: Metadata,
    /// The memory that this one was forked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<ForkOrigin>,
    /// The message at the place [`last`](Self::last), if it is present. The reader of a copy compares it, because a store that
    /// [rolled back](crate::MemoryStore) gives the place to another message. It is not written to backups.
    #[serde(skip)]
    pub newest: Option<Newest>,
}

impl Frame {
    /// The frame of a memory with this head, without receipts, erasures, writers, metadata, origin and newest message. The
    /// caller sets these.
    #[must_use]
    pub fn new(head: Head) -> Self {
        let Head { counters, generation, version, last, next_flush_at, expires_at, .. } = head;
        Self {
            counters,
            generation,
            version,
            last,
            next_flush_at,
            expires_at,
            receipts: Vec::new(),
            erasures: Vec::new(),
            writers: Vec::new(),
            forgotten_millis: 0,
            metadata: Metadata::default(),
            origin: None,
            newest: None,
        }
    }

    /// Whether a copy with this many messages, up to this place, is complete by this frame. Every store calls this
    /// before it completes a copy. `removals` is whether the copy has as many removals as it should, all complete.
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`].
    pub fn check_copied(
        &self,
        messages: u64,
        last: Sequence,
        removals: CopiedRemovals,
    ) -> Result<(), StoreErrorKind> {
        let problem = if !self.is_written() {
            "a memory that was never written cannot be copied"
        } else if !self.is_in_range() {
            "a number of the copy is out of range; it was not written by a backup"
        } else if messages != self.counters.present.messages || last > self.last {
            "the copy has not the messages that its counters count; begin it again under another id"
        } else if removals == CopiedRemovals::Incomplete {
            "the copy lacks archived messages; begin it again under another id"
        } else if !self.counters.is_conserved() {
            "the counters of the copy do not account for every message"
        } else {
            return Ok(());
        };
        Err(StoreErrorKind::Invalid(problem.into()))
    }

    /// Whether every store can hold the numbers: a digest does not prove who wrote a backup.
    fn is_in_range(&self) -> bool {
        let counters = &self.counters;
        let numbers = [
            self.generation.number(),
            self.version,
            counters.present.messages,
            counters.present.tokens,
            counters.summaries,
            counters.appended,
            counters.summarized,
            counters.evicted,
            counters.cleared,
            counters.withdrawn,
            self.metadata.revision,
        ];
        self.last.number() < MOST_PLACES
            && self.receipts.len() <= KEPT_RECEIPTS
            && self.erasures.len() <= KEPT_ERASURES
            && Metadata::check_values(&self.metadata.values).is_ok()
            && numbers.into_iter().all(|number| number < MOST_NUMBER)
    }

    /// The frame of a fork that ends at this place and has these counters: without the records of earlier writes, and
    /// with those receipts whose places it has.
    #[must_use]
    pub fn into_fork(self, at: Sequence, counters: Counters, origin: ForkOrigin) -> Self {
        let has = |set: &SequenceSet| set.ranges().iter().all(|(_, last)| *last <= at);
        let is_whole = at >= self.last;
        let mut frame = Self { counters, last: at.min(self.last), origin: Some(origin), ..self };
        frame.receipts.retain(|receipt| {
            has(&receipt.summarized)
                && has(&receipt.evicted)
                && has(&receipt.withdrawn)
                && receipt.replaced.iter().all(|one| one.sequence <= at)
        });
        let concerns = |set: &SequenceSet| set.ranges().iter().any(|(first, _)| *first <= at);
        frame.erasures.retain(|one| concerns(&one.present) || concerns(&one.archived));
        frame.next_flush_at = frame.next_flush_at.filter(|mark| is_whole || *mark == FLUSH_HELD);
        frame.writers = Vec::new();
        frame.forgotten_millis = 0;
        frame.newest = None;
        frame
    }

    /// Whether a message was ever appended or metadata set. Other memories count as absent.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.last > Sequence::ZERO || !self.metadata.is_unset()
    }
}

/// Whether a [`Frame`] is read with the records of writers. A memory may have any number of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameWriters {
    /// With all.
    Included,
    /// Without, such as for a fork; [`Frame::forgotten_millis`] is then any number.
    LeftOut,
}

/// The newest write of a writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterRecord {
    /// The writer.
    pub writer: WriterId,
    /// The number of its newest write.
    pub number: u64,
    /// The place of the first message of that write, if it appended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Sequence>,
}

impl ArchivedRemoval {
    /// Whether a copy of this removal with messages at these places is complete.
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`].
    pub fn check_copied(&self, places: &SequenceSet) -> Result<(), StoreErrorKind> {
        if *places == self.places {
            return Ok(());
        }
        let problem = "an archived removal of the copy has not the messages that it lists; begin it again under another id";
        Err(StoreErrorKind::Invalid(problem.into()))
    }
}

impl Removed {
    /// Counts a message of an archived removal as its return would count it. The originals of replaced messages and
    /// cleared messages do not count.
    pub fn count_archived(&mut self, removal: &ArchivedRemoval, meta: &MessageMeta) {
        let place = meta.sequence;
        let receipt = removal.receipt.as_ref();
        if removal.cause == RemovalCause::Clear || removal.has_original(place) {
            return;
        }
        self.classes.entry(meta.class()).or_default().add(meta.tokens);
        let is_summarized = receipt.is_some_and(|receipt| receipt.summarized.contains(place));
        let is_evicted = receipt.map_or(removal.cause == RemovalCause::Flush, |receipt| {
            receipt.evicted.contains(place)
        });
        let count = if meta.is_summary() {
            &mut self.summaries
        } else if is_summarized {
            &mut self.summarized
        } else if is_evicted {
            &mut self.evicted
        } else {
            &mut self.withdrawn
        };
        *count = count.saturating_add(1);
    }
}

/// The memory that another one was forked from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkOrigin {
    /// The key of that memory.
    pub key: MemoryKey,
    /// The place of the last message that the fork took.
    pub at: Sequence,
    /// The number of writes of that memory at the time.
    pub version: u64,
    /// The time, by the clock of the store or process that made the fork.
    pub forked_at: Timestamp,
    /// The id that the caller gave to the fork, by which a repeated call is recognized. Forks of earlier versions have
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
}

/// One step of writing a copy of a memory under an absent key.
///
/// The steps are [`Begin`](CopyStep::Begin), then the messages in ascending order, then each archived removal in
/// ascending order, then [`Finish`](CopyStep::Finish).
#[derive(Debug, Clone, PartialEq)]
pub struct CopyWrite {
    /// The id of the copy, by which steps that are sent again and a copy that is resumed are recognized.
    pub copy: Uuid,
    /// A random number of the attempt, so that a late step of an earlier attempt is refused. An attempt begins with
    /// [`CopyStep::Begin`], and from then on only its steps are taken.
    pub attempt: u64,
    /// The step.
    pub step: CopyStep,
}

/// A step of a copy.
#[derive(Debug, Clone, PartialEq)]
pub enum CopyStep {
    /// Begins the copy, or resumes it in this attempt. An unfinished copy with another id is discarded.
    Begin,
    /// Present messages, ascending. Those at places that the copy has come to are skipped.
    Messages(Vec<StoredMessage>),
    /// Messages of an archived removal, ascending; skipped as above.
    Archived {
        /// The removal.
        removal: Box<ArchivedRemoval>,
        /// Some of its messages.
        messages: Vec<StoredMessage>,
        /// The tallies of all messages of the removal, with its last ones.
        end: Option<Removed>,
    },
    /// Completes the copy, from which moment on it is a memory like any other.
    Finish {
        /// The frame of the source.
        frame: Box<Frame>,
        /// The number of removals of the copy.
        removals: u64,
    },
    /// Removes an unfinished copy, whatever its id.
    Discard,
}

/// How far a copy has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CopyProgress {
    /// Whether the copy is complete. The memory may have been written since.
    pub complete: bool,
    /// The place of the last message.
    pub last: Sequence,
    /// The number of the last removal that is complete.
    pub removal: u64,
}

/// Whether a copy has all archived removals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopiedRemovals {
    /// It has as many as it should, and each has its last messages.
    Complete,
    /// It has not.
    Incomplete,
}

impl CopyProgress {
    /// An unfinished copy that has come to these.
    #[must_use]
    pub const fn reached(last: Sequence, removal: u64) -> Self {
        Self { complete: false, last, removal }
    }

    /// A complete copy.
    #[must_use]
    pub const fn complete() -> Self {
        Self { complete: true, last: Sequence::ZERO, removal: 0 }
    }
}
