//! The archive of long memories: removed in one step, listed and read in parts, and deleted when it is dropped.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::support;
use crate::support::{
    append, checked_outline, fill, key, message, places, receipt, store, texts, with_settings,
    write,
};
use memory_core::store::{
    Access, Append, ArchivedRemoval, Clear, Erase, ExpiredMemories, FlushReceipt, FrameWriters,
    MessageId, MessageMeta, NewMessage, Read, RemoveUnused, Replace, ReplaceAll, ReplacedRecord,
    Replacement, Restore, RestoreRefusal, Retention, SearchQuery, SequenceSet, Splice,
    StoreErrorKind, SummaryRecord, UnusedMemory, UnusedQuery,
};
use memory_core::{
    Clock, ContentType, InMemoryStore, MemoryKey, MemoryStore, Priority, Sequence, StoredMessage,
};
use memory_redis_testkit::Server;
use memory_store_redis::{RedisStore, RedisStoreConfig};
use uuid::Uuid;

const ALL: NonZeroUsize = NonZeroUsize::MAX;
const FOREVER: Option<Retention> = Some(Retention::forever());
const HOUR: Duration = Duration::from_secs(3_600);

/// The names of fields of a memory, without those of writers.
async fn fields(server: &Server, store: &RedisStore, key: &MemoryKey) -> Vec<String> {
    let place = store.link().keys().memory(key.as_str());
    let names: Vec<String> = server.query(&["HKEYS", &place]).await;
    names.into_iter().filter(|name| !name.starts_with(['w', 's', 'p'])).collect()
}

/// The fields of messages, whether present or archived, and of the archive, without its state.
async fn stored(server: &Server, store: &RedisStore, key: &MemoryKey) -> [usize; 2] {
    let names = fields(server, store, key).await;
    let count = |marks: &[char]| names.iter().filter(|name| name.starts_with(marks)).count();
    [count(&['m', 'g']), count(&['a', 'o', 'u'])]
}

/// A splice with a receipt that names what it does.
fn with_receipt(id: u128, splice: Splice) -> Splice {
    let set = |places: &[Sequence]| places.iter().copied().collect::<SequenceSet>();
    let mut receipt: FlushReceipt = receipt(id);
    receipt.summarized = set(&splice.summarized);
    receipt.evicted = set(&splice.evicted);
    receipt.withdrawn = set(&splice.withdrawn);
    let records = splice
        .replaced
        .iter()
        .map(|one| ReplacedRecord::new(one.sequence, one.message.id, 0, one.message.tokens));
    receipt.replaced = records.collect();
    receipt.summary = splice.summary.as_ref().map(|summary| {
        SummaryRecord::new(summary.id, splice.summarized[0], summary.tokens, "rules")
    });
    Splice { receipt: Some(receipt), ..splice }
}

/// Evicts these places into the archive.
async fn evict(
    store: &RedisStore,
    key: &MemoryKey,
    id: u128,
    evicted: Vec<Sequence>,
    archive: Option<Retention>,
) {
    let outline = store.head(key).await.unwrap();
    let splice = Splice { evicted, archive, ..Splice::new(outline.generation) };
    store.splice(key, Access::OPEN, &with_receipt(id, splice)).await.unwrap();
}

async fn removals(store: &dyn MemoryStore, key: &MemoryKey) -> Vec<ArchivedRemoval> {
    store.removals(key, None, ALL).await.unwrap()
}

async fn archived(store: &dyn MemoryStore, key: &MemoryKey, removal: u64) -> Vec<StoredMessage> {
    store.archived(key, removal, Sequence::ZERO, ALL.into()).await.unwrap()
}

/// The calls of scripts since the last reset of the statistics.
async fn scripts(server: &Server) -> u64 {
    let counts = server.command_counts().await;
    let of_scripts = counts.iter().filter(|(name, _)| name.starts_with("eval"));
    of_scripts.map(|(_, count)| count).sum()
}

fn restore(number: u64, receipt: u128) -> Restore {
    Restore { write: write(7, number), receipt: Uuid::from_u128(receipt) }
}

async fn with_clock(server: &Server, clock: &Clock) -> RedisStore {
    let config = RedisStoreConfig::new().with_clock(clock.clone());
    RedisStore::with_config(support::link(server.url()).await, config)
}

/// A random flush, or a withdrawal of the newest messages.
fn splice(metas: &[MessageMeta], rng: &mut fastrand::Rng) -> Splice {
    let mut splice = Splice::new(memory_core::store::Generation::default());
    if rng.u8(0..4) == 0 {
        let kept = metas.len() - rng.usize(0..=metas.len().min(70));
        splice.withdrawn = metas[kept..].iter().map(|meta| meta.sequence).collect();
        splice.newest = metas.last().map(MessageMeta::newest);
    } else {
        let (mut fate, mut left) = (0, 0);
        for meta in metas {
            if left == 0 {
                (fate, left) = (rng.u8(0..5), rng.choice([1, 2, 7, 33, 64, 200]).unwrap());
            }
            left -= 1;
            match fate {
                0 => {}
                1 => splice.evicted.push(meta.sequence),
                2 => splice.summarized.push(meta.sequence),
                3 => {
                    let message = message(&"short ".repeat(rng.usize(1..9)));
                    splice.replaced.push(Replacement { sequence: meta.sequence, message });
                }
                _ => splice.closed.push(meta.sequence),
            }
            // A message may be closed and removed at once.
            if (1..=2).contains(&fate) && rng.u8(0..8) == 0 {
                splice.closed.push(meta.sequence);
            }
        }
        splice.summary =
            (!splice.summarized.is_empty() && rng.bool()).then(|| message("a summary"));
    }
    let keep = rng.choice([None, Some(Duration::ZERO), Some(HOUR), Some(3 * HOUR)]).unwrap();
    let max_bytes = rng.choice([u64::MAX, 100_000, 20_000, 0]).unwrap();
    let mut retention = Retention::forever();
    (retention.keep, retention.max_bytes) = (keep, max_bytes);
    splice.archive = (rng.u8(0..5) > 0).then_some(retention);
    let splice = with_receipt(rng.u128(..), splice);
    let splice = if rng.u8(0..5) == 0 { Splice { receipt: None, ..splice } } else { splice };
    if rng.bool() { splice.weighed(metas) } else { splice }
}

async fn assert_same(store: &RedisStore, reference: &InMemoryStore, k: &MemoryKey, what: &str) {
    let (ours, theirs) = (checked_outline(store, k).await, reference.outline(k).await.unwrap());
    assert_eq!(ours.metas, theirs.metas, "{what}");
    assert_eq!(ours.head.counters, theirs.head.counters, "{what}");
    assert_eq!(ours.head.next_flush_at, theirs.head.next_flush_at, "{what}");
    let page = store.read(k, Read::default()).await.unwrap();
    assert_eq!(page.messages, reference.read(k, Read::default()).await.unwrap().messages);
    let (ours, theirs) = (removals(store, k).await, removals(reference, k).await);
    assert_eq!(ours, theirs, "{what}");
    for ArchivedRemoval { number, .. } in &ours {
        let (ours, theirs) =
            (archived(store, k, *number).await, archived(reference, k, *number).await);
        assert_eq!(ours, theirs, "{what}: removal {number}");
    }
    if let Some(middle) = ours.get(ours.len() / 2) {
        let two = NonZeroUsize::new(2).unwrap();
        let page = store.removals(k, Some(middle.number), two).await.unwrap();
        assert_eq!(page, reference.removals(k, Some(middle.number), two).await.unwrap());
        let after = middle.places.ranges()[0].0;
        let page = store.archived(k, middle.number, after, two.into()).await.unwrap();
        assert_eq!(page, reference.archived(k, middle.number, after, two.into()).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archives_match_the_reference_without_leftovers() {
    let server = Server::start().await;
    let (mut undone, mut refused, mut dropped) = (0, 0, 0);
    for seed in 0..12 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let clock = Clock::manual();
        let (store, reference) =
            (with_clock(&server, &clock).await, InMemoryStore::new(clock.clone()));
        let k = key("k");
        let mut receipts = vec![1];
        for round in 1..=12 {
            let what = format!("seed {seed}, round {round}");
            let texts: Vec<_> = (0..rng.u64(1..200)).map(|n| format!("message {n}")).collect();
            let messages = texts.iter().map(|text| {
                let priority = rng.choice([None, Some(Priority::new(3))]).unwrap();
                let content_type =
                    rng.choice([ContentType::Conversation, ContentType::ImportantFacts]).unwrap();
                NewMessage { priority, content_type, ..message(text) }
            });
            let messages = messages.collect::<Vec<_>>().into();
            let batch = Append { write: write(1, round), messages, ttl: None, expected: None };
            store.append(&k, Access::OPEN, &batch).await.unwrap();
            reference.append(&k, Access::OPEN, &batch).await.unwrap();

            if rng.u8(0..10) == 0 {
                let archive = rng.bool().then(|| Retention::keep_for(HOUR));
                let clear = Clear { archive, ..Clear::new(write(2, round)) };
                store.clear(&k, Access::OPEN, &clear).await.unwrap();
                reference.clear(&k, Access::OPEN, &clear).await.unwrap();
                dropped += u32::from(archive.is_none());
            } else {
                let ours = store.outline(&k).await.unwrap();
                let theirs = reference.head(&k).await.unwrap().generation;
                let splice = splice(&ours.metas, &mut rng);
                let of = |generation| Splice { generation, ..splice.clone() };
                receipts.extend(splice.receipt.as_ref().map(|receipt| receipt.id.as_u128()));
                store.splice(&k, Access::OPEN, &of(ours.head.generation)).await.unwrap();
                reference.splice(&k, Access::OPEN, &of(theirs)).await.unwrap();
            }
            assert_same(&store, &reference, &k, &what).await;
            for attempt in 0..rng.u64(0..4) {
                // Mostly one of the newest.
                let back = rng.usize(1..=receipts.len()).min(rng.usize(1..=4));
                let restore = restore(round * 10 + attempt, receipts[receipts.len() - back]);
                let ours = store.restore(&k, Access::OPEN, &restore).await;
                let theirs = reference.restore(&k, Access::OPEN, &restore).await;
                undone += u32::from(ours.is_ok());
                refused += u32::from(ours.is_err());
                let [ours, theirs] = [ours, theirs].map(|all| all.map_err(|e| e.kind().clone()));
                assert_eq!(ours, theirs, "{what}");
                assert_same(&store, &reference, &k, &what).await;
            }
            clock.advance(HOUR / 4);
        }
        // Nothing is left of what was removed and is not archived: the head, and the next number.
        store.clear(&k, Access::OPEN, &Clear::new(write(2, 100))).await.unwrap();
        let mut left = fields(&server, &store, &k).await;
        left.retain(|name| !["h", "z"].contains(&name.as_str()));
        assert!(left.is_empty(), "seed {seed}: {left:?}");
        append(&store, &k, write(1, 100), &["more"]).await.unwrap();
        assert_eq!(texts(&store, &k).await, ["more"]);
    }
    println!("{undone} undone, {refused} refused, {dropped} archives cleared");
    assert!(undone > 10 && refused > 20 && dropped > 3, "{undone} {refused} {dropped}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overdue_messages_are_deleted_with_later_removals() {
    let (server, clock) = (Server::start().await, Clock::manual());
    let store = with_clock(&server, &clock).await;
    let k = key("k");
    fill(&store, &k, 1_000).await;
    // Kept for longer than those that follow.
    evict(&store, &k, 1, places([1, 2]), FOREVER).await;
    let hour = Some(Retention::keep_for(HOUR));
    evict(&store, &k, 2, places(3..=258), hour).await;
    for one in 259..=358_u64 {
        evict(&store, &k, one.into(), places([one]), hour).await;
    }
    evict(&store, &k, 1_000, places(359..=700), hour).await;
    assert_eq!(stored(&server, &store, &k).await, [1_000, 2 * 103]);
    clock.advance(HOUR);
    let numbers =
        |all: Vec<ArchivedRemoval>| all.iter().map(|one| one.messages).collect::<Vec<_>>();
    assert_eq!(numbers(removals(&store, &k).await), [2]);
    // Each flush finds several of them, also if it keeps nothing itself.
    for one in 701..=710_u64 {
        evict(&store, &k, one.into(), places([one]), hour.filter(|_| one <= 705)).await;
    }
    assert_eq!(stored(&server, &store, &k).await, [2 + 295, 2 * 6]);
    assert_eq!(removals(&store, &k).await.len(), 6);
    let counters = store.restore(&k, Access::OPEN, &restore(1, 1)).await.unwrap();
    assert_eq!(counters.present.messages, 292);
    let error = store.restore(&k, Access::OPEN, &restore(2, 2)).await.unwrap_err();
    assert_eq!(error.kind(), &StoreErrorKind::NotRestorable(RestoreRefusal::NotArchived));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erasure_deletes_whole_overdue_removals() {
    let (server, clock) = (Server::start().await, Clock::manual());
    let store = with_clock(&server, &clock).await;
    let k = key("k");
    fill(&store, &k, 2_000).await;
    evict(&store, &k, 1, places(1..=1_900), Some(Retention::keep_for(HOUR))).await;
    clock.advance(HOUR);
    let erased: SequenceSet = places([5, 1_800, 1_950]).into_iter().collect();
    let erase = Erase { write: write(2, 1), places: erased, reason: "request".into() };
    let record = store.erase(&k, Access::OPEN, &erase).await.unwrap().erasure;
    assert_eq!((record.messages, record.not_found.len()), (1, 2));
    // Several parts.
    assert_eq!(stored(&server, &store, &k).await, [99, 0]);
}

/// Of a long removal the bytes are estimated: also if each fourth message is long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regular_long_messages_are_measured() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    for count in [1_200_u64, 2_000, 3_000] {
        let k = key(&count.to_string());
        let long = "long ".repeat(200);
        for first in (0..count).step_by(500) {
            let texts: Vec<_> = (first..(first + 500).min(count))
                .map(|at| if at % 4 == 3 { &*long } else { "short" })
                .collect();
            let batch = support::batch(write(1, first + 1), &texts);
            store.append(&k, Access::OPEN, &batch).await.unwrap();
        }
        evict(&store, &k, count.into(), places(1..=count), FOREVER).await;
        let [removal] = &removals(&store, &k).await[..] else { panic!("one removal") };
        let expected = count / 4 * 1_000;
        let difference = removal.bytes.abs_diff(expected);
        assert!(difference * 4 < expected, "{} bytes instead of {expected}", removal.bytes);
    }
}

/// A script drops at most 1,000 removals, because it reads each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lowered_bound_drops_many_removals_in_parts() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let k = key("k");
    fill(&store, &k, 1_300).await;
    for one in 1..=1_200_u64 {
        evict(&store, &k, one.into(), places([one]), FOREVER).await;
    }
    assert_eq!(stored(&server, &store, &k).await, [1_300, 2_400]);
    let mut two = Retention::forever();
    two.max_bytes = removals(&store, &k).await.iter().take(2).map(|one| one.bytes).sum();
    evict(&store, &k, 1_201, places([1_201]), Some(two)).await;
    assert_eq!(removals(&store, &k).await.len(), 201);
    evict(&store, &k, 1_202, places([1_202]), Some(two)).await;
    assert_eq!(removals(&store, &k).await.len(), 2);
    support::until("sweep", async || {
        // As the next flush would.
        evict(&store, &k, fastrand::u128(..), Vec::new(), None).await;
        (stored(&server, &store, &k).await == [100, 4]).then_some(())
    })
    .await;
}

/// A script blocks all other clients, so it looks at 500 removals at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edit_searches_many_removals_in_parts() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let k = key("k");
    fill(&store, &k, 1_100).await;
    let outline = store.head(&k).await.unwrap();
    let summarized = Splice {
        summarized: places(1..=3),
        summary: Some(message("a summary")),
        archive: FOREVER,
        ..Splice::new(outline.generation)
    };
    store.splice(&k, Access::OPEN, &with_receipt(1, summarized)).await.unwrap();
    for one in 4..=1_004_u64 {
        evict(&store, &k, one.into(), places([one]), FOREVER).await;
    }
    let edit = async |number: u128| {
        let found = store.read(&k, Read::default()).await.unwrap().messages.remove(0);
        let class = NewMessage { priority: Some(Priority::new(1)), ..message("a summary") };
        let replace = Replace {
            write: write(2, u64::try_from(number).unwrap()),
            sequence: found.meta.sequence,
            replaced: found.meta.id,
            message: NewMessage { id: MessageId::new(Uuid::from_u128(number)), ..class },
        };
        server.reset_stats().await;
        let counters = store.replace(&k, Access::OPEN, &replace).await.unwrap();
        (counters, scripts(&server).await)
    };
    // The first one sends the script as well.
    edit(1).await;
    let (counters, scripts) = edit(2).await;
    assert_eq!((counters.present.messages, scripts), (97, 3));
    let oldest = removals(&store, &k).await.pop().unwrap().receipt.unwrap();
    assert_eq!(oldest.summary.unwrap().id, MessageId::new(Uuid::from_u128(2)));
    store.restore(&k, Access::OPEN, &restore(9, 1)).await.unwrap();
    assert_eq!(texts(&store, &k).await.len(), 99);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undo_looks_at_many_removals_in_parts() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let k = key("k");
    fill(&store, &k, 1_300).await;
    let summarize = async |id, summarized| {
        let splice = Splice {
            summarized,
            summary: Some(message("a summary")),
            archive: FOREVER,
            ..Splice::new(store.head(&k).await.unwrap().generation)
        };
        store.splice(&k, Access::OPEN, &with_receipt(id, splice)).await.unwrap();
    };
    summarize(1, places(1..=3)).await;
    summarize(2, places(4..=6)).await;
    for one in 10..=1_009_u64 {
        evict(&store, &k, one.into(), places([one]), FOREVER).await;
    }
    let undo = async |number, receipt| {
        server.reset_stats().await;
        let done = store.restore(&k, Access::OPEN, &restore(number, receipt)).await;
        (done, scripts(&server).await)
    };
    // The first one sends the script as well.
    undo(1, 5_000).await.0.unwrap_err();
    let (done, count) = undo(2, 1_009).await;
    assert_eq!((done.unwrap().present.messages, count), (297, 1));
    evict(&store, &k, 3_009, places([1_009]), FOREVER).await;
    let (done, count) = undo(3, 2).await;
    assert_eq!((done.unwrap().present.messages, count), (298, 3));
    // Recognized before anything is looked at.
    let (done, count) = undo(3, 2).await;
    assert_eq!((done.unwrap().present.messages, count), (298, 1));
    // The newest of more than 1,000 later removals has the summary. They must be unpacked.
    summarize(2_000, places([1, 7])).await;
    let refused = |reason| StoreErrorKind::NotRestorable(reason);
    let (done, count) = undo(4, 1).await;
    assert_eq!(done.unwrap_err().kind(), &refused(RestoreRefusal::SummaryRemoved));
    assert_eq!(count, 11);
    undo(4, 2_000).await.0.unwrap();
    let clear = Clear { archive: FOREVER, ..Clear::new(write(2, 1)) };
    store.clear(&k, Access::OPEN, &clear).await.unwrap();
    let (done, count) = undo(5, 1).await;
    assert_eq!((done.unwrap_err().kind(), count), (&refused(RestoreRefusal::Cleared), 3));
}

/// The position of an undo names a removal that the server lost between two calls of the script.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undo_looks_again_after_rollback() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let k = key("k");
    fill(&store, &k, 1_200).await;
    let keys = store.link().keys();
    let (memory, base) = (keys.memory(k.as_str()), keys.base(k.as_str()));
    let hash = include_str!("../../../src/scripts/hashes.txt")
        .lines()
        .find_map(|line| line.strip_suffix(" restore"))
        .unwrap();
    let receipt = Uuid::from_u128(1).simple().to_string();
    let call = async |position: &str| -> Vec<String> {
        let (lease, fences) = (keys.lease(k.as_str()), format!("{base}fences"));
        let first = ["EVALSHA", hash, "3", &memory, &lease, &fences, "", "0", "0", "", ""];
        let rest = [&"7".repeat(32), &"1".repeat(20), "0", &receipt, "", position];
        server.query(&[&first[..], &rest].concat()).await
    };
    evict(&store, &k, 1, places([1]), FOREVER).await;
    for one in 2..=301_u64 {
        evict(&store, &k, one.into(), places([one]), FOREVER).await;
    }
    server.command(&["COPY", &memory, "saved"]).await;
    for one in 302..=601_u64 {
        evict(&store, &k, one.into(), places([one]), FOREVER).await;
    }
    // Sends the script.
    store.restore(&k, Access::OPEN, &restore(1, 5_000)).await.unwrap_err();
    let answer = call("").await;
    assert_eq!(answer[..2], ["A", ""], "{answer:?}");
    server.command(&["COPY", "saved", &memory, "REPLACE"]).await;
    let clear = Clear { archive: FOREVER, ..Clear::new(write(2, 1)) };
    store.clear(&k, Access::OPEN, &clear).await.unwrap();
    append(&store, &k, write(2, 2), &["new"; 300]).await.unwrap();
    for one in 1_201..=1_500_u64 {
        evict(&store, &k, one.into(), places([one]), FOREVER).await;
    }
    assert_eq!(call(&answer[2]).await, ["N", "C"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clear_without_archive_deletes_every_removal() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let k = key("k");
    fill(&store, &k, 600).await;
    for one in 1..=100_u64 {
        evict(&store, &k, one.into(), places([3 * one, 3 * one + 1]), FOREVER).await;
    }
    let clear = Clear { archive: FOREVER, ..Clear::new(write(2, 1)) };
    store.clear(&k, Access::OPEN, &clear).await.unwrap();
    assert_eq!(removals(&store, &k).await.len(), 101);
    assert_eq!(stored(&server, &store, &k).await, [600, 201]);
    store.clear(&k, Access::OPEN, &Clear::new(write(2, 2))).await.unwrap();
    assert!(removals(&store, &k).await.is_empty());
    assert_eq!(fields(&server, &store, &k).await.len(), 2);
    append(&store, &k, write(1, 1), &["new"]).await.unwrap();
    evict(&store, &k, 1, places([601]), FOREVER).await;
    assert_eq!(removals(&store, &k).await.len(), 1);
}

/// The field of an archived message is still there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archived_newest_message_is_not_listed() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["a", "b"]).await.unwrap();
    let query = UnusedQuery {
        prefix: String::new(),
        after: None,
        expired: ExpiredMemories::Ignored,
        unwritten_for: Some(Duration::ZERO),
        limit: ALL,
    };
    let present = store.unused(&query).await.unwrap().memories.remove(0);
    assert_eq!(present.newest.map(|newest| newest.sequence.number()), Some(2));
    evict(&store, &k, 1, places([2]), FOREVER).await;
    let listed = store.unused(&query).await.unwrap().memories.remove(0);
    assert_eq!(listed.newest, None);
    // As it would be listed if its field were a message.
    let mut stale: UnusedMemory = listed.clone();
    stale.newest = present.newest;
    let error = store.remove(&k, RemoveUnused::new(&stale, ALL)).await.unwrap_err();
    assert_eq!(error.kind(), &StoreErrorKind::Conflict);
    store.remove(&k, RemoveUnused::new(&listed, ALL)).await.unwrap();
    assert!(removals(&store, &k).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archive_ends_with_the_key() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let k = key("k");
    let batch = Append {
        ttl: Some(Duration::from_millis(400)),
        ..support::batch(write(1, 1), &["a", "b"])
    };
    store.append(&k, Access::OPEN, &batch).await.unwrap();
    evict(&store, &k, 1, places([1]), FOREVER).await;
    assert_eq!(removals(&store, &k).await.len(), 1);
    support::until("end of the memory", async || {
        removals(&store, &k).await.is_empty().then_some(())
    })
    .await;
    // The server rounds the deadline up to a millisecond.
    let place = store.link().keys().memory(k.as_str());
    support::until("end of the key", async || {
        (server.query::<u64>(&["EXISTS", &place]).await == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archive_survives_a_killed_server() {
    let server = Server::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let store = store(&with_settings(server.url(), "fsync=always")).await;
    let k = key("k");
    fill(&store, &k, 300).await;
    let before = texts(&store, &k).await;
    evict(&store, &k, 1, places(1..=250), FOREVER).await;
    let kept = removals(&store, &k).await;
    server.kill();
    server.restart().await;
    let found =
        support::until("link to the server", async || store.removals(&k, None, ALL).await.ok());
    assert_eq!(found.await, kept);
    assert_eq!(archived(&store, &k, kept[0].number).await.len(), 250);
    store.restore(&k, Access::OPEN, &restore(1, 1)).await.unwrap();
    server.kill();
    server.restart().await;
    let head = support::until("link to the server", async || store.head(&k).await.ok()).await;
    assert_eq!(head.counters.present.messages, 300);
    assert_eq!(texts(&store, &k).await, before);
}

/// Removed messages are not moved, so a script's time does not grow with their number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_on_100_000_messages_are_short() {
    let server =
        Server::start_with(&["--slowlog-log-slower-than", "0", "--slowlog-max-len", "5000"]).await;
    let store = store(server.url()).await;
    let k = key("k");
    fill(&store, &k, 100_000).await;
    // The bound is 10 ms; a loaded machine takes longer.
    let slowest = async |what: &str| {
        let entries: Vec<(u64, u64, u64, Vec<redis::Value>, redis::Value, redis::Value)> =
            server.query(&["SLOWLOG", "GET", "-1"]).await;
        server.command(&["SLOWLOG", "RESET"]).await;
        let slowest = entries.iter().max_by_key(|entry| entry.2).unwrap();
        let command: Vec<_> = slowest.3.iter().take(2).collect();
        println!("{what}: {} commands, the slowest {} us, {command:?}", entries.len(), slowest.2);
        assert!(slowest.2 < 100_000, "{what}: {} us", slowest.2);
    };
    slowest("append in batches of 1,000").await;
    let outline = checked_outline(&store, &k).await;
    slowest("outline").await;
    let flush = |count: u64, id, metas: &[MessageMeta]| {
        let splice = Splice {
            summarized: metas
                .iter()
                .take(usize::try_from(count).unwrap())
                .map(|meta| meta.sequence)
                .collect(),
            summary: Some(message("a summary")),
            archive: FOREVER,
            ..Splice::new(memory_core::store::Generation::default())
        };
        with_receipt(id, splice).weighed(metas)
    };
    let splice = Splice { generation: outline.head.generation, ..flush(90_000, 1, &outline.metas) };
    store.splice(&k, Access::OPEN, &splice).await.unwrap();
    slowest("flush of 90,000").await;
    let listed = removals(&store, &k).await;
    assert_eq!(listed[0].messages, 90_000);
    slowest("list").await;
    assert_eq!(archived(&store, &k, listed[0].number).await.len(), 90_000);
    slowest("read of 90,000 archived messages").await;
    store.restore(&k, Access::OPEN, &restore(1, 1)).await.unwrap();
    slowest("restore of 90,000").await;
    let outline = checked_outline(&store, &k).await;
    assert_eq!(outline.metas.len(), 100_000);
    let splice =
        Splice { generation: outline.head.generation, ..flush(100_000, 2, &outline.metas) };
    store.splice(&k, Access::OPEN, &splice).await.unwrap();
    slowest("outline and flush of 100,000").await;
    store.restore(&k, Access::OPEN, &restore(2, 2)).await.unwrap();
    slowest("restore of 100,000").await;
    let found = &outline.metas[50_000];
    let replace = Replace {
        write: write(2, 3),
        sequence: found.sequence,
        replaced: found.id,
        message: message("another text"),
    };
    store.replace(&k, Access::OPEN, &replace).await.unwrap();
    slowest("replace").await;
    let outline = checked_outline(&store, &k).await;
    let splice = Splice {
        generation: outline.head.generation,
        withdrawn: places(50_001..=100_000),
        newest: outline.metas.last().map(MessageMeta::newest),
        archive: FOREVER,
        ..Splice::new(memory_core::store::Generation::default())
    };
    let splice = with_receipt(3, splice).weighed(&outline.metas);
    store.splice(&k, Access::OPEN, &splice).await.unwrap();
    slowest("outline and rewind of 50,000").await;
    store.restore(&k, Access::OPEN, &restore(4, 3)).await.unwrap();
    slowest("restore of 50,000").await;
    let places: SequenceSet = places((1..=100_000).step_by(100)).into_iter().collect();
    let erase = Erase { write: write(2, 5), places, reason: "request".into() };
    assert_eq!(store.erase(&k, Access::OPEN, &erase).await.unwrap().erasure.messages, 1_000);
    slowest("erasure of 1,000").await;
    let results = store.search(&k, &SearchQuery::new("absent")).await.unwrap();
    assert_eq!(results.looked_at, 10_000);
    slowest("search").await;
    let frame = store.frame(&k, FrameWriters::Included).await.unwrap();
    assert_eq!(frame.counters.present.messages, 99_000);
    slowest("frame of a backup").await;
    let clear = Clear { archive: FOREVER, ..Clear::new(write(2, 6)) };
    store.clear(&k, Access::OPEN, &clear).await.unwrap();
    slowest("clear of 99,000").await;
    assert_eq!(removals(&store, &k).await[0].messages, 99_000);
    let new: Vec<_> = (0..1_000).map(|number| message(&format!("new {number}"))).collect();
    let batch = Append { write: write(1, 1), messages: new.into(), ttl: None, expected: None };
    let replace = ReplaceAll { batch, archive: FOREVER };
    store.replace_all(&k, Access::OPEN, &replace).await.unwrap();
    slowest("replacement of all by 1,000").await;
    assert_eq!(texts(&store, &k).await.len(), 1_000);
    store.clear(&k, Access::OPEN, &Clear::new(write(2, 7))).await.unwrap();
    slowest("purge of an archive of 100,000").await;
    assert!(removals(&store, &k).await.is_empty());
}

/// The fields of a memory's hash with the bytes of their values.
async fn hash(server: &Server, store: &RedisStore, key: &MemoryKey) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let place = store.link().keys().memory(key.as_str());
    let pairs: Vec<Vec<u8>> = server.query(&["HGETALL", &place]).await;
    pairs.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

#[tokio::test]
async fn appends_beside_an_archive_cost_the_same() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let mut costs = Vec::new();
    for (name, archive) in [("deleted", None), ("archived", FOREVER)] {
        let k = key(name);
        fill(&store, &k, 40).await;
        evict(&store, &k, 1, places(1..=20), archive).await;
        append(&store, &k, write(1, 1), &["the first sends the script"]).await.unwrap();
        let before = hash(&server, &store, &k).await;
        server.reset_stats().await;
        append(&store, &k, write(1, 2), &["one"]).await.unwrap();
        append(&store, &k, write(1, 3), &["two", "three"]).await.unwrap();
        let commands = server.command_counts().await;
        let after = hash(&server, &store, &k).await;
        let mut written: Vec<_> = Vec::new();
        for (field, value) in &after {
            let old = before.get(field);
            if old != Some(value) {
                let field = String::from_utf8_lossy(field).into_owned();
                written.push((field, value.len() - old.map_or(0, Vec::len)));
            }
        }
        assert_eq!(after.len(), before.len() + 3, "one field for each message");
        costs.push((commands, written));
        assert_eq!(removals(&store, &k).await.len(), usize::from(archive.is_some()));
    }
    assert_eq!(costs[0], costs[1]);
}
