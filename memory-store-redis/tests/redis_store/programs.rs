//! Random programs compare a server with the reference store.

use crate::prefixed::{Prefixed, runtime};
use memory_core_testkit::programs::run;
use memory_redis_testkit::any_server;
use memory_store_redis::TokenChecks;

#[test]
fn server_matches_the_reference() {
    let runtime = runtime();
    let server = runtime.block_on(any_server());
    run(&runtime, 32, || Prefixed::new(server.url(), TokenChecks::LiveLeases));
}

#[test]
fn server_with_external_leases_matches_the_reference() {
    let runtime = runtime();
    let server = runtime.block_on(any_server());
    run(&runtime, 16, || Prefixed::new(server.url(), TokenChecks::TokensAlone));
}
