//! Leases on a real server.

use std::sync::Arc;
use std::time::Duration;

use memory_lock::conformance::{self, Subject};
use memory_lock::redis::{RedisConfig, RedisLink};
use memory_lock::{LockBackend, LockKey, LockManager, LockOptions, RedisLock};
use memory_redis_testkit::{any_server, unique_prefix};
use tokio::time::Instant;

async fn link(url: &str) -> RedisLink {
    let config = RedisConfig::from_url(url).unwrap().with_prefix(&unique_prefix()).unwrap();
    RedisLink::open(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_backend_conforms() {
    let server = any_server().await;
    let passed =
        conformance::run(async || Subject::new(Arc::new(RedisLock::new(link(server.url()).await))))
            .await
            .unwrap_or_else(|failures| panic!("{failures}"));
    assert_eq!(passed, 25);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiter_that_gives_up_leaves_the_queue() {
    let server = any_server().await;
    let link = link(server.url()).await;
    let (locks, others) = {
        let manager = |link: &RedisLink| LockManager::new(Arc::new(RedisLock::new(link.clone())));
        (manager(&link), manager(&link))
    };
    let key = LockKey::new("k").unwrap();
    let guard = locks.lock(&key, &LockOptions::new()).await.unwrap();
    let impatient = LockOptions::new().with_wait_timeout(Duration::from_millis(150));
    for _ in 0..3 {
        others.lock(&key, &impatient).await.unwrap_err();
    }
    let mut waits = redis::cmd("ZCARD");
    waits.arg(link.keys().line("k"));
    let begun = Instant::now();
    while link.send(&waits).await.unwrap() != redis::Value::Int(0) {
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "the server reserves for waiters that left"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    guard.release().await;
    let begun = Instant::now();
    let _guard = others.lock(&key, &LockOptions::new()).await.unwrap();
    assert!(
        begun.elapsed() < Duration::from_millis(40),
        "the lease was reserved for an absent waiter"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lease_that_lost_its_end_gets_one() {
    let server = any_server().await;
    let link = link(server.url()).await;
    let backend = Arc::new(RedisLock::new(link.clone()));
    let locks = LockManager::new(backend.clone());
    let key = LockKey::new("k").unwrap();
    let short = LockOptions::new().with_ttl(Duration::from_millis(300)).without_refresh();
    // Its owner is killed, so no process releases it.
    std::mem::forget(LockManager::new(backend.clone()).lock(&key, &short).await.unwrap());
    assert!(!backend.is_overdue(&key).await.unwrap());
    let mut persist = redis::cmd("PERSIST");
    persist.arg(link.keys().lease("k"));
    link.send(&persist).await.unwrap();
    assert!(locks.is_overdue(&key).await.unwrap());
    drop(locks.lock(&key, &short.with_wait_timeout(Duration::from_secs(10))).await.unwrap());
}
