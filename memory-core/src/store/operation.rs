//! The operations of a store, as named in its errors.

use std::fmt;

/// The operation of a store in which a [`StoreError`](super::StoreError) arose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreOperation {
    /// Opening the store.
    Open,
    /// Appending a batch.
    Append,
    /// Replacing a message.
    Replace,
    /// Replacing all messages.
    ReplaceAll,
    /// Committing a flush, or closing calls.
    Splice,
    /// Clearing a memory.
    Clear,
    /// Undoing a removal.
    Restore,
    /// Erasing messages.
    Erase,
    /// Updating the metadata.
    UpdateMetadata,
    /// Overwriting the remains of removed messages in the store's files.
    Scrub,
    /// Writing a copy, a fork or a restored backup.
    Copy,
    /// Raising the newest fencing token.
    Claim,
    /// Removing an unused memory.
    Remove,
    /// Reading a memory: its head, messages, outline or receipts.
    Read,
    /// Searching a memory, or building its index.
    Search,
    /// Watching a memory for changes.
    Watch,
    /// Listing the keys of memories.
    ListKeys,
    /// Listing unused memories.
    ListUnused,
    /// Measuring the storage that is used.
    Measure,
    /// Asking for the state of the server.
    AskServer,
}

impl StoreOperation {
    /// The operation in words that a key can follow, as in "append to".
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Append => "append to",
            Self::Replace => "replace a message of",
            Self::ReplaceAll => "replace all messages of",
            Self::Splice => "flush",
            Self::Clear => "clear",
            Self::Restore => "undo a removal of",
            Self::Erase => "erase messages of",
            Self::UpdateMetadata => "update the metadata of",
            Self::Scrub => "scrub",
            Self::Copy => "copy to",
            Self::Claim => "claim",
            Self::Remove => "remove",
            Self::Read => "read from",
            Self::Search => "search",
            Self::Watch => "watch",
            Self::ListKeys => "list the keys",
            Self::ListUnused => "list unused memories",
            Self::Measure => "measure",
            Self::AskServer => "ask the server of",
        }
    }
}

impl fmt::Display for StoreOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
