//! The overhead of the facade over its store, and of a long history on an append and a read.
//!
//! `cargo bench -p memory-instance --bench facade`

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use memory_core::{MemoryResource, Message};
use memory_instance::{FlushMode, MemoryInstance, MemoryManager};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const TEXT: &str = "The customer asks to move the flight from New York to Seattle to the morning of \
                    May 20th, keeping both seats together and the checked bags as they are booked; \
                    the fare difference may be charged to the card on file.";

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn open(runtime: &Runtime, folder: &TempDir, mode: FlushMode, budget: u64) -> MemoryManager {
    let url = format!("sqlite://{}", folder.path().join("memory.db").display());
    let builder = MemoryManager::builder()
        .with_resource(MemoryResource::new("bench", budget))
        .with_flush_mode(mode);
    runtime.block_on(builder.open(&url)).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn timed(runtime: &Runtime, memory: &MemoryInstance, appends: u64) -> Duration {
    runtime.block_on(async {
        let begun = Instant::now();
        for _ in 0..appends {
            black_box(memory.append(Message::user(TEXT)).await.unwrap());
        }
        begun.elapsed()
    })
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append at synchronous=FULL, one task");
    group.throughput(Throughput::Elements(1)).sample_size(30);
    let folder = tempfile::tempdir().unwrap();

    let bare = Connection::open(folder.path().join("bare.db")).unwrap();
    bare.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE message (id INTEGER PRIMARY KEY, body TEXT NOT NULL);",
    )
    .unwrap();
    let body = serde_json::to_string(&Message::user(TEXT)).unwrap();
    group.bench_function("bare prepared insert", |b| {
        let mut insert = bare.prepare("INSERT INTO message (body) VALUES (?1)").unwrap();
        b.iter(|| insert.execute([&body]).unwrap());
    });

    let runtime = runtime();
    let manager = open(&runtime, &folder, FlushMode::Manual, u64::MAX / 4);
    let memory = manager.memory("bench", "one").unwrap();
    group.bench_function("facade", |b| b.iter_custom(|n| timed(&runtime, &memory, n)));
    group.finish();
}

fn history(c: &mut Criterion) {
    let mut group = c.benchmark_group("append into a history");
    group.throughput(Throughput::Elements(1)).sample_size(30);
    let runtime = runtime();
    for (label, budget) in [("no budget in force", u64::MAX / 4), ("budget in force", 1 << 26)] {
        for messages in [100, 100_000] {
            let folder = tempfile::tempdir().unwrap();
            let manager = open(&runtime, &folder, FlushMode::Background, budget);
            let memory = manager.memory("bench", "long").unwrap();
            for _ in 0..messages / 100 {
                let batch = std::iter::repeat_with(|| Message::user(TEXT)).take(100);
                runtime.block_on(memory.append_all(batch)).unwrap();
            }
            group.bench_function(format!("{messages} messages, {label}"), |b| {
                b.iter_custom(|n| timed(&runtime, &memory, n));
            });
        }
    }
    group.finish();
}

fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("read 10 messages");
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let manager = open(&runtime, &folder, FlushMode::Manual, 1 << 26);
    for messages in [10_usize, 10_000] {
        let memory = manager.memory("bench", &messages.to_string()).unwrap();
        for _ in 0..messages / 10 {
            let batch = std::iter::repeat_with(|| Message::user(TEXT)).take(10);
            runtime.block_on(memory.append_all(batch)).unwrap();
        }
        let before = if messages > 10 {
            let limit = NonZeroUsize::new(messages - 10);
            Some(runtime.block_on(memory.page(None, limit)).unwrap().cursor)
        } else {
            None
        };
        group.bench_function(format!("the newest of {messages}"), |b| {
            b.iter(|| {
                let page = runtime.block_on(memory.page(before, None)).unwrap();
                assert_eq!(page.messages.len(), 10);
            });
        });
    }
    let memory = manager.memory("bench", "10000").unwrap();
    group.bench_function("a window of 4,000 tokens of 10,000 messages", |b| {
        b.iter(|| runtime.block_on(memory.context(4_000)).unwrap());
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    targets = append, history, read
}
criterion_main!(benches);
