//! The contract between a memory and the backend that stores it.

mod access;
mod append;
mod catch_up;
mod clear;
mod contract;
mod copy;
mod cursor;
mod durability;
mod erase;
mod error;
mod fork;
mod generation;
mod in_memory;
mod operation;
mod read;
mod replace;
mod replace_all;
mod restore;
mod splice;
mod state;
mod unused;
mod update_metadata;
mod version;
mod watch;

pub use self::access::Access;
pub use self::append::{Append, AppendOutcome, Appended};
pub use self::catch_up::{CaughtUp, KnownBatch, MAX_KNOWN_BATCHES};
pub use self::clear::{Clear, ClearReceipt, Cleared};
pub use self::contract::MemoryStore;
pub use self::copy::{
    COPY_LIFETIME, CopiedRemovals, CopyProgress, CopyStep, CopyWrite, ForkOrigin, Frame,
    FrameWriters, WriterRecord,
};
pub use self::cursor::{Cursor, Newest};
pub use self::durability::Durability;
pub use self::erase::Erase;
pub use self::error::{StoreError, StoreErrorKind};
pub use self::fork::{Fork, Forked};
pub use self::generation::Generation;
pub use self::in_memory::{InMemoryStore, SavedMemories};
pub use self::operation::StoreOperation;
pub use self::read::{Head, Outline, Page, PageLimit, Read};
pub use self::replace::Replace;
pub use self::replace_all::{ReplaceAll, ReplacedAll};
pub use self::restore::{FLUSH_HELD, Restore};
pub use self::splice::{Removed, Replacement, Splice};
pub use self::state::MemoryState;
pub use self::unused::{
    ExpiredMemories, RemoveUnused, RemovedUnused, UnusedMemory, UnusedPage, UnusedQuery,
};
pub use self::update_metadata::UpdateMetadata;
pub use self::version::Version;
pub use self::watch::{LocalWatch, LocalWatchers, StoreWatch};
pub use crate::applied::Applied;
pub use crate::archive::{ArchivedRemoval, RemovalCause, RestoreRefusal, Retention};
pub use crate::counters::{Counters, Tally};
pub use crate::erasure::{
    AffectedSummary, Erased, Erasure, Evidence, KEPT_ERASURES, RemainingCopy, Scrubbed,
};
pub use crate::key::{KeyPattern, KeyPrefix};
pub use crate::metadata::{Metadata, MetadataError, MetadataPatch};
pub use crate::receipt::{
    FlushReceipt, KEPT_RECEIPTS, ReplacedRecord, SequenceSet, Shortfall, SummaryRecord,
};
pub use crate::search::{
    FoundIn, Indexing, MAX_SEARCH_HITS, SearchCoverage, SearchHit, SearchQuery, SearchResults,
    SearchScope, Snippet,
};
pub use crate::stored::{MessageId, MessageMeta, NewMessage};
pub use crate::undone::receipts_in_effect;
pub use crate::write::{KEPT_SESSIONS, SESSION_LIFETIME, SESSION_RETENTION, WriteId, WriterId};
