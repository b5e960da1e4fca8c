//! Answers to operations.

use memory_core::store::Counters;

use super::{Hit, Item, Refusal, Removed, Rewrote, Settings, Tag};

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The batch is stored.
    Appended {
        /// The place of its first message, if reported.
        first: Option<u64>,
        /// Whether it had been stored before.
        duplicate: bool,
        /// The counters after it.
        totals: Totals,
    },
    /// The flush is done.
    Spliced(Totals),
    /// The memory was changed under the flush, or is not at the expected version.
    Conflict,
    /// The prompt is stored: the change, and its place.
    Ensured(Ensured, u64),
    /// All messages were removed.
    Cleared,
    /// The removal was undone.
    Undone,
    /// The removal cannot be undone.
    NotUndone(Refusal),
    /// The message was replaced.
    Replaced,
    /// There is no message to replace.
    NotThere,
    /// The outcome of rewriting a summary.
    Rewrote(Rewrote),
    /// The priorities and content types at all places.
    Settings(Vec<(u64, Settings)>),
    /// The receipts, newest first: their ids, and those of their summaries.
    Receipts(Vec<(u128, Option<u128>)>),
    /// The generation and the version of a state that a copy took.
    Version((u64, u64)),
    /// The places whose present messages were erased, and those whose archived ones were.
    Erased(Vec<u64>, Vec<u64>),
    /// The archived removals, newest first.
    Removals(Vec<Removed>),
    /// The archived messages of a removal, or those that a summary replaced.
    Archived(Vec<(u64, Item)>),
    /// The messages of agents that a search found.
    Found(Vec<Hit>),
    /// The content of places, and the generation if it was reported.
    Page(Vec<(u64, Item)>, Option<u64>),
    /// The content of the places before a position, and the rest of the page if it was reported.
    Before(Vec<(u64, Item)>, Option<Backward>),
    /// The messages of a window in their order, `None` for a summary; and the place of the newest message of the version
    /// that it reported, if it did.
    Window(Vec<Option<Tag>>, Option<u64>),
    /// No window fits the budget.
    NoWindow,
    /// The counters.
    Counted(Totals),
    /// The operation was not applied.
    Nothing,
}

impl Answer {
    /// The content of places, if the answer has it.
    pub(crate) fn places(&self) -> Option<&[(u64, Item)]> {
        match self {
            Self::Page(places, _) | Self::Before(places, _) => Some(places),
            _ => None,
        }
    }

    /// The counters, if the answer has them.
    pub(crate) const fn totals(&self) -> Option<&Totals> {
        match self {
            Self::Appended { totals, .. } | Self::Spliced(totals) | Self::Counted(totals) => {
                Some(totals)
            }
            _ => None,
        }
    }
}

/// The rest of a page that was read backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backward {
    /// The generation of the page.
    pub generation: u64,
    /// The page has the newest messages, because the position was not valid.
    pub restarted: bool,
    /// There are older messages.
    pub more: bool,
}

/// The change that stored a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    /// Nothing.
    Unchanged,
    /// It was appended.
    Appended,
    /// It took the place of another text.
    Replaced,
}

/// The counters of a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Totals {
    /// Stored messages, summaries included.
    pub present: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Stored summaries.
    pub summaries: u64,
    /// Messages ever appended.
    pub appended: u64,
    /// Messages replaced by summaries.
    pub summarized: u64,
    /// Messages evicted.
    pub evicted: u64,
    /// Messages cleared.
    pub cleared: u64,
    /// Messages taken back.
    pub withdrawn: u64,
}

impl From<&Counters> for Totals {
    fn from(counters: &Counters) -> Self {
        Self {
            present: counters.present.messages,
            tokens: counters.present.tokens,
            summaries: counters.summaries,
            appended: counters.appended,
            summarized: counters.summarized,
            evicted: counters.evicted,
            cleared: counters.cleared,
            withdrawn: counters.withdrawn,
        }
    }
}
