//! Fuzzing: rows and files that were damaged, or written by another program.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use crate::support::{append, key, write};
use memory_core::store::{
    Access, Clear, FlushReceipt, Read, Restore, Retention, SearchQuery, Splice, StoreError,
    StoreErrorKind,
};
use memory_core::{MemoryStore, Sequence};
use memory_core_testkit::fuzz::{SECRET, corpus, fuzz, mutated, peak_of};
use memory_store_sqlite::SqliteStore;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rusqlite::Connection;
use rusqlite::types::Value;

memory_core_testkit::count_allocations!();

/// A file of a few memories with all kinds of rows.
async fn whole(path: &Path) {
    let store = SqliteStore::open(path).await.unwrap();
    for number in 1..=6 {
        append(&store, &key("k"), write(1, number), &[SECRET, "five"]).await.unwrap();
    }
    append(&store, &key("other"), write(2, 1), &["x"]).await.unwrap();
    store.rebuild_index(&key("k")).await.unwrap();
    let generation = store.head(&key("k")).await.unwrap().generation;
    let mut receipt =
        FlushReceipt::new(uuid::Uuid::from_u128(9), "fifo", jiff::Timestamp::UNIX_EPOCH);
    receipt.duration = Duration::from_millis(3);
    (receipt.tokens_before, receipt.tokens_after) = (9, 5);
    (receipt.messages_before, receipt.messages_after) = (3, 2);
    let evicted = vec![Sequence::new(2)];
    receipt.evicted = evicted.iter().copied().collect();
    let archive = Some(Retention::forever());
    let splice = Splice { evicted, receipt: Some(receipt), archive, ..Splice::new(generation) };
    store.splice(&key("k"), Access::OPEN, &splice).await.unwrap();
}

/// All reads and then all writes. Each returns, and no error contains the texts.
async fn use_all(path: &Path) -> Result<(), StoreError> {
    let store = SqliteStore::open(path).await?;
    let one = NonZeroUsize::MIN;
    let k = key("k");
    let mut told = Vec::new();
    let mut hear = |error: Option<StoreError>| {
        if let Some(error) = error {
            told.push(error);
        }
    };
    let head = store.head(&k).await;
    let generation = head.as_ref().map(|head| head.generation).unwrap_or_default();
    hear(head.err());
    let places: Vec<_> = (0..9).map(Sequence::new).collect();
    hear(store.read(&k, Read::default()).await.err());
    hear(store.read(&k, Read { limit: Some(one.into()), after: None }).await.err());
    hear(store.outline(&k).await.err());
    hear(store.fetch(&k, generation.into(), &places).await.err());
    hear(store.receipts(&k).await.err());
    let removals = store.removals(&k, None, NonZeroUsize::new(9).unwrap()).await;
    for removal in removals.iter().flatten() {
        let most = NonZeroUsize::new(9).unwrap();
        hear(store.archived(&k, removal.number, Sequence::ZERO, most.into()).await.err());
    }
    hear(removals.err());
    hear(store.search(&k, &SearchQuery::new("five")).await.err());
    hear(store.keys(None, NonZeroUsize::new(9).unwrap()).await.err());
    hear(append(&store, &k, write(1, 50), &["new"]).await.err());
    hear(append(&store, &k, write(3, 1), &["new"]).await.err());
    let splice = Splice { evicted: vec![Sequence::new(3)], ..Splice::new(generation) };
    hear(store.splice(&k, Access::OPEN, &splice).await.err());
    let archive = Some(Retention::keep_for(Duration::from_secs(1)));
    let generation = store.head(&k).await.map(|head| head.generation).unwrap_or_default();
    let splice = Splice { evicted: vec![Sequence::new(4)], archive, ..Splice::new(generation) };
    hear(store.splice(&k, Access::OPEN, &splice).await.err());
    let restore = Restore { write: write(5, 1), receipt: uuid::Uuid::from_u128(9) };
    hear(store.restore(&k, Access::OPEN, &restore).await.err());
    let clear = Clear { archive, ..Clear::new(write(4, 0)) };
    hear(store.clear(&k, Access::OPEN, &clear).await.err());
    hear(store.clear(&k, Access::OPEN, &Clear::new(write(4, 1))).await.err());
    hear(store.read(&key("other"), Read::default()).await.err());
    for error in told {
        check(&error);
    }
    Ok(())
}

fn check(error: &StoreError) {
    let told = error.to_string();
    assert!(!told.contains(SECRET), "{told}");
    assert!(told.len() < 1_000, "{told}");
    // A permanent fault of the data.
    assert!(!matches!(error.kind(), StoreErrorKind::Unavailable(_)), "{told}");
}

const COLUMNS: &[(&str, &str)] = &[
    ("memory", "key"),
    ("memory", "generation"),
    ("memory", "version"),
    ("memory", "last"),
    ("memory", "fence"),
    ("memory", "flush_fence"),
    ("memory", "next_flush_at"),
    ("memory", "expires_at"),
    ("memory", "messages"),
    ("memory", "tokens"),
    ("memory", "summaries"),
    ("memory", "appended"),
    ("memory", "summarised"),
    ("memory", "evicted"),
    ("memory", "cleared"),
    ("memory", "classes"),
    ("memory", "receipts"),
    ("memory", "receipt"),
    ("memory", "writers"),
    ("memory", "id"),
    ("message", "place"),
    ("message", "id"),
    ("message", "tokens"),
    ("message", "priority"),
    ("message", "content_type"),
    ("message", "created_at"),
    ("message", "link"),
    ("message", "closed"),
    ("message", "summary"),
    ("message", "body"),
    ("writer", "writer"),
    ("writer", "number"),
    ("writer", "first"),
    ("receipt", "number"),
    ("receipt", "body"),
    ("removal", "id"),
    ("removal", "memory"),
    ("removal", "number"),
    ("removal", "keep_until"),
    ("removal", "receipt"),
    ("removal", "bytes"),
    ("removal", "messages"),
    ("removal", "body"),
    ("archive", "place"),
    ("archive", "id"),
    ("archive", "tokens"),
    ("archive", "content_type"),
    ("archive", "created_at"),
    ("archive", "link"),
    ("archive", "body"),
    ("indexed", "memory"),
    ("indexed", "last"),
    ("stale", "place"),
];

fn value() -> impl Strategy<Value = Value> {
    let seeds = corpus("row").into_iter().map(|(_, text)| text).collect();
    prop_oneof![
        3 => prop::sample::select(vec![0, -1, 1, 2, i64::MAX, i64::MIN, i64::MAX - 1, 1 << 36, 300])
            .prop_map(Value::Integer),
        1 => any::<i64>().prop_map(Value::Integer),
        3 => mutated(seeds).prop_map(|text| Value::Text(String::from_utf8_lossy(&text).into_owned())),
        1 => prop::collection::vec(any::<u8>(), 0..70).prop_map(Value::Blob),
        1 => Just(Value::Blob(vec![0xFF; 64])),
        1 => Just(Value::Null),
    ]
}

#[test]
fn no_row_value_panics_or_leaks_text() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (good, path) = (folder.path().join("good.db"), folder.path().join("memory.db"));
    runtime.block_on(whole(&good));
    let good = fs::read(&good).unwrap();
    let damages = prop::collection::vec((prop::sample::select(COLUMNS), value()), 1..4);
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 300;
    }
    let done = TestRunner::new(config).run(&damages, |damages| {
        for name in ["memory.db", "memory.db-wal", "memory.db-shm"] {
            let _ = fs::remove_file(folder.path().join(name));
        }
        fs::write(&path, &good).unwrap();
        let file = Connection::open(&path).unwrap();
        for ((table, column), value) in &damages {
            // Values that the table's constraints refuse cannot occur.
            let row = "(SELECT min(rowid) + 1 FROM message)";
            let which =
                if *table == "message" { format!("WHERE place = {row}") } else { String::new() };
            let sql = format!("UPDATE OR IGNORE {table} SET {column} = ?1 {which}");
            let _ = file.execute(&sql, [value]);
        }
        drop(file);
        let (opened, peak) = peak_of(|| runtime.block_on(use_all(&path)));
        assert!(peak < 16 << 20, "{peak}");
        if let Err(error) = opened {
            check(&error);
        }
        Ok(())
    });
    if let Err(failure) = done {
        panic!("{failure}");
    }
}

#[test]
fn no_file_byte_panics_or_leaks_text() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (good, path) = (folder.path().join("good.db"), folder.path().join("memory.db"));
    runtime.block_on(whole(&good));
    let good = fs::read(&good).unwrap();
    fuzz("row", 150, |input| {
        for name in ["memory.db", "memory.db-wal", "memory.db-shm"] {
            let _ = fs::remove_file(folder.path().join(name));
        }
        let mut bytes = good.clone();
        // The position of the damage follows from the input, so that the input alone reproduces a failure.
        let place =
            input.iter().fold(7_usize, |sum, byte| sum.wrapping_mul(31) + usize::from(*byte));
        let start = place % bytes.len();
        let end = (start + input.len().min(64)).min(bytes.len());
        bytes[start..end].copy_from_slice(&input[..end - start]);
        fs::write(&path, &bytes).unwrap();
        if let Err(error) = runtime.block_on(use_all(&path)) {
            assert!(!error.to_string().contains(SECRET), "{error}");
        }
    });
}
