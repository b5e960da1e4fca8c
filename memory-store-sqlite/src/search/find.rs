//! The search of one snapshot.

use std::iter::Peekable;

use memory_core::sibling::{SearchPattern, SearchRanking};
use memory_core::store::{SearchQuery, SearchResults};
use memory_core::{MemoryKey, Sequence};
use memory_sqlite_file::{SqliteErrorKind, classify};
use rusqlite::params;

use super::places::{Places, sequence_of};
use super::unindexed::stale_places;
use crate::codec::{HeadRow, int};
use crate::commands::indexed_to;
use crate::error::JobError;
use crate::readers::FileSnapshot;
use crate::reads::live;

/// The most places without a message that a search passes over, such as those of messages that were removed since they
/// were indexed.
const MOST_GAPS: usize = 1 << 16;

/// Whether the index is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Index {
    Used,
    /// It is damaged.
    Ignored,
}

pub(super) fn find(
    db: &FileSnapshot<'_>,
    key: &MemoryKey,
    query: &SearchQuery,
) -> Result<Option<SearchResults>, JobError> {
    if db.brief {
        return Ok(None);
    }
    match find_with(db, key, query, Index::Used) {
        Err(JobError::Sqlite(error)) if classify(&error) == SqliteErrorKind::Corrupt => {
            tracing::warn!(%error, "the index for searches is damaged; build it again");
            find_with(db, key, query, Index::Ignored).map(Some)
        }
        found => found.map(Some),
    }
}

fn find_with(
    db: &FileSnapshot<'_>,
    key: &MemoryKey,
    query: &SearchQuery,
    index: Index,
) -> Result<SearchResults, JobError> {
    let mut ranking = SearchRanking::new(query)?;
    let Some(row) = live(db, key)?.filter(|row| row.id != 0) else {
        return Ok(ranking.into_results(None));
    };
    let indexed = match index {
        Index::Used => indexed_to(db.connection, row.id)?.unwrap_or_default(),
        Index::Ignored => Sequence::ZERO,
    };
    let last = match query.before {
        Some(before) => row.head.last.min(Sequence::new(before.number().saturating_sub(1))),
        None => row.head.last,
    };
    let places = Places::new(db, key, &row, query.scope)?;
    let (mut covered, mut gaps) = (None, 0);
    let mut look = |place: Sequence| -> Result<bool, JobError> {
        let found =
            places.visit(place, &mut |found_in, message| ranking.look(message, found_in))?;
        gaps += usize::from(found == 0);
        covered = (ranking.is_full() || gaps >= MOST_GAPS).then_some(place);
        Ok(covered.is_some())
    };
    // From the newest place to the oldest: first those after the index, then those that the index names.
    let mut end = last.plus(1);
    while let Some(place) = places.before(end)?.filter(|place| *place > indexed) {
        if look(place)? {
            return Ok(ranking.into_results(covered));
        }
        end = place;
    }
    if indexed.min(last) == Sequence::ZERO {
        return Ok(ranking.into_results(covered));
    }
    let pattern = SearchPattern::parse(&query.text)?;
    each_candidate(db, &row, &pattern, indexed.min(last), &mut look)?;
    Ok(ranking.into_results(covered))
}

/// Calls `look` with each place that the index names, and each one whose words in the index may be old, from the newest to
/// the oldest, until it returns true.
fn each_candidate(
    db: &FileSnapshot<'_>,
    row: &HeadRow,
    pattern: &SearchPattern,
    last: Sequence,
    look: &mut dyn FnMut(Sequence) -> Result<bool, JobError>,
) -> Result<(), JobError> {
    let (first, last) = (row.first_place(), row.first_place() | int(last.number()));
    let stale = stale_places(db, row, u64::MAX)?;
    let mut stale = stale.into_iter().filter(|place| *place <= last).peekable();
    let mut select = db.connection.prepare_cached(CANDIDATES)?;
    let mut named = select.query(params![match_expression(pattern), first, last])?;
    while let Some(candidate) = named.next()? {
        let candidate = candidate.get::<_, i64>(0)?;
        while let Some(place) = stale.next_if(|place| *place >= candidate) {
            if place != candidate && look(sequence_of(place))? {
                return Ok(());
            }
        }
        if look(sequence_of(candidate))? {
            return Ok(());
        }
    }
    drop_rest(stale, look)
}

fn drop_rest(
    stale: Peekable<impl Iterator<Item = i64>>,
    look: &mut dyn FnMut(Sequence) -> Result<bool, JobError>,
) -> Result<(), JobError> {
    for place in stale {
        if look(sequence_of(place))? {
            break;
        }
    }
    Ok(())
}

/// The pattern in FTS5's language. Terms have letters, digits and marks only, so no part of a query is an operator or
/// ends a string.
fn match_expression(pattern: &SearchPattern) -> String {
    let mut expression = String::new();
    for clause in pattern.clauses() {
        expression.push_str(if expression.is_empty() { "\"" } else { " AND \"" });
        for (index, term) in clause.terms.iter().enumerate() {
            expression.push_str(if index == 0 { "" } else { " " });
            expression.extend(term.chars().filter(|letter| *letter != '"'));
        }
        expression.push_str(if clause.is_prefix { "\" *" } else { "\"" });
    }
    expression
}

const CANDIDATES: &str = "
SELECT rowid FROM word WHERE word MATCH ?1 AND rowid BETWEEN ?2 AND ?3 ORDER BY rowid DESC";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_quoted() {
        let cases = [
            ("Ferry \"at nine\"", r#""ferry" AND "at nine""#),
            ("refund* 猫", r#""refund" * AND "猫" *"#),
            ("a\" OR NEAR(b", r#""a" AND "or near b""#),
            ("'; DROP--", r#""drop""#),
        ];
        for (query, expected) in cases {
            let pattern = SearchPattern::parse(query).unwrap();
            assert_eq!(match_expression(&pattern), expected);
        }
    }
}
