//! Watches of memories that other processes write.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::support;
use crate::support::{
    append, batch, key, message, places, store, texts, until, with_settings, write,
};
use memory_core::lease::{LeaseProof, OwnerId};
use memory_core::store::{
    Access, Append, Clear, ExpiredMemories, Read, RemoveUnused, Replace, Splice, StoreErrorKind,
    StoreWatch, UnusedQuery,
};
use memory_core::{Clock, MemoryKey, MemoryStore, Sequence};
use memory_lock::{Acquired, LockBackend, LockKey, RedisLock};
use memory_redis_testkit::{Cluster, Server};
use memory_store_redis::{RedisStore, RedisStoreConfig};
use tokio::time::{Instant, timeout};

/// Shorter than the interval between renewals, which would signal the write too.
const ANNOUNCED: Duration = Duration::from_secs(6);

async fn announced(watch: &mut dyn StoreWatch, what: &str) {
    let changed = timeout(ANNOUNCED, watch.changed()).await;
    changed.unwrap_or_else(|_| panic!("{what} was not announced")).unwrap();
}

async fn assert_quiet(watch: &mut dyn StoreWatch, what: &str) {
    let changed = timeout(Duration::from_millis(50), watch.changed()).await;
    assert!(changed.is_err(), "{what} was announced twice, or changed nothing");
}

/// Two stores on one prefix, as two processes have them.
async fn two(url: &str) -> [RedisStore; 2] {
    let url = with_settings(url, "");
    [store(&url).await, store(&url).await]
}

async fn pttl(store: &RedisStore, key: &MemoryKey) -> i64 {
    let mut ask = redis::cmd("PTTL");
    ask.arg(store.link().keys().memory(key.as_str()));
    redis::from_redis_value(store.link().send(&ask).await.unwrap()).unwrap()
}

/// All memories.
const fn unused() -> UnusedQuery {
    UnusedQuery {
        prefix: String::new(),
        after: None,
        expired: ExpiredMemories::Ignored,
        unwritten_for: Some(Duration::ZERO),
        limit: NonZeroUsize::MAX,
    }
}

async fn remove_all(store: &RedisStore, key: &MemoryKey) {
    let page = store.unused(&unused()).await.unwrap();
    let [unused] = &page.memories[..] else { panic!("{page:?}") };
    store.remove(key, RemoveUnused::new(unused, NonZeroUsize::MAX)).await.unwrap();
}

async fn every_write_is_announced(url: &str, name: &str) {
    let [reader, writer] = two(url).await;
    let k = key(name);
    let mut watch = reader.watch(&k).await.unwrap();
    assert_quiet(&mut *watch, "the watch").await;
    append(&writer, &k, write(1, 1), &["one", "two", "three"]).await.unwrap();
    announced(&mut *watch, "the first append").await;
    append(&writer, &k, write(1, 2), &["four"]).await.unwrap();
    announced(&mut *watch, "an append").await;
    assert_quiet(&mut *watch, "an append").await;
    let head = writer.head(&k).await.unwrap();

    let page = writer.read(&k, Read::default()).await.unwrap();
    let replace = Replace {
        write: write(1, 3),
        sequence: Sequence::new(1),
        replaced: page.messages[0].meta.id,
        message: message("another"),
    };
    writer.replace(&k, Access::OPEN, &replace).await.unwrap();
    announced(&mut *watch, "a replacement").await;
    let generation = writer.head(&k).await.unwrap().generation;
    assert_ne!(generation, head.generation);
    let splice = Splice { evicted: places([2]), ..Splice::new(generation) };
    writer.splice(&k, Access::OPEN, &splice).await.unwrap();
    announced(&mut *watch, "a splice").await;
    writer.clear(&k, Access::OPEN, &Clear::new(write(1, 4))).await.unwrap();
    announced(&mut *watch, "a clear").await;
    remove_all(&writer, &k).await;
    announced(&mut *watch, "a removal").await;

    let lock = RedisLock::new(writer.link().clone());
    let (lease, owner) = (LockKey::new(k.lease_name()).unwrap(), OwnerId::new(7));
    let ttl = Duration::from_secs(30);
    let Acquired::Granted { token } = lock.try_acquire(&lease, owner, ttl).await.unwrap() else {
        panic!("the lease is held");
    };
    let lease = LeaseProof { owner, token };
    writer.claim(&k, lease).await.unwrap();
    announced(&mut *watch, "a claim that begins a memory").await;
    let some = batch(write(1, 5), &["under a lease"]);
    writer.append(&k, Access::with_lease(lease), &some).await.unwrap();
    announced(&mut *watch, "an append under a lease").await;
    assert_eq!(pttl(&writer, &k).await, -1);
    assert_quiet(&mut *watch, "everything").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_processes_announce_each_write() {
    let server = Server::start().await;
    every_write_is_announced(server.url(), "k").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_a_cluster_announce_each_write() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c"] {
        every_write_is_announced(&cluster.url(), name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_are_announced_soon() {
    let server = Server::start().await;
    let [reader, writer] = two(server.url()).await;
    let k = key("k");
    let mut watch = reader.watch(&k).await.unwrap();
    let mut times = Vec::new();
    for number in 1..=200 {
        let begun = Instant::now();
        let appended = append(&writer, &k, write(1, number), &["one"]);
        let (appended, ()) = tokio::join!(appended, announced(&mut *watch, "an append"));
        appended.unwrap();
        times.push(begun.elapsed());
    }
    times.sort();
    println!("append by one process, signal in another: {:?} at the median", times[100]);
    assert!(times[100] < Duration::from_millis(50), "{:?}", times[100]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_connection_loses_no_change() {
    let server = Server::start().await;
    let [reader, writer] = two(server.url()).await;
    let k = key("k");
    let mut watch = reader.watch(&k).await.unwrap();
    for number in 1..=20_u64 {
        server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        append(&writer, &k, write(1, number), &["one"]).await.unwrap();
        let all = async {
            while reader.head(&k).await.map_or(0, |head| head.counters.appended) < number {
                // An error interrupts the watch, and the next call continues it.
                let _ = watch.changed().await;
            }
        };
        timeout(ANNOUNCED, all).await.unwrap_or_else(|_| panic!("append {number} was lost"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreachable_server_interrupts_the_watch() {
    let server = Server::start().await;
    let [reader, writer] = two(server.url()).await;
    let k = key("k");
    let mut watch = reader.watch(&k).await.unwrap();
    server.stop().await;
    let error = until("error", async || watch.changed().await.err()).await;
    assert!(error.is_retryable(), "{error:?}");
    server.restart().await;
    until("append", async || append(&writer, &k, write(1, 1), &["one"]).await.ok()).await;
    until("signal", async || watch.changed().await.ok()).await;
    until("append", async || append(&writer, &k, write(1, 2), &["two"]).await.ok()).await;
    announced(&mut *watch, "an append after the restart").await;
}

/// The server's calls of the command that publishes.
async fn published(server: &Server) -> u64 {
    server.command_counts().await.get("publish").copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registration_without_renewal_ends() {
    let server = Server::start().await;
    let clock = Clock::manual();
    let config = RedisStoreConfig::new().with_clock(clock.clone());
    let link = support::link(server.url()).await;
    let store = RedisStore::with_config(link, config);
    let (k, unwatched) = (key("k"), key("unwatched"));
    let is_registered = async || {
        let memory = store.link().keys().memory(k.as_str());
        server.query::<u64>(&["HEXISTS", &memory, "v"]).await == 1
    };
    append(&store, &unwatched, write(1, 1), &["one"]).await.unwrap();
    append(&store, &unwatched, write(1, 2), &["two"]).await.unwrap();
    store.clear(&unwatched, Access::OPEN, &Clear::new(write(1, 3))).await.unwrap();
    assert_eq!(published(&server).await, 0);
    append(&store, &k, write(1, 1), &["one"]).await.unwrap();
    drop(store.watch(&k).await.unwrap());
    append(&store, &k, write(1, 2), &["two"]).await.unwrap();
    assert_eq!(published(&server).await, 1);
    clock.advance(Duration::from_secs(29));
    append(&store, &k, write(1, 3), &["three"]).await.unwrap();
    assert_eq!(published(&server).await, 2);
    assert!(is_registered().await);
    clock.advance(Duration::from_secs(2));
    append(&store, &k, write(1, 4), &["four"]).await.unwrap();
    append(&store, &unwatched, write(1, 4), &["four"]).await.unwrap();
    assert_eq!(published(&server).await, 2);
    assert!(!is_registered().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registration_is_no_memory() {
    let server = Server::start().await;
    let [store, _] = two(server.url()).await;
    let (k, with_ttl) = (key("k"), key("ttl"));
    let _watch = store.watch(&k).await.unwrap();
    assert!((1..=30_000).contains(&pttl(&store, &k).await));
    assert_eq!(store.head(&k).await.unwrap(), Default::default());
    assert!(store.read(&k, Read::default()).await.unwrap().messages.is_empty());
    assert!(store.keys(None, NonZeroUsize::MAX).await.unwrap().is_empty());
    assert!(store.unused(&unused()).await.unwrap().memories.is_empty());
    append(&store, &k, write(1, 1), &["one"]).await.unwrap();
    assert_eq!((pttl(&store, &k).await, &*texts(&store, &k).await), (-1, &["one".to_owned()][..]));

    let ttl = Some(Duration::from_secs(5));
    let some = Append { ttl, ..batch(write(1, 1), &["one"]) };
    store.append(&with_ttl, Access::OPEN, &some).await.unwrap();
    let head = store.head(&with_ttl).await.unwrap();
    let _watch = store.watch(&with_ttl).await.unwrap();
    assert!((1..=5_000).contains(&pttl(&store, &with_ttl).await));
    assert_eq!(store.head(&with_ttl).await.unwrap(), head);

    // A foreign hash is not a registration.
    let foreign = key("foreign");
    let memory = store.link().keys().memory(foreign.as_str());
    server.command(&["HSET", &memory, "v", "1 value"]).await;
    let error = store.watch(&foreign).await.unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Corrupt(_)), "{error:?}");
    let error = append(&store, &foreign, write(1, 1), &["one"]).await.unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Corrupt(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_outlasts_the_ttl_of_its_memory() {
    let server = Server::start().await;
    let [reader, writer] = two(server.url()).await;
    let k = key("k");
    let some = Append { ttl: Some(Duration::from_millis(300)), ..batch(write(1, 1), &["one"]) };
    writer.append(&k, Access::OPEN, &some).await.unwrap();
    let mut watch = reader.watch(&k).await.unwrap();
    // The renewal after the TTL finds another version.
    announced(&mut *watch, "the end of the memory").await;
    assert!(pttl(&writer, &k).await > 20_000, "it is not registered again");
    append(&writer, &k, write(1, 2), &["two"]).await.unwrap();
    announced(&mut *watch, "an append after the TTL").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forbidden_announcement_leaves_the_write() {
    let server = Server::start().await;
    let [reader, writer] = two(server.url()).await;
    let k = key("k");
    let _watch = reader.watch(&k).await.unwrap();
    server.command(&["ACL", "SETUSER", "default", "-publish"]).await;
    append(&writer, &k, write(1, 1), &["one"]).await.unwrap();
    writer.clear(&k, Access::OPEN, &Clear::new(write(1, 2))).await.unwrap();
    append(&writer, &k, write(1, 3), &["two"]).await.unwrap();
    assert_eq!(texts(&writer, &k).await, ["two"]);
}

/// A watch of a server that takes no writes from the watcher.
async fn unregistered_watch_reads(server: &Server, forbid: &[&str], permit: &[&str]) {
    let url = with_settings(server.url(), "");
    let [writer, reader] =
        [store(&url).await, store(&url.replace("://", "://reader:secret@")).await];
    let k = key("k");
    append(&writer, &k, write(1, 1), &["one"]).await.unwrap();
    server.command(forbid).await;
    let mut watch = reader.watch(&k).await.unwrap();
    assert_quiet(&mut *watch, "nothing").await;
    server.command(permit).await;
    append(&writer, &k, write(1, 2), &["two"]).await.unwrap();
    announced(&mut *watch, "an append").await;
}

#[tokio::test]
async fn full_server_and_read_only_user_are_watched() {
    let user = ["ACL", "SETUSER", "reader", "on", ">secret", "~*", "&*", "+@all"];
    let server = Server::start().await;
    server.command(&user).await;
    let limit = |bytes| ["CONFIG", "SET", "maxmemory", bytes];
    unregistered_watch_reads(&server, &limit("1"), &limit("0")).await;
    let server = Server::start().await;
    server.command(&user).await;
    let forbid = ["ACL", "SETUSER", "reader", "-@write", "-@pubsub"];
    unregistered_watch_reads(&server, &forbid, &["PING"]).await;
}

/// The link drops the connection of a server that became a replica, and the driver does not report that.
#[tokio::test]
async fn connection_that_the_link_drops_is_noticed() {
    let server = Server::start().await;
    let [reader, writer] = two(server.url()).await;
    let k = key("k");
    let mut watch = reader.watch(&k).await.unwrap();
    server.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    append(&reader, &k, write(1, 1), &["refused"]).await.unwrap_err();
    // The failed append of this store.
    let _ = timeout(Duration::from_millis(50), watch.changed()).await;
    server.command(&["REPLICAOF", "NO", "ONE"]).await;
    append(&writer, &k, write(2, 1), &["one"]).await.unwrap();
    announced(&mut *watch, "an append").await;
}
