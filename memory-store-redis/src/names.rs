//! The names of memories that a scan of all keys found, in bounded memory.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memory_core::MemoryKey;
use memory_core::store::UnusedQuery;
use tokio::time::Instant;

/// The number of names that a sweep keeps: it scans all keys once per this many memories. About 5 MB.
pub(crate) const KEPT_NAMES: usize = 50_000;
/// How long names are kept for the next page of a sweep.
const SWEEP_NAMES_LIFETIME: Duration = Duration::from_secs(600);

/// The first names of all that are added, without duplicates.
pub(crate) struct Names {
    names: BTreeSet<MemoryKey>,
    most: usize,
    /// Whether more exist.
    is_cut: bool,
}

impl Names {
    pub(crate) const fn new(most: usize) -> Self {
        Self { names: BTreeSet::new(), most, is_cut: false }
    }

    pub(crate) fn add(&mut self, name: MemoryKey) {
        let is_full = self.names.len() >= self.most;
        if is_full && self.names.last().is_none_or(|last| *last < name) {
            self.is_cut = true;
            return;
        }
        if self.names.insert(name) && is_full {
            self.names.pop_last();
            self.is_cut = true;
        }
    }

    pub(crate) fn into_ascending(self) -> Vec<MemoryKey> {
        self.names.into_iter().collect()
    }
}

/// The names that a sweep has found but not yet checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Ascending.
    pub(crate) names: Vec<MemoryKey>,
    /// Whether more names follow these.
    pub(crate) is_cut: bool,
}

impl From<Names> for Found {
    fn from(names: Names) -> Self {
        let is_cut = names.is_cut;
        Self { names: names.into_ascending(), is_cut }
    }
}

/// The names that the newest sweep found beyond its last page. The next page of the same sweep takes them
/// instead of scanning all keys again; a call that asks for anything else scans.
#[derive(Debug, Default)]
pub(crate) struct FoundNames(Mutex<Option<Rest>>);

#[derive(Debug)]
struct Rest {
    prefix: String,
    after: MemoryKey,
    found: Found,
    at: Instant,
}

impl FoundNames {
    fn rest(&self) -> MutexGuard<'_, Option<Rest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the names kept for this page. Each page gets them once, so that a listing that starts over is a
    /// new one.
    pub(crate) fn take(&self, query: &UnusedQuery) -> Option<Found> {
        let mut rest = self.rest();
        let next = rest.take_if(|rest| {
            query.after.as_ref() == Some(&rest.after) && query.prefix == rest.prefix
        });
        // No sweep waits that long, so it has ended.
        rest.take_if(|rest| rest.at.elapsed() > SWEEP_NAMES_LIFETIME);
        next.filter(|rest| rest.at.elapsed() <= SWEEP_NAMES_LIFETIME).map(|rest| rest.found)
    }

    /// Keeps the names to check after this key. If there are none, the next page scans.
    pub(crate) fn keep(&self, prefix: &str, after: &MemoryKey, found: Found) {
        if !found.names.is_empty() {
            let (prefix, after) = (prefix.to_owned(), after.clone());
            *self.rest() = Some(Rest { prefix, after, found, at: Instant::now() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use memory_core::store::ExpiredMemories;

    use super::*;

    fn key(name: &str) -> MemoryKey {
        MemoryKey::new("p", "m", name).unwrap()
    }

    fn found(most: usize, names: &[&str]) -> Found {
        let mut found = Names::new(most);
        names.iter().for_each(|name| found.add(key(name)));
        found.into()
    }

    #[test]
    fn first_names_are_kept() {
        let scanned = ["d", "a", "e", "b", "a", "c", "e"];
        for (most, expected, is_cut) in
            [(2, "ab", true), (4, "abcd", true), (5, "abcde", false), (9, "abcde", false)]
        {
            let names = expected.chars().map(|name| key(&name.to_string())).collect();
            assert_eq!(found(most, &scanned), Found { names, is_cut }, "{most}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_next_page_takes_found_keys() {
        let query = |prefix: &str, after: Option<&str>| UnusedQuery {
            prefix: prefix.into(),
            after: after.map(key),
            expired: ExpiredMemories::Selected,
            unwritten_for: None,
            limit: NonZeroUsize::MIN,
        };
        let kept = FoundNames::default();
        kept.keep("p:", &key("a"), found(9, &["b", "c"]));
        for other in [query("p:", None), query("p:", Some("b")), query("q:", Some("a"))] {
            assert_eq!(kept.take(&other), None);
        }
        assert_eq!(kept.take(&query("p:", Some("a"))), Some(found(9, &["b", "c"])));
        assert_eq!(kept.take(&query("p:", Some("a"))), None, "it was taken");
        kept.keep("p:", &key("a"), found(9, &["b"]));
        tokio::time::advance(2 * SWEEP_NAMES_LIFETIME).await;
        assert_eq!(kept.take(&query("p:", Some("a"))), None, "the sweep has ended");
    }
}
