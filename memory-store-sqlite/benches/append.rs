//! Appends and reads, beside direct use of SQLite with the same `synchronous`.
//!
//! On a busy machine the bench `ratios` compares better, because it alternates.

mod common;

use std::num::NonZeroUsize;
use std::time::Duration;

use common::{Bare, Subject, key, now};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use memory_core::store::{Cursor, Durability, Read};
use memory_core::{MemoryStore, Sequence};

fn one_task(c: &mut Criterion) {
    for (durability, synchronous) in [(Durability::Disk, "FULL"), (Durability::Process, "NORMAL")] {
        let mut group = group(c, &format!("append_{}", synchronous.to_lowercase()));
        let bare = Bare::new(synchronous);
        group.bench_function("bare", |b| b.iter(|| bare.insert()));
        let (subject, key) = (Subject::new(durability), key("one"));
        group.bench_function("one_task", |b| {
            b.iter_custom(|iterations| {
                subject.runtime.block_on(async {
                    let start = now();
                    for _ in 0..iterations {
                        subject.append(&key).await;
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
        let subject = Subject::new(Durability::Disk);
        group.bench_function(name, |b| {
            b.iter_custom(|iterations| {
                let each = iterations.div_ceil(TASKS);
                let start = now();
                subject.append_by_tasks(TASKS, keys, each);
                // Scaled to the number of iterations that criterion requested.
                start.elapsed().mul_f64(iterations as f64 / (each * TASKS) as f64)
            });
        });
    }
    group.finish();
}

fn growing_histories(c: &mut Criterion) {
    let mut group = group(c, "append_into");
    let subject = Subject::new(Durability::Disk);
    for size in [100, 100_000] {
        let key = key(&size.to_string());
        subject.fill(&key, size);
        group.bench_function(size.to_string(), |b| {
            b.iter(|| subject.runtime.block_on(subject.append(&key)));
        });
    }
    group.finish();
}

fn reading_the_delta(c: &mut Criterion) {
    let mut group = group(c, "read_10_of");
    let subject = Subject::new(Durability::Process);
    for size in [10, 10_000] {
        let key = key(&size.to_string());
        subject.fill(&key, size);
        let generation = subject.runtime.block_on(subject.store.head(&key)).unwrap().generation;
        let sequence = Sequence::new(size as u64 - 10);
        let read = Read { after: Some(Cursor::unidentified(generation, sequence)), limit: None };
        group.bench_function(size.to_string(), |b| {
            b.iter(|| {
                let page = subject.runtime.block_on(subject.store.read(&key, read)).unwrap();
                assert_eq!(page.messages.len(), 10);
            });
        });
    }
    group.finish();
    let mut group = self::group(c, "read_of_10000");
    let (key, read) =
        (key("10000"), Read { after: None, limit: NonZeroUsize::new(1_000).map(Into::into) });
    group.bench_function("1000", |b| {
        b.iter(|| subject.runtime.block_on(subject.store.read(&key, read)).unwrap());
    });
    group.bench_function("outline", |b| {
        b.iter(|| subject.runtime.block_on(subject.store.outline(&key)).unwrap());
    });
    group.finish();
}

fn group<'c>(c: &'c mut Criterion, name: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = c.benchmark_group(name);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(4));
    group.sample_size(50).throughput(Throughput::Elements(1));
    group
}

criterion_group!(benches, one_task, many_tasks, growing_histories, reading_the_delta);
criterion_main!(benches);
