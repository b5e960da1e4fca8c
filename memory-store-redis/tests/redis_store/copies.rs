//! Copies of long memories, and the fields of unfinished ones.

use crate::support::{
    append, batch, checked_outline, fill, key, link, places, receipt, store, texts, write,
};
use memory_core::lease::{FencingToken, LeaseProof, OwnerId};
use memory_core::store::{
    Access, Append, COPY_LIFETIME, CopyProgress, CopyStep, CopyWrite, Fork, ForkOrigin,
    FrameWriters, Head, Read, Splice, StoreErrorKind, WriterId,
};
use memory_core::{MemoryStore, Sequence};
use memory_redis_testkit::any_server;
use memory_store_redis::{RedisStore, RedisStoreConfig, TokenChecks};
use uuid::Uuid;

/// More fields than one script lists.
const LONG: usize = 5_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_memory_is_copied_with_all_writers() {
    let server = any_server().await;
    let store = store(server.url()).await;
    let (k, to) = (key("long"), key("copy"));
    fill(&store, &k, LONG).await;
    let sessions: Vec<_> = (1..=70)
        .rev()
        .map(|number| WriterId::session(1_700_000_000_000 + number, number))
        .collect();
    for writer in &sessions {
        append(&store, &k, writer.write(3), &["x"]).await.unwrap();
    }
    let frame = store.frame(&k, FrameWriters::Included).await.unwrap();
    let writers: Vec<_> = frame.writers.iter().map(|record| record.writer).collect();
    assert_eq!(writers[0], WriterId::new(9));
    assert_eq!(writers[1..], sessions, "in the order of their first writes");
    assert_eq!((frame.writers[0].number, frame.writers[1].number), (5, 3));
    assert_eq!(frame.counters, checked_outline(&store, &k).await.head.counters);

    let messages = store.read(&k, Read::default()).await.unwrap().messages;
    let copy = Uuid::from_u128(1);
    let last = messages.last().unwrap().meta.sequence;
    let step = async |step| {
        let write = CopyWrite { copy, attempt: 1, step };
        store.write_copy(&to, Access::OPEN, &write).await.unwrap()
    };
    step(CopyStep::Begin).await;
    assert_eq!(step(CopyStep::Messages(messages)).await, CopyProgress::reached(last, 0));
    let memory = store.link().keys().memory(to.as_str());
    let ttl = async || {
        let left = store.link().send(redis::cmd("PTTL").arg(&memory)).await.unwrap();
        redis::from_redis_value::<i64>(left).unwrap()
    };
    assert!((1..=3_600_000).contains(&ttl().await));
    let refused = store.head(&to).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::Unfinished);
    step(CopyStep::Finish { frame: Box::new(frame.clone()), removals: 0 }).await;
    assert_eq!(ttl().await, -1);
    let left = store.link().send(redis::cmd("HEXISTS").arg(&memory).arg("c")).await.unwrap();
    assert!(!redis::from_redis_value::<bool>(left).unwrap());

    assert_eq!(texts(&store, &k).await, texts(&store, &to).await);
    let copied = store.frame(&to, FrameWriters::Included).await.unwrap();
    assert_eq!(copied.writers, frame.writers);
    checked_outline(&store, &to).await;
    let again = append(&store, &to, sessions[4].write(3), &["x"]).await.unwrap();
    assert!(again.outcome.is_duplicate());
    append(&store, &to, write(9, 100), &["new"]).await.unwrap();
    checked_outline(&store, &to).await;
}

/// The tokens of leases that are kept elsewhere outlive the key of the memory.
#[tokio::test]
async fn lost_copies_and_forks_keep_their_tokens() {
    let server = any_server().await;
    let config = RedisStoreConfig::new().with_token_checks(TokenChecks::TokensAlone);
    let store = RedisStore::with_config(link(server.url()).await, config);
    let (k, copy, fork) = (key("k"), key("copy"), key("fork"));
    append(&store, &k, write(1, 1), &["one"]).await.unwrap();
    let under = |token| {
        let (owner, token) = (OwnerId::new(1), FencingToken::new(token));
        Access::with_lease(LeaseProof { owner, token })
    };
    let frame = Box::new(store.frame(&k, FrameWriters::Included).await.unwrap());
    let messages = store.read(&k, Read::default()).await.unwrap().messages;
    let last = CopyStep::Finish { frame, removals: 0 };
    for step in [CopyStep::Begin, CopyStep::Messages(messages), last] {
        let write = CopyWrite { copy: Uuid::from_u128(1), attempt: 1, step };
        store.write_copy(&copy, under(7), &write).await.unwrap();
    }
    let Head { version, generation, .. } = store.head(&k).await.unwrap();
    let (from, at, forked_at) = (k.clone(), Sequence::new(1), jiff::Timestamp::UNIX_EPOCH);
    let id = Uuid::from_u128(2);
    let origin = ForkOrigin { key: k.clone(), at, version, forked_at, id: Some(id) };
    let planned = Fork { from, generation, copy: id, origin };
    store.fork(&fork, under(7), &planned).await.unwrap();
    for lost in [copy, fork] {
        assert_eq!(texts(&store, &lost).await, ["one"]);
        let place = store.link().keys().memory(lost.as_str());
        store.link().send(redis::cmd("DEL").arg(&place)).await.unwrap();
        let stale = store.append(&lost, under(6), &batch(write(1, 2), &["two"])).await;
        assert!(matches!(stale.unwrap_err().kind(), StoreErrorKind::Fenced { .. }));
    }
}

#[tokio::test]
async fn copy_gets_the_ttl_of_its_frame() {
    let server = any_server().await;
    let store = store(server.url()).await;
    let (k, to) = (key("k"), key("copy"));
    let ttl = Some(2 * COPY_LIFETIME);
    let append = Append { ttl, ..batch(write(1, 1), &["one"]) };
    store.append(&k, Access::OPEN, &append).await.unwrap();
    let frame = Box::new(store.frame(&k, FrameWriters::Included).await.unwrap());
    let messages = store.read(&k, Read::default()).await.unwrap().messages;
    let steps =
        [CopyStep::Begin, CopyStep::Messages(messages), CopyStep::Finish { frame, removals: 0 }];
    for step in steps {
        let write = CopyWrite { copy: Uuid::from_u128(1), attempt: 1, step };
        store.write_copy(&to, Access::OPEN, &write).await.unwrap();
    }
    let memory = store.link().keys().memory(to.as_str());
    let left = store.link().send(redis::cmd("PTTL").arg(&memory)).await.unwrap();
    let left = redis::from_redis_value::<u64>(left).unwrap();
    assert!(u128::from(left) > COPY_LIFETIME.as_millis(), "{left} ms");
}

#[tokio::test]
async fn frame_names_a_receipt_that_cannot_be_read() {
    let server = any_server().await;
    let store = store(server.url()).await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["one", "two", "three"]).await.unwrap();
    for number in 1..=2_u64 {
        let generation = store.head(&k).await.unwrap().generation;
        let receipt = Some(receipt(number.into()));
        let evicted = places([number]);
        let splice = Splice { evicted, receipt, ..Splice::new(generation) };
        store.splice(&k, Access::OPEN, &splice).await.unwrap();
    }
    let frame = store.frame(&k, FrameWriters::LeftOut).await.unwrap();
    assert_eq!(frame.receipts.len(), 2);
    let memory = store.link().keys().memory(k.as_str());
    let damage = redis::cmd("HSET").arg(&memory).arg("r0").arg("{").to_owned();
    store.link().send(&damage).await.unwrap();
    let refused = store.frame(&k, FrameWriters::LeftOut).await.unwrap_err();
    assert!(matches!(refused.kind(), StoreErrorKind::Corrupt(_)), "{refused}");
    assert!(refused.to_string().contains("a receipt cannot be read (number 2,"), "{refused}");
}

/// Each write has one message, so the numbers of a snapshot add up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_a_busy_memory_match_its_frame() {
    let server = any_server().await;
    let store = store(server.url()).await;
    let k = key("busy");
    fill(&store, &k, LONG).await;
    let filled = store.head(&k).await.unwrap().last.number();
    let session = WriterId::session(1_700_000_000_000, 1);
    let writers = [WriterId::new(77), WriterId::new(78), session];
    let tasks = writers.map(|writer| {
        let (store, k) = (store.clone(), k.clone());
        tokio::spawn(async move {
            for number in 1.. {
                append(&store, &k, writer.write(number), &["x"]).await.unwrap();
            }
        })
    });
    for _ in 0..5 {
        let before = store.head(&k).await.unwrap().last;
        let frame = store.frame(&k, FrameWriters::Included).await.unwrap();
        let busy = frame.writers.iter().filter(|one| writers.contains(&one.writer));
        let written: u64 = busy.map(|one| one.number).sum();
        assert_eq!(written, frame.last.number() - filled);
        assert!(frame.last >= before);
    }
    for task in tasks {
        task.abort();
    }
}
