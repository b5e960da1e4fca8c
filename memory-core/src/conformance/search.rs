//! Searches, which find the same in every store.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use uuid::Uuid;

use super::archive::{FOREVER, HOUR, eviction, filled, places, summary};
use super::replace::replace;
use super::{Case, Subject, batch, cases_of, key, message, writer};
use crate::dialect::ToolCall;
use crate::search::scan;
use crate::store::{
    Access, Append, Clear, Erase, FoundIn, MAX_SEARCH_HITS, MessageId, NewMessage, Retention,
    SearchCoverage, SearchQuery, SearchResults, SearchScope, StoreErrorKind,
};
use crate::{MemoryKey, Message, Role, Sequence};

pub(super) const CASES: &[Case] = cases_of![
    search_finds_words_and_phrases,
    search_finds_each_acknowledged_message,
    search_finds_words_of_scripts_without_spaces,
    search_reads_calls_and_results,
    search_filters_by_role_and_time,
    search_ranks_and_limits_hits,
    unusable_queries_are_refused,
    search_of_many_hits_is_continued,
    memories_are_searched_apart,
    search_finds_replaced_texts_only,
    expired_and_cleared_messages_are_not_found,
    evicted_messages_are_not_found,
    rebuilt_index_finds_the_same,
];

pub(super) const ARCHIVE_CASES: &[Case] = cases_of![
    needs: Archive,
    archived_messages_are_found,
    summary_and_original_are_found_at_one_place,
    restored_messages_are_found_once,
    dropped_removals_are_not_found,
    overdue_removals_are_not_found,
    long_archive_is_searched_in_parts,
];

pub(super) const ERASURE_CASES: &[Case] = cases_of![
    needs: ErasureAndArchive,
    erased_messages_are_not_found,
];

pub(super) const ROLLBACK_CASES: &[Case] = cases_of![
    needs: Rollback,
    search_after_a_rollback_finds_what_is_there,
];

impl Subject {
    /// Checks that a search finds what a scan of all messages finds.
    pub(super) async fn check_search(&self, key: &MemoryKey) {
        let query = SearchQuery::new("t*");
        let found = self.store.search(key, &query).await.unwrap();
        let scanned = scan(&*self.store, key, &query).await.unwrap();
        assert_eq!(
            (found.hits, found.matches, found.coverage),
            (scanned.hits, scanned.matches, scanned.coverage),
            "a search differs from a scan",
        );
    }

    async fn search(&self, key: &MemoryKey, query: &SearchQuery) -> SearchResults {
        let results = self.store.search(key, query).await.unwrap();
        for hit in &results.hits {
            assert!(!hit.snippet.matches.is_empty(), "{hit:?}");
        }
        results
    }

    /// The places of the hits, ascending; an archived one is negative.
    async fn found(&self, key: &MemoryKey, text: &str) -> Vec<i64> {
        let results = self.search(key, &SearchQuery::new(text)).await;
        assert_eq!(results.coverage, SearchCoverage::Complete);
        assert_eq!(results.matches, results.hits.len() as u64);
        let mut places: Vec<_> = results
            .hits
            .iter()
            .map(|hit| {
                let place = i64::try_from(hit.sequence.number()).unwrap();
                if hit.found_in == FoundIn::Present { place } else { -place }
            })
            .collect();
        places.sort_unstable();
        places
    }
}

async fn search_finds_words_and_phrases(subject: Subject) {
    let k = key("k");
    let texts = ["The ferry leaves at nine", "nine ferries", "At nine, the ferry leaves", "Café"];
    subject.append(&k, writer(1).write(1), &texts).await;
    assert_eq!(subject.found(&k, "FERRY nine").await, [1, 3]);
    assert_eq!(subject.found(&k, "\"at nine\" ferry").await, [1, 3]);
    assert_eq!(subject.found(&k, "\"nine ferry\"").await, [0_i64; 0]);
    assert_eq!(subject.found(&k, "ferr*").await, [1, 2, 3]);
    assert_eq!(subject.found(&k, "ferr").await, [0_i64; 0]);
    assert_eq!(subject.found(&k, "cafe").await, [4]);
    // Nothing in a query is an operator.
    for query in ["ferry OR", "NOT ferry", "ferry AND NEAR(", "text:ferry"] {
        assert_eq!(subject.found(&k, query).await, [0_i64; 0], "{query}");
    }
    assert_eq!(subject.found(&k, "-ferry ^nine ((\"").await, [1, 3]);
    let results = subject.search(&k, &SearchQuery::new("leaves")).await;
    let hit = &results.hits[1];
    assert_eq!((hit.sequence, &hit.role, hit.summary), (Sequence::new(1), &Role::User, false));
    assert_eq!(hit.snippet.text, texts[0]);
    let found = hit.snippet.matches.iter().map(|range| hit.snippet.text.get(range.clone()));
    assert!(found.eq([Some("leaves")]));
    assert_eq!(hit.created_at, message("a").created_at);
}

async fn search_finds_each_acknowledged_message(subject: Subject) {
    let k = key("k");
    assert_eq!(subject.found(&k, "message").await, [0_i64; 0]);
    for number in 1..=5 {
        let text = format!("message number{number}");
        subject.append(&k, writer(1).write(number), &[&text]).await;
        let place = i64::try_from(number).unwrap();
        assert_eq!(subject.found(&k, &format!("number{number}")).await, [place]);
        assert_eq!(subject.found(&k, "message").await.len() as u64, number);
    }
}

async fn search_finds_words_of_scripts_without_spaces(subject: Subject) {
    let k = key("k");
    let texts = [
        "渡轮每天早上九点出发",
        "フェリーは毎朝九時に出発します",
        "เรือข้ามฟากออกทุกเช้า",
        "페리는 매일 아침 출발합니다",
        "नौका हर सुबह निकलती है",
        "العبّارة تغادر كل صباح",
    ];
    subject.append(&k, writer(1).write(1), &texts).await;
    let words = ["早上", "毎朝", "เช้า", "아침", "सुबह", "صباح"];
    for (word, place) in words.into_iter().zip(1..) {
        assert_eq!(subject.found(&k, word).await, [place], "{word}");
    }
    assert_eq!(subject.found(&k, "九").await, [1, 2]);
}

async fn search_reads_calls_and_results(subject: Subject) {
    let k = key("k");
    let call = ToolCall::function("c1", "get_weather", r#"{"city":"Oslo","note":"a\nline"}"#);
    let messages = [Message::calls([call]), Message::tool_result("c1", "rain in Oslo")];
    let messages = messages.into_iter().map(|one| NewMessage { message: one, ..message("m") });
    let append = Append { messages: messages.collect(), ..batch(writer(1).write(1), &[]) };
    subject.store.append(&k, Access::OPEN, &append).await.unwrap();
    assert_eq!(subject.found(&k, "oslo").await, [1, 2]);
    assert_eq!(subject.found(&k, "get_weather").await, [1]);
    assert_eq!(subject.found(&k, "\"a line\"").await, [1]);
    assert_eq!(subject.found(&k, "rain").await, [2]);
}

async fn search_filters_by_role_and_time(subject: Subject) {
    let k = key("k");
    let start = subject.clock.now();
    let hour = |hours: u32| start.checked_add(HOUR * hours).unwrap();
    let message = |message: Message, hours| NewMessage {
        message,
        created_at: hour(hours),
        ..super::message("m")
    };
    let messages = vec![
        message(Message::user("alpha one"), 0),
        message(Message::assistant("alpha two"), 1),
        message(Message::user("alpha three"), 2),
    ];
    let append = Append { messages: messages.into(), ..batch(writer(1).write(1), &[]) };
    subject.store.append(&k, Access::OPEN, &append).await.unwrap();
    let all = SearchQuery::new("alpha");
    let cases = [
        (all.clone().with_role(Role::User), &[1, 3][..]),
        (all.clone().with_role("assistant"), &[2]),
        (all.clone().with_role("user").with_role("assistant"), &[1, 2, 3]),
        (all.clone().with_since(hour(1)), &[2, 3]),
        (all.clone().with_until(hour(1)), &[1]),
        (all.clone().with_since(hour(1)).with_until(hour(2)), &[2]),
        (all.clone().with_before(Sequence::new(3)), &[1, 2]),
        (all.clone().with_before(Sequence::ZERO), &[]),
        (all.clone().with_before(Sequence::new(9)), &[1, 2, 3]),
        (all.clone().with_scope(SearchScope::Present), &[1, 2, 3]),
        (all.with_scope(SearchScope::Archived), &[]),
    ];
    for (query, expected) in cases {
        let results = subject.search(&k, &query).await;
        let found: BTreeSet<_> = results.hits.iter().map(|hit| hit.sequence.number()).collect();
        assert!(found.iter().eq(expected), "{query:?}: {found:?}");
    }
}

async fn search_ranks_and_limits_hits(subject: Subject) {
    let k = key("k");
    let long = format!("oslo {}", "word ".repeat(300));
    subject.append(&k, writer(1).write(1), &["oslo oslo", &long, "oslo trip", "oslo trip"]).await;
    let results = subject.search(&k, &SearchQuery::new("oslo")).await;
    let order: Vec<_> = results.hits.iter().map(|hit| hit.sequence.number()).collect();
    assert_eq!(order, [1, 4, 3, 2]);
    let two = SearchQuery::new("oslo").with_limit(NonZeroUsize::new(2).unwrap());
    let limited = subject.search(&k, &two).await;
    assert_eq!((limited.matches, &limited.hits[..]), (4, &results.hits[..2]));
}

async fn unusable_queries_are_refused(subject: Subject) {
    let k = filled(&subject).await;
    let too_many = NonZeroUsize::new(MAX_SEARCH_HITS + 1).unwrap();
    let queries = [
        SearchQuery::new(""),
        SearchQuery::new("\" * - \""),
        SearchQuery::new("a".repeat(1_001)),
        SearchQuery::new("a ".repeat(200)),
        SearchQuery::new("one").with_limit(too_many),
    ];
    for query in queries {
        let refused = subject.store.search(&k, &query).await.unwrap_err();
        assert!(matches!(refused.kind(), StoreErrorKind::Invalid(_)), "{refused}");
        let unwritten = subject.store.search(&key("none"), &query).await.unwrap_err();
        assert!(matches!(unwritten.kind(), StoreErrorKind::Invalid(_)), "{unwritten}");
    }
}

/// Continues a search until it is complete.
async fn all_hits(
    subject: &Subject,
    key: &MemoryKey,
    mut query: SearchQuery,
) -> Vec<(u64, FoundIn)> {
    let mut all = Vec::new();
    loop {
        let results = subject.search(key, &query).await;
        assert!(results.hits.len() <= query.limit.get());
        all.extend(results.hits.iter().map(|hit| (hit.sequence.number(), hit.found_in)));
        let Some(before) = results.coverage.next() else { return all };
        assert!(query.before.is_none_or(|last| before < last));
        assert!(results.hits.iter().all(|hit| hit.sequence >= before));
        assert!(all.len() < 10_000, "a search does not end");
        query.before = Some(before);
    }
}

async fn search_of_many_hits_is_continued(subject: Subject) {
    let k = key("k");
    let texts: Vec<_> = (1..=1_100).map(|number| format!("alpha {number}")).collect();
    for (texts, number) in texts.chunks(550).zip(1..) {
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        subject.append(&k, writer(1).write(number), &texts).await;
    }
    let query = SearchQuery::new("alpha").with_limit(NonZeroUsize::new(MAX_SEARCH_HITS).unwrap());
    let first = subject.search(&k, &query).await;
    assert!(matches!(first.coverage, SearchCoverage::Partial { .. }));
    let mut places: Vec<_> = all_hits(&subject, &k, query).await;
    places.sort_unstable();
    assert!(places.iter().map(|(place, _)| *place).eq(1..=1_100));
    let one = SearchQuery::new("alpha 7");
    assert_eq!(all_hits(&subject, &k, one).await, [(7, FoundIn::Present)]);
}

async fn memories_are_searched_apart(subject: Subject) {
    let (a, b) = (key("a"), key("b"));
    subject.append(&a, writer(1).write(1), &["alpha"]).await;
    subject.append(&b, writer(1).write(1), &["beta", "alpha"]).await;
    subject.append(&a, writer(1).write(2), &["gamma"]).await;
    assert_eq!(subject.found(&a, "alpha").await, [1]);
    assert_eq!(subject.found(&b, "alpha").await, [2]);
    assert_eq!(subject.found(&a, "beta").await, [0_i64; 0]);
    assert_eq!(subject.found(&a, "gamma").await, [2]);
}

async fn search_finds_replaced_texts_only(subject: Subject) {
    let k = filled(&subject).await;
    assert_eq!(subject.found(&k, "one").await, [2]);
    let outline = subject.checked_outline(&k).await;
    let request = replace(writer(2).write(1), &outline, 2, message("other"));
    subject.store.replace(&k, Access::OPEN, &request).await.unwrap();
    assert_eq!(subject.found(&k, "one").await, [0_i64; 0]);
    assert_eq!(subject.found(&k, "other").await, [2]);
}

async fn expired_and_cleared_messages_are_not_found(subject: Subject) {
    let k = key("k");
    let append = |number| Append { ttl: Some(HOUR), ..batch(writer(1).write(number), &["alpha"]) };
    subject.store.append(&k, Access::OPEN, &append(1)).await.unwrap();
    assert_eq!(subject.found(&k, "alpha").await, [1]);
    subject.clock.advance(HOUR);
    assert_eq!(subject.found(&k, "alpha").await, [0_i64; 0]);
    subject.append(&k, writer(1).write(2), &["beta"]).await;
    assert_eq!(subject.found(&k, "alpha").await, [0_i64; 0]);
    assert_eq!(subject.found(&k, "beta").await, [1]);
    let clear = Clear::new(writer(1).write(3));
    subject.store.clear(&k, Access::OPEN, &clear).await.unwrap();
    assert_eq!(subject.found(&k, "beta").await, [0_i64; 0]);
    subject.append(&k, writer(1).write(4), &["gamma"]).await;
    assert_eq!(subject.found(&k, "gamma").await, [2]);
}

async fn evicted_messages_are_not_found(subject: Subject) {
    let k = filled(&subject).await;
    assert_eq!(subject.found(&k, "three").await, [4]);
    subject.flush(&k, 1, summary(&[2, 4], "*sum"), None).await;
    assert_eq!(subject.found(&k, "three").await, [0_i64; 0]);
    assert_eq!(subject.found(&k, "one").await, [0_i64; 0]);
    assert_eq!(subject.found(&k, "sum").await, [2]);
    let results = subject.search(&k, &SearchQuery::new("sum")).await;
    assert!(results.hits[0].summary);
}

async fn rebuilt_index_finds_the_same(subject: Subject) {
    let k = filled(&subject).await;
    let before = subject.search(&k, &SearchQuery::new("t*")).await.hits;
    assert_eq!(before.len(), 2);
    let head = subject.checked_outline(&k).await.head;
    if let Some(indexed) = subject.store.rebuild_index(&k).await.unwrap() {
        assert_eq!(indexed, 5);
    }
    assert_eq!(subject.search(&k, &SearchQuery::new("t*")).await.hits, before);
    assert_eq!(subject.checked_outline(&k).await.head, head, "an index is not a change");
    subject.store.rebuild_index(&key("none")).await.unwrap();
}

async fn archived_messages_are_found(subject: Subject) {
    let k = filled(&subject).await;
    assert_eq!(subject.found(&k, "one").await, [2]);
    subject.flush(&k, 1, eviction(&[2, 3]), Some(FOREVER)).await;
    let removal = subject.removals(&k).await[0].number;
    assert_eq!(subject.found(&k, "one").await, [-2]);
    assert_eq!(subject.found(&k, "t*").await, [-3, 4]);
    let hit = subject.search(&k, &SearchQuery::new("one")).await.hits.remove(0);
    assert_eq!(hit.found_in, FoundIn::Archived { removal });
    for (scope, expected) in [(SearchScope::Present, 4), (SearchScope::Archived, 3)] {
        let results = subject.search(&k, &SearchQuery::new("t*").with_scope(scope)).await;
        let found: Vec<_> = results.hits.iter().map(|hit| hit.sequence.number()).collect();
        assert_eq!(found, [expected]);
    }
    let clear = Clear { archive: Some(FOREVER), ..Clear::new(writer(2).write(1)) };
    subject.store.clear(&k, Access::OPEN, &clear).await.unwrap();
    assert_eq!(subject.found(&k, "t*").await, [-4, -3]);
}

async fn summary_and_original_are_found_at_one_place(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, summary(&[2, 3], "*text one"), Some(FOREVER)).await;
    assert_eq!(subject.found(&k, "one").await, [-2, 2]);
    subject.flush(&k, 2, summary(&[2, 4], "*last one"), Some(FOREVER)).await;
    assert_eq!(subject.found(&k, "one").await, [-2, -2, 2]);
    assert_eq!(subject.found(&k, "text").await, [-2]);
    let outline = subject.checked_outline(&k).await;
    let request = replace(writer(2).write(1), &outline, 2, message("other"));
    subject.store.replace(&k, Access::OPEN, &request).await.unwrap();
    assert_eq!(subject.found(&k, "one").await, [-2, -2]);
    assert_eq!(subject.found(&k, "last").await, [0_i64; 0]);
}

async fn restored_messages_are_found_once(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 7, summary(&[2, 3], "*text"), Some(FOREVER)).await;
    assert_eq!(subject.found(&k, "t*").await, [-3, 2, 4]);
    subject.restore(&k, 1, 7).await;
    assert_eq!(subject.found(&k, "t*").await, [3, 4]);
    assert_eq!(subject.found(&k, "one").await, [2]);
}

async fn dropped_removals_are_not_found(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, summary(&[2, 3], "*text"), Some(FOREVER)).await;
    assert_eq!(subject.found(&k, "one").await, [-2]);
    let mut small = FOREVER;
    small.max_bytes = 60;
    subject.flush(&k, 2, summary(&[2, 4], "*last"), Some(small)).await;
    assert!(subject.removals(&k).await.len() < 2);
    assert_eq!(subject.found(&k, "one").await, [0_i64; 0]);
    subject.check_search(&k).await;
    assert_eq!(subject.found(&k, "last").await, [2]);
    let clear = Clear::new(writer(2).write(1));
    subject.store.clear(&k, Access::OPEN, &clear).await.unwrap();
    assert_eq!(subject.found(&k, "last").await, [0_i64; 0]);
}

async fn overdue_removals_are_not_found(subject: Subject) {
    let k = filled(&subject).await;
    let hour = Some(Retention::keep_for(HOUR));
    subject.flush(&k, 1, eviction(&[2]), hour).await;
    assert_eq!(subject.found(&k, "one").await, [-2]);
    subject.clock.advance(HOUR);
    assert_eq!(subject.found(&k, "one").await, [0_i64; 0]);
    subject.flush(&k, 2, eviction(&[3]), hour).await;
    assert_eq!(subject.found(&k, "one").await, [0_i64; 0]);
    assert_eq!(subject.found(&k, "two").await, [-3]);
}

async fn long_archive_is_searched_in_parts(subject: Subject) {
    let k = key("k");
    let texts: Vec<_> = (1..=1_100).map(|number| format!("alpha {number}")).collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    subject.append(&k, writer(1).write(1), &texts).await;
    let clear = Clear { archive: Some(FOREVER), ..Clear::new(writer(2).write(1)) };
    subject.store.clear(&k, Access::OPEN, &clear).await.unwrap();
    subject.append(&k, writer(1).write(2), &["alpha new"]).await;
    let query = SearchQuery::new("alpha").with_limit(NonZeroUsize::new(MAX_SEARCH_HITS).unwrap());
    let mut hits = all_hits(&subject, &k, query).await;
    hits.sort_unstable();
    assert!(hits.iter().map(|(place, _)| *place).eq(1..=1_101));
    let present = hits.iter().filter(|(_, found_in)| *found_in == FoundIn::Present);
    assert!(present.map(|(place, _)| *place).eq([1_101]));
    assert_eq!(all_hits(&subject, &k, SearchQuery::new("\"alpha 3\"")).await.len(), 1);
}

async fn erased_messages_are_not_found(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, summary(&[2, 3], "*text"), Some(FOREVER)).await;
    assert_eq!(subject.found(&k, "t*").await, [-3, 2, 4]);
    let places = places(&[2, 4]).into_iter().collect();
    let erase = Erase { write: writer(2).write(1), places, reason: "test".into() };
    subject.store.erase(&k, Access::OPEN, &erase).await.unwrap();
    assert_eq!(subject.found(&k, "t*").await, [-3]);
    assert_eq!(subject.found(&k, "one").await, [0_i64; 0]);
    subject.check_search(&k).await;
}

async fn search_after_a_rollback_finds_what_is_there(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["alpha", "beta"]).await;
    assert_eq!(subject.found(&k, "beta").await, [2]);
    subject.keep().await;
    let other = |number, text: &str| {
        let mut append = batch(writer(1).write(number), &[text]);
        let id = MessageId::new(Uuid::from_u128(u128::from(number)));
        append.messages = vec![NewMessage { id, ..message(text) }].into();
        append
    };
    subject.store.append(&k, Access::OPEN, &other(2, "gamma")).await.unwrap();
    assert_eq!(subject.found(&k, "gamma").await, [3]);
    subject.clock.advance(Duration::from_secs(1));
    subject.go_back().await;
    assert_eq!(subject.found(&k, "gamma").await, [0_i64; 0]);
    subject.store.append(&k, Access::OPEN, &other(3, "delta")).await.unwrap();
    assert_eq!(subject.found(&k, "delta").await, [3]);
    assert_eq!(subject.found(&k, "gamma").await, [0_i64; 0]);
}
