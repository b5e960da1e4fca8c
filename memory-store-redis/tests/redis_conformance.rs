//! The suite of `MemoryStore`, on one server.

mod support;

use memory_core::conformance::run_all;
use memory_redis_testkit::any_server;
use memory_store_redis::TokenChecks;
use support::Fixture;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_conforms() {
    let server = any_server().await;
    let url = server.url().to_owned();
    run_all(&Fixture { url, checks: TokenChecks::LiveLeases }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_conforms_with_leases_that_live_elsewhere() {
    let server = any_server().await;
    let url = server.url().to_owned();
    run_all(&Fixture { url, checks: TokenChecks::TokensAlone }).await;
}
