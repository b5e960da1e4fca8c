//! The time from an append to the watcher of another manager, as in another process, on Redis and SQLite,
//! and to a watcher of the same manager.
//!
//! `cargo bench -p memory-instance --features redis --bench watch`, with a `redis-server` on the PATH or
//! `MEMORY_TEST_REDIS_URL`. The append itself is not timed. On SQLite the appends are at random moments, because
//! the watcher looks at the file from time to time.

#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use memory_core::{MemoryResource, Message};
use memory_instance::{Change, FlushMode, MemoryInstance, MemoryManager, WatchFrom, Watcher};
use memory_redis_testkit::{any_server, unique_prefix};
use tokio::runtime::Runtime;

async fn open(url: &str) -> MemoryInstance {
    let builder = MemoryManager::builder()
        .with_resource(MemoryResource::new("bench", 1 << 40))
        .with_flush_mode(FlushMode::Manual);
    builder.open(url).await.unwrap().memory("bench", "watched").unwrap()
}

/// The total time of `rounds` appends until the watcher has them; `pause` is the longest random pause before each.
async fn latency(
    writer: &MemoryInstance,
    watcher: &mut Watcher,
    rounds: u64,
    pause: Duration,
) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..rounds {
        tokio::time::sleep(pause.mul_f64(fastrand::f64())).await;
        let wait = async {
            loop {
                if let Change::Appended(messages) = watcher.next().await.unwrap() {
                    assert_eq!(messages.len(), 1);
                    return Instant::now();
                }
            }
        };
        let append = async {
            writer.append(Message::user("hello")).await.unwrap();
            Instant::now()
        };
        let (seen, acknowledged) = tokio::join!(wait, append);
        // A watcher may see an append before its answer arrives.
        total += seen.saturating_duration_since(acknowledged);
    }
    total
}

fn bench(c: &mut Criterion, runtime: &Runtime, name: &str, url: &str, pause: Duration) {
    let (writer, other) = runtime.block_on(async { (open(url).await, open(url).await) });
    let mut group = c.benchmark_group("watch");
    group.sample_size(20).measurement_time(Duration::from_secs(8));
    for (place, watched) in [("same_process", &writer), ("other_process", &other)] {
        let mut watcher = runtime.block_on(watched.watch(WatchFrom::Now)).unwrap();
        group.bench_function(format!("{name}/{place}"), |b| {
            b.iter_custom(|rounds| runtime.block_on(latency(&writer, &mut watcher, rounds, pause)));
        });
    }
    group.finish();
}

fn watch(c: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite://{}", folder.path().join("memory.db").display());
    bench(c, &runtime, "sqlite", &file, Duration::from_millis(120));
    let server = runtime.block_on(any_server());
    let url = format!("{}?prefix={}", server.url(), unique_prefix());
    bench(c, &runtime, "redis", &url, Duration::from_millis(2));
}

criterion_group!(benches, watch);
criterion_main!(benches);
