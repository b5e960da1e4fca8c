//! Writers are killed in the middle of each operation on the past: flushes, undoing, taking back, erasures, replacements,
//! searches, forks and copies. With an archive, each number is that of one message that is present, archived or
//! erased, after any kill.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use memory_core::conformance::assert_counters;
use memory_core::store::StoreErrorKind;
use memory_core::{Message, Priority, Sequence};
use memory_instance::{ForkOptions, MemoryError, MemoryInstance, MemoryManager, SearchQuery};
use memory_lock::LockManager;

use crate::child::{DOOMED, builder, open, say};
use crate::parent::{Child, Errand, LASTING, Orders, pause, seed};

/// The operations in whose middle a child is killed on each backend.
const OPERATIONS: [&str; 13] = [
    "flush",
    "undo",
    "rewind",
    "pop turn",
    "erase",
    "rewrite",
    "replace",
    "set priority",
    "replace all",
    "clear",
    "search",
    "fork",
    "copy",
];

/// A word that each message has.
const WORD: &str = "words";

fn text(stem: &str, part: u64) -> String {
    format!("{stem}.{part} {WORD}")
}

/// The work of a child.
pub(crate) async fn change(orders: &Orders) {
    let (store, locks) = open(&orders.url).await;
    let manager = builder(0, DOOMED).build(store, LockManager::new(locks)).unwrap();
    let memory = manager.memory("m", "k").unwrap();
    let mut random = Rng::with_seed(u64::from(orders.process));
    say("up");
    for number in 0_u64.. {
        // An error leaves the memory as it was, or changed; the parent finds out.
        let _ = one_change(&memory, &manager, orders.process, number, &mut random).await;
    }
}

async fn one_change(
    memory: &MemoryInstance,
    manager: &MemoryManager,
    process: u32,
    number: u64,
    random: &mut Rng,
) -> Result<(), MemoryError> {
    let newest = memory.counters().await?.appended;
    let place = Sequence::new(random.u64(1..=newest.max(1)));
    let operation = match random.u8(0..40) {
        few @ 0..20 => OPERATIONS[usize::from(few) % OPERATIONS.len()],
        _ => "append",
    };
    say(&format!("begins {operation}"));
    match operation {
        "clear" => memory.clear().await.map(drop),
        "erase" => memory.erase([place], "test").await.map(drop),
        "rewrite" => match memory.erasures().await?.first() {
            Some(erasure) => memory.rewrite_summaries(erasure).await.map(drop),
            None => Ok(()),
        },
        "replace all" => {
            let batch = [Message::user(text(&format!("{process}.{number}"), 0))];
            let replaced = memory.replace_all(batch, None).await?;
            acknowledge(replaced.applied().map(|replaced| replaced.appended), process, number, 1);
            Ok(())
        }
        "rewind" => {
            let version = memory.version().await?;
            let to = Sequence::new(newest.saturating_sub(random.u64(1..4)));
            memory.rewind(to, version).await.map(drop)
        }
        "pop turn" => memory.pop_turn(memory.version().await?).await.map(drop),
        "replace" => {
            let new = Message::user(text(&format!("replaced-{process}.{number}"), 0));
            memory.replace(place, new).await.map(drop)
        }
        "set priority" => memory.set_priority(place, Priority::IMPORTANT).await.map(drop),
        "undo" => match memory.receipts().await?.first() {
            Some(receipt) => memory.undo_flush(receipt.id).await.map(drop),
            None => Ok(()),
        },
        "flush" => memory.perform_flush().await.map(drop),
        "search" => memory.search(&SearchQuery::new(WORD)).await.map(drop),
        "fork" => {
            let name = format!("fork-{process}-{number}");
            say(&format!("copy {name}"));
            let fork = manager.memory("m", &name)?;
            memory.fork(&fork, ForkOptions::new()).await.map(drop)
        }
        "copy" => {
            let name = format!("copy-{process}-{number}");
            say(&format!("copy {name}"));
            // The memory may change during each attempt.
            let _ = memory.copy_to(&manager.memory("m", &name)?).await;
            Ok(())
        }
        _ => {
            let count = random.u64(1..5);
            let stem = format!("{process}.{number}");
            let batch = (0..count).map(|part| Message::user(text(&stem, part)));
            let appended = memory.append_all(batch).await?;
            acknowledge(Some(appended), process, number, count);
            Ok(())
        }
    }
}

fn acknowledge(
    appended: Option<memory_core::store::Appended>,
    process: u32,
    number: u64,
    count: u64,
) {
    if let Some(first) = appended.and_then(|appended| appended.outcome.first()) {
        say(&format!("ack {first} {count} {process}.{number}"));
    }
}

/// The acknowledged texts, the copies that were begun, and the erased numbers.
#[derive(Default)]
struct Known {
    texts: BTreeMap<u64, String>,
    copies: Vec<String>,
    erased: BTreeSet<u64>,
}

impl Known {
    fn hear(&mut self, lines: &[String]) {
        for line in lines {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["ack", first, count, stem] => {
                    let (first, count): (u64, u64) =
                        (first.parse().unwrap(), count.parse().unwrap());
                    for part in 0..count {
                        let earlier = self.texts.insert(first + part, text(stem, part));
                        assert_eq!(earlier, None, "number {} was given twice", first + part);
                    }
                }
                ["copy", name] => self.copies.push(name.to_owned()),
                _ => {}
            }
        }
    }

    /// Checks the memory after a kill, and each copy that the killed process had begun.
    async fn check(&mut self, manager: &MemoryManager) {
        let memory = manager.memory("m", "k").unwrap();
        for erasure in memory.erasures().await.unwrap() {
            let places = erasure.present.union(&erasure.archived);
            self.erased.extend(places.iter().map(Sequence::number));
        }
        let outline = manager.store().outline(memory.key()).await.unwrap();
        assert_counters(&outline);
        let found = texts(&memory).await;
        let all: BTreeSet<_> = found.keys().copied().chain(self.erased.iter().copied()).collect();
        assert_eq!(all, (1..=outline.head.counters.appended).collect(), "a message is missing");
        for (place, text) in &found {
            assert!(!self.erased.contains(place), "{place} was erased: {text}");
            if let Some(acknowledged) = self.texts.get(place) {
                let is_it = text == acknowledged || text.starts_with("replaced-");
                assert!(is_it, "{text} instead of {acknowledged} at {place}");
            }
        }
        self.search(&memory, &found).await;
        for name in std::mem::take(&mut self.copies) {
            let copy = manager.memory("m", &name).unwrap();
            match copy.len().await {
                Err(error) if error.store_kind() == Some(&StoreErrorKind::Unfinished) => {
                    copy.delete().await.unwrap();
                    assert_eq!(copy.len().await.unwrap(), 0);
                }
                _ => {
                    let outline = manager.store().outline(copy.key()).await.unwrap();
                    assert_counters(&outline);
                    // A copy of a state before an erasure or a replacement may have another text.
                    texts(&copy).await;
                }
            }
        }
        // The memory can still be written.
        let stem = format!("0.{}", self.texts.len());
        let appended = memory.append(Message::user(text(&stem, 0))).await.unwrap();
        let place = appended.outcome.first().unwrap();
        self.texts.insert(place.number(), text(&stem, 0));
    }

    /// The newest and the oldest message are found.
    async fn search(&self, memory: &MemoryInstance, found: &BTreeMap<u64, String>) {
        let ends = [found.first_key_value(), found.last_key_value()];
        for (place, text) in ends.into_iter().flatten() {
            let stem = text.split(' ').next().unwrap();
            let results = memory.search(&SearchQuery::new(format!("\"{stem}\""))).await.unwrap();
            let is_it = |hit: &memory_instance::SearchHit| hit.sequence.number() == *place;
            assert!(results.hits.iter().any(is_it), "{text} at {place} is not found");
        }
    }
}

/// The texts of all messages, present and archived, by their numbers; each number has one.
async fn texts(memory: &MemoryInstance) -> BTreeMap<u64, String> {
    let mut found = BTreeMap::new();
    let all = Sequence::ZERO..=Sequence::new(u64::MAX);
    let archived = memory.archived(all).await.unwrap();
    let archived = archived.into_iter().map(|archived| archived.message);
    for message in memory.messages().await.unwrap().into_iter().chain(archived) {
        if !message.meta.is_summary() {
            let text = message.message.text().into_owned();
            let other = found.insert(message.meta.sequence.number(), text);
            assert_eq!(other, None, "two messages at {}", message.meta.sequence);
        }
    }
    found
}

async fn kill_writers(url: &str) {
    let seed = seed();
    println!("seed {seed}");
    let mut random = Rng::with_seed(seed);
    let mut known = Known::default();
    for (process, operation) in (1..).zip(OPERATIONS) {
        let orders = Orders { errand: Errand::Past, ..Orders::write(url, process) };
        let mut child = Child::start(&orders);
        for _ in 0..random.u8(10..30) {
            assert!(child.wait_for("ack"), "{:?}", child.heard);
        }
        let begins = format!("begins {operation}");
        assert!(child.wait_for(&begins), "{begins}: {:?}", child.heard);
        pause(Duration::from_micros(random.u64(0..2_000)));
        known.hear(&child.kill());
        let (store, locks) = open(url).await;
        let manager = builder(0, LASTING).build(store, LockManager::new(locks)).unwrap();
        known.check(&manager).await;
    }
    assert!(known.texts.len() > 100, "the children did not live to write");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_changes_of_the_past_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    kill_writers(&format!("sqlite://{}", folder.path().join("memory.db").display())).await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_changes_of_the_past_on_redis() {
    let server = memory_redis_testkit::any_server().await;
    let prefix = memory_redis_testkit::unique_prefix();
    kill_writers(&format!("{}?prefix={prefix}", server.url())).await;
}
