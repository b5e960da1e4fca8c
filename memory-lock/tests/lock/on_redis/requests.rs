//! The number of requests for leases of a real server, observed on the wire.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use memory_lock::redis::{RedisConfig, RedisLink};
use memory_lock::{
    Acquired, Lease, LockBackend, LockKey, LockManager, LockOptions, OwnerId, RedisLock, Release,
    Renewal,
};
use memory_redis_testkit::{AnyServer, Proxy, any_server, unique_prefix};

const TTL: Duration = Duration::from_secs(30);

async fn behind_a_proxy() -> (AnyServer, Proxy, RedisLock) {
    let server = any_server().await;
    let proxy = Proxy::in_front_of(server.url()).await;
    let config = RedisConfig::from_url(proxy.url()).unwrap().with_prefix(&unique_prefix()).unwrap();
    let lock = RedisLock::new(RedisLink::open(config).await.unwrap());
    (server, proxy, lock)
}

fn key(text: &str) -> LockKey {
    LockKey::new(text).unwrap()
}

#[track_caller]
fn assert_one_script(proxy: &Proxy, operation: &str) {
    let once = BTreeMap::from([("EVALSHA".to_owned(), 1)]);
    assert_eq!(proxy.request_counts(), once, "{operation}");
    proxy.reset_requests();
}

async fn acquire(lock: &RedisLock, key: &LockKey, owner: u128) -> Lease {
    let owner = OwnerId::new(owner);
    match lock.try_acquire(key, owner, TTL).await.unwrap() {
        Acquired::Granted { token } => Lease { key: key.clone(), owner, token, ttl: TTL },
        held @ Acquired::Held { .. } => panic!("{held:?}"),
    }
}

/// Loads the scripts into the server.
async fn warm_up(lock: &RedisLock) {
    let lease = acquire(lock, &key("warm"), 1).await;
    lock.renew(std::slice::from_ref(&lease)).await.unwrap();
    lock.hand_over(&lease.key, lease.owner, OwnerId::new(2), TTL).await.unwrap();
    lock.inspect(&lease.key).await.unwrap();
    lock.release(&lease.key, OwnerId::new(2)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_operation_on_a_lease_is_one_request() {
    let (_server, proxy, lock) = behind_a_proxy().await;
    warm_up(&lock).await;
    proxy.reset_requests();
    let lease = acquire(&lock, &key("a"), 1).await;
    assert_one_script(&proxy, "acquire");
    let held = lock.try_acquire(&lease.key, OwnerId::new(2), TTL).await.unwrap();
    assert!(matches!(held, Acquired::Held { .. }));
    assert_one_script(&proxy, "acquire in vain");
    lock.inspect(&lease.key).await.unwrap();
    assert_one_script(&proxy, "inspect");
    lock.hand_over(&lease.key, lease.owner, OwnerId::new(3), TTL).await.unwrap();
    assert_one_script(&proxy, "hand-over");
    assert_eq!(lock.release(&lease.key, OwnerId::new(3)).await.unwrap(), Release::Released);
    assert_one_script(&proxy, "release");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_leases_are_renewed_in_one_request() {
    let (_server, proxy, lock) = behind_a_proxy().await;
    warm_up(&lock).await;
    let mut leases = Vec::new();
    for n in 0..128 {
        leases.push(acquire(&lock, &key(&format!("lease {n}")), n).await);
    }
    proxy.reset_requests();
    let answers = lock.renew(&leases).await.unwrap();
    assert_one_script(&proxy, "renew");
    assert_eq!(answers, [Renewal::Renewed; 128]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manager_sends_one_request_per_acquire_and_release() {
    let (_server, proxy, lock) = behind_a_proxy().await;
    warm_up(&lock).await;
    let manager = LockManager::new(Arc::new(lock));
    proxy.reset_requests();
    let guard = manager.lock(&key("a"), &LockOptions::new()).await.unwrap();
    assert_one_script(&proxy, "lock");
    guard.release().await;
    assert_one_script(&proxy, "release");
}

/// 64 leases that are due at about the same time: far fewer requests than leases.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manager_renews_due_leases_together() {
    let (_server, proxy, lock) = behind_a_proxy().await;
    warm_up(&lock).await;
    let manager = LockManager::new(Arc::new(lock));
    let ttl = Duration::from_secs(2);
    let options = LockOptions::new().with_ttl(ttl);
    let mut guards = Vec::new();
    for n in 0..64 {
        guards.push(manager.lock(&key(&format!("lease {n}")), &options).await.unwrap());
    }
    proxy.reset_requests();
    // The test is about time itself: each lease is refreshed twice.
    tokio::time::sleep(ttl + ttl / 4).await;
    let counts = proxy.request_counts();
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["EVALSHA"]);
    let requests = counts.values().sum::<u64>();
    assert!((1..=16).contains(&requests), "{requests} requests for 128 refreshes");
    for guard in guards {
        guard.ensure_held().unwrap();
        guard.release().await;
    }
}
