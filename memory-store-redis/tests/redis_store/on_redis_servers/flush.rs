//! Flushes of more messages than one script processes: weighed and swept in parts, committed at once.

use std::time::Duration;

use crate::support;
use crate::support::{append, checked_outline, key, message, receipt, store, texts, write};
use memory_core::store::{
    Access, Append, Clear, MessageMeta, NewMessage, Read, Splice, StoreErrorKind,
};
use memory_core::{Clock, ContentType, InMemoryStore, MemoryKey, MemoryStore, Priority, Sequence};
use memory_redis_testkit::Server;
use memory_store_redis::RedisStore;
use tokio::time::Instant;

/// The number of messages in the hash, whether visible or not.
async fn fields(server: &Server, store: &RedisStore, key: &MemoryKey) -> usize {
    let place = store.link().keys().memory(key.as_str());
    let names: Vec<String> = server.query(&["HKEYS", &place]).await;
    names.iter().filter(|name| name.starts_with(['m', 'g'])).count()
}

fn messages(count: u64, rng: &mut fastrand::Rng) -> Vec<NewMessage> {
    let priorities = [None, Some(Priority::CRITICAL), Some(Priority::new(3))];
    let kinds = [ContentType::Conversation, ContentType::ImportantFacts];
    (0..count)
        .map(|number| NewMessage {
            priority: rng.choice(priorities).unwrap(),
            content_type: rng.choice(kinds.clone()).unwrap(),
            ..message(&format!("message {number}"))
        })
        .collect()
}

/// Ranges of all lengths that are kept, removed or closed.
fn splice(metas: &[MessageMeta], rng: &mut fastrand::Rng) -> Splice {
    let mut splice = Splice::new(memory_core::store::Generation::default());
    let (mut fate, mut left) = (0, 0);
    for meta in metas {
        if left == 0 {
            (fate, left) = (rng.u8(0..4), rng.choice([1, 2, 7, 63, 64, 65, 200]).unwrap());
        }
        left -= 1;
        match fate {
            0 => {}
            1 => splice.evicted.push(meta.sequence),
            2 => splice.summarized.push(meta.sequence),
            _ => splice.closed.push(meta.sequence),
        }
    }
    splice.summary = (!splice.summarized.is_empty() && rng.bool()).then(|| message("a summary"));
    splice.receipt = rng.bool().then(|| receipt(rng.u128(..)));
    // The store trusts the values that the planner knows and computes the others; the reference checks them.
    if rng.bool() { splice.weighed(metas) } else { splice }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_flushes_match_the_reference_without_leftovers() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    for seed in 0..30 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (k, reference) = (key(&format!("k{seed}")), InMemoryStore::new(Clock::manual()));
        for round in 1..=4 {
            let count = rng.u64(1..600);
            let batch = Append {
                write: write(1, round),
                messages: messages(count, &mut rng).into(),
                ttl: None,
                expected: None,
            };
            store.append(&k, Access::OPEN, &batch).await.unwrap();
            reference.append(&k, Access::OPEN, &batch).await.unwrap();
            let (ours, theirs) =
                (checked_outline(&store, &k).await, reference.outline(&k).await.unwrap());
            assert_eq!(ours.metas, theirs.metas, "seed {seed}");

            let splice = splice(&ours.metas, &mut rng);
            let of = |generation| Splice { generation, ..splice.clone() };
            let here = of(ours.head.generation);
            let counters = store.splice(&k, Access::OPEN, &here).await.unwrap();
            let expected =
                reference.splice(&k, Access::OPEN, &of(theirs.head.generation)).await.unwrap();
            assert_eq!(counters, expected, "seed {seed}");
            assert_eq!(checked_outline(&store, &k).await.metas, {
                reference.outline(&k).await.unwrap().metas
            });
            let page = reference.read(&k, Read::default()).await.unwrap();
            assert_eq!(store.read(&k, Read::default()).await.unwrap().messages, page.messages);
            let present = usize::try_from(counters.present.messages).unwrap();
            assert_eq!(fields(&server, &store, &k).await, present, "seed {seed}");

            // Sent again, it is recognized by its receipt, or is of another generation.
            let changed = !splice.summarized.is_empty()
                || !splice.evicted.is_empty()
                || !splice.closed.is_empty();
            match store.splice(&k, Access::OPEN, &here).await {
                Ok(again) => assert!(splice.receipt.is_some() && again == counters || !changed),
                Err(error) => assert_eq!(error.kind(), &StoreErrorKind::Conflict, "{error:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_flush_and_fetch_skip_removed_places() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let k = key("k");
    let mut rng = fastrand::Rng::with_seed(1);
    let batch = Append {
        write: write(1, 1),
        messages: messages(500, &mut rng).into(),
        ttl: None,
        expected: None,
    };
    store.append(&k, Access::OPEN, &batch).await.unwrap();
    let range =
        |places: std::ops::RangeInclusive<u64>| places.map(Sequence::new).collect::<Vec<_>>();
    let generation = store.head(&k).await.unwrap().generation;
    let first = Splice { evicted: range(100..=110), ..Splice::new(generation) };
    store.splice(&k, Access::OPEN, &first).await.unwrap();
    let outline = checked_outline(&store, &k).await;
    let generation = outline.head.generation;
    // As if its sweep had not ended.
    let place = store.link().keys().memory(k.as_str());
    let stale: String = server.query(&["HGET", &place, "m99"]).await;
    server.command(&["HSET", &place, "m105", &stale, "g", "105 105"]).await;
    assert_eq!(checked_outline(&store, &k).await.metas, outline.metas);
    let fetched = store.fetch(&k, outline.cursor(), &range(104..=112)).await.unwrap();
    assert_eq!(fetched.len(), 2);
    for evicted in [range(105..=105), range(1..=400)] {
        let splice = Splice { evicted, ..Splice::new(generation) };
        let error = store.splice(&k, Access::OPEN, &splice).await.unwrap_err();
        assert!(matches!(error.kind(), StoreErrorKind::Invalid(_)), "{error:?}");
    }
    // The next flush that commits also removes it.
    let next = Splice { evicted: range(111..=300), ..Splice::new(generation) };
    let counters = store.splice(&k, Access::OPEN, &next).await.unwrap();
    assert_eq!(counters.present.messages, 500 - 11 - 190);
    assert_eq!(fields(&server, &store, &k).await, 299);
    checked_outline(&store, &k).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_long_flush_or_clear_is_atomic() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let mut committed = 0;
    let mut left_fields = 0;
    for round in 0..60_u64 {
        let k = key(&format!("k{round}"));
        let mut rng = fastrand::Rng::with_seed(round);
        let batch = Append {
            write: write(1, 1),
            messages: messages(600, &mut rng).into(),
            ttl: None,
            expected: None,
        };
        store.append(&k, Access::OPEN, &batch).await.unwrap();
        let generation = store.head(&k).await.unwrap().generation;
        let evicted: Vec<_> = (1..=500).map(Sequence::new).collect();
        let splice = Splice { evicted, receipt: Some(receipt(1)), ..Splice::new(generation) };
        let clear = Clear::new(write(2, 1));
        let clears = round % 2 == 1;
        let change = async {
            if clears {
                store.clear(&k, Access::OPEN, &clear).await.map(drop)
            } else {
                store.splice(&k, Access::OPEN, &splice).await.map(drop)
            }
        };
        // At any request of it: weighing, committing or sweeping.
        let _ = tokio::time::timeout(Duration::from_micros(round * 25), change).await;
        // Requests that were sent may be executed until this is answered.
        let present = store.head(&k).await.unwrap().counters.present.messages;
        let whole = if clears { 0 } else { 100 };
        assert!(present == 600 || present == whole, "round {round}: {present} messages");
        checked_outline(&store, &k).await;
        committed += u32::from(present == whole);
        left_fields +=
            u32::from(fields(&server, &store, &k).await > usize::try_from(present).unwrap());

        let counters = if clears {
            store.clear(&k, Access::OPEN, &clear).await.unwrap().counters
        } else {
            store.splice(&k, Access::OPEN, &splice).await.unwrap()
        };
        assert_eq!(counters.present.messages, whole);
        assert_eq!(fields(&server, &store, &k).await, usize::try_from(whole).unwrap());
        append(&store, &k, write(3, 1), &["later"]).await.unwrap();
        assert_eq!(texts(&store, &k).await.last().unwrap(), "later");
    }
    // Both must have happened, or the test has shown nothing.
    assert!(committed > 0 && committed < 60, "{committed} of 60 committed before the drop");
    assert!(left_fields > 0, "no sweep was cut off");
}

/// Another history in the same generation, as after a failover that lost the last appends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tallies_that_do_not_fit_the_head_conflict() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["x"; 100]).await.unwrap();
    let outline = checked_outline(&store, &k).await;
    let evicted: Vec<_> = (1..=99).map(Sequence::new).collect();
    let splice = Splice { evicted, ..Splice::new(outline.head.generation) };
    for change in [
        |meta: &mut MessageMeta| meta.tokens = 2,
        |meta: &mut MessageMeta| meta.priority = Some(Priority::CRITICAL),
        |meta: &mut MessageMeta| meta.summary = true,
    ] {
        let mut metas = outline.metas.clone();
        metas.iter_mut().for_each(change);
        let error =
            store.splice(&k, Access::OPEN, &splice.clone().weighed(&metas)).await.unwrap_err();
        assert_eq!(error.kind(), &StoreErrorKind::Conflict, "{error:?}");
        assert_eq!(checked_outline(&store, &k).await, outline);
    }
    let counters = store.splice(&k, Access::OPEN, &splice.weighed(&outline.metas)).await.unwrap();
    assert_eq!((counters.evicted, counters.present.messages), (99, 1));
    checked_outline(&store, &k).await;
}

/// Every second message is removed, so that the index is as long as it can be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fragmented_index_is_flushed_in_bounded_time() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let k = key("k");
    support::fill(&store, &k, 10_000).await;
    let every_second = |first: u64| (first..=10_000).step_by(2).map(Sequence::new).collect();
    let generation = store.head(&k).await.unwrap().generation;
    let first = Splice { evicted: every_second(1), ..Splice::new(generation) };
    store.splice(&k, Access::OPEN, &first).await.unwrap();
    let begun = Instant::now();
    let outline = checked_outline(&store, &k).await;
    assert_eq!(outline.metas.len(), 5_000);
    let fetched = store.fetch(&k, outline.cursor(), &every_second(2)).await.unwrap();
    assert_eq!(fetched.len(), 5_000);
    let rest = Splice { evicted: every_second(2), ..Splice::new(outline.head.generation) };
    assert_eq!(store.splice(&k, Access::OPEN, &rest).await.unwrap().present.messages, 0);
    // With parts of 32 only, each of which scans the whole index, it takes several seconds.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    checked_outline(&store, &k).await;
}
