//! Random programs compare a Cluster, and a master behind Sentinels, with the reference store.

use crate::prefixed::{Prefixed, runtime};
use memory_core_testkit::programs::run;
use memory_redis_testkit::{Cluster, Sentinels};
use memory_store_redis::TokenChecks;

#[test]
fn cluster_matches_the_reference() {
    let runtime = runtime();
    let cluster = runtime.block_on(Cluster::start());
    run(&runtime, 12, || Prefixed::new(&cluster.url(), TokenChecks::LiveLeases));
}

#[test]
fn master_named_by_sentinels_matches_the_reference() {
    let runtime = runtime();
    let sentinels = runtime.block_on(Sentinels::start());
    run(&runtime, 12, || Prefixed::new(&sentinels.url(), TokenChecks::LiveLeases));
}
