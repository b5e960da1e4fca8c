//! Erasure: the removal of contents on demand, and its record.

mod plan;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::plan::{Erasable, ErasableRemoval, ErasurePlan};
use crate::counters::Counters;
use crate::receipt::SequenceSet;
use crate::store::{Generation, WriteId};
use crate::stored::{MessageId, Sequence};

/// The number of erasures that a store records for each memory: the most recent ones.
pub const KEPT_ERASURES: usize = 64;

/// The record of one erasure. It holds no message text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Erasure {
    /// The write that erased; a retry is answered with this record.
    pub write: WriteId,
    /// The reason, as the caller gave it.
    pub reason: String,
    /// The time, by the store's clock.
    pub erased_at: Timestamp,
    /// The generation after the erasure. Views of other processes that are of an earlier generation are dropped at
    /// their next read.
    pub generation: Generation,
    /// The places of which a present message was erased.
    pub present: SequenceSet,
    /// The places of which an archived message was erased. The place of a summary may be in both sets, because an
    /// original had it before.
    pub archived: SequenceSet,
    /// The places that had no message, neither present nor archived.
    pub not_found: SequenceSet,
    /// The number of erased messages, including summaries.
    pub messages: u64,
    /// The summaries that remain and were written from the erased messages, or may have been.
    pub summaries: Vec<AffectedSummary>,
}

impl Erasure {
    /// An erasure that found nothing. The caller sets the other fields.
    #[must_use]
    pub fn new(
        write: WriteId,
        reason: impl Into<String>,
        erased_at: Timestamp,
        generation: Generation,
    ) -> Self {
        Self {
            write,
            reason: reason.into(),
            erased_at,
            generation,
            present: SequenceSet::default(),
            archived: SequenceSet::default(),
            not_found: SequenceSet::default(),
            messages: 0,
            summaries: Vec::new(),
        }
    }
}

/// A summary that remains after an erasure and may repeat what was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AffectedSummary {
    /// Its place.
    pub sequence: Sequence,
    /// The id of its message.
    pub id: MessageId,
    /// The [number](crate::store::ArchivedRemoval::number) of the removal that archived it; `None` if it is present.
    pub removal: Option<u64>,
    /// How it is known that it was written from an erased message.
    pub evidence: Evidence,
}

impl AffectedSummary {
    /// A summary with a receipt that names an erased message; archived by this removal, or present.
    #[must_use]
    pub const fn new(sequence: Sequence, id: MessageId, removal: Option<u64>) -> Self {
        Self { sequence, id, removal, evidence: Evidence::Receipt }
    }
}

/// How it is known that a summary was written from an erased message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Evidence {
    /// A receipt says so, of this summary or of one that it was written from.
    Receipt,
    /// Its place suggests it: the receipt of the flush that removed an erased message is no longer kept, and the summary
    /// is not after that message; or it replaced a summary that was written from one.
    Place,
}

/// A place where a copy of an erased text may remain, out of the store's reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RemainingCopy {
    /// The write-ahead log of a SQLite file, until a checkpoint has copied it and later writes have overwritten it.
    /// [`MemoryStore::scrub`](crate::MemoryStore::scrub) truncates it.
    WriteAheadLog,
    /// Free space within a SQLite file: earlier writes moved the message. [`MemoryStore::scrub`](crate::MemoryStore::scrub)
    /// rewrites the file.
    FreeSpace,
    /// The index for searches of a SQLite file, until its parts are merged: single words of the text, which no search
    /// returns. [`MemoryStore::scrub`](crate::MemoryStore::scrub) merges them.
    SearchIndex,
    /// The append-only file of a Redis server, until it is rewritten (`BGREWRITEAOF`).
    AppendOnlyFile,
    /// The snapshot file (RDB) of a Redis server, until the next snapshot.
    Snapshot,
    /// Replicas, until they have applied the write.
    Replicas,
    /// Backups, and copies of files by the operating system or the disk.
    Backups,
    /// The store's log of all writes, until it is rewritten.
    WriteLog,
    /// Views of other processes, until their next read of the memory.
    OtherViews,
    /// Forks and copies of the memory, which are separate memories and keep the text. The memory does not know them;
    /// [`MemoryStore::origin`](crate::MemoryStore::origin) of a fork names this one.
    Forks,
}

impl RemainingCopy {
    /// The copy in words, with the end of its life.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WriteAheadLog => "the file's write-ahead log, until a checkpoint",
            Self::FreeSpace => {
                "free space of the file, until it is reused or the file is rewritten"
            }
            Self::SearchIndex => "words in the file's index for searches, until it is merged",
            Self::AppendOnlyFile => "the server's append-only file, until it is rewritten",
            Self::Snapshot => "the server's snapshot file, until the next snapshot",
            Self::Replicas => "replicas, until they have applied the write",
            Self::Backups => "backups",
            Self::WriteLog => "the store's log of writes, until it is rewritten",
            Self::OtherViews => "views of other processes, until their next read",
            Self::Forks => "forks and copies of the memory, until the text is erased there too",
        }
    }
}

/// The answer of a store to an erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Erased {
    /// The record, which the store keeps.
    pub erasure: Erasure,
    /// The counters after it.
    pub counters: Counters,
}

impl Erased {
    /// The answer with this record and these counters.
    #[must_use]
    pub const fn new(erasure: Erasure, counters: Counters) -> Self {
        Self { erasure, counters }
    }
}

/// The result of [`MemoryStore::scrub`](crate::MemoryStore::scrub).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scrubbed {
    /// The store's files have no remains of removed messages.
    Done,
    /// A reader or a writer, possibly of another process, was in the way; remains may be left. Try again.
    Busy,
    /// The store has no files that it could scrub.
    Unsupported,
}
