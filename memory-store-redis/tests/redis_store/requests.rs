//! How many requests each operation takes, and how large they are, seen on the wire.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::support::{
    append, batch, checked_outline, fill, key, message, places, receipt, store, write,
};
use memory_core::lease::{FencingToken, LeaseProof, OwnerId};
use memory_core::store::{
    Access, Clear, Cursor, ExpiredMemories, Generation, KnownBatch, NewMessage, Read, Restore,
    Retention, Splice, UnusedQuery, UpdateMetadata,
};
use memory_core::{MemoryKey, MemoryStore, Sequence};
use memory_lock::{Acquired, LockBackend, LockKey, RedisLock};
use memory_redis_testkit::{AnyServer, Fault, Proxy, any_server};
use memory_store_redis::RedisStore;

async fn behind_a_proxy() -> (AnyServer, Proxy, RedisStore) {
    let server = any_server().await;
    let proxy = Proxy::in_front_of(server.url()).await;
    let store = store(proxy.url()).await;
    (server, proxy, store)
}

/// The requests since the last check.
fn seen(proxy: &Proxy) -> BTreeMap<String, u64> {
    let counts = proxy.request_counts();
    proxy.reset_requests();
    counts
}

#[track_caller]
fn assert_one_script(proxy: &Proxy, operation: &str) {
    assert_eq!(seen(proxy), BTreeMap::from([("EVALSHA".to_owned(), 1)]), "{operation}");
}

async fn hold(lock: &RedisLock, key: &MemoryKey, owner: u128) -> LeaseProof {
    let (name, owner) = (LockKey::new(key.lease_name()).unwrap(), OwnerId::new(owner));
    match lock.try_acquire(&name, owner, Duration::from_secs(30)).await.unwrap() {
        Acquired::Granted { token } => LeaseProof { owner, token },
        held @ Acquired::Held { .. } => panic!("{held:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_operation_is_one_request_without_script_text() {
    let (_server, proxy, store) = behind_a_proxy().await;
    let lock = RedisLock::new(store.link().clone());
    // The first client of a server sends the scripts; from then on the server has them.
    for round in 1..=3_u64 {
        let k = key(&format!("k{round}"));
        let look = |operation: &str| {
            if round > 1 {
                assert_one_script(&proxy, operation);
            }
            proxy.reset_requests();
        };
        proxy.reset_requests();
        append(&store, &k, write(1, round * 10), &["one"]).await.unwrap();
        look("append");
        append(&store, &k, write(1, round * 10), &["one"]).await.unwrap();
        look("an append sent again");
        append(&store, &k, write(1, round * 10 + 1), &["two", "three", "four"]).await.unwrap();
        look("append of a batch");
        let lease = hold(&lock, &k, 7).await;
        proxy.reset_requests();
        store.claim(&k, lease).await.unwrap();
        look("claim");
        let access = Access::with_lease(lease);
        let fenced = batch(write(1, round * 10 + 2), &["five"]);
        store.append(&k, access, &fenced).await.unwrap();
        look("append under a lease");
        let stale = LeaseProof { token: FencingToken::new(1), ..lease };
        store.claim(&k, stale).await.unwrap_err();
        look("a claim that is refused");
        let head = store.head(&k).await.unwrap();
        assert_eq!(seen(&proxy), BTreeMap::from([("HGET".to_owned(), 1)]), "head");
        store.read(&k, Read::default()).await.unwrap();
        // One request in time: they are sent together.
        let whole = [("HLEN", 1), ("HMGET", 1), ("MEMORY", 1)];
        let whole = BTreeMap::from(whole.map(|(name, count)| (name.to_owned(), count)));
        assert_eq!(seen(&proxy), whole, "a whole memory");
        store.read(&k, Read { after: Some(head.generation.into()), limit: None }).await.unwrap();
        look("page");
        let own = batch(write(1, round * 10 + 3), &["own"]);
        let first = store.append(&k, access, &own).await.unwrap().outcome.first().unwrap();
        let known = KnownBatch { first, last: first, id: own.messages[0].id };
        proxy.reset_requests();
        let after = head.generation.into();
        let caught_up = store.catch_up(&k, after, &[known]).await.unwrap();
        assert_eq!((caught_up.confirmed, caught_up.page.messages.len()), (vec![known], 5));
        look("page without an own batch");
        store.read_before(&k, None, NonZeroUsize::MIN).await.unwrap();
        look("page backward");
        store.outline(&k).await.unwrap();
        let requests = [("HLEN", 1), ("HMGET", 2), ("MEMORY", 1)];
        let requests = BTreeMap::from(requests.map(|(name, count)| (name.to_owned(), count)));
        assert_eq!(seen(&proxy), requests, "outline");
        proxy.reset_requests();
        store.fetch(&k, head.generation.into(), &places([1, 3])).await.unwrap();
        assert_eq!(seen(&proxy), BTreeMap::from([("HMGET".to_owned(), 2)]), "fetch");
        proxy.reset_requests();
        let splice = Splice {
            summarized: places([1, 2]),
            evicted: places([3]),
            summary: Some(message("a summary")),
            receipt: Some(receipt(round.into())),
            ..Splice::new(head.generation)
        };
        store.splice(&k, access, &splice).await.unwrap();
        look("splice");
        store.receipts(&k).await.unwrap();
        look("receipts");
        let generation = store.head(&k).await.unwrap().generation;
        let mut splice = Splice { evicted: places([4]), ..Splice::new(generation) };
        splice.archive = Some(Retention::forever());
        let mut archived = receipt(100 + u128::from(round));
        archived.evicted = splice.evicted.iter().copied().collect();
        splice.receipt = Some(archived);
        proxy.reset_requests();
        store.splice(&k, access, &splice).await.unwrap();
        look("splice with an archive");
        let removals = store.removals(&k, None, NonZeroUsize::MAX).await.unwrap();
        look("removals");
        let (number, after) = (removals[0].number, Sequence::ZERO);
        store.archived(&k, number, after, NonZeroUsize::MAX.into()).await.unwrap();
        look("archived messages");
        let receipt = uuid::Uuid::from_u128(100 + u128::from(round));
        let restore = Restore { write: write(3, round), receipt };
        store.restore(&k, access, &restore).await.unwrap();
        look("restore");
        let patch = [("state", "open")].into();
        let update = UpdateMetadata { write: write(4, round), patch, expected: Some(0), ttl: None };
        store.update_metadata(&k, access, &update).await.unwrap();
        look("an update of metadata");
        store.metadata(&k).await.unwrap();
        assert_eq!(seen(&proxy), BTreeMap::from([("HMGET".to_owned(), 1)]), "metadata");
        let archive = (round == 3).then(Retention::forever);
        let clear = Clear { archive, ..Clear::new(write(2, round)) };
        store.clear(&k, access, &clear).await.unwrap();
        look("clear");
        checked_outline(&store, &k).await;
    }
}

/// The messages stay where they are, so there is nothing to delete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archive_sends_no_more_requests_than_deletion() {
    let (_server, proxy, store) = behind_a_proxy().await;
    let mut counts = Vec::new();
    for (name, archive) in
        [("warm", None), ("deleted", None), ("archived", Some(Retention::forever()))]
    {
        let k = key(name);
        fill(&store, &k, 1_000).await;
        let outline = checked_outline(&store, &k).await;
        let mut removed = receipt(1);
        let splice = Splice { evicted: places(1..=500), archive, ..Splice::of(&outline) };
        removed.evicted = splice.evicted.iter().copied().collect();
        let splice = Splice { receipt: Some(removed), ..splice }.weighed(&outline.metas);
        proxy.reset_requests();
        store.splice(&k, Access::OPEN, &splice).await.unwrap();
        let flush = seen(&proxy);
        let clear = Clear { archive, ..Clear::new(write(2, 1)) };
        store.clear(&k, Access::OPEN, &clear).await.unwrap();
        counts.push((flush, seen(&proxy)));
    }
    let one = BTreeMap::from([("EVALSHA".to_owned(), 1)]);
    assert_eq!(counts[2], (one.clone(), one));
    assert!(counts[1].0["EVALSHA"] > 1 && counts[1].1["EVALSHA"] > 1, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn append_size_is_independent_of_history_length() {
    let (_server, proxy, store) = behind_a_proxy().await;
    let (short, long) = (key("kk"), key("kl"));
    fill(&store, &short, 10).await;
    fill(&store, &long, 10_000).await;
    let mut sizes = Vec::new();
    for k in [&short, &long] {
        proxy.reset_requests();
        append(&store, k, write(1, 1), &["one more"]).await.unwrap();
        sizes.push(proxy.request_bytes());
        assert_one_script(&proxy, "append");
    }
    // Except for the digits of their buckets.
    assert!(sizes[0].abs_diff(sizes[1]) < 10 && sizes[0] < 800, "{sizes:?} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flush_sends_only_changes() {
    let (_server, proxy, store) = behind_a_proxy().await;
    let k = key("k");
    fill(&store, &k, 10_000).await;
    let splice = |generation, summarized| Splice {
        summarized,
        summary: Some(message("a summary")),
        receipt: Some(receipt(fastrand::u128(..))),
        ..Splice::new(generation)
    };
    let generation = store.head(&k).await.unwrap().generation;
    // Long enough to send each of the scripts.
    let first = splice(generation, places(10_000 - 150..=10_000));
    store.splice(&k, Access::OPEN, &first).await.unwrap();
    let generation = store.head(&k).await.unwrap().generation;
    proxy.reset_requests();
    // Ten places that are no range.
    let some = places((1..=10).map(|n| n * 900));
    store.splice(&k, Access::OPEN, &splice(generation, some)).await.unwrap();
    let bytes = proxy.request_bytes();
    assert_one_script(&proxy, "splice");
    assert!(bytes < 2_000, "{bytes} bytes for ten messages");

    let generation = store.head(&k).await.unwrap().generation;
    proxy.reset_requests();
    let range = places((1_000..4_000).filter(|n| n % 900 != 0));
    store.splice(&k, Access::OPEN, &splice(generation, range)).await.unwrap();
    let bytes = proxy.request_bytes();
    // Checked 32 at a time, because a script blocks all other clients, and swept in parts of this size or
    // larger; committed by one.
    let requests = seen(&proxy);
    assert_eq!(requests.keys().collect::<Vec<_>>(), ["EVALSHA"]);
    assert!((94 + 1 + 3..=94 + 1 + 94).contains(&requests["EVALSHA"]), "{requests:?}");
    assert!(bytes < 50_000, "{bytes} bytes for 2,997 messages of which nothing is sent");
    checked_outline(&store, &k).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_reads_cost_only_new_messages() {
    let (_server, proxy, store) = behind_a_proxy().await;
    let k = key("k");
    fill(&store, &k, 2_500).await;
    checked_outline(&store, &k).await;
    store.read(&k, Read::default()).await.unwrap();
    proxy.reset_requests();
    let all = store.read(&k, Read::default()).await.unwrap();
    assert_eq!(all.messages.len(), 2_500);
    // The first 16, and 128 at a time, because a command blocks all other clients.
    let requests = [("HLEN", 1), ("HMGET", 21), ("MEMORY", 1)];
    let requests = BTreeMap::from(requests.map(|(name, count)| (name.to_owned(), count)));
    assert_eq!(seen(&proxy), requests);
    append(&store, &k, write(1, 1), &["new"]).await.unwrap();
    let rest = Read { after: Some(all.cursor), limit: None };
    // The first sends the script.
    store.read(&k, rest).await.unwrap();
    proxy.reset_requests();
    let new = store.read(&k, rest).await.unwrap();
    assert_eq!(new.messages.len(), 1);
    assert_one_script(&proxy, "the rest of a page");
}

/// An answer has about 128 KiB of messages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_read_is_pipelined_and_bounded_in_bytes() {
    const PART_BYTES: usize = 128 << 10;
    let (_server, proxy, store) = behind_a_proxy().await;
    // Of one size, short ones before long ones, and images, which have few tokens, after many short ones.
    for (name, first, long, count, bytes_per_token) in [
        ("long", 0, 7 << 10, 160, 4),
        ("mixed", 40, 20 << 10, 160, 4),
        ("images", 40, 200 << 10, 60, 100_000),
    ] {
        let k = key(name);
        let texts = |count: usize, bytes: usize| vec!["x".repeat(bytes); count];
        let all = [texts(first, 10), texts(count, long)].concat();
        for (number, some) in all.chunks(20).enumerate() {
            let some: Vec<_> = some.iter().map(String::as_str).collect();
            let mut batch = batch(write(1, number as u64 + 1), &some);
            let with_tokens = |message: &NewMessage| {
                let tokens = message.tokens / bytes_per_token + 1;
                NewMessage { tokens, ..message.clone() }
            };
            batch.messages = batch.messages.iter().map(with_tokens).collect();
            store.append(&k, Access::OPEN, &batch).await.unwrap();
        }
        // From the start, and after a flush since the reader's cursor.
        let other_generation = Cursor::from(Generation::new(7));
        for after in [None, Some(other_generation)] {
            proxy.reset_requests();
            proxy.set(Fault::Delay(Duration::from_millis(5)));
            let page = store.read(&k, Read { after, limit: None }).await.unwrap();
            proxy.set(Fault::Forward);
            assert_eq!((page.messages.len(), page.restarted), (all.len(), after.is_some()));
            let (answer, under_way) = (proxy.largest_answer(), proxy.most_under_way());
            // The sizes of the next messages are estimates.
            assert!(answer <= PART_BYTES.max(2 * long) * 3 / 2, "{name}: {answer} bytes");
            assert!((3..=16).contains(&under_way), "{name}: {under_way} requests at once");
            let requests = seen(&proxy);
            let few = u64::try_from(all.len() * long / PART_BYTES.max(long) * 2).unwrap();
            assert!(requests["HMGET"] <= few, "{name}: {requests:?}");
            assert!(requests.get("EVALSHA").is_none_or(|scripts| *scripts == 1), "{requests:?}");
        }
    }
}

/// A warm read and a fetch of images after many short messages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_with_large_messages_are_bounded() {
    let (_server, proxy, store) = behind_a_proxy().await;
    let k = key("k");
    let large = "x".repeat(200 << 10);
    fill(&store, &k, 200).await;
    let before = store.read(&k, Read::default()).await.unwrap().cursor;
    for number in 1..=20 {
        store.append(&k, Access::OPEN, &batch(write(5, number), &[&large])).await.unwrap();
    }
    proxy.reset_requests();
    let page = store.read(&k, Read { after: Some(before), limit: None }).await.unwrap();
    assert_eq!(page.messages.len(), 20);
    let answer = proxy.largest_answer();
    assert!(answer < 2 * large.len(), "{answer} bytes");
    proxy.reset_requests();
    let all = store.fetch(&k, page.cursor, &places(1..=220)).await.unwrap();
    assert_eq!(all.len(), 220);
    let answer = proxy.largest_answer();
    // The sizes of the next messages are estimates.
    assert!(answer < 8 * large.len(), "{answer} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_backward_of_long_memory_is_one_request() {
    let (_server, proxy, store) = behind_a_proxy().await;
    let k = key("k");
    fill(&store, &k, 5_000).await;
    let ten = NonZeroUsize::new(10).unwrap();
    let mut before = None;
    for round in 0..3 {
        proxy.reset_requests();
        let page = store.read_before(&k, before, ten).await.unwrap();
        // The first sends the script.
        if round > 0 {
            assert_one_script(&proxy, "a page backward");
        }
        assert_eq!(page.messages.len(), 10);
        assert_eq!(page.cursor.sequence.number(), 5_000 - 10 * (round + 1) + 1);
        before = Some(page.cursor);
    }
    // Larger than one part.
    proxy.reset_requests();
    let most = NonZeroUsize::new(3_000).unwrap();
    assert_eq!(store.read_before(&k, None, most).await.unwrap().messages.len(), 3_000);
    let requests = seen(&proxy);
    assert_eq!(requests.keys().collect::<Vec<_>>(), ["EVALSHA"]);
    assert!((6..=24).contains(&requests["EVALSHA"]), "{requests:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_listed_by_scan_and_checked() {
    let (_server, proxy, store) = behind_a_proxy().await;
    for n in 0..20 {
        append(&store, &key(&format!("k{n:02}")), write(1, 1), &["x"]).await.unwrap();
    }
    store.head(&key("k00")).await.unwrap();
    proxy.reset_requests();
    let listed = store.keys(None, NonZeroUsize::MAX).await.unwrap();
    assert_eq!(listed.len(), 20);
    let counts = seen(&proxy);
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["HGET", "SCAN"]);
    assert_eq!(counts["HGET"], 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connection_sends_nothing() {
    let (_server, proxy, store) = behind_a_proxy().await;
    append(&store, &key("k"), write(1, 1), &["x"]).await.unwrap();
    proxy.reset_requests();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((proxy.requests(), proxy.connections()), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_subscribes_and_registers_once() {
    let (_server, proxy, store) = behind_a_proxy().await;
    // The first sends the scripts.
    append(&store, &key("k"), write(1, 1), &["one"]).await.unwrap();
    drop(store.watch(&key("other")).await.unwrap());
    proxy.reset_requests();
    append(&store, &key("k"), write(1, 2), &["two"]).await.unwrap();
    let unwatched = proxy.request_bytes();
    assert_one_script(&proxy, "an unwatched append");
    let mut watch = store.watch(&key("k")).await.unwrap();
    let registered = [("EVALSHA".to_owned(), 1), ("SUBSCRIBE".to_owned(), 1)];
    assert_eq!(seen(&proxy), BTreeMap::from(registered));
    for number in 3..=9 {
        append(&store, &key("k"), write(1, number), &["two"]).await.unwrap();
        watch.changed().await.unwrap();
        assert_eq!(proxy.request_bytes(), unwatched);
        assert_one_script(&proxy, "an append, and its signal");
    }
    // The link is subscribed already.
    let _again = store.watch(&key("k")).await.unwrap();
    assert_one_script(&proxy, "a second watch");
}

/// A sweep in pages scans all keys once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sweep_scans_once_for_all_pages() {
    let (_server, proxy, store) = behind_a_proxy().await;
    for number in 0..7 {
        append(&store, &key(&format!("k{number}")), write(1, 1), &["one"]).await.unwrap();
    }
    let sweep = async |limit: usize| {
        let mut query = UnusedQuery {
            prefix: String::new(),
            after: None,
            expired: ExpiredMemories::Ignored,
            unwritten_for: Some(Duration::ZERO),
            limit: NonZeroUsize::new(limit).unwrap(),
        };
        proxy.reset_requests();
        let (mut found, mut pages) = (0, 0);
        loop {
            let page = store.unused(&query).await.unwrap();
            (found, pages) = (found + page.memories.len(), pages + 1);
            query.after = page.next;
            if query.after.is_none() {
                return (found, pages, seen(&proxy)["SCAN"]);
            }
        }
    };
    let (found, pages, scans) = sweep(100).await;
    assert_eq!((found, pages), (7, 1));
    assert_eq!(sweep(2).await, (7, 4, scans));
    // The next sweep sees memories that were added meanwhile.
    append(&store, &key("k9"), write(1, 1), &["one"]).await.unwrap();
    assert_eq!(sweep(3).await, (8, 3, scans));
}
