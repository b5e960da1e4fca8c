//! The suite of `MemoryStore`, on one server.

use std::time::Duration;

use crate::support;
use crate::support::{Fixture, append, key};
use memory_core::Clock;
use memory_core::MemoryStore as _;
use memory_core::conformance::run_all;
use memory_core::store::{Access, Clear, SESSION_RETENTION, WriterId};
use memory_redis_testkit::any_server;
use memory_store_redis::{RedisStore, RedisStoreConfig, TokenChecks};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_conforms() {
    let server = any_server().await;
    let url = server.url().to_owned();
    run_all(&Fixture { url, checks: TokenChecks::LiveLeases }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_conforms_with_external_leases() {
    let server = any_server().await;
    let url = server.url().to_owned();
    run_all(&Fixture { url, checks: TokenChecks::TokensAlone }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_short_processes_are_bounded() {
    let server = any_server().await;
    let clock = Clock::manual();
    let config = RedisStoreConfig::new().with_clock(clock.clone());
    let store = RedisStore::with_config(support::link(server.url()).await, config);
    let k = key("k");
    for number in 0..2_000 {
        let write = WriterId::session(clock.now_millis(), number).write(1);
        append(&store, &k, write, &["x"]).await.unwrap();
        clock.advance(Duration::from_secs(1));
    }
    let memory = store.link().keys().memory(k.as_str());
    let fields = async || {
        let count = store.link().send(redis::cmd("HLEN").arg(&memory)).await.unwrap();
        redis::from_redis_value::<u64>(count).unwrap()
    };
    // Two fields each: those of the last ten minutes, and up to three times 64 others.
    let messages = 2_000;
    let count = fields().await - messages;
    assert!(count <= 2 * (600 + 192) + 2, "{count} fields");
    clock.advance(SESSION_RETENTION);
    let write = WriterId::session(clock.now_millis(), 1 << 40).write(1);
    store.clear(&k, Access::OPEN, &Clear::new(write)).await.unwrap();
    support::until("sweep", async || (fields().await <= 2 * 192 + 3).then_some(())).await;
}
