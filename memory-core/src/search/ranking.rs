//! The hits among the messages that a search looks at.

use std::cmp::Reverse;

use super::pattern::{Occurrences, SearchPattern};
use super::snippet::Snippet;
use super::{FoundIn, MAX_SEARCH_HITS, SearchCoverage, SearchHit, SearchQuery, SearchResults};
use crate::store::StoreErrorKind;
use crate::stored::{MessageMeta, Sequence, StoredMessage};

/// The most messages that one search reads.
const MOST_MESSAGES: u64 = 10_000;

/// The most bytes of text that one search reads, up to the last message.
const MOST_BYTES: u64 = 8 << 20;

/// Collects the hits of a search, from the newest place to the oldest.
///
/// Stores call [`look`](Self::look) with each message that may match, until [`is_full`](Self::is_full).
#[derive(Debug)]
pub struct SearchRanking {
    query: SearchQuery,
    pattern: SearchPattern,
    hits: Vec<(u64, FoundIn, StoredMessage)>,
    looked_at: u64,
    bytes: u64,
}

impl SearchRanking {
    /// A search that has looked at nothing.
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`] for a query without words, or one with too many; or for a limit over
    /// [`MAX_SEARCH_HITS`].
    pub fn new(query: &SearchQuery) -> Result<Self, StoreErrorKind> {
        let pattern = SearchPattern::parse(&query.text)?;
        if query.limit.get() > MAX_SEARCH_HITS {
            let problem = format!("a search returns at most {MAX_SEARCH_HITS} hits");
            return Err(StoreErrorKind::Invalid(problem));
        }
        Ok(Self { query: query.clone(), pattern, hits: Vec::new(), looked_at: 0, bytes: 0 })
    }

    /// The words to look for.
    #[must_use]
    pub const fn pattern(&self) -> &SearchPattern {
        &self.pattern
    }

    /// Whether a message with this metadata may be a hit, so that its text is needed.
    #[must_use]
    pub fn may_match(&self, meta: &MessageMeta) -> bool {
        let SearchQuery { since, until, before, .. } = &self.query;
        before.is_none_or(|before| meta.sequence < before)
            && since.is_none_or(|since| meta.created_at >= since)
            && until.is_none_or(|until| meta.created_at < until)
    }

    /// Looks at a message. Its place is not after that of the one before.
    pub fn look(&mut self, stored: StoredMessage, found_in: FoundIn) {
        self.looked_at = self.looked_at.saturating_add(1);
        let StoredMessage { meta, message } = &stored;
        let SearchQuery { roles, .. } = &self.query;
        let has_role = roles.is_empty() || roles.contains(message.role());
        if !has_role || !self.may_match(meta) {
            return;
        }
        let (found, bytes) = self.pattern.look(message);
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some(found) = found {
            self.hits.push((score(&found), found_in, stored));
        }
    }

    /// Whether the search must end before the next place.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.looked_at >= MOST_MESSAGES
            || self.bytes >= MOST_BYTES
            || self.hits.len() >= MAX_SEARCH_HITS
    }

    /// The results of a search that looked at all places, or only from `before` on.
    #[must_use]
    pub fn into_results(self, before: Option<Sequence>) -> SearchResults {
        let Self { query, pattern, mut hits, looked_at, .. } = self;
        let matches = u64::try_from(hits.len()).unwrap_or(u64::MAX);
        hits.sort_by_key(|(score, found_in, stored)| {
            (Reverse(*score), Reverse(stored.meta.sequence), *found_in)
        });
        hits.truncate(query.limit.get());
        let hits = hits.into_iter().map(|(score, found_in, StoredMessage { meta, message })| {
            let snippet = Snippet::of(&pattern, &message);
            let MessageMeta { sequence, id, content_type, created_at, summary, .. } = meta;
            let role = message.role().clone();
            SearchHit {
                sequence,
                id,
                role,
                content_type,
                created_at,
                summary,
                found_in,
                score,
                snippet,
            }
        });
        let coverage = match before.filter(|before| *before > Sequence::new(1)) {
            Some(before) => SearchCoverage::Partial { before },
            None => SearchCoverage::Complete,
        };
        SearchResults { hits: hits.collect(), matches, coverage, looked_at }
    }
}

/// The saturated frequency of each clause (BM25). The rarity of words is left out, because every hit has all clauses.
/// The typical length is a constant. So a score depends on the message alone, and is equal in all stores.
fn score(found: &Occurrences) -> u64 {
    const TYPICAL_WORDS: u64 = 100;
    let length = found.words.saturating_mul(90) / TYPICAL_WORDS;
    let scores = found.clauses.iter().map(|count| {
        let weighted = count.saturating_mul(100);
        weighted.saturating_mul(2_200) / weighted.saturating_add(30).saturating_add(length).max(1)
    });
    scores.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_words_in_short_messages_rank_first() {
        let score = |count, words| score(&Occurrences { clauses: vec![count], words, bytes: 0 });
        assert!(score(2, 10) > score(1, 10));
        assert!(score(1, 10) > score(1, 500));
        assert!(score(1, 5) > score(3, 5_000), "a long message has all words");
        assert!(score(u64::MAX, u64::MAX) <= 220_000);
    }
}
