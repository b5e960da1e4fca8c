//! Searches of 100,000 messages whose index is up to date, and bringing it up to date.
//!
//! `cargo bench -p memory-store-sqlite --bench search`

mod common;

use std::time::Duration;

use common::{Subject, key, message, now};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use memory_core::store::{
    Access, Append, Clear, Durability, MAX_SEARCH_HITS, MessageId, NewMessage, Retention,
    SearchCoverage, SearchQuery, WriterId,
};
use memory_core::{MemoryKey, MemoryStore as _, Message};

const MESSAGES: usize = 100_000;

/// Of this many messages one has the word that is searched.
const RARITY: usize = 100;

/// The messages that are indexed in one iteration.
const NEW: usize = 20_000;

/// About 40 words, of which a few are frequent, as in a language.
fn text(number: usize) -> String {
    let mut text = String::from("The customer asks about order ");
    text.push_str(&number.to_string());
    for _ in 0..36 {
        let rank = 6_000_f64.powf(fastrand::f64());
        text.push_str(&format!(" w{}", rank as u32));
    }
    if number.is_multiple_of(RARITY) {
        text.push_str(" needle in the harbor");
    }
    text
}

fn fill(subject: &Subject, key: &MemoryKey, count: usize) {
    for first in (0..count).step_by(1_000) {
        let messages = (first..first + 1_000).map(|number| NewMessage {
            id: MessageId::new(uuid::Uuid::from_u128(fastrand::u128(..))),
            message: Message::user(text(number)),
            ..message()
        });
        let append = Append {
            write: WriterId::new(fastrand::u128(..)).write(1),
            messages: messages.collect(),
            ttl: None,
            expected: None,
        };
        subject.runtime.block_on(subject.store.append(key, Access::OPEN, &append)).unwrap();
    }
}

fn searches(c: &mut Criterion) {
    let (subject, present, archived) =
        (Subject::new(Durability::Disk), key("present"), key("archived"));
    fill(&subject, &present, MESSAGES);
    fill(&subject, &archived, MESSAGES);
    let clear = Clear {
        archive: Some(Retention::forever()),
        ..Clear::new(WriterId::new(fastrand::u128(..)).write(1))
    };
    let run = &subject.runtime;
    run.block_on(subject.store.clear(&archived, Access::OPEN, &clear)).unwrap();
    for key in [&present, &archived] {
        run.block_on(subject.store.rebuild_index(key)).unwrap();
    }
    let mut group = c.benchmark_group("search_100000");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(4));
    let cases = [
        ("1000_hits", &present, "needle", MESSAGES / RARITY),
        ("1000_hits_phrase", &present, "\"needle in the harbor\"", MESSAGES / RARITY),
        ("1000_hits_frequent_words", &present, "customer order needle", MESSAGES / RARITY),
        ("1_hit", &present, "99900 needle", 1),
        ("1000_hits_archived", &archived, "needle", MESSAGES / RARITY),
        ("no_hit", &present, "absent", 0),
    ];
    for (name, key, words, hits) in cases {
        let query = SearchQuery::new(words);
        group.bench_function(name, |b| {
            b.iter(|| {
                let found = run.block_on(subject.store.search(key, &query)).unwrap();
                assert_eq!(found.matches, hits as u64);
            });
        });
    }
    // Words that nearly all messages have: the newest thousand are ranked.
    let query = SearchQuery::new("customer");
    group.bench_function("frequent_word", |b| {
        b.iter(|| {
            let found = run.block_on(subject.store.search(&present, &query)).unwrap();
            assert_eq!(found.matches, MAX_SEARCH_HITS as u64);
            assert!(found.coverage != SearchCoverage::Complete);
        });
    });
    group.finish();
}

fn catching_up(c: &mut Criterion) {
    let subject = Subject::new(Durability::Disk);
    let mut group = c.benchmark_group("index");
    group.warm_up_time(Duration::from_millis(500)).sample_size(10);
    group.throughput(Throughput::Elements(NEW as u64));
    let mut number = 0;
    group.bench_function("first_search_of_20000", |b| {
        b.iter_custom(|iterations| {
            let mut elapsed = Duration::ZERO;
            for _ in 0..iterations {
                number += 1;
                let key = key(&number.to_string());
                fill(&subject, &key, NEW);
                let query = SearchQuery::new("needle");
                let start = now();
                let found = subject.runtime.block_on(subject.store.search(&key, &query)).unwrap();
                elapsed += start.elapsed();
                assert_eq!(found.matches, (NEW / RARITY) as u64);
            }
            elapsed
        });
    });
    group.finish();
}

criterion_group!(benches, searches, catching_up);
criterion_main!(benches);
