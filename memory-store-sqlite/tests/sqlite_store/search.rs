//! The index for searches: when it is written, and what it must not lose or keep.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::{append, batch, checked_outline, key, message, write};
use memory_core::store::{
    Access, Append, Clear, ExpiredMemories, FlushReceipt, Indexing, RemoveUnused, Replace,
    Retention, SearchQuery, SearchResults, Splice, UnusedQuery,
};
use memory_core::{Clock, InMemoryStore, MemoryKey, MemoryStore, Sequence};
use memory_store_sqlite::{SqliteConfig, SqliteStore};
use rusqlite::Connection;
use tempfile::TempDir;
use uuid::Uuid;

async fn opened(limit: u64) -> (TempDir, PathBuf, SqliteStore) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let config = SqliteConfig::new(&path).with_unindexed_limit(limit);
    let store = SqliteStore::open(config).await.unwrap();
    (folder, path, store)
}

async fn search(store: &SqliteStore, key: &MemoryKey, words: &str) -> SearchResults {
    store.search(key, &SearchQuery::new(words)).await.unwrap()
}

fn count(path: &Path, table: &str) -> i64 {
    let file = Connection::open(path).unwrap();
    file.query_row(&format!("SELECT count(*) FROM {table}"), (), |row| row.get(0)).unwrap()
}

fn numbered(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("message number{number}")).collect()
}

#[tokio::test]
async fn few_new_messages_are_scanned() {
    let (_folder, path, store) = opened(3).await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["one", "two", "three"]).await.unwrap();
    assert_eq!(search(&store, &k, "two").await.matches, 1);
    assert_eq!((count(&path, "indexed"), count(&path, "word_docsize")), (0, 0));
    append(&store, &k, write(1, 2), &["four"]).await.unwrap();
    let found = search(&store, &k, "two").await;
    assert_eq!((found.matches, found.looked_at), (1, 1), "the index names one message");
    assert_eq!((count(&path, "indexed"), count(&path, "word_docsize")), (1, 4));
    append(&store, &k, write(1, 3), &["five"]).await.unwrap();
    let found = search(&store, &k, "five").await;
    assert_eq!((found.matches, count(&path, "word_docsize")), (1, 4), "the fifth is scanned");
}

#[tokio::test]
async fn long_memory_is_indexed_in_parts() {
    let (_folder, path, store) = opened(128).await;
    let k = key("k");
    for (texts, number) in numbered(2_500).chunks(500).zip(1..) {
        let append = batch(write(1, number), texts);
        store.append(&k, Access::OPEN, &append).await.unwrap();
    }
    let head = store.head(&k).await.unwrap();
    let found = search(&store, &k, "number1234").await;
    assert_eq!((found.matches, found.hits[0].sequence), (1, Sequence::new(1_234)));
    assert!(found.looked_at <= 129 && found.coverage.next().is_none());
    assert!(count(&path, "word_docsize") >= 2_500 - 128);
    assert_eq!(store.head(&k).await.unwrap(), head, "the index is no change of the memory");
    // The rest of the file is as before: another handle finds the same.
    let other = SqliteStore::open(path.clone()).await.unwrap();
    assert_eq!(search(&other, &k, "number1234").await.hits, found.hits);
}

#[tokio::test]
async fn search_without_indexing_writes_nothing() {
    let (_folder, path, store) = opened(0).await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["one", "two"]).await.unwrap();
    let found = async |word: &str| {
        let query = SearchQuery::new(word).with_indexing(Indexing::Forbidden);
        let found = store.search(&k, &query).await.unwrap();
        assert!(found.coverage.next().is_none());
        found.matches
    };
    assert_eq!(found("two").await, 1);
    assert_eq!((count(&path, "indexed"), count(&path, "word_docsize")), (0, 0));
    // The index is read, and the rest is scanned.
    search(&store, &k, "two").await;
    append(&store, &k, write(1, 2), &["three"]).await.unwrap();
    assert_eq!((found("two").await, found("three").await), (1, 1));
    assert_eq!((count(&path, "indexed"), count(&path, "word_docsize")), (1, 2));
}

#[tokio::test]
async fn searches_meet_writers() {
    let (_folder, _, store) = opened(0).await;
    let (k, store) = (key("k"), std::sync::Arc::new(store));
    let tasks = (0..4_u64).map(|task| {
        let (store, k) = (store.clone(), k.clone());
        tokio::spawn(async move {
            for number in 1..=20 {
                let text = format!("task{task} number{number}");
                append(&*store, &k, write(task.into(), number), &[&text]).await.unwrap();
                let query = format!("task{task} number{number}");
                assert_eq!(search(&store, &k, &query).await.matches, 1, "{text}");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(search(&store, &k, "number20").await.matches, 4);
}

/// Another process holds the write lock, so the index cannot follow.
#[tokio::test]
async fn busy_file_is_searched_without_the_index() {
    let (_folder, path, store) = opened(0).await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["one", "two"]).await.unwrap();
    drop(store);
    let config = SqliteConfig::new(&path)
        .with_unindexed_limit(0)
        .with_operation_timeout(Duration::from_millis(20));
    let store = SqliteStore::open(config).await.unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(search(&store, &k, "two").await.matches, 1);
    assert_eq!(count(&path, "word_docsize"), 0);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(search(&store, &k, "two").await.matches, 1);
    assert_eq!(count(&path, "word_docsize"), 2);
}

#[tokio::test]
async fn damaged_index_is_ignored_and_built_again() {
    let (_folder, path, store) = opened(0).await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["one", "two", "three"]).await.unwrap();
    assert_eq!(search(&store, &k, "t*").await.matches, 2);
    drop(store);
    let file = Connection::open(&path).unwrap();
    // The pages of terms; the first two rows are the structure of the index.
    let pages = file.execute("UPDATE word_data SET block = x'ffffffff' WHERE id > 10", ()).unwrap();
    assert!(pages > 0);
    drop(file);
    let config = SqliteConfig::new(&path).with_unindexed_limit(0);
    let store = SqliteStore::open(config).await.unwrap();
    assert_eq!(search(&store, &k, "t*").await.matches, 2);
    // Removing messages works, and so does building the index again.
    let outline = checked_outline(&store, &k).await;
    let splice = Splice { evicted: vec![Sequence::new(2)], ..Splice::of(&outline) };
    store.splice(&k, Access::OPEN, &splice).await.unwrap();
    assert_eq!(store.rebuild_index(&k).await.unwrap(), Some(2));
    let found = search(&store, &k, "t*").await;
    assert_eq!((found.matches, found.looked_at), (1, 1));
}

#[tokio::test]
async fn removed_memory_leaves_the_index() {
    let clock = Clock::manual();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let config = SqliteConfig::new(&path).with_unindexed_limit(0).with_clock(clock.clone());
    let store = SqliteStore::open(config).await.unwrap();
    for name in ["a", "b"] {
        let ttl = (name == "a").then_some(Duration::from_secs(60));
        let append = Append { ttl, ..batch(write(1, 1), &numbered(10)) };
        store.append(&key(name), Access::OPEN, &append).await.unwrap();
        assert_eq!(search(&store, &key(name), "message").await.matches, 10);
    }
    assert_eq!((count(&path, "word_docsize"), count(&path, "indexed")), (20, 2));
    clock.advance(Duration::from_secs(60));
    let query = UnusedQuery {
        prefix: String::new(),
        after: None,
        expired: ExpiredMemories::Selected,
        unwritten_for: None,
        limit: NonZeroUsize::MAX,
    };
    let memory = store.unused(&query).await.unwrap().memories.remove(0);
    let few = RemoveUnused::new(&memory, NonZeroUsize::new(4).unwrap());
    while store.remove(&memory.key, few).await.unwrap().more {}
    assert_eq!((count(&path, "word_docsize"), count(&path, "indexed")), (10, 1));
    assert_eq!(search(&store, &key("b"), "message").await.matches, 10);
    append(&store, &key("a"), write(2, 1), &["new message"]).await.unwrap();
    assert_eq!(search(&store, &key("a"), "message").await.matches, 1);
}

/// How many places the index has for a word, also a word that no message has any more.
fn documents(path: &Path, word: &str) -> i64 {
    let file = Connection::open(path).unwrap();
    let sql = "SELECT count(*) FROM word WHERE word MATCH ?1";
    file.query_row(sql, [word], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn replaced_text_leaves_the_index() {
    let (_folder, path, store) = opened(3).await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["one", "two", "three", "four"]).await.unwrap();
    assert_eq!(search(&store, &k, "two").await.matches, 1);
    let outline = checked_outline(&store, &k).await;
    let replace = Replace {
        write: write(2, 1),
        sequence: Sequence::new(2),
        replaced: outline.metas[1].id,
        message: message("another"),
    };
    store.replace(&k, Access::OPEN, &replace).await.unwrap();
    assert_eq!((documents(&path, "two"), documents(&path, "four")), (0, 1));
    // The new text is scanned until more is new.
    assert_eq!(search(&store, &k, "another").await.matches, 1);
    assert_eq!((documents(&path, "another"), count(&path, "stale")), (0, 1));
    append(&store, &k, write(1, 2), &["five", "six", "seven"]).await.unwrap();
    assert_eq!(search(&store, &k, "another").await.matches, 1);
    assert_eq!((documents(&path, "another"), count(&path, "stale")), (1, 0));
}

#[tokio::test]
async fn ended_archive_leaves_the_index() {
    let (_folder, path, store) = opened(0).await;
    let k = key("k");
    store.append(&k, Access::OPEN, &batch(write(1, 1), &numbered(6))).await.unwrap();
    assert_eq!(search(&store, &k, "message").await.matches, 6);
    let mut receipts = 0;
    for (evicted, max_bytes) in [(1, u64::MAX), (2, 40), (3, u64::MAX)] {
        receipts += 1;
        let outline = checked_outline(&store, &k).await;
        let mut archive = Retention::forever();
        archive.max_bytes = max_bytes;
        let evicted = vec![Sequence::new(evicted)];
        let mut receipt =
            FlushReceipt::new(Uuid::from_u128(receipts), "test", jiff::Timestamp::UNIX_EPOCH);
        receipt.evicted = evicted.iter().copied().collect();
        let splice = Splice {
            evicted,
            receipt: Some(receipt),
            archive: Some(archive),
            ..Splice::of(&outline)
        };
        store.splice(&k, Access::OPEN, &splice).await.unwrap();
    }
    // The size ended the first two removals, not the third.
    assert_eq!(["number1", "number2"].map(|word| documents(&path, word)), [0, 0]);
    assert_eq!((documents(&path, "number3"), documents(&path, "number4")), (1, 1));
    let clear = Clear { archive: Some(Retention::forever()), ..Clear::new(write(2, 1)) };
    store.clear(&k, Access::OPEN, &clear).await.unwrap();
    assert_eq!(documents(&path, "number4"), 1);
    store.clear(&k, Access::OPEN, &Clear::new(write(2, 2))).await.unwrap();
    assert_eq!((count(&path, "word_docsize"), count(&path, "stale")), (0, 0));
}

/// The words of each language are found by the index.
#[tokio::test]
async fn words_of_all_languages_are_found() {
    const LANGUAGES: &str = include_str!("../../../memory-core/tests/data/languages.jsonl");
    let (_folder, _, store) = opened(0).await;
    let k = key("k");
    let texts: Vec<String> = LANGUAGES
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["text"].as_str().unwrap().to_owned())
        .collect();
    store.append(&k, Access::OPEN, &batch(write(1, 1), &texts)).await.unwrap();
    for (text, place) in texts.iter().zip(1..) {
        let words: Vec<_> = text.split_whitespace().collect();
        let from_middle = words.iter().cycle().skip(words.len() / 2);
        let mut with_letters = from_middle.filter(|word| word.chars().any(char::is_alphanumeric));
        // Scripts without spaces have few; a part of one is a word too.
        let long = with_letters.next().unwrap().chars().collect::<Vec<_>>();
        let middle = long.len() / 2;
        let is_unspaced = words.len() < 3 && long[middle] > '\u{e00}';
        let part = if is_unspaced { &long[middle..middle + 2] } else { &long[..] };
        let word: String = part.iter().collect();
        let found = search(&store, &k, &word).await;
        let places: Vec<_> = found.hits.iter().map(|hit| hit.sequence.number()).collect();
        assert!(places.contains(&place), "{word}: {places:?}");
    }
}

/// The places named by the index are those of one snapshot with the messages.
#[tokio::test]
async fn store_and_reference_agree_on_a_long_history() {
    let (_folder, _, store) = opened(10).await;
    let (reference, k) = (InMemoryStore::new(Clock::manual()), key("k"));
    for (texts, number) in numbered(900).chunks(30).zip(1..) {
        let append = batch(write(1, number), texts);
        for store in [&store as &dyn MemoryStore, &reference] {
            store.append(&k, Access::OPEN, &append).await.unwrap();
        }
        for words in ["number1*", "number29*", "\"message number7\"", "message"] {
            let query = SearchQuery::new(words).with_limit(NonZeroUsize::new(50).unwrap());
            let expected = reference.search(&k, &query).await.unwrap();
            let found = store.search(&k, &query).await.unwrap();
            assert_eq!((found.hits, found.matches), (expected.hits, expected.matches));
        }
    }
}
