//! Data on a server that is not ours, is damaged, or does not fit: the store reports it, and overwrites
//! nothing.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::support;
use crate::support::{
    append, checked_outline, key, link, message, places, receipt, store, texts, with_settings,
    write,
};
use memory_core::health::ServerWarning;
use memory_core::lease::{FencingToken, LeaseProof, OwnerId};
use memory_core::store::{Access, Applied, Clear, Read, Splice, StoreError, StoreErrorKind};
use memory_core::{MemoryKey, MemoryStore, Sequence};
use memory_lock::{Acquired, LockBackend, LockErrorKind, LockKey, RedisLock};
use memory_redis_link::{LinkError, LinkErrorKind};
use memory_redis_testkit::{Server, unique_prefix};
use memory_store_redis::{RedisConfig, RedisLink, RedisStore, RedisStoreConfig, TokenChecks};
use redis::Value;

async fn refused(url: &str) -> LinkError {
    RedisLink::open(RedisConfig::from_url(url).unwrap()).await.unwrap_err()
}

fn place_of(store: &RedisStore, key: &MemoryKey) -> String {
    store.link().keys().memory(key.as_str())
}

async fn digest(server: &Server) -> String {
    // Needs only the permission to read; equal data has an equal digest.
    server.query(&["DEBUG", "DIGEST"]).await
}

async fn server() -> Server {
    Server::start_with(&["--enable-debug-command", "yes"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evicting_server_is_refused_with_remedy() {
    for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random"] {
        let server = Server::start_with(&["--maxmemory-policy", policy]).await;
        let fault = refused(server.url()).await;
        assert_eq!(fault.kind(), &LinkErrorKind::Config);
        let text = fault.to_string();
        assert!(text.contains(policy) && text.contains("noeviction"), "{text}");
        server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
        store(server.url()).await;
    }
    // These policies drop only keys with a TTL: a warning.
    let server = Server::start_with(&["--maxmemory-policy", "volatile-lru"]).await;
    let store = store(server.url()).await;
    let warnings = async || store.server().await.unwrap().unwrap().warnings;
    let warning = |policy: &str| ServerWarning::Eviction { policy: policy.to_owned() };
    assert_eq!(warnings().await, [warning("volatile-lru")]);
    for (policy, expected) in
        [("allkeys-lfu", vec![warning("allkeys-lfu")]), ("noeviction", Vec::new())]
    {
        server.command(&["CONFIG", "SET", "maxmemory-policy", policy]).await;
        assert_eq!(warnings().await, expected, "it is looked at each time");
    }
}

/// Every operation on a memory.
async fn all_operations(store: &RedisStore, k: &MemoryKey) -> Vec<StoreError> {
    let generation = memory_core::store::Generation::new(1);
    let splice = Splice { evicted: places([1]), ..Splice::new(generation) };
    let clear = Clear::new(write(8, 1));
    vec![
        append(store, k, write(7, 1), &["x"]).await.unwrap_err(),
        store.splice(k, Access::OPEN, &splice).await.unwrap_err(),
        store.clear(k, Access::OPEN, &clear).await.unwrap_err(),
        store.head(k).await.unwrap_err(),
        store.read(k, Read::default()).await.unwrap_err(),
        store.outline(k).await.unwrap_err(),
        store.fetch(k, generation.into(), &places([1])).await.unwrap_err(),
        store.receipts(k).await.unwrap_err(),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_type_at_our_key_is_not_overwritten() {
    let server = server().await;
    let store = store(server.url()).await;
    let (k, other) = (key("k"), key("other"));
    append(&store, &other, write(1, 1), &["fine"]).await.unwrap();
    let place = place_of(&store, &k);
    for foreign in [
        vec!["RPUSH", &place, "a", "b"],
        vec!["SET", &place, "text"],
        vec!["SADD", &place, "a"],
        vec!["XADD", &place, "*", "a", "b"],
    ] {
        server.command(&foreign).await;
        let before = digest(&server).await;
        for error in all_operations(&store, &k).await {
            assert!(matches!(error.kind(), StoreErrorKind::Corrupt(_)), "{foreign:?}: {error:?}");
            assert!(error.to_string().contains(&place), "{error}");
            assert!(!error.is_retryable());
            assert_eq!(error.applied(), Applied::No);
        }
        assert_eq!(digest(&server).await, before, "something was written");
        // The other memories are not affected.
        assert_eq!(
            store.keys(None, NonZeroUsize::MAX).await.unwrap(),
            std::slice::from_ref(&other)
        );
        server.command(&["DEL", &place]).await;
    }
    append(&store, &k, write(1, 1), &["now it goes"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_hash_is_not_overwritten() {
    let server = server().await;
    let store = store(server.url()).await;
    let k = key("k");
    let place = place_of(&store, &k);
    // One with a head of another sort, and one without.
    for field in ["h", "name"] {
        server.command(&["HSET", &place, field, "somebody's", "more", "of it"]).await;
        let before = digest(&server).await;
        for error in [
            append(&store, &k, write(7, 1), &["x"]).await.unwrap_err(),
            store.clear(&k, Access::OPEN, &Clear::new(write(8, 1))).await.unwrap_err(),
        ] {
            assert!(matches!(error.kind(), StoreErrorKind::Corrupt(_)), "{error:?}");
            assert!(error.to_string().contains(&place), "{error}");
        }
        assert_eq!(digest(&server).await, before, "something was written");
        server.command(&["DEL", &place]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_value_at_lease_key_is_not_overwritten() {
    let server = server().await;
    let store = store(server.url()).await;
    let lock = RedisLock::new(store.link().clone());
    let k = key("k");
    let name = LockKey::new(k.lease_name()).unwrap();
    let place = store.link().keys().lease(name.as_str());
    let (owner, ttl) = (OwnerId::new(1), Duration::from_secs(1));
    for foreign in [vec!["SET", &place, "somebody's"], vec!["RPUSH", &place, "a"]] {
        server.command(&foreign).await;
        let before = digest(&server).await;
        for error in [
            lock.try_acquire(&name, owner, ttl).await.unwrap_err(),
            lock.release(&name, owner).await.unwrap_err(),
            lock.inspect(&name).await.unwrap_err(),
            lock.hand_over(&name, owner, OwnerId::new(2), ttl).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), &LockErrorKind::Corrupt, "{error:?}");
            assert!(error.to_string().contains(&place), "{error}");
            assert!(!error.is_retryable());
        }
        // It is unknown whether the memory is held.
        let error = append(&store, &k, write(1, 1), &["x"]).await.unwrap_err();
        assert!(error.to_string().contains(&place), "{error}");
        assert!(matches!(error.kind(), StoreErrorKind::Corrupt(_)), "{error:?}");
        assert_eq!(digest(&server).await, before, "something was written");
        server.command(&["DEL", &place]).await;
    }
    append(&store, &k, write(1, 1), &["now it goes"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_text_can_be_evicted() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["one", "secret", "three", "four"]).await.unwrap();
    let place = place_of(&store, &k);
    for (field, text) in [("m2", "{\"role\": secret"), ("m3", "")] {
        let stored: String = server.query(&["HGET", &place, field]).await;
        let (description, _) = stored.split_once('{').unwrap();
        server.command(&["HSET", &place, field, &[description, text].concat()]).await;
    }
    let page = store.read(&k, Read::default()).await.unwrap();
    assert_eq!(page.unreadable, places([2, 3]));
    assert_eq!(page.cursor.sequence, Sequence::new(4));
    assert_eq!(texts(&store, &k).await, ["one", "four"]);
    // A reader that reads in steps skips them.
    let step = Read { after: None, limit: NonZeroUsize::new(1).map(Into::into) };
    let mut seen = Vec::new();
    let mut read = step;
    loop {
        let page = store.read(&k, read).await.unwrap();
        seen.extend(page.messages.iter().map(|message| message.message.text().into_owned()));
        read = Read { after: Some(page.cursor), ..step };
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, ["one", "four"]);
    let newest = store.read_before(&k, None, NonZeroUsize::MIN).await.unwrap();
    assert!(newest.more && newest.unreadable.is_empty());
    let older = store.read_before(&k, Some(newest.cursor), NonZeroUsize::MIN).await.unwrap();
    assert_eq!((older.messages.len(), older.more), (1, false));
    assert_eq!((older.unreadable, older.cursor.sequence), (places([2, 3]), Sequence::new(1)));
    let outline = checked_outline(&store, &k).await;
    let generation = outline.head.generation;
    assert_eq!((outline.metas.len(), outline.unreadable.len()), (4, 0));
    let fetched = store.fetch(&k, outline.cursor(), &places([1, 2, 4])).await.unwrap();
    assert_eq!(fetched.len(), 2);
    append(&store, &k, write(1, 2), &["five"]).await.unwrap();
    let splice = Splice {
        summarized: places([1, 2]),
        evicted: places([3]),
        summary: Some(message("a summary")),
        receipt: Some(receipt(1)),
        ..Splice::new(generation)
    };
    store.splice(&k, Access::OPEN, &splice).await.unwrap();
    assert_eq!(texts(&store, &k).await, ["a summary", "four", "five"]);
    let page = store.read(&k, Read::default()).await.unwrap();
    assert!(page.unreadable.is_empty());
    checked_outline(&store, &k).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_description_does_not_block_other_messages() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["one", "two", "three", "four"]).await.unwrap();
    let place = place_of(&store, &k);
    for damage in ["", "not ours", "0 x", "\u{ff}", "9999999999999999999999 0"] {
        server.command(&["HSET", &place, "m2", damage]).await;
        let outline = store.outline(&k).await.unwrap();
        assert_eq!(outline.unreadable, places([2]), "{damage:?}");
        assert_eq!(outline.metas.len(), 3);
        let page = store.read(&k, Read::default()).await.unwrap();
        assert_eq!(page.unreadable, places([2]));
        assert_eq!(texts(&store, &k).await, ["one", "three", "four"]);
    }
    server.command(&["HDEL", &place, "m2"]).await;
    assert_eq!(store.outline(&k).await.unwrap().unreadable, places([2]));
    assert_eq!(store.read(&k, Read::default()).await.unwrap().unreadable, places([2]));
    server.command(&["HSET", &place, "m2", "not ours"]).await;

    // A call that names the damaged one gets an error, and nothing is applied partly.
    let generation = store.head(&k).await.unwrap().generation;
    let both = Splice { evicted: places([1, 2]), ..Splice::new(generation) };
    let error = store.splice(&k, Access::OPEN, &both).await.unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Corrupt(_)), "{error:?}");
    assert!(error.to_string().contains("place 2") && error.to_string().contains(&place), "{error}");
    assert_eq!(texts(&store, &k).await, ["one", "three", "four"]);

    let others = Splice { evicted: places([1, 3]), ..Splice::new(generation) };
    let counters = store.splice(&k, Access::OPEN, &others).await.unwrap();
    assert_eq!(counters.evicted, 2);
    append(&store, &k, write(1, 2), &["five"]).await.unwrap();
    assert_eq!(texts(&store, &k).await, ["four", "five"]);
    let cleared = store.clear(&k, Access::OPEN, &Clear::new(write(2, 1))).await.unwrap();
    assert_eq!((cleared.counters.cleared, cleared.counters.present.messages), (3, 0));
    assert!(store.outline(&k).await.unwrap().unreadable.is_empty());
    checked_outline(&store, &k).await;
    let left: Vec<String> = server.query(&["HKEYS", &place]).await;
    assert!(!left.iter().any(|field| field.starts_with('m')), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_writer_row_is_not_overwritten() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["one"]).await.unwrap();
    let place = place_of(&store, &k);
    server.command(&["HSET", &place, &format!("w{:032x}", 1), "not ours"]).await;
    let error = append(&store, &k, write(1, 2), &["two"]).await.unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Corrupt(_)), "{error:?}");
    assert!(error.to_string().contains(&place), "{error}");
    append(&store, &k, write(2, 1), &["of another"]).await.unwrap();
    assert_eq!(texts(&store, &k).await, ["one", "of another"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_a_newer_version_is_kept() {
    let server = server().await;
    let store = store(server.url()).await;
    let (k, other) = (key("k"), key("other"));
    append(&store, &other, write(1, 1), &["x"]).await.unwrap();
    let place = place_of(&store, &k);
    let newer = "redis.call('HSET', KEYS[1], 'h', cmsgpack.pack({7, 'anything'})) return 1";
    server.command(&["EVAL", newer, "1", &place]).await;
    let before = digest(&server).await;
    for error in all_operations(&store, &k).await {
        let StoreErrorKind::Newer { found, known, .. } = error.kind() else { panic!("{error:?}") };
        assert_eq!((*found, *known), (7, 3));
        assert!(error.to_string().contains("upgrade"), "{error}");
    }
    assert_eq!(digest(&server).await, before, "something was written");
    // It exists, although this version cannot decode it.
    assert_eq!(store.keys(None, NonZeroUsize::MAX).await.unwrap(), [k, other]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_server_rejects_writes_atomically_and_can_flush() {
    for checks in [TokenChecks::LiveLeases, TokenChecks::TokensAlone] {
        on_a_full_server(checks).await;
    }
}

async fn on_a_full_server(checks: TokenChecks) {
    let server = server().await;
    let config = RedisStoreConfig::new().with_token_checks(checks);
    let store = RedisStore::with_config(link(server.url()).await, config);
    let lock = RedisLock::new(store.link().clone());
    let k = key("k");
    let long: Vec<_> = (0..1_500).map(|n| format!("message {n}")).collect();
    let long: Vec<_> = long.iter().map(String::as_str).collect();
    append(&store, &k, write(1, 1), &long[..8]).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let before = digest(&server).await;
    for error in [
        append(&store, &k, write(1, 2), &long).await.unwrap_err(),
        append(&store, &key("new"), write(1, 2), &["x"]).await.unwrap_err(),
    ] {
        assert!(matches!(error.kind(), StoreErrorKind::Full(_)), "{error:?}");
        assert!(error.to_string().contains("maxmemory"), "{error}");
        assert_eq!(error.applied(), Applied::No);
        assert!(!error.is_retryable());
    }
    let name = LockKey::new(k.lease_name()).unwrap();
    let error = lock.try_acquire(&name, OwnerId::new(1), Duration::from_secs(9)).await.unwrap_err();
    assert_eq!(error.kind(), &LockErrorKind::Refused, "{error:?}");
    assert_eq!(digest(&server).await, before, "something was written");
    assert_eq!(texts(&store, &k).await, long[..8]);

    // Operations that free memory succeed as a whole.
    let generation = store.head(&k).await.unwrap().generation;
    let splice = Splice {
        summarized: places([1, 2]),
        evicted: places([3, 4]),
        summary: Some(message("a summary")),
        receipt: Some(receipt(1)),
        ..Splice::new(generation)
    };
    store.splice(&k, Access::OPEN, &splice).await.unwrap();
    assert_eq!(texts(&store, &k).await.len(), 5);
    checked_outline(&store, &k).await;
    store.clear(&k, Access::OPEN, &Clear::new(write(2, 1))).await.unwrap();
    assert_eq!(checked_outline(&store, &k).await.head.counters.cleared, 4);

    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    append(&store, &k, write(1, 2), &long).await.unwrap();
    assert_eq!(texts(&store, &k).await, long);
    checked_outline(&store, &k).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listing_scans_exactly_the_memories_of_its_prefix() {
    let server = Server::start().await;
    let prefix = unique_prefix();
    let open = async |prefix: &str| {
        RedisStore::new(link(&format!("{}/?prefix={prefix}", server.url())).await)
    };
    let store = open(&prefix).await;
    // Prefixes that begin like it, or match it as a pattern would.
    let starred = format!("{}%2A", prefix.rsplit_once('-').unwrap().0);
    let others = [open(&format!("{prefix}x")).await, open(&starred).await];
    let lock = RedisLock::new(store.link().clone());
    let mut expected = BTreeSet::new();
    for n in 0..700_u32 {
        let k = key(&format!("k{n}"));
        append(&store, &k, write(1, 1), &["x"]).await.unwrap();
        expected.insert(k.clone());
        if n % 10 == 0 {
            for other in &others {
                append(other, &key(&format!("o{n}")), write(1, 1), &["x"]).await.unwrap();
            }
            let name = LockKey::new(k.lease_name()).unwrap();
            lock.try_acquire(&name, OwnerId::new(1), Duration::from_secs(9)).await.unwrap();
        }
    }
    let empty = key("k3");
    store.clear(&empty, Access::OPEN, &Clear::new(write(2, 1))).await.unwrap();
    expected.remove(&empty);
    server.command(&["SET", &format!("{prefix}:{{1}}:memory:%%%"), "no key of ours"]).await;
    server.reset_stats().await;
    let all = store.keys(None, NonZeroUsize::MAX).await.unwrap();
    assert_eq!(all, expected.iter().cloned().collect::<Vec<_>>());
    let page = store.keys(Some(&all[99]), NonZeroUsize::new(50).unwrap()).await.unwrap();
    assert_eq!(page, all[100..150]);
    assert_eq!(others[1].keys(None, NonZeroUsize::MAX).await.unwrap().len(), 70);
    let counts = server.command_counts().await;
    assert!(!counts.contains_key("keys"), "{counts:?}");
    assert!(counts["scan"] > 0);
}

/// The errors that a real server answers, as they reach a caller.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_server_refusal_has_its_error() {
    let server = Server::start_with(&[
        "--enable-debug-command",
        "yes",
        "--lua-time-limit",
        "50",
        "--repl-diskless-sync-delay",
        "0",
    ])
    .await;
    let store = store(server.url()).await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["first"]).await.unwrap();

    // NOREPLICAS: the server asks for replicas that it does not have.
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    let error = append(&store, &k, write(1, 2), &["x"]).await.unwrap_err();
    assert_retryable_refusal(&error, "min-replicas-to-write");
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;

    // BUSY: another's script runs without an end, until it is killed.
    let told = async {
        support::until("busy server", async || {
            let error = append(&store, &key("busy"), write(1, 1), &["x"]).await.err()?;
            error.to_string().contains("long script").then_some(error)
        })
        .await
    };
    let mut error = None;
    let scripts = async {
        error = Some(told.await);
        let _: redis::RedisResult<Value> = server.try_query(&["SCRIPT", "KILL"]).await;
    };
    let running = async {
        let answer: redis::RedisResult<Value> =
            server.try_query(&["EVAL", "while true do end", "0"]).await;
        assert!(answer.is_err());
    };
    tokio::join!(running, scripts);
    assert_retryable_refusal(&error.unwrap(), "long script");

    // READONLY: a replica. The user must configure the master's address, unless Sentinel reports it.
    let master = Server::start_with(&["--repl-diskless-sync-delay", "0"]).await;
    let port = master.port().to_string();
    server.command(&["REPLICAOF", "127.0.0.1", &port]).await;
    let error = append(&store, &k, write(1, 2), &["x"]).await.unwrap_err();
    let StoreErrorKind::ReadOnly(text) = error.kind() else { panic!("{error:?}") };
    assert!(text.contains("master") && !error.is_retryable());
    assert_eq!(error.applied(), Applied::No);

    // LOADING, or MASTERDOWN: a replica without its data. Both are temporary.
    server.command(&["CONFIG", "SET", "replica-serve-stale-data", "no"]).await;
    master.kill();
    let error = support::until("replica without its master", async || {
        let error = store.head(&k).await.err()?;
        matches!(error.kind(), StoreErrorKind::Unavailable(_)).then_some(error)
    })
    .await;
    assert_retryable_refusal(&error, "failing over");
    server.command(&["REPLICAOF", "NO", "ONE"]).await;
    append(&store, &k, write(1, 2), &["x"]).await.unwrap();
}

fn assert_retryable_refusal(error: &StoreError, words: &str) {
    assert!(matches!(error.kind(), StoreErrorKind::Unavailable(_)), "{error:?}");
    assert!(error.is_retryable());
    assert_eq!(error.applied(), Applied::No, "{error:?}");
    assert!(error.to_string().contains(words), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_wait_for_a_loading_server() {
    let server = Server::start_with(&[
        "--enable-debug-command",
        "yes",
        "--appendonly",
        "yes",
        "--loading-process-events-interval-bytes",
        "1024",
        "--key-load-delay",
        "0",
    ])
    .await;
    let store = store(&with_settings(server.url(), "response_timeout=500ms")).await;
    for n in 0..200 {
        append(&store, &key(&format!("k{n}")), write(1, 1), &["x"]).await.unwrap();
    }
    server.command(&["CONFIG", "SET", "key-load-delay", "3000"]).await;
    let reload = async {
        let answer: redis::RedisResult<Value> = server.try_query(&["DEBUG", "RELOAD"]).await;
        answer.unwrap();
    };
    let writer = async {
        let mut loading = 0;
        support::until("end of the loading", async || {
            match append(&store, &key("k"), write(1, 1), &["x"]).await {
                Ok(_) if loading > 0 => Some(()),
                Ok(_) => None,
                Err(error) => {
                    assert!(error.is_retryable(), "{error:?}");
                    loading += u64::from(error.to_string().contains("loading"));
                    None
                }
            }
        })
        .await;
    };
    tokio::join!(reload, writer);
    assert_eq!(checked_outline(&store, &key("k")).await.head.counters.appended, 1);
}

/// A turn or a clear on a memory that is never written must not be kept forever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_never_written_memories_are_forgotten() {
    let server = server().await;
    for checks in [TokenChecks::LiveLeases, TokenChecks::TokensAlone] {
        let config = RedisStoreConfig::new().with_token_checks(checks);
        let store = RedisStore::with_config(link(server.url()).await, config);
        let lock = RedisLock::new(store.link().clone());
        let (claimed, cleared) = (key("claimed"), key("cleared"));
        let name = LockKey::new(claimed.lease_name()).unwrap();
        let (owner, ttl) = (OwnerId::new(1), Duration::from_secs(9));
        let Acquired::Granted { token } = lock.try_acquire(&name, owner, ttl).await.unwrap() else {
            panic!("it is free");
        };
        store.claim(&claimed, LeaseProof { owner, token }).await.unwrap();
        assert_eq!(store.head(&claimed).await.unwrap().fence, token);
        lock.release(&name, owner).await.unwrap();
        let clear = Clear::new(write(8, 1));
        store.clear(&cleared, Access::OPEN, &clear).await.unwrap();
        for k in [&claimed, &cleared] {
            let left = async || -> i64 { server.query(&["PTTL", &place_of(&store, k)]).await };
            let day = 24 * 60 * 60 * 1_000;
            let first = left().await;
            assert!((day - 60_000..=day).contains(&first), "{checks:?}: {k} lasts {first} ms");
            append(&store, k, write(1, 1), &["a message"]).await.unwrap();
            assert_eq!(left().await, -1, "{checks:?}: {k} has a TTL");
            // A clear of a written memory keeps its TTL.
            store.clear(k, Access::OPEN, &Clear::new(write(9, 1))).await.unwrap();
            assert_eq!(left().await, -1, "{checks:?}: {k}");
            append(&store, k, write(1, 2), &["another"]).await.unwrap();
        }
        // Sent again, the first clear is known, and removes nothing.
        store.clear(&cleared, Access::OPEN, &clear).await.unwrap();
        assert_eq!(texts(&store, &cleared).await, ["another"]);
    }
}

/// If tokens are kept apart from the memories, the stored value is checked before anything changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_type_at_token_key_prevents_writes() {
    let server = server().await;
    let config = RedisStoreConfig::new().with_token_checks(TokenChecks::TokensAlone);
    let store = RedisStore::with_config(link(server.url()).await, config);
    let (k, absent) = (key("k"), key("absent"));
    append(&store, &k, write(1, 1), &["one", "two"]).await.unwrap();
    let generation = store.head(&k).await.unwrap().generation;
    let lease = LeaseProof { owner: OwnerId::new(1), token: FencingToken::new(7) };
    for name in [&k, &absent] {
        let fences = store.link().keys().fences(name.as_str());
        server.command(&["SET", &fences, "somebody's"]).await;
        let before = digest(&server).await;
        let splice =
            Splice { evicted: places([1]), receipt: Some(receipt(1)), ..Splice::new(generation) };
        let batch = support::batch(write(2, 1), &["x"]);
        let clear = Clear::new(write(8, 1));
        let access = Access::with_lease(lease);
        for error in [
            store.splice(name, access, &splice).await.unwrap_err(),
            store.clear(name, access, &clear).await.unwrap_err(),
            store.claim(name, lease).await.unwrap_err(),
            store.append(name, access, &batch).await.unwrap_err(),
        ] {
            assert!(matches!(error.kind(), StoreErrorKind::Corrupt(_)), "{error:?}");
            assert!(error.to_string().contains(&fences), "{error}");
            assert_eq!(error.applied(), Applied::No);
            assert_eq!(digest(&server).await, before, "something was written");
        }
        server.command(&["DEL", &fences]).await;
    }
    assert_eq!(texts(&store, &k).await, ["one", "two"]);
}
