//! Operations on one memory.

use memory_core::store::{NewMessage, Splice, Version};

use super::{Copied, Edit, Item, Piece, Written, bytes_of};

/// An operation on one memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Sends a batch; the same number means a retry of the same batch.
    Append {
        /// The number of the batch.
        batch: u32,
        /// Its messages.
        pieces: Vec<Piece>,
        /// The version at which alone it is appended.
        expected: Option<Expected>,
    },
    /// One request of a flush.
    Splice {
        /// The generation for which it was planned.
        generation: u64,
        /// The places that the summary replaces.
        summarized: Vec<u64>,
        /// The places that are evicted.
        evicted: Vec<u64>,
        /// The places that are taken back.
        withdrawn: Vec<u64>,
        /// The newest place that the planner saw.
        newest: Option<u64>,
        /// The messages in place of tool results, with their places.
        replaced: Vec<(u64, Written)>,
        /// The summary.
        summary: Option<Written>,
        /// The flush.
        receipt: Option<u128>,
        /// The version at which alone a rewind takes messages back.
        expected: Option<Expected>,
        /// It writes a summary anew, or removes it, and archives nothing.
        rewrites: bool,
    },
    /// The answer to a rewind that took nothing back: a conflict with this version, or no message.
    Rewind(Expected),
    /// Ensures the system prompt.
    Ensure {
        /// The number of the call.
        id: u32,
        /// The prompt.
        piece: Piece,
    },
    /// Removes everything; the same number means the same request.
    Clear(u32),
    /// Removes everything, and the archive.
    Purge(u32),
    /// Undoes the flush or the rewind with this receipt.
    Undo {
        /// The number of the call.
        id: u32,
        /// The receipt.
        receipt: u128,
    },
    /// Replaces the message at a place.
    Replace {
        /// The number of the call.
        id: u32,
        /// The place.
        place: u64,
        /// The new message. Its kind is that of the old one.
        piece: Piece,
    },
    /// Changes the priority or the content type of the message at a place.
    Edit {
        /// The number of the call.
        id: u32,
        /// The place.
        place: u64,
        /// The change.
        edit: Edit,
    },
    /// Has the summary with this id rewritten. Its requests are splices.
    Rewrite(u128),
    /// Replaces all messages by a batch; the same number means a retry.
    ReplaceAll {
        /// The number of the batch.
        batch: u32,
        /// Its messages.
        pieces: Vec<Piece>,
        /// The version at which alone it is done.
        expected: Option<Expected>,
    },
    /// Erases the messages at these places, present and archived.
    Erase {
        /// The number of the call.
        id: u32,
        /// The places.
        places: Vec<u64>,
    },
    /// Reads the list of archived removals.
    Removals,
    /// Reads the archived messages of the removal with this number.
    Archived(u64),
    /// Reads the archived messages that the summary with this id replaced.
    Originals(u128),
    /// A copy was reported as complete, so the memory exists.
    Copied,
    /// Searches for a word that all messages of agents contain.
    Search,
    /// Reads the priorities and content types of all messages.
    Settings,
    /// Reads the newest receipts.
    Receipts,
    /// A copy takes the state of the memory.
    Snapshot,
    /// A copy of the memory before it becomes the memory, which does not exist.
    Begin {
        /// The copy.
        copy: u128,
        /// The generation and the version of the state that it took.
        state: (u64, u64),
        /// The part that it took.
        copied: Copied,
        /// How many messages were ever appended to it, by its counters.
        appended: u64,
    },
    /// The same in one step: the copy takes the state that the memory before it has now.
    Fork {
        /// The copy.
        copy: u128,
        /// The generation that that memory must have.
        generation: u64,
        /// The place of the last message that it takes.
        at: u64,
    },
    /// Reads everything; with the turn, if this is its first read.
    Read(Option<u32>),
    /// Reads backward.
    Before {
        /// The position to read from; `None` for the end.
        position: Option<Position>,
        /// The most messages to return.
        limit: usize,
    },
    /// Reads a context window with this budget; with the turn, if this is its first read.
    Window(u64, Option<u32>),
    /// Reads the counters.
    Count,
    /// The server saves its state.
    Keep,
    /// The server rolls back to the last saved state.
    GoBack,
    /// The memory's TTL ends.
    Expire,
    /// The server deletes the memory, if it is as it was read.
    Delete {
        /// The generation that was read.
        generation: u64,
        /// The place of the newest message ever, if it was present.
        newest: Option<u64>,
    },
    /// The time for which all archived messages are kept ends.
    EndArchives,
    /// An operation that certainly was not applied.
    Nothing,
}

impl Call {
    /// Whether it certainly changes nothing.
    pub(crate) const fn is_read(&self) -> bool {
        matches!(
            self,
            Self::Read(_)
                | Self::Before { .. }
                | Self::Window(..)
                | Self::Count
                | Self::Removals
                | Self::Archived(_)
                | Self::Originals(_)
                | Self::Copied
                | Self::Search
                | Self::Settings
                | Self::Receipts
                | Self::Rewrite(_)
                | Self::Rewind(_)
                | Self::Nothing
        )
    }
}

/// The version that a conditional append expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The generation that was read.
    pub generation: u64,
    /// The newest message, with its place.
    pub newest: Option<(u64, Item)>,
}

impl Expected {
    /// A version that was read with these messages.
    pub(crate) fn at(version: Version, items: &[(u64, Item)]) -> Self {
        let generation = version.cursor().generation.number();
        Self { generation, newest: items.last().copied() }
    }
}

/// The position of a reader that pages backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The generation that was read.
    pub generation: u64,
    /// The place of the oldest message that was read.
    pub place: u64,
    /// That message.
    pub item: Item,
}

/// The strategy in the receipt of a summary that is written anew.
pub(crate) const REWRITE: &str = "rewrite";

/// A flush's request as a call.
pub(crate) fn call_of(splice: &Splice, expected: Option<Expected>) -> Call {
    let numbers = |places: &[memory_core::Sequence]| places.iter().map(|p| p.number()).collect();
    let written = |new: &NewMessage| Written {
        id: new.id.uuid().as_u128(),
        tokens: new.tokens,
        bytes: bytes_of(&new.message),
    };
    let replaced = splice.replaced.iter();
    Call::Splice {
        generation: splice.generation.number(),
        summarized: numbers(&splice.summarized),
        evicted: numbers(&splice.evicted),
        withdrawn: numbers(&splice.withdrawn),
        newest: splice.newest.map(|newest| newest.sequence.number()),
        replaced: replaced.map(|one| (one.sequence.number(), written(&one.message))).collect(),
        summary: splice.summary.as_ref().map(written),
        receipt: splice.receipt.as_ref().map(|receipt| receipt.id.as_u128()),
        expected,
        rewrites: splice.receipt.as_ref().is_some_and(|receipt| receipt.strategy == REWRITE),
    }
}
