//! Writers that continue through faults, and the check of their acknowledged writes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use memory_core::store::{Access, AppendOutcome, Applied, Read, StoreError, StoreErrorKind};
use memory_core::{MemoryKey, MemoryStore};
use memory_store_redis::RedisStore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::{batch, checked_outline, key, until, write};

/// Far more than any failover takes; it only ends a test that would hang.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(40);

/// Messages of one batch.
const PARTS: usize = 2;

/// Writers that append batch after batch, each to its memory, and send a batch again that got no answer.
#[derive(Debug)]
pub(crate) struct Load {
    writers: Vec<JoinHandle<Told>>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

/// The results that one writer received.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) writer: u128,
    pub(crate) key: MemoryKey,
    /// The number of each acknowledged batch, and its place if the result included it.
    pub(crate) acknowledged: Vec<(u64, Option<u64>)>,
    /// Answers that were errors, by their text.
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) duplicates: u64,
    /// The longest that one batch took.
    pub(crate) longest: Duration,
}

/// The result of the check.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) acknowledged: u64,
    pub(crate) lost: u64,
    /// Batches that were found out of order or a second time.
    pub(crate) doubled: u64,
    pub(crate) errors: u64,
    pub(crate) duplicates: u64,
    pub(crate) longest: Duration,
}

impl std::ops::AddAssign for Found {
    fn add_assign(&mut self, more: Self) {
        self.acknowledged += more.acknowledged;
        self.lost += more.lost;
        self.doubled += more.doubled;
        self.errors += more.errors;
        self.duplicates += more.duplicates;
        self.longest = self.longest.max(more.longest);
    }
}

impl Load {
    /// Starts this many writers, spread over this many memories.
    pub(crate) fn start(store: &RedisStore, writers: u128, memories: u128) -> Self {
        Self::start_named(store, writers, memories, "load")
    }

    /// The same, over memories with this name and a number.
    pub(crate) fn start_named(
        store: &RedisStore,
        writers: u128,
        memories: u128,
        name: &str,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let writers = (0..writers)
            .map(|writer| {
                let (store, stop, acknowledged) =
                    (store.clone(), Arc::clone(&stop), Arc::clone(&acknowledged));
                let key = key(&format!("{name}-{}", writer % memories));
                tokio::spawn(async move {
                    let mut told = Told::new(writer, key);
                    let mut number = 0;
                    while !stop.load(Ordering::Relaxed) {
                        number += 1;
                        told.append(&store, number).await;
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    told
                })
            })
            .collect();
        Self { writers, stop, acknowledged }
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until this many more batches were acknowledged.
    pub(crate) async fn go_on(&self, more: u64) {
        let goal = self.acknowledged() + more;
        until("progress of the writers", async || {
            assert!(!self.writers.iter().any(JoinHandle::is_finished), "a writer has ended");
            (self.acknowledged() >= goal).then_some(())
        })
        .await;
    }

    /// Lets each writer end its batch.
    pub(crate) async fn stop(self) -> Vec<Told> {
        self.stop.store(true, Ordering::Relaxed);
        let mut told = Vec::new();
        for writer in self.writers {
            told.push(writer.await.unwrap());
        }
        told
    }
}

impl Told {
    pub(crate) fn new(writer: u128, key: MemoryKey) -> Self {
        Self {
            writer,
            key,
            acknowledged: Vec::new(),
            errors: BTreeMap::new(),
            duplicates: 0,
            longest: Duration::ZERO,
        }
    }

    /// Appends a batch, with as many retries as needed.
    pub(crate) async fn append(&mut self, store: &RedisStore, number: u64) {
        let texts: Vec<_> =
            (0..PARTS).map(|part| format!("{} {number} {part}", self.writer)).collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let batch = batch(write(self.writer, number), &texts);
        let begun = Instant::now();
        loop {
            match store.append(&self.key, Access::OPEN, &batch).await {
                Ok(appended) => {
                    let place = appended.outcome.first().map(memory_core::Sequence::number);
                    self.duplicates += u64::from(appended.outcome.is_duplicate());
                    self.acknowledged.push((number, place));
                    break;
                }
                Err(error) => {
                    assert!(error.is_retryable(), "{error}: {error:?}");
                    assert!(begun.elapsed() < FAILOVER_TIMEOUT, "given up: {error:?}");
                    *self.errors.entry(error.kind().to_string()).or_default() += 1;
                }
            }
            sleep(Duration::from_millis(5)).await;
        }
        self.longest = self.longest.max(begun.elapsed());
    }
}

/// Looks up all acknowledged writes. Counters must equal a recount and no batch may be torn, regardless of
/// the fault; other findings are returned.
pub(crate) async fn examine(store: &RedisStore, told: &[Told]) -> Found {
    let mut found = Found::default();
    let keys: BTreeSet<_> = told.iter().map(|told| told.key.clone()).collect();
    for key in keys {
        let outline = checked_outline(store, &key).await;
        let page = store.read(&key, Read::default()).await.unwrap();
        assert!(page.unreadable.is_empty());
        assert_eq!(outline.head.counters.appended, page.messages.len() as u64);
        let mut numbers: HashMap<u128, Vec<(u64, u64)>> = HashMap::new();
        for (index, batch) in page.messages.chunks(PARTS).enumerate() {
            let parts: Vec<Vec<u128>> = batch
                .iter()
                .map(|message| {
                    let text = message.message.text().into_owned();
                    text.split(' ').map(|part| part.parse().unwrap()).collect()
                })
                .collect();
            for (part, words) in parts.iter().enumerate() {
                assert_eq!(words[..2], parts[0][..2], "a torn batch");
                assert_eq!(words[2], part as u128, "a torn batch");
            }
            let place = batch[0].meta.sequence.number();
            assert_eq!(place, (index * PARTS + 1) as u64, "a gap in the sequence");
            let number = u64::try_from(parts[0][1]).unwrap();
            numbers.entry(parts[0][0]).or_default().push((number, place));
        }
        for told in told.iter().filter(|told| told.key == key) {
            let there = numbers.remove(&told.writer).unwrap_or_default();
            let out_of_order = there.windows(2).filter(|pair| pair[0].0 >= pair[1].0).count();
            let there: HashMap<u64, u64> = there.into_iter().collect();
            let lost = told.acknowledged.iter().filter(|(number, _)| !there.contains_key(number));
            let lost = lost.count();
            if lost == 0 {
                for (number, place) in &told.acknowledged {
                    let place = place.unwrap_or(there[number]);
                    assert_eq!(there[number], place, "batch {number} of {}", told.writer);
                }
            }
            found += Found {
                acknowledged: told.acknowledged.len() as u64,
                lost: lost as u64,
                doubled: out_of_order as u64,
                errors: told.errors.values().sum(),
                duplicates: told.duplicates,
                longest: told.longest,
            };
        }
        assert!(numbers.is_empty(), "messages of nobody: {:?}", numbers.keys());
    }
    found
}

/// The same, if nothing may be missing.
pub(crate) async fn examine_intact(store: &RedisStore, told: &[Told]) -> Found {
    let found = examine(store, told).await;
    assert_eq!((found.lost, found.doubled), (0, 0), "{found:?}");
    found
}

/// Asserts that this error leaves the outcome of the write unknown, and is retryable.
pub(crate) fn assert_unknown(error: &StoreError) {
    assert_eq!(error.applied(), Applied::Unknown, "{error:?}");
    assert!(matches!(error.kind(), StoreErrorKind::Unavailable(_)), "{error:?}");
    assert!(error.is_retryable());
}

/// Checks that a batch sent again is the one at this place.
pub(crate) fn assert_recognized(outcome: AppendOutcome, place: u64) {
    let first = Some(memory_core::Sequence::new(place));
    assert_eq!(outcome, AppendOutcome::Duplicate { first });
}
