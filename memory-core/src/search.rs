//! Full text search over the messages of a memory, present and archived.

mod pattern;
mod ranking;
mod scan;
mod snippet;
mod texts;
mod words;

use std::fmt;
use std::num::NonZeroUsize;

use jiff::Timestamp;
use serde::Serialize;

pub use self::pattern::{SearchClause, SearchPattern, index_words};
pub use self::ranking::SearchRanking;
pub(crate) use self::scan::{look_at, scan};
pub use self::snippet::Snippet;
use crate::message::Role;
use crate::priority::ContentType;
use crate::stored::{MessageId, Sequence};

/// The most hits of one search, and of [`SearchQuery::limit`].
pub const MAX_SEARCH_HITS: usize = 1_000;

/// The default of [`SearchQuery::limit`].
const DEFAULT_LIMIT: NonZeroUsize = match NonZeroUsize::new(20) {
    Some(limit) => limit,
    None => NonZeroUsize::MIN,
};

/// The words to look for, and where.
///
/// A message is a hit if each word and each phrase of the query occurs in it: in its text, the model's reasoning, the
/// names and arguments of calls, or the results of tools. Upper and lower case, compatible forms and accents make no
/// difference.
///
/// - `ferry nine`: both words, in any order.
/// - `"at nine"`: these words in a row. So are the parts of `get_weather`, which has no space.
/// - `refund*`: words that begin so. Other words are found only as a whole.
/// - In Chinese, Japanese, Korean, Thai and other scripts without spaces a query is found anywhere in a text.
/// - Any other character separates words. There are no operators, so each text is a valid query if it has a word.
///
/// ```
/// use memory_core::store::{SearchQuery, SearchScope};
///
/// let query = SearchQuery::new("\"order 4711\" refund").with_scope(SearchScope::Archived);
/// assert_eq!(query.limit.get(), 20);
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SearchQuery {
    /// The words and phrases.
    pub text: String,
    /// Only messages of these roles; empty for all.
    pub roles: Vec<Role>,
    /// Only messages that were created at this time or later.
    pub since: Option<Timestamp>,
    /// Only messages that were created before this time.
    pub until: Option<Timestamp>,
    /// Present messages, archived ones, or both.
    pub scope: SearchScope,
    /// The most hits to return, the best ones; at most [`MAX_SEARCH_HITS`].
    pub limit: NonZeroUsize,
    /// Only messages before this place: to continue a search that did not look at all.
    pub before: Option<Sequence>,
    /// Whether the search may bring an index up to date.
    pub indexing: Indexing,
}

impl SearchQuery {
    /// Looks for this text in all messages, and returns the best 20 hits.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            roles: Vec::new(),
            since: None,
            until: None,
            scope: SearchScope::All,
            limit: DEFAULT_LIMIT,
            before: None,
            indexing: Indexing::Allowed,
        }
    }

    /// Only messages of this role, and of others that were given before.
    #[must_use]
    pub fn with_role(mut self, role: impl Into<Role>) -> Self {
        self.roles.push(role.into());
        self
    }

    /// Only messages that were created at this time or later.
    #[must_use]
    pub const fn with_since(mut self, since: Timestamp) -> Self {
        self.since = Some(since);
        self
    }

    /// Only messages that were created before this time.
    #[must_use]
    pub const fn with_until(mut self, until: Timestamp) -> Self {
        self.until = Some(until);
        self
    }

    /// Present messages, archived ones, or both (the default).
    #[must_use]
    pub const fn with_scope(mut self, scope: SearchScope) -> Self {
        self.scope = scope;
        self
    }

    /// The most hits to return.
    #[must_use]
    pub const fn with_limit(mut self, limit: NonZeroUsize) -> Self {
        self.limit = limit;
        self
    }

    /// Continues a search at the place that [`SearchCoverage::Partial`] names.
    #[must_use]
    pub const fn with_before(mut self, before: Sequence) -> Self {
        self.before = Some(before);
        self
    }

    /// Whether the search may bring an index up to date.
    #[must_use]
    pub const fn with_indexing(mut self, indexing: Indexing) -> Self {
        self.indexing = indexing;
        self
    }
}

impl fmt::Debug for SearchQuery {
    /// Without the text, which is as private as a message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text: _, roles, since, until, scope, limit, before, indexing } = self;
        f.debug_struct("SearchQuery")
            .field("roles", roles)
            .field("since", since)
            .field("until", until)
            .field("scope", scope)
            .field("limit", limit)
            .field("before", before)
            .field("indexing", indexing)
            .finish_non_exhaustive()
    }
}

/// Whether a search may write to an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Indexing {
    /// A store with an index brings it up to date first.
    #[default]
    Allowed,
    /// The search writes nothing: it reads the index and scans the messages that are not in it.
    Forbidden,
}

/// The messages that a search looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SearchScope {
    /// Present and archived messages.
    #[default]
    All,
    /// Present messages only.
    Present,
    /// Archived messages only.
    Archived,
}

impl SearchScope {
    /// Whether it includes present messages.
    #[must_use]
    pub const fn has_present(self) -> bool {
        matches!(self, Self::All | Self::Present)
    }

    /// Whether it includes archived messages.
    #[must_use]
    pub const fn has_archived(self) -> bool {
        matches!(self, Self::All | Self::Archived)
    }
}

/// A message that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SearchHit {
    /// Its place. An archived message may have the place of a present one, such as that of a summary.
    pub sequence: Sequence,
    /// Its id.
    pub id: MessageId,
    /// Its role.
    pub role: Role,
    /// Its content type.
    pub content_type: ContentType,
    /// Its creation time.
    pub created_at: Timestamp,
    /// It is a summary that a flush wrote.
    pub summary: bool,
    /// Where it is now.
    pub found_in: FoundIn,
    /// Its rank: higher if the words occur more often and the message is shorter. Scores of different queries cannot
    /// be compared.
    pub score: u64,
    /// The part of the text with the words.
    pub snippet: Snippet,
}

/// Where a message was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FoundIn {
    /// Among the present messages.
    Present,
    /// In the archive, in the [removal](super::store::ArchivedRemoval::number) with this number.
    Archived {
        /// The number of the removal.
        removal: u64,
    },
}

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SearchResults {
    /// The best hits, best first; of equal ones the newest first.
    pub hits: Vec<SearchHit>,
    /// The number of messages that match, of those that were looked at. More than [`hits`](Self::hits) if the limit
    /// cut them.
    pub matches: u64,
    /// How far the search looked.
    pub coverage: SearchCoverage,
    /// The number of messages that were read. An index leaves out most of those that do not match.
    pub looked_at: u64,
}

/// How far a search looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SearchCoverage {
    /// At all messages.
    Complete,
    /// Only at messages from this place on, because one search reads a bounded number of messages. Older ones are found by
    /// a query [before](SearchQuery::before) this place.
    Partial {
        /// The place at which to continue.
        before: Sequence,
    },
}

impl SearchCoverage {
    /// The place at which to continue; `None` if nothing is left.
    #[must_use]
    pub const fn next(self) -> Option<Sequence> {
        match self {
            Self::Complete => None,
            Self::Partial { before } => Some(before),
        }
    }
}
