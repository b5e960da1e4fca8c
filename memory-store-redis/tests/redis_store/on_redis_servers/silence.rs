//! Connections whose other end disappeared without closing, under callers that do not wait for the driver's
//! timeout; and healthy ones, whose callers change.

use std::time::Duration;

use crate::support::{append, key, store, texts, until, with_settings, write};
use memory_core::MemoryKey;
use memory_core::store::{Appended, WriteId};
use memory_redis_testkit::{Cluster, ClusterShape, Fault, Proxy, Server};
use memory_store_redis::RedisStore;
use tokio::time::{Instant, timeout};

const RESPONSE: Duration = Duration::from_secs(1);
/// The timeout of a caller that gives up long before an answer is overdue.
const CALLER_TIMEOUT: Duration = Duration::from_millis(300);
/// Several times the total of the waits, because the machine may be busy.
const SOON: Duration = Duration::from_secs(8);

async fn behind_a_proxy(response_timeout: &str) -> (Server, Proxy, RedisStore) {
    let server = Server::start().await;
    let settings = format!("response_timeout={response_timeout}");
    let proxy = Proxy::in_front_of(&with_settings(server.url(), &settings)).await;
    let store = store(proxy.url()).await;
    (server, proxy, store)
}

async fn impatient(store: &RedisStore, key: &MemoryKey, write: WriteId) -> Option<Appended> {
    let call = append(store, key, write, &["y"]);
    timeout(CALLER_TIMEOUT, call).await.ok().map(|told| told.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connection_is_replaced_without_driver_timeout() {
    let (_server, proxy, store) = behind_a_proxy("1s").await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["x"]).await.unwrap();
    assert_eq!(proxy.connections(), 1);
    proxy.hold_links();
    let begun = Instant::now();
    while impatient(&store, &k, write(1, 2)).await.is_none() {
        assert!(begun.elapsed() < SOON, "all go over the dead link");
    }
    assert!(begun.elapsed() > RESPONSE, "{:?} of silence are no reason", begun.elapsed());
    assert_eq!(proxy.connections(), 2);
    assert_eq!(texts(&store, &k).await, ["x", "y"]);
    assert_eq!(proxy.connections(), 2);
}

/// Elapsed time counts once, however many callers wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_counts_once_for_all_waiters() {
    let (_server, proxy, store) = behind_a_proxy("1s").await;
    let k = key("k");
    append(&store, &k, write(0, 1), &["x"]).await.unwrap();
    proxy.hold_links();
    let begun = Instant::now();
    let all = (1..=32_u128).map(|writer| {
        let (store, k) = (store.clone(), k.clone());
        tokio::spawn(async move {
            while impatient(&store, &k, write(writer, 1)).await.is_none() {
                assert!(begun.elapsed() < SOON, "all go over the dead link");
            }
            begun.elapsed()
        })
    });
    for one in all.collect::<Vec<_>>() {
        let after = one.await.unwrap();
        assert!(after > RESPONSE, "{after:?} of silence are no reason");
    }
    assert_eq!(proxy.connections(), 2);
    assert_eq!(texts(&store, &k).await.len(), 33);
}

/// A health check is a caller too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abandoned_server_checks_count_as_unanswered() {
    let (_server, proxy, store) = behind_a_proxy("1s").await;
    proxy.hold_links();
    let begun = Instant::now();
    while timeout(CALLER_TIMEOUT, store.link().status()).await.is_err() {
        assert!(begun.elapsed() < SOON, "all go over the dead link");
    }
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_canceled_at_once_keep_the_connection() {
    let (_server, proxy, store) = behind_a_proxy("100ms").await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["x"]).await.unwrap();
    let begun = Instant::now();
    let mut canceled = 0;
    // No caller gets an answer for ten times the timeout.
    while begun.elapsed() < RESPONSE {
        let call = append(&store, &k, write(2, 1), &["y"]);
        canceled += u32::from(futures::poll!(std::pin::pin!(call)).is_pending());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(canceled > 20, "{canceled}");
    append(&store, &k, write(1, 2), &["z"]).await.unwrap();
    assert_eq!(proxy.connections(), 1);
    assert_eq!(texts(&store, &k).await, ["x", "y", "z"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abandoned_calls_keep_a_connection_that_answers() {
    let (_server, proxy, store) = behind_a_proxy("1s").await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["x"]).await.unwrap();
    proxy.set(Fault::Delay(Duration::from_millis(120)));
    let begun = Instant::now();
    let (mut given_up, mut number) = (0, 1);
    while begun.elapsed() < RESPONSE * 4 {
        for _ in 0..4 {
            let call = append(&store, &k, write(2, 1), &["y"]);
            given_up += u32::from(timeout(Duration::from_millis(60), call).await.is_err());
        }
        number += 1;
        append(&store, &k, write(1, number), &["z"]).await.unwrap();
    }
    let waited = given_up * Duration::from_millis(60);
    assert!(waited > RESPONSE * 3 / 2, "{waited:?}");
    assert_eq!(proxy.connections(), 1);
}

/// The answers of other nodes do not count for the silent one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connection_to_one_cluster_node_is_replaced() {
    for caller_timeout in [CALLER_TIMEOUT, RESPONSE * 3] {
        let shape = ClusterShape { masters: 2, replicas: 0, proxied: true };
        let cluster = Cluster::start_with(shape).await;
        let store = store(&with_settings(&cluster.url(), "response_timeout=1s")).await;
        let port_of = async |k: &MemoryKey| {
            let place = store.link().keys().memory(k.as_str());
            let slot = cluster.nodes()[0].query(&["CLUSTER", "KEYSLOT", &place]).await;
            cluster.master_of(slot).await.port()
        };
        let mut keys = (0..100).map(|number| key(&format!("k{number}")));
        let (silent, other) = (keys.next().unwrap(), keys.next_back().unwrap());
        let mut other = other;
        while port_of(&other).await == port_of(&silent).await {
            other = keys.next().unwrap();
        }
        for k in [&silent, &other] {
            append(&store, k, write(1, 1), &["x"]).await.unwrap();
        }
        let port = port_of(&silent).await;
        let place = cluster.nodes().iter().position(|node| node.port() == port).unwrap();
        cluster.proxies()[place].hold_links();
        let mut number = 1;
        let begun = Instant::now();
        until("answer of the silent node", async || {
            number += 1;
            append(&store, &other, write(1, number), &["z"]).await.unwrap();
            let call = append(&store, &silent, write(1, 2), &["y"]);
            timeout(caller_timeout, call).await.ok()?.ok()
        })
        .await;
        println!("{caller_timeout:?}: after {:?}", begun.elapsed());
        assert_eq!(texts(&store, &silent).await, ["x", "y"]);
    }
}
