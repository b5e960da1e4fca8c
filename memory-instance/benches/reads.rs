//! Windows and reads, cold and warm, on SQLite and Redis, beside a bare read of the same stored fields that decodes
//! the messages into `serde_json::Value`, and beside a script that does nothing.
//!
//! `cargo bench -p memory-instance --features redis --bench reads`, with a `redis-server` on the PATH or
//! `MEMORY_TEST_REDIS_URL`. Before each warm read another process appends two messages; only the
//! read is timed.

#![expect(
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a bench measures real time, and few reads"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use memory_core::dialect::ToolCall;
use memory_core::{MemoryResource, Message};
use memory_instance::{FlushMode, MemoryInstance, MemoryManager};
use memory_redis_testkit::{AnyServer, any_server, unique_prefix};
use redis::aio::MultiplexedConnection;
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const TEXT: &str = "The customer asks to move the flight from New York to Seattle to the morning of \
                    May 20th, keeping both seats together and the checked bags as they are booked; \
                    the fare difference may be charged to the card on file.";

const SIZES: [u64; 3] = [100, 1_000, 10_000];

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn builder() -> memory_instance::ManagerBuilder {
    MemoryManager::builder()
        .with_resource(MemoryResource::new("bench", 1 << 40))
        .with_flush_mode(FlushMode::Manual)
}

/// A new memory with this many messages.
fn filled(runtime: &Runtime, manager: &MemoryManager, messages: u64) -> MemoryInstance {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let memory = manager.memory("bench", &format!("{messages}-{number}")).unwrap();
    for _ in 0..messages / 100 {
        let batch = std::iter::repeat_with(|| Message::user(TEXT)).take(100);
        runtime.block_on(memory.append_all(batch)).unwrap();
    }
    memory
}

/// The same memory in a process that has read nothing yet.
fn fresh(manager: &MemoryManager, memory: &MemoryInstance) -> MemoryInstance {
    let manager = builder().build(Arc::clone(manager.store()), manager.locks().clone()).unwrap();
    manager.memory_at(memory.key()).unwrap()
}

/// A medium, and a read of all messages without this library.
trait Medium {
    fn manager(&self) -> &MemoryManager;
    fn bare(&mut self, runtime: &Runtime, memory: &MemoryInstance) -> usize;
    /// A script without work; nothing on SQLite.
    fn ping(&mut self, _: &Runtime) -> bool {
        false
    }
}

struct Sqlite {
    manager: MemoryManager,
    bare: Connection,
    _folder: TempDir,
}

impl Sqlite {
    fn new(runtime: &Runtime) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.db");
        let manager = runtime.block_on(builder().open(&format!("sqlite://{}", path.display())));
        let bare = Connection::open(path).unwrap();
        Self { manager: manager.unwrap(), bare, _folder: folder }
    }
}

impl Medium for Sqlite {
    fn manager(&self) -> &MemoryManager {
        &self.manager
    }

    fn bare(&mut self, _: &Runtime, memory: &MemoryInstance) -> usize {
        let find = "SELECT id << 36 FROM memory WHERE key = ?1";
        let first: i64 =
            self.bare.query_row(find, [memory.key().as_str()], |row| row.get(0)).unwrap();
        let mut select = self
            .bare
            .prepare_cached(
                "SELECT place, id, tokens, priority, content_type, created_at, link, closed, summary, body
                 FROM message WHERE place > ?1 AND place < ?2 ORDER BY place",
            )
            .unwrap();
        let mut rows = select.query([first, first + (1 << 36)]).unwrap();
        let mut values: Vec<Value> = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            for column in 0..9 {
                black_box(row.get_ref(column).unwrap());
            }
            let body = row.get_ref(9).unwrap().as_str().unwrap();
            values.push(serde_json::from_str(body).unwrap());
        }
        black_box(values).len()
    }
}

struct Redis {
    manager: MemoryManager,
    bare: MultiplexedConnection,
    prefix: String,
    _server: AnyServer,
}

impl Redis {
    fn new(runtime: &Runtime) -> Self {
        runtime.block_on(async {
            let server = any_server().await;
            let prefix = unique_prefix();
            let url = format!("{}?prefix={prefix}", server.url());
            let manager = builder().open(&url).await.unwrap();
            let client = redis::Client::open(server.url()).unwrap();
            let bare = client.get_multiplexed_async_connection().await.unwrap();
            Self { manager, bare, prefix, _server: server }
        })
    }
}

impl Medium for Redis {
    fn manager(&self) -> &MemoryManager {
        &self.manager
    }

    fn bare(&mut self, runtime: &Runtime, memory: &MemoryInstance) -> usize {
        runtime.block_on(async {
            let mut find = redis::cmd("KEYS");
            find.arg(format!("{}*{}*", self.prefix, memory.key().as_str()));
            static KEY: std::sync::Mutex<Option<(String, String, u64)>> =
                std::sync::Mutex::new(None);
            let known = KEY.lock().unwrap().clone();
            let known = known.filter(|(name, ..)| name == memory.key().as_str());
            let (_, key, last) = match known {
                Some(known) => known,
                None => {
                    let keys: Vec<String> = find.query_async(&mut self.bare).await.unwrap();
                    let [key] = keys.try_into().unwrap();
                    let mut count = redis::cmd("HLEN");
                    let fields: u64 = count.arg(&key).query_async(&mut self.bare).await.unwrap();
                    let found = (memory.key().as_str().to_owned(), key, fields);
                    *KEY.lock().unwrap() = Some(found.clone());
                    found
                }
            };
            let mut read = redis::cmd("HMGET");
            read.arg(&key);
            for place in 1..=last {
                read.arg(format!("m{place}"));
            }
            let found: Vec<Option<Vec<u8>>> = read.query_async(&mut self.bare).await.unwrap();
            let values: Vec<Value> = found
                .into_iter()
                .flatten()
                .map(|field| {
                    let body = field.iter().position(|byte| *byte == b'{').unwrap();
                    serde_json::from_slice(&field[body..]).unwrap()
                })
                .collect();
            black_box(values).len()
        })
    }

    fn ping(&mut self, runtime: &Runtime) -> bool {
        let mut ping = redis::cmd("EVAL");
        ping.arg("return redis.call('HGET', KEYS[1], 'h')").arg(1).arg("none");
        runtime.block_on(ping.query_async::<Option<String>>(&mut self.bare)).unwrap();
        true
    }
}

/// The number of reads after which a new memory is filled, because the appends make it longer.
const READS: u64 = 10;

/// Times a read after two appends.
fn warm<T>(
    b: &mut criterion::Bencher<'_>,
    runtime: &Runtime,
    manager: &MemoryManager,
    size: u64,
    mut read: impl AsyncFnMut(&MemoryInstance) -> T,
) {
    let by = Writer::OtherProcess;
    let two = async |writer: &MemoryInstance| {
        writer.append_all([Message::user(TEXT), Message::user(TEXT)]).await.unwrap();
    };
    warm_after(b, runtime, manager, size, by, two, async |memory| read(memory).await);
}

/// The process that writes.
#[derive(Clone, Copy)]
enum Writer {
    Reader,
    OtherProcess,
}

/// Times a read after this write.
fn warm_after<T>(
    b: &mut criterion::Bencher<'_>,
    runtime: &Runtime,
    manager: &MemoryManager,
    size: u64,
    by: Writer,
    mut write: impl AsyncFnMut(&MemoryInstance),
    mut read: impl AsyncFnMut(&MemoryInstance) -> T,
) {
    b.iter_custom(|count| {
        let memory = filled(runtime, manager, size);
        let writer = match by {
            Writer::Reader => memory.clone(),
            Writer::OtherProcess => fresh(manager, &memory),
        };
        runtime.block_on(read(&memory));
        let mut spent = Duration::ZERO;
        let reads = count.min(READS);
        for _ in 0..reads {
            runtime.block_on(write(&writer));
            let begun = Instant::now();
            let answer = black_box(runtime.block_on(read(&memory)));
            spent += begun.elapsed();
            drop(answer);
        }
        spent.mul_f64(count as f64 / reads as f64)
    });
}

fn reads(c: &mut Criterion, name: &str, runtime: &Runtime, medium: &mut dyn Medium) {
    let mut group = c.benchmark_group(name);
    group.sample_size(10);
    for size in SIZES {
        group.warm_up_time(Duration::from_secs(1));
        let memory = filled(runtime, medium.manager(), size);
        let read = medium.bare(runtime, &memory);
        assert_eq!(u64::try_from(read).unwrap(), size);
        group.bench_function(format!("{size}, bare read"), |b| {
            b.iter(|| medium.bare(runtime, &memory));
        });
        if medium.ping(runtime) {
            group.bench_function(format!("{size}, empty script"), |b| {
                b.iter(|| medium.ping(runtime));
            });
        }
        for (read, budget) in
            [("messages", 0), ("context(4,000)", 4_000), ("context(60,000)", 60_000)]
        {
            let manager = medium.manager();
            group.bench_function(format!("{size}, {read}, cold"), |b| {
                b.iter_custom(|count| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..count {
                        let memory = fresh(manager, &memory);
                        let begun = Instant::now();
                        runtime.block_on(async {
                            if budget == 0 {
                                black_box(memory.messages().await.unwrap());
                            } else {
                                black_box(memory.context(budget).await.unwrap());
                            }
                        });
                        spent += begun.elapsed();
                    }
                    spent
                });
            });
        }
        // A warm-up doubles the reads of each pass, of which only `READS` are made: many passes would overflow.
        group.warm_up_time(Duration::from_millis(10));
        group.bench_function(format!("{size}, context(4,000), warm"), |b| {
            warm(b, runtime, medium.manager(), size, async |memory| {
                memory.context(4_000).await.unwrap()
            });
        });
        let name = format!("{size}, context(4,000), warm, after an own tool result of 64 KB");
        group.bench_function(name, |b| {
            let long = TEXT.repeat((64 << 10) / TEXT.len());
            let mut call = 0;
            let turn = async |memory: &MemoryInstance| {
                call += 1;
                let id = format!("call-{call}");
                let of_tool = ToolCall::function(id.clone(), "search", "{}");
                // The answer is the newest unit, because the result alone exceeds the budget.
                let result = Message::tool_result(id, &*long);
                let turn = [Message::calls([of_tool]), result, Message::assistant(TEXT)];
                memory.append_all(turn).await.unwrap();
            };
            warm_after(b, runtime, medium.manager(), size, Writer::Reader, turn, async |memory| {
                memory.context(4_000).await.unwrap()
            });
        });
        // As after a flush: the whole memory is read again.
        group.bench_function(format!("{size}, context(4,000), in a new generation"), |b| {
            let mut number = 0;
            let replace = async |writer: &MemoryInstance| {
                number += 1;
                let first = memory_core::Sequence::new(1);
                let other = Message::user(format!("{TEXT} {number}"));
                writer.replace(first, other).await.unwrap().unwrap();
            };
            let by = Writer::OtherProcess;
            warm_after(b, runtime, medium.manager(), size, by, replace, async |memory| {
                memory.context(4_000).await.unwrap()
            });
        });
        group.bench_function(format!("{size}, messages, warm"), |b| {
            warm(b, runtime, medium.manager(), size, async |memory| {
                memory.messages().await.unwrap()
            });
        });
    }
    group.finish();
}

fn sqlite(c: &mut Criterion) {
    let runtime = runtime();
    let mut medium = Sqlite::new(&runtime);
    reads(c, "SQLite", &runtime, &mut medium);
}

fn redis(c: &mut Criterion) {
    let runtime = runtime();
    let mut medium = Redis::new(&runtime);
    reads(c, "Redis", &runtime, &mut medium);
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_secs(2));
    targets = sqlite, redis
}
criterion_main!(benches);
