//! The content of a closed file, and the growth of a file.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::support::{append, batch, checked_outline, key, texts, write};
use memory_core::lease::LeaseDomain;
use memory_core::store::{
    Access, Append, Clear, Durability, FlushReceipt, Outline, Read, Retention, SESSION_RETENTION,
    Splice, WriterId,
};
use memory_core::{MemoryStore, Sequence};
use memory_lock::{Clock, ClockExt as _};
use memory_store_sqlite::{SqliteConfig, SqliteStore};
use rusqlite::types::Value;

#[tokio::test]
async fn restart_keeps_messages_and_removes_the_log() {
    for durability in [Durability::Disk, Durability::Process] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory.db");
        let config = SqliteConfig::new(&file).with_durability(durability);
        let store = SqliteStore::open(config.clone()).await.unwrap();
        assert_eq!(store.durability(), durability);
        append(&store, &key("k"), write(1, 1), &["one", "two", "three"]).await.unwrap();
        let generation = store.head(&key("k")).await.unwrap().generation;
        let splice = Splice { evicted: vec![Sequence::new(2)], ..Splice::new(generation) };
        store.splice(&key("k"), Access::OPEN, &splice).await.unwrap();
        let before = checked_outline(&store, &key("k")).await;
        let domain = store.lease_domain().cloned();
        assert!(store.size_bytes().unwrap() > 4_096);
        drop(store);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "only the file is left");

        let store = SqliteStore::open(config).await.unwrap();
        assert_eq!(store.path(), file);
        assert_eq!(store.lease_domain().cloned(), domain);
        assert_eq!(checked_outline(&store, &key("k")).await, before);
        let again = append(&store, &key("k"), write(1, 1), &["one", "two", "three"]).await.unwrap();
        assert!(again.outcome.is_duplicate());
        let next = append(&store, &key("k"), write(1, 2), &["four"]).await.unwrap();
        assert_eq!(next.outcome.first(), Some(Sequence::new(4)));
        assert_eq!(texts(&store, &key("k")).await, ["one", "three", "four"]);
    }
}

#[tokio::test]
async fn two_names_of_one_file_share_leases() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("memory.db")).await.unwrap();
    let other = folder.path().join("..").join(folder.path().file_name().unwrap()).join("memory.db");
    let other = SqliteStore::open(other).await.unwrap();
    assert_eq!(store.lease_domain(), other.lease_domain());
    assert!(store.lease_domain().map(LeaseDomain::as_str).unwrap().starts_with("sqlite:/"));
    append(&store, &key("k"), write(1, 1), &["seen by both"]).await.unwrap();
    assert_eq!(texts(&other, &key("k")).await, ["seen by both"]);
}

#[tokio::test]
async fn log_has_bounded_size() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory.db");
    let config = SqliteConfig::new(&file).with_durability(Durability::Process);
    let store = SqliteStore::open(config).await.unwrap();
    let text = "x".repeat(20_000);
    for number in 1..=2_000 {
        append(&store, &key("k"), write(1, number), &[&text]).await.unwrap();
        if number % 100 == 0 {
            // Readers start and end.
            let read = Read { after: None, limit: NonZeroUsize::new(3).map(Into::into) };
            store.read(&key("k"), read).await.unwrap();
        }
    }
    let log = folder.path().join("memory.db-wal").metadata().unwrap().len();
    assert!(log < 20 << 20, "{log} bytes of log after 40 MB of messages");
}

async fn append_many(store: &SqliteStore, writer: u128, numbers: std::ops::RangeInclusive<u64>) {
    let text = "x".repeat(4_000);
    for number in numbers {
        append(store, &key(&writer.to_string()), write(writer, number), &[&text]).await.unwrap();
    }
}

/// Several writers, each like a separate process: automatic checkpoints run beside the commits of others
/// and never reach the end of the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn log_starts_over_beside_other_writers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory.db");
    let config = SqliteConfig::new(&file).with_durability(Durability::Process);
    SqliteStore::open(config.clone()).await.unwrap();
    let writers = (1..=4).map(|writer| {
        let config = config.clone();
        tokio::spawn(async move {
            let store = SqliteStore::open(config).await.unwrap();
            append_many(&store, writer, 1..=1_500).await;
            store
        })
    });
    let mut stores = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        stores.push(writer.await.unwrap());
    }
    // A log that never started over would have more than 12,000 pages.
    let connection = rusqlite::Connection::open(&file).unwrap();
    let pages = |row: &rusqlite::Row<'_>| row.get::<_, i64>(1);
    let pages = connection.query_row("PRAGMA wal_checkpoint(NOOP)", (), pages).unwrap();
    assert!(pages < 6_000, "{pages} pages of log after 24 MB of messages");
}

#[tokio::test]
async fn log_starts_over_after_a_long_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory.db");
    let config = SqliteConfig::new(&file).with_durability(Durability::Process);
    let store = SqliteStore::open(config).await.unwrap();
    append_many(&store, 1, 1..=1).await;
    let frames = |pragma: &str| {
        let connection = rusqlite::Connection::open(&file).unwrap();
        connection.query_row(pragma, (), |row| row.get::<_, i64>(1)).unwrap()
    };
    let reader = rusqlite::Connection::open(&file).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM message").unwrap();
    append_many(&store, 1, 2..=600).await;
    assert!(frames("PRAGMA wal_checkpoint(NOOP)") > 2_000, "the read needs the log");
    reader.execute_batch("ROLLBACK").unwrap();
    append_many(&store, 1, 601..=1_200).await;
    assert!(frames("PRAGMA wal_checkpoint(NOOP)") < 2_000);
}

#[tokio::test(start_paused = true)]
async fn next_write_removes_rows_of_an_expired_memory() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory.db");
    let config = SqliteConfig::new(&file).with_clock(Clock::tokio());
    let store = SqliteStore::open(config).await.unwrap();
    let ttl = Some(Duration::from_secs(60));
    for writer in 0..40 {
        let append = Append { ttl, ..batch(write(writer, 1), &["old", "older"]) };
        store.append(&key("k"), Access::OPEN, &append).await.unwrap();
    }
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(store.outline(&key("k")).await.unwrap(), Outline::default());
    append(&store, &key("k"), write(0, 1), &["new"]).await.unwrap();
    assert_eq!(texts(&store, &key("k")).await, ["new"]);
    checked_outline(&store, &key("k")).await;
    drop(store);
    let connection = rusqlite::Connection::open(&file).unwrap();
    let count = |table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        connection.query_row(&sql, (), |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!((count("message"), count("writer")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn expired_memories_can_be_removed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory.db");
    let config = SqliteConfig::new(&file).with_clock(Clock::tokio());
    let store = SqliteStore::open(config).await.unwrap();
    let ttl = Some(Duration::from_secs(60));
    for name in ["a", "b", "c"] {
        let append = Append { ttl, ..batch(write(1, 1), &["old", "older"]) };
        store.append(&key(name), Access::OPEN, &append).await.unwrap();
    }
    append(&store, &key("d"), write(1, 1), &["for ever"]).await.unwrap();
    let most = |most| NonZeroUsize::new(most).unwrap();
    assert_eq!(store.remove_expired(most(9)).await.unwrap(), 0);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(store.remove_expired(most(2)).await.unwrap(), 2);
    assert_eq!(store.remove_expired(most(2)).await.unwrap(), 1);
    assert_eq!(store.remove_expired(most(2)).await.unwrap(), 0);
    assert_eq!(store.outline(&key("a")).await.unwrap(), Outline::default());
    assert_eq!(texts(&store, &key("d")).await, ["for ever"]);
    // Whether removed or not, it starts over in the same way.
    let first = append(&store, &key("a"), write(1, 1), &["new"]).await.unwrap();
    assert_eq!(first.outcome.first(), Some(Sequence::new(1)));
    assert!(!first.outcome.is_duplicate());
    checked_outline(&store, &key("a")).await;
    drop(store);
    let connection = rusqlite::Connection::open(&file).unwrap();
    let count =
        connection.query_row("SELECT count(*) FROM message", (), |row| row.get::<_, i64>(0));
    assert_eq!(count.unwrap(), 2);
}

#[tokio::test]
async fn long_reads_see_one_snapshot_while_others_write() {
    let folder = tempfile::tempdir().unwrap();
    let config = SqliteConfig::new(folder.path().join("memory.db")).with_readers(0);
    let store = SqliteStore::open(config).await.unwrap();
    let k = key("k");
    for number in 1..=30 {
        append(&store, &k, write(1, number), &["x"; 20]).await.unwrap();
    }
    let reading = async {
        for _ in 0..20 {
            let outline = checked_outline_of(&store).await;
            assert_eq!(outline.metas.len() % 20, 0);
        }
    };
    let writing = async {
        for number in 31..=60 {
            append(&store, &k, write(1, number), &["x"; 20]).await.unwrap();
        }
    };
    tokio::join!(reading, writing);
}

async fn checked_outline_of(store: &SqliteStore) -> Outline {
    let outline = store.outline(&key("k")).await.unwrap();
    memory_core::conformance::assert_counters(&outline);
    outline
}

/// Like 3,000 processes that each write once, one in a second.
#[tokio::test]
async fn records_of_short_processes_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory.db");
    let clock = Clock::manual();
    let config = SqliteConfig::new(&file).with_durability(Durability::Process);
    let store = SqliteStore::open(config.with_clock(clock.clone())).await.unwrap();
    for number in 0..3_000 {
        let write = WriterId::session(clock.now_micros() / 1_000, number).write(1);
        append(&store, &key("k"), write, &["x"]).await.unwrap();
        clock.advance(Duration::from_secs(1));
    }
    let connection = rusqlite::Connection::open(&file).unwrap();
    let records = || {
        let sql = "SELECT count(*) FROM writer";
        connection.query_row(sql, (), |row| row.get::<_, i64>(0)).unwrap()
    };
    // Those of the last ten minutes, and 64 others.
    assert!(records() <= 664, "{} records", records());
    clock.advance(SESSION_RETENTION);
    let write = WriterId::session(clock.now_micros() / 1_000, 1 << 40).write(1);
    store.clear(&key("k"), Access::OPEN, &Clear::new(write)).await.unwrap();
    assert_eq!(records(), 64);
}

#[tokio::test]
async fn freed_pages_are_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual();
    let config = SqliteConfig::new(folder.path().join("memory.db"));
    let store = SqliteStore::open(config.with_clock(clock.clone())).await.unwrap();
    let connection = rusqlite::Connection::open(store.path()).unwrap();
    let long = vec!["x".repeat(4_000); 300];
    let ttl = Some(Duration::from_secs(1));
    let mut sizes = Vec::new();
    for round in 0..3 {
        let name = key(&round.to_string());
        store
            .append(&name, Access::OPEN, &Append { ttl, ..batch(write(1, 1), &long) })
            .await
            .unwrap();
        clock.advance(Duration::from_secs(2));
        assert_eq!(store.remove_expired(NonZeroUsize::MAX).await.unwrap(), 1);
        let pages = "PRAGMA page_count";
        sizes.push(connection.query_row(pages, (), |row| row.get::<_, i64>(0)).unwrap());
    }
    assert!(sizes[0] > 100 && sizes[2] <= sizes[0] + 2, "{sizes:?}");
}

#[tokio::test]
async fn damaged_receipt_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory.db");
    let store = SqliteStore::open(file.as_path()).await.unwrap();
    append(&store, &key("k"), write(1, 1), &["one", "two", "three"]).await.unwrap();
    for number in 1..=3 {
        let receipt = FlushReceipt::new(
            uuid::Uuid::from_u128(number.into()),
            "fifo",
            jiff::Timestamp::UNIX_EPOCH,
        );
        let generation = store.head(&key("k")).await.unwrap().generation;
        let evicted = vec![Sequence::new(number)];
        let splice = Splice { evicted, receipt: Some(receipt), ..Splice::new(generation) };
        store.splice(&key("k"), Access::OPEN, &splice).await.unwrap();
    }
    let damaged = rusqlite::Connection::open(&file).unwrap();
    for (body, number) in [("'{'", 1), ("CAST(x'FF' AS TEXT)", 3)] {
        let sql = format!("UPDATE receipt SET body = {body} WHERE number = {number}");
        assert_eq!(damaged.execute(&sql, ()).unwrap(), 1);
    }
    let receipts = store.receipts(&key("k")).await.unwrap();
    assert_eq!(receipts.iter().map(|one| one.id.as_u128()).collect::<Vec<_>>(), [2]);
}

/// The rows of all tables, each with the bytes of its values.
fn rows(connection: &rusqlite::Connection) -> BTreeMap<String, usize> {
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table'";
    let mut tables = connection.prepare(tables).unwrap();
    let tables = tables.query_map((), |row| row.get::<_, String>(0)).unwrap();
    let mut all = BTreeMap::new();
    for table in tables.map(Result::unwrap) {
        let mut select = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = select.column_count();
        let mut rows = select.query(()).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<Value> = (0..columns).map(|at| row.get(at).unwrap()).collect();
            let bytes = values.iter().map(|value| match value {
                Value::Text(text) => text.len(),
                Value::Blob(bytes) => bytes.len(),
                number => format!("{number:?}").len(),
            });
            all.insert(format!("{table} {values:?}"), bytes.sum());
        }
    }
    all
}

#[tokio::test]
async fn appends_beside_an_archive_store_the_same() {
    let mut costs = Vec::new();
    for archive in [None, Some(Retention::forever())] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory.db");
        let store = SqliteStore::open(SqliteConfig::new(&file)).await.unwrap();
        let k = key("k");
        append(&store, &k, write(1, 1), &["old"; 40]).await.unwrap();
        let generation = store.head(&k).await.unwrap().generation;
        let evicted = (1..=20).map(Sequence::new).collect();
        let splice = Splice { evicted, archive, ..Splice::new(generation) };
        store.splice(&k, Access::OPEN, &splice).await.unwrap();
        let connection = rusqlite::Connection::open(&file).unwrap();
        let pages = || {
            let log = |row: &rusqlite::Row<'_>| row.get::<_, i64>(1);
            connection.query_row("PRAGMA wal_checkpoint(NOOP)", (), log).unwrap()
        };
        let (mut stored, before) = (Vec::new(), pages());
        for number in 2..=9 {
            let before = rows(&connection);
            append(&store, &k, write(1, number), &["new", "newer"]).await.unwrap();
            let new = rows(&connection).into_iter().filter(|(row, _)| !before.contains_key(row));
            let table = |row: &str| row.split(' ').next().unwrap().to_owned();
            stored.extend(new.map(|(row, bytes)| (table(&row), bytes)));
        }
        costs.push((stored, pages() - before));
        let removals = store.removals(&k, None, NonZeroUsize::MAX).await.unwrap();
        assert_eq!(removals.len(), usize::from(archive.is_some()));
    }
    assert_eq!(costs[0], costs[1]);
}
