//! The search of a memory that is in this process.

use std::cmp::Reverse;

use jiff::Timestamp;

use super::MemoryState;
use crate::search::{FoundIn, SearchQuery, SearchRanking, SearchResults, look_at};
use crate::store::StoreErrorKind;
use crate::stored::StoredMessage;

impl MemoryState {
    /// [`MemoryStore::search`](crate::MemoryStore::search) at this time.
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`].
    pub fn search(
        &self,
        query: &SearchQuery,
        now: Timestamp,
    ) -> Result<SearchResults, StoreErrorKind> {
        let mut ranking = SearchRanking::new(query)?;
        if !self.is_alive(now) {
            return Ok(ranking.into_results(None));
        }
        let is_before =
            |one: &&StoredMessage| query.before.is_none_or(|before| one.meta.sequence < before);
        let mut all: Vec<(FoundIn, &StoredMessage)> = Vec::new();
        if query.scope.has_present() {
            let present = self.messages.values().filter(is_before);
            all.extend(present.map(|one| (FoundIn::Present, one)));
        }
        if query.scope.has_archived() {
            for kept in self.archive.kept(now) {
                let found_in = FoundIn::Archived { removal: kept.removal.number };
                all.extend(kept.messages.iter().filter(is_before).map(|one| (found_in, one)));
            }
        }
        all.sort_by_key(|(found_in, one)| (Reverse(one.meta.sequence), *found_in));
        let all = all.into_iter().map(|(found_in, one)| (found_in, one.clone()));
        let before = look_at(&mut ranking, all);
        Ok(ranking.into_results(before))
    }
}
