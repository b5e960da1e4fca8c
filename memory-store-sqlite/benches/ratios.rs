//! The documented ratios. The sides alternate, so that other load on the machine slows all of them
//! equally. Prints medians; takes some 30 seconds. With the argument `processes` it compares
//! several processes on one file with one, which takes a minute.

mod common;
mod processes;

use std::hint::black_box;
use std::time::Duration;

use common::{Bare, Subject, key, now};
use memory_core::store::{Access, Cursor, Durability, FlushReceipt, Read, Retention, Splice};
use memory_core::{MemoryStore, Sequence};

const ROUNDS: usize = 30;

fn main() {
    if processes::run_child() {
        return;
    }
    if std::env::args().any(|argument| argument == "processes") {
        processes::compare_processes();
        return;
    }
    one_task();
    many_tasks();
    growing_histories();
    reading_the_delta();
    flushing_to_the_archive();
}

/// One side of a comparison: repeats its work and returns how long each run took.
type Side<'a> = (&'a str, Box<dyn FnMut() -> Vec<Duration> + 'a>);

/// Alternates between all sides and prints the median of each and its speed as a multiple of the
/// first one's.
fn compare(title: &str, mut sides: Vec<Side<'_>>) {
    let mut taken: Vec<Vec<Duration>> = sides.iter().map(|_| Vec::new()).collect();
    for round in 0..ROUNDS {
        for (index, (_, side)) in sides.iter_mut().enumerate() {
            let times = side();
            // The first round warms up.
            if round > 0 {
                taken[index].extend(times);
            }
        }
    }
    let medians: Vec<_> = taken
        .iter_mut()
        .map(|times| {
            times.sort_unstable();
            times[times.len() / 2]
        })
        .collect();
    for ((name, _), (median, times)) in sides.iter().zip(medians.iter().zip(&taken)) {
        let tenth = times[times.len() / 10];
        println!(
            "{title:<22} {name:<22} median {:>9.1} us, fastest tenth {:>9.1} us, speed x {:.2}",
            median.as_secs_f64() * 1e6,
            tenth.as_secs_f64() * 1e6,
            medians[0].as_secs_f64() / median.as_secs_f64(),
        );
    }
}

fn timed(times: usize, mut work: impl FnMut()) -> Vec<Duration> {
    (0..times)
        .map(|_| {
            let start = now();
            work();
            start.elapsed()
        })
        .collect()
}

fn append_one_by_one(subject: &Subject, name: &str, times: usize) -> Vec<Duration> {
    let key = key(name);
    subject.runtime.block_on(async {
        let mut taken = Vec::with_capacity(times);
        for _ in 0..times {
            let start = now();
            subject.append(&key).await;
            taken.push(start.elapsed());
        }
        taken
    })
}

fn one_task() {
    for (durability, synchronous) in [(Durability::Disk, "FULL"), (Durability::Process, "NORMAL")] {
        let bare = Bare::new(synchronous);
        let subject = Subject::new(durability);
        compare(
            &format!("append {synchronous}"),
            vec![
                ("bare insert", Box::new(|| timed(100, || bare.insert()))),
                ("one task", Box::new(|| append_one_by_one(&subject, "k", 100))),
            ],
        );
    }
}

fn many_tasks() {
    const EACH: u64 = 16;
    let many = |subject: &Subject, tasks: u64, keys: u64| {
        let start = now();
        subject.append_by_tasks(tasks, keys, EACH);
        vec![start.elapsed() / u32::try_from(tasks * EACH).unwrap()]
    };
    let [one, four, same, few, own, wide] = [(); 6].map(|()| Subject::new(Durability::Disk));
    compare(
        "per append, FULL",
        vec![
            ("one task", Box::new(|| append_one_by_one(&one, "k", 50))),
            ("4 tasks, one key", Box::new(|| many(&four, 4, 1))),
            ("64 tasks, one key", Box::new(|| many(&same, 64, 1))),
            ("64 tasks, 8 keys", Box::new(|| many(&few, 64, 8))),
            ("64 tasks, 64 keys", Box::new(|| many(&own, 64, 64))),
            ("256 tasks, 16 keys", Box::new(|| many(&wide, 256, 16))),
        ],
    );
}

fn growing_histories() {
    let [small, large] = [(); 2].map(|()| Subject::new(Durability::Disk));
    small.fill(&key("k"), 100);
    large.fill(&key("k"), 100_000);
    compare(
        "append FULL into",
        vec![
            ("100 messages", Box::new(|| append_one_by_one(&small, "k", 100))),
            ("100,000 messages", Box::new(|| append_one_by_one(&large, "k", 100))),
        ],
    );
}

fn reading_the_delta() {
    let subject = Subject::new(Durability::Process);
    let read = |size: usize| {
        let key = key(&size.to_string());
        subject.fill(&key, size);
        let generation = subject.runtime.block_on(subject.store.head(&key)).unwrap().generation;
        let sequence = Sequence::new(size as u64 - 10);
        let read = Read { after: Some(Cursor::unidentified(generation, sequence)), limit: None };
        let subject = &subject;
        move || {
            timed(100, || {
                black_box(subject.runtime.block_on(subject.store.read(&key, read)).unwrap());
            })
        }
    };
    let sides: Vec<Side<'_>> =
        vec![("10 of 10", Box::new(read(10))), ("10 new of 10,000", Box::new(read(10_000)))];
    compare("read", sides);
}

/// Evicts 1,000 messages of a memory, which keeps as many.
fn flushing_to_the_archive() {
    let subject = Subject::new(Durability::Disk);
    let flush = |archive: Option<Retention>| {
        let key = key(if archive.is_some() { "archive" } else { "none" });
        let (subject, mut number) = (&subject, 0_u128);
        subject.fill(&key, 1_000);
        move || {
            subject.fill(&key, 1_000);
            let outline = subject.runtime.block_on(subject.store.outline(&key)).unwrap();
            let evicted = outline.metas.iter().take(1_000).map(|meta| meta.sequence);
            number += 1;
            let id = uuid::Uuid::from_u128(number);
            let mut receipt = FlushReceipt::new(id, "fifo", jiff::Timestamp::UNIX_EPOCH);
            receipt.evicted = evicted.clone().collect();
            let splice = Splice {
                evicted: evicted.collect(),
                receipt: Some(receipt),
                archive,
                ..Splice::of(&outline)
            };
            let splice = splice.weighed(&outline.metas);
            timed(1, || {
                let done = subject.store.splice(&key, Access::OPEN, &splice);
                subject.runtime.block_on(done).unwrap();
            })
        }
    };
    // Two removals fit, so that each flush also drops the oldest.
    let mut two = Retention::forever();
    two.max_bytes = 800_000;
    let sides: Vec<Side<'_>> = vec![
        ("without an archive", Box::new(flush(None))),
        ("with an archive", Box::new(flush(Some(two)))),
    ];
    compare("flush of 1,000", sides);
}
