//! Writers are killed in the middle of each operation on the past: flushes, undoing, taking back, erasures, replacements,
//! searches, forks and copies. With an archive, each number is that of one message that is present, archived or
//! erased, after any kill. Each operation is interrupted twice: at a random moment after it has begun, and when the store has
//! applied its write and its caller has not seen the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use memory_core::conformance::assert_counters;
use memory_core::store::{Appended, StoreError, StoreErrorKind};
use memory_core::{ContentType, Message, Priority, Sequence};
use memory_core_testkit::intercept::{Hook, Intercept, Method};
use memory_instance::{ForkOptions, MemoryError, MemoryInstance, MemoryManager, SearchQuery};
use memory_lock::LockManager;

use crate::child::{DOOMED, builder, open, say};
use crate::parent::{Child, Errand, LASTING, Orders, pause, seed};

/// The operations in whose middle a child is killed on each backend.
const OPERATIONS: [&str; 14] = [
    "flush",
    "undo",
    "rewind",
    "pop turn",
    "erase",
    "rewrite",
    "replace",
    "set priority",
    "set content type",
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

/// Stops the child when the store has answered the write of the ordered operation.
#[derive(Debug)]
struct Unanswered {
    is_armed: Arc<AtomicBool>,
}

impl Hook for Unanswered {
    async fn around<T: Send>(
        &self,
        method: Method,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let answer = call.await;
        let is_decisive = method.is_write() || method == Method::Search;
        if is_decisive && answer.is_ok() && self.is_armed.load(Ordering::Relaxed) {
            say("here");
            std::future::pending::<()>().await;
        }
        answer
    }
}

/// The work of a child. The point of its orders is the operation that it prefers; with a pass, it stops there.
pub(crate) async fn change(orders: &Orders) {
    let (store, locks) = open(&orders.url).await;
    let is_armed = Arc::<AtomicBool>::default();
    let store = Arc::new(Intercept::new(store, Unanswered { is_armed: Arc::clone(&is_armed) }));
    let manager = builder(0, DOOMED).build(store, LockManager::new(locks)).unwrap();
    let memory = manager.memory("m", "k").unwrap();
    let mut random = Rng::with_seed(u64::from(orders.process));
    say("up");
    for number in 0_u64.. {
        // An error leaves the memory as it was, or changed; the parent finds out.
        let operation = match random.u8(0..40) {
            few @ 0..20 => OPERATIONS[usize::from(few) % OPERATIONS.len()],
            20..25 => &orders.point,
            _ => "append",
        };
        if operation == "rewrite" && orders.point == operation {
            let _ =
                summarize_and_erase(&memory, &format!("{}.{number}.first", orders.process)).await;
        }
        // The first batches are acknowledged.
        is_armed.store(
            operation == orders.point && orders.passes > 0 && number > 10,
            Ordering::Relaxed,
        );
        let _ =
            one_change(&memory, &manager, operation, (orders.process, number), &mut random).await;
        say("ends");
    }
}

/// Erases one of the messages of a new summary.
async fn summarize_and_erase(memory: &MemoryInstance, stem: &str) -> Result<(), MemoryError> {
    let batch = (0..120).map(|part| Message::user(text(stem, part)));
    acknowledge(Some(memory.append_all(batch).await?), stem, 120);
    let receipt = memory.perform_flush().await?;
    let second = receipt.and_then(|receipt| receipt.summarized.iter().nth(1));
    memory.erase(second, "test").await.map(drop)
}

async fn one_change(
    memory: &MemoryInstance,
    manager: &MemoryManager,
    operation: &str,
    (process, number): (u32, u64),
    random: &mut Rng,
) -> Result<(), MemoryError> {
    let newest = memory.counters().await?.appended;
    let place = Sequence::new(random.u64(1..=newest.max(1)));
    let late = Sequence::new(newest.saturating_sub(random.u64(0..20)).max(1));
    say(&format!("begins {operation}"));
    match operation {
        "clear" => memory.clear().await.map(drop),
        "erase" => memory.erase([place], "test").await.map(drop),
        "rewrite" => {
            for erasure in memory.erasures().await?.iter().take(3) {
                memory.rewrite_summaries(erasure).await?;
            }
            Ok(())
        }
        "replace all" => {
            let stem = format!("{process}.{number}");
            let batch = [Message::user(text(&stem, 0))];
            let replaced = memory.replace_all(batch, None).await?;
            acknowledge(replaced.applied().map(|replaced| replaced.appended), &stem, 1);
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
            memory.replace(late, new).await.map(drop)
        }
        "set priority" => memory.set_priority(late, Priority::IMPORTANT).await.map(drop),
        "set content type" => {
            memory.set_content_type(late, ContentType::ImportantFacts).await.map(drop)
        }
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
            let count = random.u64(1..8);
            let stem = format!("{process}.{number}");
            let batch = (0..count).map(|part| Message::user(text(&stem, part)));
            let appended = memory.append_all(batch).await?;
            acknowledge(Some(appended), &stem, count);
            Ok(())
        }
    }
}

fn acknowledge(appended: Option<Appended>, stem: &str, count: u64) {
    if let Some(first) = appended.and_then(|appended| appended.outcome.first()) {
        say(&format!("ack {first} {count} {stem}"));
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
            let is_it = |hit: &memory_instance::SearchHit| hit.sequence.number() == *place;
            let mut query = SearchQuery::new(format!("\"{stem}\""));
            loop {
                let results = memory.search(&query).await.unwrap();
                if results.hits.iter().any(is_it) {
                    break;
                }
                // Without an index, one search looks at a part of a long memory.
                let before = results.coverage.next();
                assert!(before.is_some(), "{text} at {place} is not found");
                query.before = before;
            }
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
    let mut interrupted = 0;
    let ways = [false, true].into_iter().flat_map(|stops| OPERATIONS.map(|one| (one, stops)));
    for (process, (operation, stops)) in (1..).zip(ways) {
        let (point, passes) = (operation.to_owned(), u32::from(stops));
        let orders = Orders { errand: Errand::Past, point, passes, ..Orders::write(url, process) };
        let mut child = Child::start(&orders);
        if stops {
            assert!(child.wait_for("here"), "{operation}: {:?}", child.heard.last());
        } else {
            for _ in 0..random.u8(5..15) {
                assert!(child.wait_for("ack"), "{:?}", child.heard);
            }
            let begins = format!("begins {operation}");
            assert!(child.wait_for(&begins), "{begins}: {:?}", child.heard);
            pause(Duration::from_micros(random.u64(0..500)));
        }
        let heard = child.kill();
        let is_in_it = heard.iter().rfind(|line| line.starts_with("begins") || *line == "ends");
        interrupted += u32::from(is_in_it.is_some_and(|line| line.starts_with("begins")));
        known.hear(&heard);
        let (store, locks) = open(url).await;
        let manager = builder(0, LASTING).build(store, LockManager::new(locks)).unwrap();
        known.check(&manager).await;
    }
    println!("{url}: {interrupted} operations were interrupted, {} messages", known.texts.len());
    let stopped = u32::try_from(OPERATIONS.len()).unwrap();
    assert!(interrupted >= stopped + 3, "only {interrupted} operations were interrupted");
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
