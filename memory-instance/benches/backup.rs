//! Backups, restores and forks on SQLite, beside bare copies of the same rows; forks on Redis, beside a bare `COPY`.
//!
//! `cargo bench -p memory-instance --features redis --bench backup`, with a `redis-server` on the PATH or
//! `MEMORY_TEST_REDIS_URL`

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use memory_core::{MemoryResource, Message};
use memory_instance::backup::{BackupReader, RestoredTtl};
use memory_instance::{FlushMode, ForkOptions, MemoryInstance, MemoryManager};
use memory_redis_testkit::{any_server, unique_prefix};
use memory_store_redis::{RedisConfig, RedisLink};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const TEXT: &str = "The customer asks to move the flight from New York to Seattle to the morning of \
                    May 20th, keeping both seats together and the checked bags as they are booked; \
                    the fare difference may be charged to the card on file.";

/// A file with memories.
struct World {
    runtime: Runtime,
    manager: MemoryManager,
    folder: TempDir,
    made: u64,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("memory.db").display());
        Self::on(&url, folder, runtime())
    }

    fn on(url: &str, folder: TempDir, runtime: Runtime) -> Self {
        let builder = MemoryManager::builder()
            .with_resource(MemoryResource::new("bench", 1_000_000_000))
            .with_flush_mode(FlushMode::Manual);
        let manager = runtime.block_on(builder.open(url)).unwrap();
        Self { runtime, manager, folder, made: 0 }
    }

    fn memory(&self, name: &str) -> MemoryInstance {
        self.manager.memory("bench", name).unwrap()
    }

    /// A memory that was never written.
    fn another(&mut self) -> MemoryInstance {
        self.made += 1;
        self.memory(&format!("made-{}", self.made))
    }

    fn fill(&self, messages: usize) -> MemoryInstance {
        let memory = self.memory("source");
        self.runtime.block_on(async {
            for _ in 0..messages / 500 {
                memory.append_all((0..500).map(|_| Message::user(TEXT))).await.unwrap();
            }
        });
        memory
    }

    /// The same rows in another file, with a table to copy them to.
    fn bare(&self, messages: usize) -> Connection {
        let bare = Connection::open(self.folder.path().join("bare.db")).unwrap();
        bare.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE message (place INTEGER PRIMARY KEY, id BLOB, tokens INTEGER, priority INTEGER,
                 content_type TEXT, created_at INTEGER, link TEXT, closed INTEGER, summary INTEGER, body TEXT);
             BEGIN;",
        )
        .unwrap();
        let body = serde_json::to_string(&Message::user(TEXT)).unwrap();
        for place in 0..messages {
            bare.execute(
                "INSERT INTO message VALUES (?1, randomblob(16), 40, NULL, 'conversation', 1, NULL, 0, 0, ?2)",
                rusqlite::params![i64::try_from(place).unwrap(), body],
            )
            .unwrap();
        }
        bare.execute_batch("COMMIT").unwrap();
        bare
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Copies the first rows to new places, and commits.
fn bare_copy(bare: &Connection, messages: usize) {
    let copied = bare.execute(
        "INSERT INTO message
         SELECT (SELECT max(place) FROM message) + 1 + place, id, tokens, priority, content_type, created_at, link,
             closed, summary, body
         FROM message WHERE place < ?1 ORDER BY place",
        [i64::try_from(messages).unwrap()],
    );
    assert_eq!(copied.unwrap(), messages);
}

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn timed(rounds: u64, mut run: impl FnMut()) -> Duration {
    let begun = Instant::now();
    (0..rounds).for_each(|_| run());
    begun.elapsed()
}

fn backups(c: &mut Criterion) {
    const MESSAGES: usize = 20_000;
    let mut group = c.benchmark_group("20,000 messages on SQLite");
    group.throughput(Throughput::Elements(MESSAGES as u64)).sample_size(10);
    let mut world = World::new();
    let memory = world.fill(MESSAGES);
    let bare = world.bare(MESSAGES);
    group.bench_function("bare copy", |b| {
        b.iter_custom(|rounds| timed(rounds, || bare_copy(&bare, MESSAGES)));
    });
    group.bench_function("backup", |b| {
        b.iter(|| {
            let mut file = Vec::new();
            world.runtime.block_on(memory.backup(&mut file)).unwrap();
            black_box(file.len())
        });
    });
    let mut file = Vec::new();
    world.runtime.block_on(memory.backup(&mut file)).unwrap();
    group.bench_function("restore", |b| {
        b.iter_custom(|rounds| {
            timed(rounds, || {
                let restored = world.another();
                world.runtime.block_on(async {
                    let backup = BackupReader::open(file.as_slice()).await.unwrap();
                    restored.restore_backup(backup, RestoredTtl::Kept).await.unwrap();
                });
            })
        });
    });
    group.finish();
}

fn forks(c: &mut Criterion) {
    const MESSAGES: usize = 1_000;
    let mut group = c.benchmark_group("1,000 messages on SQLite");
    group.throughput(Throughput::Elements(MESSAGES as u64)).sample_size(20);
    let mut world = World::new();
    let memory = world.fill(MESSAGES);
    let bare = world.bare(MESSAGES);
    group.bench_function("bare copy", |b| {
        b.iter_custom(|rounds| timed(rounds, || bare_copy(&bare, MESSAGES)));
    });
    group.bench_function("fork", |b| {
        b.iter_custom(|rounds| {
            timed(rounds, || {
                let fork = world.another();
                world.runtime.block_on(memory.fork(&fork, ForkOptions::new())).unwrap();
            })
        });
    });
    group.finish();
}

fn forks_on_redis(c: &mut Criterion) {
    const MESSAGES: usize = 1_000;
    let mut group = c.benchmark_group("1,000 messages on Redis");
    group.throughput(Throughput::Elements(MESSAGES as u64)).sample_size(20);
    let runtime = runtime();
    let server = runtime.block_on(any_server());
    let url = format!("{}?prefix={}", server.url(), unique_prefix());
    let link = runtime.block_on(RedisLink::open(RedisConfig::from_url(&url).unwrap())).unwrap();
    let mut world = World::on(&url, tempfile::tempdir().unwrap(), runtime);
    let memory = world.fill(MESSAGES);
    let stored = link.keys().memory(memory.key().as_str());
    let mut made = 0;
    group.bench_function("bare copy", |b| {
        b.iter_custom(|rounds| {
            timed(rounds, || {
                made += 1;
                let copy =
                    redis::cmd("COPY").arg(&stored).arg(format!("{stored}-{made}")).to_owned();
                world.runtime.block_on(link.send(&copy)).unwrap();
            })
        });
    });
    group.bench_function("fork", |b| {
        b.iter_custom(|rounds| {
            timed(rounds, || {
                let fork = world.another();
                world.runtime.block_on(memory.fork(&fork, ForkOptions::new())).unwrap();
            })
        });
    });
    group.finish();
}

criterion_group!(benches, backups, forks, forks_on_redis);
criterion_main!(benches);
