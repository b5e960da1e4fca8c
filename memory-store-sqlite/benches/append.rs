//! Appends and reads, beside SQLite used by hand with the same `synchronous`.
//!
//! `cargo bench -p memory-store-sqlite` takes some two minutes. `bare` is a prepared insert of the
//! same message, a transaction each, on the calling thread: what nobody who wants the message to be
//! durable can do without. The figures per element are what to compare.

#![expect(missing_docs, reason = "criterion's macros make functions without")]

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use criterion::measurement::WallTime;
use memory_core::{
    Access, Append, ContentType, Cursor, Durability, MemoryKey, MemoryStore, Message, MessageId,
    NewMessage, Read, Sequence, WriterId,
};
use memory_store_sqlite::{SqliteConfig, SqliteStore};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// About 60 tokens, as in a chat.
const TEXT: &str = "The shipment left the warehouse on Tuesday and was scanned in Leipzig this \
    morning at 06:12; the carrier expects to deliver it tomorrow between nine and noon. If nobody \
    is at home, it will be handed to the neighbours at number 14, as agreed with the customer.";

fn message() -> NewMessage {
    NewMessage {
        id: MessageId::new(uuid::Uuid::from_u128(7)),
        message: Message::user(TEXT),
        tokens: 60,
        priority: None,
        content_type: ContentType::Conversation,
        created_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

struct Bench {
    runtime: Runtime,
    store: Arc<SqliteStore>,
    numbers: AtomicU64,
    _folder: TempDir,
}

impl Bench {
    fn new(durability: Durability) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let folder = tempfile::tempdir_in(".").unwrap();
        let config =
            SqliteConfig::new(folder.path().join("memory.db")).with_durability(durability);
        let store = Arc::new(runtime.block_on(SqliteStore::open(config)).unwrap());
        Self { runtime, store, numbers: AtomicU64::new(0), _folder: folder }
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn fill(&self, key: &MemoryKey, count: usize) {
        for first in (0..count).step_by(1_000) {
            let messages = vec![message(); (count - first).min(1_000)];
            self.runtime.block_on(append(&self.store, key, 0, self.number(), messages));
        }
    }
}

fn key(name: &str) -> MemoryKey {
    MemoryKey::new("bench", "store", name).unwrap()
}

async fn append(
    store: &SqliteStore,
    key: &MemoryKey,
    writer: u128,
    number: u64,
    messages: Vec<NewMessage>,
) {
    let append = Append {
        write: WriterId::new(writer).write(number),
        messages: messages.into(),
        access: Access::OPEN,
        ttl: None,
    };
    store.append(key, append).await.unwrap();
}

/// SQLite by hand.
fn bare(folder: &Path, synchronous: &str) -> Connection {
    let connection = Connection::open(folder.join("bare.db")).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.pragma_update(None, "synchronous", synchronous).unwrap();
    connection
        .execute_batch("CREATE TABLE message (seq INTEGER PRIMARY KEY, memory TEXT, body TEXT)")
        .unwrap();
    connection
}

fn insert(connection: &Connection) {
    let body = serde_json::to_string(&Message::user(TEXT)).unwrap();
    connection
        .prepare_cached("INSERT INTO message (memory, body) VALUES (?1, ?2)")
        .unwrap()
        .execute(("bench:store:k", body))
        .unwrap();
}

fn bare_against_one_task(c: &mut Criterion) {
    for (durability, synchronous) in [(Durability::Disk, "FULL"), (Durability::Process, "NORMAL")] {
        let mut group = group(c, &format!("append_{}", synchronous.to_lowercase()));
        let folder = tempfile::tempdir_in(".").unwrap();
        let connection = bare(folder.path(), synchronous);
        group.bench_function("bare", |b| b.iter(|| insert(&connection)));

        let bench = Bench::new(durability);
        let key = key("one");
        group.bench_function("one_task", |b| {
            b.iter_custom(|iterations| {
                bench.runtime.block_on(async {
                    let start = now();
                    for _ in 0..iterations {
                        append(&bench.store, &key, 1, bench.number(), vec![message()]).await;
                    }
                    start.elapsed()
                })
            });
        });
        group.finish();
    }
}

fn many_tasks(c: &mut Criterion) {
    const TASKS: u64 = 64;
    let mut group = group(c, "append_full_64_tasks");
    for (name, keys) in [("one_key", 1), ("64_keys", TASKS)] {
        let bench = Bench::new(Durability::Disk);
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |b| {
            b.iter_custom(|iterations| {
                let each = iterations.div_ceil(TASKS);
                let start = now();
                bench.runtime.block_on(async {
                    let tasks = (0..TASKS).map(|task| {
                        let (store, key) = (Arc::clone(&bench.store), key(&(task % keys).to_string()));
                        let first = bench.numbers.fetch_add(each, Ordering::Relaxed);
                        tokio::spawn(async move {
                            for number in first..first + each {
                                let writer = u128::from(task) + 1;
                                append(&store, &key, writer, number + 1, vec![message()]).await;
                            }
                        })
                    });
                    for task in tasks.collect::<Vec<_>>() {
                        task.await.unwrap();
                    }
                });
                // For as many as criterion believes were made.
                start.elapsed().mul_f64(iterations as f64 / (each * TASKS) as f64)
            });
        });
    }
    group.finish();
}

fn growing_histories(c: &mut Criterion) {
    let mut group = group(c, "append_into");
    let bench = Bench::new(Durability::Disk);
    for size in [100, 100_000] {
        let key = key(&size.to_string());
        bench.fill(&key, size);
        group.bench_function(size.to_string(), |b| {
            b.iter(|| {
                let append = append(&bench.store, &key, 1, bench.number(), vec![message()]);
                bench.runtime.block_on(append);
            });
        });
    }
    group.finish();
}

fn reading_the_delta(c: &mut Criterion) {
    let mut group = group(c, "read_10_of");
    let bench = Bench::new(Durability::Process);
    for size in [10, 10_000] {
        let key = key(&size.to_string());
        bench.fill(&key, size);
        let generation = bench.runtime.block_on(bench.store.head(&key)).unwrap().generation;
        let sequence = Sequence::new(size as u64 - 10);
        let read = Read { after: Some(Cursor { generation, sequence }), limit: None };
        group.bench_function(size.to_string(), |b| {
            b.iter(|| {
                let page = bench.runtime.block_on(bench.store.read(&key, read)).unwrap();
                assert_eq!(page.messages.len(), 10);
            });
        });
    }
    let all = Read { after: None, limit: NonZeroUsize::new(1_000) };
    let key = key("10000");
    group.bench_function("1000_of_10000", |b| {
        b.iter(|| bench.runtime.block_on(bench.store.read(&key, all)).unwrap());
    });
    group.finish();
}

fn group<'c>(c: &'c mut Criterion, name: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = c.benchmark_group(name);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(4));
    group.sample_size(50).throughput(Throughput::Elements(1));
    group
}

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn now() -> Instant {
    Instant::now()
}

criterion_group!(
    benches,
    bare_against_one_task,
    many_tasks,
    growing_histories,
    reading_the_delta
);
criterion_main!(benches);
