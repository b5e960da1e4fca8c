//! Appends on Redis compared with a bare script and with a protocol of separate commands (lock, append, count,
//! release); and appends to a long history.
//!
//! `cargo bench -p memory-instance --features redis --bench redis`, with a `redis-server` on the PATH or
//! `MEMORY_TEST_REDIS_URL`.

#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use memory_core::{MemoryResource, Message};
use memory_instance::{FlushMode, MemoryInstance, MemoryManager};
use memory_redis_testkit::{AnyServer, any_server, unique_prefix};
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use tokio::runtime::Runtime;

const TEXT: &str = "The customer asks to move the flight from New York to Seattle to the morning of \
                    May 20th, keeping both seats together and the checked bags as they are booked; \
                    the fare difference may be charged to the card on file.";

/// The pushes and counters of an append, without its checks; `memory bench` runs the same script.
const BARE_APPEND: &str = include_str!("../cli/src/bench/bare/append.lua");

/// The class of plain talk.
const CLASS: &str = "-/conversation";

/// As long as the description that the store keeps of a message.
const DESCRIPTION: &str =
    "73 0 100 019ab5e3c4d57f10a2b3c4d5e6f70819 1764050000000000 14 -/conversation";

struct World {
    runtime: Runtime,
    server: AnyServer,
    manager: MemoryManager,
    bare: MultiplexedConnection,
    script: Arc<redis::Script>,
    prefix: String,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (server, manager, bare, prefix) = runtime.block_on(async {
            let server = any_server().await;
            let prefix = unique_prefix();
            let manager = MemoryManager::builder()
                .with_resource(MemoryResource::new("bench", 1 << 40))
                .with_flush_mode(FlushMode::Manual)
                .open(&format!("{}?prefix={prefix}", server.url()))
                .await
                .unwrap();
            let client = redis::Client::open(server.url()).unwrap();
            let bare = client.get_multiplexed_async_connection().await.unwrap();
            (server, manager, bare, prefix)
        });
        let script = Arc::new(redis::Script::new(BARE_APPEND));
        Self { runtime, server, manager, bare, script, prefix }
    }

    fn memory(&self, name: &str) -> MemoryInstance {
        self.manager.memory("bench", name).unwrap()
    }

    fn keys(&self, name: &str) -> [String; 2] {
        ["messages", "counters"].map(|what| format!("{}:bare:{name}:{what}", self.prefix))
    }

    /// This number of appends in total, through the facade, by this number of tasks.
    fn facade(&self, memory: &MemoryInstance, tasks: u64, count: u64) -> Duration {
        let left = Arc::new(AtomicU64::new(count));
        self.runtime.block_on(async {
            let begun = Instant::now();
            let tasks: Vec<_> = (0..tasks)
                .map(|_| {
                    let (memory, left) = (memory.clone(), Arc::clone(&left));
                    tokio::spawn(async move {
                        while take(&left) {
                            black_box(memory.append(Message::user(TEXT)).await.unwrap());
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            begun.elapsed()
        })
    }

    /// The same with the bare script.
    fn bare(&self, keys: &[String; 2], tasks: u64, count: u64) -> Duration {
        let left = Arc::new(AtomicU64::new(count));
        self.runtime.block_on(async {
            let begun = Instant::now();
            let tasks: Vec<_> = (0..tasks)
                .map(|_| {
                    let (mut connection, script) = (self.bare.clone(), Arc::clone(&self.script));
                    let (keys, left) = (keys.clone(), Arc::clone(&left));
                    tokio::spawn(async move {
                        while take(&left) {
                            let body = serde_json::to_string(&Message::user(TEXT)).unwrap();
                            let mut call = script.key(&keys[0]);
                            call.key(&keys[1])
                                .arg([DESCRIPTION, &body].concat())
                                .arg(60)
                                .arg(CLASS);
                            black_box(
                                call.invoke_async::<Vec<i64>>(&mut connection).await.unwrap(),
                            );
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            begun.elapsed()
        })
    }

    /// Lock, push, count twice, release: five commands, like libraries without scripts.
    fn separate(&self, keys: &[String; 2], count: u64) -> Duration {
        let lock = format!("{}:bare:lock", self.prefix);
        self.runtime.block_on(async {
            let mut connection = self.bare.clone();
            let begun = Instant::now();
            for _ in 0..count {
                let body = serde_json::to_string(&Message::user(TEXT)).unwrap();
                let mut set = redis::cmd("SET");
                set.arg(&lock).arg("owner").arg("NX").arg("PX").arg(30_000);
                set.query_async::<Option<String>>(&mut connection).await.unwrap();
                connection.rpush::<_, _, i64>(&keys[0], body).await.unwrap();
                connection.hincr::<_, _, _, i64>(&keys[1], "messages", 1).await.unwrap();
                connection.hincr::<_, _, _, i64>(&keys[1], "tokens", 60).await.unwrap();
                connection.del::<_, i64>(&lock).await.unwrap();
            }
            begun.elapsed()
        })
    }
}

fn take(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

fn append(c: &mut Criterion) {
    let world = World::new();
    for tasks in [1, 16, 64] {
        let mut group = c.benchmark_group(format!("append to one memory on Redis, tasks: {tasks}"));
        group.throughput(Throughput::Elements(1)).sample_size(40);
        let (memory, keys) = (world.memory(&format!("m{tasks}")), world.keys(&format!("m{tasks}")));
        group.bench_function("bare script", |b| b.iter_custom(|n| world.bare(&keys, tasks, n)));
        group.bench_function("facade", |b| b.iter_custom(|n| world.facade(&memory, tasks, n)));
        if tasks == 1 {
            group.bench_function("five separate commands", |b| {
                b.iter_custom(|n| world.separate(&keys, n));
            });
        }
        group.finish();
    }
    drop(world.server);
}

fn long_history(c: &mut Criterion) {
    let world = World::new();
    let mut group = c.benchmark_group("append to a memory on Redis, messages there");
    group.sample_size(40);
    for length in [100, 100_000_usize] {
        let memory = world.memory(&format!("long{length}"));
        world.runtime.block_on(async {
            for _ in 0..length.div_ceil(1_000) {
                let batch = (0..length.min(1_000)).map(|_| Message::user(TEXT));
                memory.append_all(batch).await.unwrap();
            }
        });
        group
            .bench_function(length.to_string(), |b| b.iter_custom(|n| world.facade(&memory, 1, n)));
    }
    group.finish();
}

criterion_group!(benches, append, long_history);
criterion_main!(benches);
