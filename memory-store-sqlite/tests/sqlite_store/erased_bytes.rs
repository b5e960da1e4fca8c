//! A search of the file and its log for the bytes of erased messages.

use std::num::NonZeroUsize;
use std::path::Path;

use crate::support::{append, checked_outline, write};
use memory_core::store::{
    Access, Clear, Erase, FlushReceipt, MessageMeta, RemoveUnused, Retention, Scrubbed,
    SearchQuery, Splice, SummaryRecord, UnusedMemory,
};
use memory_core::{MemoryKey, MemoryStore as _, Message, Sequence};
use memory_store_sqlite::SqliteStore;
use uuid::Uuid;

const SECRET: &str = "needle-4929-1111";

/// A word of the secret, as it is in the index for searches.
const WORD: &str = "needle";

/// How often the secret is in the file or its log, while both are open.
fn found(path: &Path) -> usize {
    occurrences(path, SECRET)
}

fn occurrences(path: &Path, text: &str) -> usize {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let files = [path.to_owned(), log.into()];
    let bytes = files.iter().map(|file| std::fs::read(file).unwrap_or_default());
    bytes.map(|bytes| bytes.windows(text.len()).filter(|at| *at == text.as_bytes()).count()).sum()
}

/// Several memories whose rows share pages, so that appends split pages with the secret in them. Some messages are
/// flushed to the archive.
async fn filled(store: &SqliteStore) -> MemoryKey {
    let keys = ["a", "b", "c"].map(|name| MemoryKey::new("p", "m", name).unwrap());
    for number in 1..=60_u64 {
        for key in &keys {
            let long = "x".repeat(usize::try_from(number * 37 % 700).unwrap());
            let text = format!("{SECRET} {number} {long}");
            append(store, key, write(1, number), &[&text]).await.unwrap();
        }
    }
    let [erased, ..] = &keys;
    for key in &keys[1..] {
        let outline = checked_outline(store, key).await;
        let all = outline.metas.iter().map(|meta| meta.sequence).collect();
        let splice = Splice { evicted: all, ..Splice::of(&outline) };
        store.splice(key, Access::OPEN, &splice).await.unwrap();
    }
    let outline = checked_outline(store, erased).await;
    let summarized: Vec<_> = outline.metas[..30].iter().map(|meta| meta.sequence).collect();
    let mut summary = outline_summary();
    summary.message = Message::user("a summary without it");
    let mut receipt = FlushReceipt::new(Uuid::from_u128(1), "test", summary.created_at);
    receipt.summarized = summarized.iter().copied().collect();
    let mut record = SummaryRecord::new(summary.id, summarized[0], summary.tokens, "test");
    record.fallback = Some(format!("other: it said {SECRET}"));
    receipt.summary = Some(record);
    let splice = Splice {
        summarized,
        summary: Some(summary),
        receipt: Some(receipt),
        archive: Some(Retention::forever()),
        ..Splice::of(&outline)
    };
    store.splice(erased, Access::OPEN, &splice).await.unwrap();
    erased.clone()
}

fn outline_summary() -> memory_core::store::NewMessage {
    memory_core::store::NewMessage {
        id: memory_core::store::MessageId::new(Uuid::from_u128(77)),
        message: Message::user("a summary"),
        tokens: 3,
        priority: None,
        content_type: memory_core::ContentType::Conversation,
        created_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

async fn erase_all(store: &SqliteStore, key: &MemoryKey) {
    let places = (1..=60).map(Sequence::new).collect();
    let erase = Erase { write: write(2, 1), places, reason: "test".into() };
    let erased = store.erase(key, Access::OPEN, &erase).await.unwrap();
    // The summary has the first place.
    assert_eq!(erased.erasure.messages, 61);
    checked_outline(store, key).await;
}

#[tokio::test]
async fn scrubbed_file_has_no_byte_of_erased_messages() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let store = SqliteStore::open(path.clone()).await.unwrap();
    let key = filled(&store).await;
    assert!(found(&path) > 60);
    erase_all(&store, &key).await;
    assert_eq!(store.scrub().await.unwrap(), Scrubbed::Done);
    assert_eq!(found(&path), 0);
    // Other writes continue, also through another connection.
    append(&store, &key, write(1, 61), &["after"]).await.unwrap();
    drop(store);
    let again = SqliteStore::open(path.clone()).await.unwrap();
    assert_eq!(checked_outline(&again, &key).await.metas.len(), 1);
    assert_eq!(again.erasures(&key).await.unwrap().len(), 1);
    drop(again);
    assert_eq!(found(&path), 0);
}

#[tokio::test]
async fn file_keeps_bytes_without_erasure_or_scrub() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let store = SqliteStore::open(path.clone()).await.unwrap();
    let key = filled(&store).await;
    assert_eq!(store.scrub().await.unwrap(), Scrubbed::Done);
    // At least one copy of each message, and two of the receipt. Pages that were split may have more.
    assert!(found(&path) >= 60 + 2, "{}", found(&path));
    erase_all(&store, &key).await;
    assert!(found(&path) > 0, "the file is not rewritten yet");
}

/// With its archive, and the texts in its receipts.
#[tokio::test]
async fn scrubbed_file_has_no_deleted_memory() {
    for way in ["delete", "purge"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.db");
        let config = memory_store_sqlite::SqliteConfig::new(&path).with_unindexed_limit(0);
        let store = SqliteStore::open(config).await.unwrap();
        let key = filled(&store).await;
        assert_eq!(store.search(&key, &SearchQuery::new(WORD)).await.unwrap().matches, 60);
        if way == "delete" {
            delete(&store, &key).await;
        } else {
            store.clear(&key, Access::OPEN, &Clear::new(write(2, 1))).await.unwrap();
        }
        assert_eq!(store.scrub().await.unwrap(), Scrubbed::Done);
        assert_eq!((found(&path), in_index(&path), occurrences(&path, WORD)), (0, 0, 0), "{way}");
        assert!(checked_outline(&store, &key).await.metas.is_empty());
    }
}

async fn delete(store: &SqliteStore, key: &MemoryKey) {
    let outline = checked_outline(store, key).await;
    let (generation, version) = (outline.head.generation, outline.head.version);
    let mut listed = UnusedMemory::new(key.clone(), generation, version);
    listed.newest = outline.metas.last().map(MessageMeta::newest);
    let part = RemoveUnused::new(&listed, NonZeroUsize::new(25).unwrap());
    while store.remove(key, part).await.unwrap().more {}
}

/// Only rows that earlier writes moved need a scrub.
#[tokio::test]
async fn deleted_rows_are_overwritten() {
    for way in ["kept", "erase", "clear", "remove"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.db");
        let store = SqliteStore::open(path.clone()).await.unwrap();
        let key = MemoryKey::new("p", "m", "k").unwrap();
        append(&store, &key, write(1, 1), &["first", SECRET, "last"]).await.unwrap();
        let outline = checked_outline(&store, &key).await;
        match way {
            "erase" => {
                let places = [Sequence::new(2)].into_iter().collect();
                let erase = Erase { write: write(2, 1), places, reason: "test".into() };
                store.erase(&key, Access::OPEN, &erase).await.map(drop).unwrap();
            }
            "clear" => {
                store.clear(&key, Access::OPEN, &Clear::new(write(2, 1))).await.map(drop).unwrap();
            }
            "remove" => {
                let (generation, version) = (outline.head.generation, outline.head.version);
                let mut listed = UnusedMemory::new(key.clone(), generation, version);
                listed.newest = outline.metas.last().map(MessageMeta::newest);
                let remove = RemoveUnused::new(&listed, NonZeroUsize::new(99).unwrap());
                assert_eq!(store.remove(&key, remove).await.unwrap().messages, 3);
            }
            _ => {}
        }
        // The log repeats the row as it was written.
        let other = rusqlite::Connection::open(&path).unwrap();
        let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy: i64 = other.query_row(truncate, [], |row| row.get(0)).unwrap();
        assert_eq!((busy, found(&path)), (0, usize::from(way == "kept")), "{way}");
    }
}

#[tokio::test]
async fn reader_of_another_process_delays_a_scrub() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let config = memory_store_sqlite::SqliteConfig::new(&path)
        .with_operation_timeout(std::time::Duration::from_millis(100));
    let store = SqliteStore::open(config).await.unwrap();
    let key = filled(&store).await;
    let reader = rusqlite::Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM message").unwrap();
    erase_all(&store, &key).await;
    assert_eq!(store.scrub().await.unwrap(), Scrubbed::Busy);
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(store.scrub().await.unwrap(), Scrubbed::Done);
    assert_eq!(found(&path), 0);
}

/// The places of the index in the file: the rows of its tables, which have the words.
fn in_index(path: &Path) -> usize {
    let file = rusqlite::Connection::open(path).unwrap();
    let mut select = file.prepare("SELECT block FROM word_data").unwrap();
    let blocks = select.query_map((), |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let has = |block: Vec<u8>| block.windows(WORD.len()).any(|at| at == WORD.as_bytes());
    blocks.map(Result::unwrap).filter(|block| has(block.clone())).count()
}

#[tokio::test]
async fn scrub_takes_erased_words_out_of_the_index() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let config = memory_store_sqlite::SqliteConfig::new(&path).with_unindexed_limit(0);
    let store = SqliteStore::open(config).await.unwrap();
    let key = filled(&store).await;
    let query = SearchQuery::new(WORD);
    assert_eq!(store.search(&key, &query).await.unwrap().matches, 60);
    assert!(in_index(&path) > 0);
    // The same without an erasure keeps the words.
    assert_eq!(store.scrub().await.unwrap(), Scrubbed::Done);
    assert!(in_index(&path) > 0 && occurrences(&path, WORD) > 60);
    erase_all(&store, &key).await;
    assert_eq!(store.search(&key, &query).await.unwrap().matches, 0);
    assert_eq!(store.scrub().await.unwrap(), Scrubbed::Done);
    assert_eq!((in_index(&path), occurrences(&path, WORD)), (0, 0));
    append(&store, &key, write(1, 61), &["after"]).await.unwrap();
    assert_eq!(store.search(&key, &SearchQuery::new("after")).await.unwrap().matches, 1);
}
