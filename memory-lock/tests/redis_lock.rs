//! Leases on a real server.

#![cfg(all(feature = "redis", feature = "conformance"))]
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use std::sync::Arc;

use memory_lock::RedisLock;
use memory_lock::conformance::{self, Subject};
use memory_lock::redis::{RedisConfig, RedisLink};
use memory_redis_testkit::{any_server, unique_prefix};

async fn link(url: &str) -> RedisLink {
    let config = RedisConfig::from_url(url).unwrap().with_prefix(&unique_prefix()).unwrap();
    RedisLink::open(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_redis_backend_conforms() {
    let server = any_server().await;
    let passed =
        conformance::run(async || Subject::new(Arc::new(RedisLock::new(link(server.url()).await))))
            .await
            .unwrap_or_else(|failures| panic!("{failures}"));
    assert_eq!(passed, 25);
}
