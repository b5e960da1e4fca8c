//! Killed servers, and the durability of acknowledged writes.

use std::time::Duration;

use crate::support::load::{Load, assert_recognized, assert_unknown, examine_intact};
use crate::support::{
    append, checked_outline, key, message, places, receipt, store, texts, until, with_settings,
    write,
};
use memory_core::store::{Access, AppendOutcome, Clear, Durability, Splice};
use memory_core::{MemoryStore, Sequence};
use memory_redis_link::{LinkError, LinkErrorKind};
use memory_redis_testkit::Server;
use memory_store_redis::{RedisConfig, RedisLink, RedisStore};

const ON_DISK: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

async fn refused(url: &str) -> LinkError {
    RedisLink::open(RedisConfig::from_url(url).unwrap()).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_a_killed_server() {
    const ROUNDS: u32 = 6;
    let server = Server::start_with(&ON_DISK).await;
    let store = store(&with_settings(server.url(), "fsync=always")).await;
    assert_eq!(store.durability(), Durability::Disk);
    let load = Load::start(&store, 8, 3);
    for _ in 0..ROUNDS {
        load.go_on(150).await;
        server.kill();
        server.restart().await;
    }
    load.go_on(150).await;
    let told = load.stop().await;
    let found = examine_intact(&store, &told).await;
    assert!(found.errors >= u64::from(ROUNDS), "{found:?}");
    println!("{ROUNDS} crashes: {found:?}");
    // Once more, without any writer.
    server.kill();
    server.restart().await;
    let after = until("link to the server", async || store.head(&told[0].key).await.ok()).await;
    assert!(after.counters.appended > 0);
    examine_intact(&store, &told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsupported_durability_is_refused_at_open_with_remedy() {
    let plain = Server::start().await;
    let fault = refused(&with_settings(plain.url(), "fsync=always")).await;
    assert_eq!(fault.kind(), &LinkErrorKind::Config);
    assert!(fault.to_string().contains("set `appendonly yes`"), "{fault}");

    let lazy = Server::start_with(&["--appendonly", "yes", "--appendfsync", "everysec"]).await;
    let url = with_settings(lazy.url(), "fsync=always");
    let info: String = lazy.query(&["INFO", "server"]).await;
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap());
    if (numbers.next().unwrap(), numbers.next().unwrap()) < (7, 2) {
        let fault = refused(&url).await;
        assert_eq!(fault.kind(), &LinkErrorKind::Config);
        assert!(fault.to_string().contains("set `appendfsync always`"), "{fault}");
    } else {
        // The server waits for its disk on request.
        let store = store(&url).await;
        append(&store, &key("k"), write(1, 1), &["x"]).await.unwrap();
    }

    let fault = refused(&with_settings(plain.url(), "replicas=1")).await;
    assert_eq!(fault.kind(), &LinkErrorKind::Config);
    assert!(fault.to_string().contains("connect more replicas"), "{fault}");

    assert_eq!(store(plain.url()).await.durability(), Durability::Process);
}

async fn with_a_replica() -> (Server, Server, RedisStore) {
    let master = Server::start_with(&["--repl-diskless-sync-delay", "0"]).await;
    let port = master.port().to_string();
    let replica = Server::start_with(&["--replicaof", "127.0.0.1", &port]).await;
    until("replica in sync", async || {
        let answers = master.commands(&[&["SET", "n", "1"], &["WAIT", "1", "100"]]).await;
        (answers[1] == redis::Value::Int(1)).then_some(())
    })
    .await;
    let store = store(&with_settings(master.url(), "replicas=1&response_timeout=800ms")).await;
    // A replica after a full synchronization may be slow to confirm the next writes.
    until("confirmation", async || append(&store, &key("warm"), write(1, 1), &["x"]).await.ok())
        .await;
    (master, replica, store)
}

async fn messages_at(server: &Server, store: &RedisStore, name: &str) -> usize {
    let place = store.link().keys().memory(key(name).as_str());
    let fields: Vec<String> = server.query(&["HKEYS", &place]).await;
    fields.iter().filter(|field| field.starts_with('m')).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_replicated_write_is_on_the_replica() {
    let (_master, replica, store) = with_a_replica().await;
    for number in 1..=50_u64 {
        append(&store, &key("k"), write(1, number), &["x"]).await.unwrap();
        assert_eq!(messages_at(&replica, &store, "k").await as u64, number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unconfirmed_write_is_unknown_until_its_retry() {
    let (_master, replica, store) = with_a_replica().await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["one", "two", "three"]).await.unwrap();
    replica.pause();
    let begun = tokio::time::Instant::now();
    let error = append(&store, &k, write(1, 2), &["four"]).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_millis(1_600), "{:?}", begun.elapsed());
    assert_unknown(&error);
    assert!(error.to_string().contains("0 of 1 replicas confirmed"), "{error}");
    // The master has the write, and reads do not wait.
    assert_eq!(texts(&store, &k).await.len(), 4);
    // A retry that the master recognizes still lacks the replica.
    assert_unknown(&append(&store, &k, write(1, 2), &["four"]).await.unwrap_err());
    let generation = store.head(&k).await.unwrap().generation;
    let splice = Splice {
        summarized: places([1, 2]),
        summary: Some(message("a summary")),
        receipt: Some(receipt(1)),
        ..Splice::new(generation)
    };
    assert_unknown(&store.splice(&k, Access::OPEN, &splice).await.unwrap_err());
    replica.resume();
    let again = append(&store, &k, write(1, 2), &["four"]).await.unwrap();
    assert_recognized(again.outcome, 4);
    assert_eq!(store.splice(&k, Access::OPEN, &splice).await.unwrap().summarized, 2);
    assert_eq!(messages_at(&replica, &store, "k").await, 3);

    replica.pause();
    let clear = Clear::new(write(2, 1));
    assert_unknown(&store.clear(&k, Access::OPEN, &clear).await.unwrap_err());
    replica.resume();
    assert_eq!(store.clear(&k, Access::OPEN, &clear).await.unwrap().counters.cleared, 2);
    assert_eq!(messages_at(&replica, &store, "k").await, 0);
    checked_outline(&store, &k).await;
}

/// On a new connection there is no write before it to wait for, so a retry writes something too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_on_a_new_connection_needs_real_confirmation() {
    let (master, replica, store) = with_a_replica().await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["one"]).await.unwrap();
    replica.pause();
    assert_unknown(&append(&store, &k, write(1, 2), &["two"]).await.unwrap_err());
    master.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    until("new connection", async || {
        let error = append(&store, &k, write(1, 2), &["two"]).await.unwrap_err();
        assert_unknown(&error);
        error.to_string().contains("0 of 1 replicas confirmed").then_some(())
    })
    .await;
    replica.resume();
    let again = append(&store, &k, write(1, 2), &["two"]).await.unwrap();
    assert_recognized(again.outcome, 2);
    assert_eq!(messages_at(&replica, &store, "k").await, 2);
}

/// As a failover does to waiting callers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interrupted_confirmation_leaves_the_write_unknown() {
    let (master, replica, store) = with_a_replica().await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["one"]).await.unwrap();
    replica.pause();
    let waiting = append(&store, &k, write(1, 2), &["two"]);
    let unblock = async {
        until("client that waits", async || {
            let clients = master.clients().await;
            // An idle client may also be one that waited last; only one that still waits is unblocked.
            for client in clients.iter().filter(|line| line.contains(" cmd=wait")) {
                let id = client.split(' ').find_map(|word| word.strip_prefix("id="))?;
                let done: u8 = master.query(&["CLIENT", "UNBLOCK", id, "ERROR"]).await;
                if done == 1 {
                    return Some(());
                }
            }
            None
        })
        .await;
    };
    let (error, ()) = tokio::join!(waiting, unblock);
    assert_unknown(&error.unwrap_err());
    replica.resume();
    let again = append(&store, &k, write(1, 2), &["two"]).await.unwrap();
    assert_recognized(again.outcome, 2);
    assert_eq!(texts(&store, &k).await, ["one", "two"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emptied_server_starts_over_without_wrong_answers() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["gone"]).await.unwrap();
    let page = store.read(&k, memory_core::store::Read::default()).await.unwrap();
    server.kill();
    server.restart().await;
    let outcome = until("link to the server", async || {
        append(&store, &k, write(1, 2), &["new"]).await.ok().map(|appended| appended.outcome)
    })
    .await;
    assert_eq!(outcome, AppendOutcome::Appended { first: Sequence::new(1) });
    // A reader that continues from before the crash starts over: generations never repeat.
    let read = memory_core::store::Read { after: Some(page.cursor), limit: None };
    let next = store.read(&k, read).await.unwrap();
    assert!(next.restarted);
    assert_eq!(next.messages.len(), 1);
}
