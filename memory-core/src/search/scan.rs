//! A search by reads, for stores without an index.

use std::num::NonZeroUsize;

use super::{FoundIn, SearchQuery, SearchRanking, SearchResults};
use crate::key::MemoryKey;
use crate::store::MemoryStore;
use crate::store::{
    ArchivedRemoval, Cursor, Generation, StoreError, StoreErrorKind, StoreOperation,
};
use crate::stored::{Sequence, StoredMessage};

/// The messages and removals that are read at once.
const AT_ONCE: NonZeroUsize = match NonZeroUsize::new(256) {
    Some(number) => number,
    None => NonZeroUsize::MIN,
};

/// The number of attempts while the memory changes.
const ATTEMPTS: usize = 5;

/// Looks at the messages from the newest place to the oldest, within the bounds of [`SearchRanking`].
///
/// The reads are of one generation, so they see what one snapshot would: a message that moves to the archive changes
/// the generation.
pub(crate) async fn scan<S: MemoryStore + ?Sized>(
    store: &S,
    key: &MemoryKey,
    query: &SearchQuery,
) -> Result<SearchResults, StoreError> {
    let refused = |kind| StoreError::new(StoreOperation::Search, kind).not_applied().at(key);
    SearchRanking::new(query).map_err(refused)?;
    for _ in 0..ATTEMPTS {
        let ranking = SearchRanking::new(query).map_err(refused)?;
        if let Some(results) = attempt(store, key, query, ranking).await? {
            return Ok(results);
        }
    }
    Err(refused(StoreErrorKind::Conflict))
}

/// `None` if the memory changed meanwhile.
async fn attempt<S: MemoryStore + ?Sized>(
    store: &S,
    key: &MemoryKey,
    query: &SearchQuery,
    mut ranking: SearchRanking,
) -> Result<Option<SearchResults>, StoreError> {
    let head = store.head(key).await?;
    let generation = head.generation;
    if generation == Generation::NONE {
        return Ok(Some(ranking.into_results(None)));
    }
    let removals =
        if query.scope.has_archived() { all_removals(store, key).await? } else { vec![] };
    let mut end = query.before.unwrap_or(Sequence::new(u64::MAX));
    let mut present = Present::new(query, generation, head.last);
    let covered = loop {
        if !present.fill(store, key).await? {
            return Ok(None);
        }
        let archived = removals.iter().filter_map(|removal| last_before(removal, end)).max();
        let Some(top) = present.next().max(archived) else { break None };
        // A window below which the present messages have been read already.
        let width = u64::try_from(AT_ONCE.get()).unwrap_or(u64::MAX).saturating_sub(1);
        let floor = Sequence::new(top.number().saturating_sub(width));
        let floor = floor.max(present.read_from());
        let mut window = present.take_from(floor);
        for removal in &removals {
            read_removal(store, key, removal, (floor, top), &mut window).await?;
        }
        window.sort_by_key(|(found_in, one)| (std::cmp::Reverse(one.meta.sequence), *found_in));
        if let Some(before) = look_at(&mut ranking, window) {
            break Some(before);
        }
        end = floor;
    };
    let unchanged = store.head(key).await?.generation == generation;
    Ok(unchanged.then(|| ranking.into_results(covered)))
}

/// Looks at messages in descending order of their places; returns the last place if the search is full.
pub(crate) fn look_at(
    ranking: &mut SearchRanking,
    messages: impl IntoIterator<Item = (FoundIn, StoredMessage)>,
) -> Option<Sequence> {
    let mut last = None;
    for (found_in, message) in messages {
        let place = message.meta.sequence;
        if let Some(last) = last.filter(|last| *last != place && ranking.is_full()) {
            return Some(last);
        }
        last = Some(place);
        ranking.look(message, found_in);
    }
    last.filter(|_| ranking.is_full())
}

/// The last place of a removal before this one.
fn last_before(removal: &ArchivedRemoval, end: Sequence) -> Option<Sequence> {
    let ranges = removal.places.ranges().iter().rev();
    let mut before = ranges.filter(|(first, _)| *first < end);
    let last_possible = Sequence::new(end.number().saturating_sub(1));
    before.next().map(|(_, last)| (*last).min(last_possible))
}

async fn all_removals<S: MemoryStore + ?Sized>(
    store: &S,
    key: &MemoryKey,
) -> Result<Vec<ArchivedRemoval>, StoreError> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let page = store.removals(key, before, AT_ONCE).await?;
        let Some(oldest) = page.last() else { return Ok(all) };
        before = Some(oldest.number);
        all.extend(page);
    }
}

/// Adds the messages of a removal in a range of places.
async fn read_removal<S: MemoryStore + ?Sized>(
    store: &S,
    key: &MemoryKey,
    removal: &ArchivedRemoval,
    (first, last): (Sequence, Sequence),
    window: &mut Vec<(FoundIn, StoredMessage)>,
) -> Result<(), StoreError> {
    let mut ranges = removal.places.ranges().iter();
    if !ranges.any(|(from, to)| *from <= last && first <= *to) {
        return Ok(());
    }
    let mut after = Sequence::new(first.number().saturating_sub(1));
    loop {
        let page = store.archived(key, removal.number, after, AT_ONCE.into()).await?;
        let Some(newest) = page.last() else { return Ok(()) };
        after = newest.meta.sequence;
        let found_in = FoundIn::Archived { removal: removal.number };
        let within = page.into_iter().take_while(|one| one.meta.sequence <= last);
        window.extend(within.map(|one| (found_in, one)));
        if after >= last {
            return Ok(());
        }
    }
}

/// The present messages that were read and not looked at, in ascending order.
struct Present {
    messages: Vec<StoredMessage>,
    /// The position of the next read backward; `None` for the newest messages.
    cursor: Option<Cursor>,
    more: bool,
}

impl Present {
    fn new(query: &SearchQuery, generation: Generation, last: Sequence) -> Self {
        let before = query.before.filter(|before| *before <= last);
        let cursor = before.map(|before| Cursor::unidentified(generation, before));
        Self { messages: Vec::new(), cursor, more: query.scope.has_present() }
    }

    /// Reads a page if none is left; returns whether the memory is unchanged.
    async fn fill<S: MemoryStore + ?Sized>(
        &mut self,
        store: &S,
        key: &MemoryKey,
    ) -> Result<bool, StoreError> {
        // A page may have nothing but messages that cannot be decoded.
        while self.messages.is_empty() && self.more {
            let page = store.read_before(key, self.cursor, AT_ONCE).await?;
            if page.restarted {
                return Ok(false);
            }
            (self.messages, self.more, self.cursor) = (page.messages, page.more, Some(page.cursor));
        }
        Ok(true)
    }

    fn next(&self) -> Option<Sequence> {
        self.messages.last().map(|newest| newest.meta.sequence)
    }

    /// The place from which on all present messages were read.
    fn read_from(&self) -> Sequence {
        let first = self.messages.first().map(|first| first.meta.sequence);
        first.filter(|_| self.more).unwrap_or_default()
    }

    fn take_from(&mut self, floor: Sequence) -> Vec<(FoundIn, StoredMessage)> {
        let kept = self.messages.partition_point(|one| one.meta.sequence < floor);
        self.messages.drain(kept..).map(|one| (FoundIn::Present, one)).collect()
    }
}

#[cfg(test)]
mod tests;
