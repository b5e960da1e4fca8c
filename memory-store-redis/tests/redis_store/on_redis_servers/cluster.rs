//! On a real Cluster: the contract, failover and moving slots under load, and operations on all of its
//! nodes.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::support;
use crate::support::load::{Load, examine, examine_intact};
use crate::support::{
    Fixture, append, checked_outline, key, link, store, until, with_settings, write,
};
use memory_core::MemoryStore;
use memory_core::conformance::run_all;
use memory_core::lease::OwnerId;
use memory_lock::conformance::{self, Subject};
use memory_lock::{
    Acquired, Lease, LockBackend, LockKey, LockManager, LockOptions, RedisLock, Release, Renewal,
};
use memory_redis_link::LinkErrorKind;
use memory_redis_testkit::{Cluster, Server};
use memory_store_redis::{RedisConfig, RedisLink, TokenChecks};

/// The slot of a memory.
async fn slot_of(node: &Server, link: &RedisLink, name: &str) -> u16 {
    let place = link.keys().memory(key(name).as_str());
    node.query(&["CLUSTER", "KEYSLOT", &place]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_and_leases_conform_on_a_cluster() {
    let cluster = Cluster::start().await;
    for checks in [TokenChecks::LiveLeases, TokenChecks::TokensAlone] {
        run_all(&Fixture { url: cluster.url(), checks }).await;
    }
    let passed = conformance::run(async || {
        Subject::new(Arc::new(RedisLock::new(link(&cluster.url()).await)))
    })
    .await
    .unwrap_or_else(|failures| panic!("{failures}"));
    assert!(passed >= 25);
    // And where each write waits for a replica.
    let url = with_settings(&cluster.url(), "replicas=1");
    let store = store(&url).await;
    for number in 1..=20_u64 {
        for name in ["a", "b", "c", "d"] {
            append(&store, &key(name), write(1, number), &["x", "y"]).await.unwrap();
        }
    }
    assert_eq!(checked_outline(&store, &key("a")).await.head.counters.appended, 40);
    let config = RedisConfig::from_url(&with_settings(&cluster.url(), "replicas=2")).unwrap();
    let fault = RedisLink::open(config).await.unwrap_err();
    assert_eq!(fault.kind(), &LinkErrorKind::Config, "{fault}");
}

/// Replication is asynchronous, so the last acknowledged writes may be lost with a master; their number is
/// printed. No other loss is allowed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_continue_intact_after_a_master_is_killed() {
    let cluster = Cluster::start().await;
    for (level, settings) in
        [("default", "response_timeout=1s"), ("replicas=1", "replicas=1&response_timeout=1s")]
    {
        let store = store(&with_settings(&cluster.url(), settings)).await;
        let load = Load::start(&store, 16, 30);
        load.go_on(500).await;
        let slot = slot_of(&cluster.nodes()[0], store.link(), "load-0").await;
        let old = cluster.master_of(slot).await;
        old.kill();
        let begun = tokio::time::Instant::now();
        let new = cluster.master_of(slot).await;
        assert_ne!(old.port(), new.port());
        let elected = begun.elapsed();
        if level == "replicas=1" {
            // Without one the new master confirms nothing.
            old.restart().await;
            cluster.wait_until_healthy().await;
        }
        load.go_on(500).await;
        let told = load.stop().await;
        let found = examine(&store, &told).await;
        println!("{level}: new master after {elected:?}, {found:?}");
        assert_eq!(found.doubled, 0);
        assert!(found.longest < Duration::from_secs(15), "{found:?}");
        if level == "default" {
            old.restart().await;
            cluster.wait_until_healthy().await;
        }
        // All nodes have recovered.
        let after = Load::start(&store, 1, 1);
        after.go_on(1).await;
        after.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coordinated_fail_over_is_invisible_to_retrying_callers() {
    let cluster = Cluster::start().await;
    let store = store(&with_settings(&cluster.url(), "")).await;
    let load = Load::start(&store, 16, 30);
    // Each master once: a second vote about the same one is refused for two node timeouts, and until then
    // the server lets writers wait.
    for slot in [0, 8_000, 16_000] {
        load.go_on(300).await;
        cluster.fail_over(slot).await;
    }
    load.go_on(300).await;
    let told = load.stop().await;
    let errors: BTreeMap<_, _> = told.iter().flat_map(|told| told.errors.clone()).collect();
    let found = examine_intact(&store, &told).await;
    println!("{found:?} {errors:?}");
    assert!(found.longest < Duration::from_secs(1), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_slots_under_load_loses_nothing() {
    let cluster = Cluster::start().await;
    for settings in ["", "replicas=1"] {
        let store = store(&with_settings(&cluster.url(), settings)).await;
        let lock = RedisLock::new(store.link().clone());
        let load = Load::start(&store, 16, 4);
        load.go_on(200).await;
        let name = LockKey::new(key("load-0").flush_lease_name()).unwrap();
        for round in 0..4 {
            for memory in 0..4 {
                let first = &cluster.nodes()[0];
                let slot = slot_of(first, store.link(), &format!("load-{memory}")).await;
                let from = cluster.master_of(slot).await.port();
                let mut masters = Vec::new();
                for node in cluster.nodes() {
                    let role: Vec<redis::Value> = node.query(&["ROLE"]).await;
                    if role[0] == redis::Value::BulkString(b"master".into()) {
                        masters.push(node);
                    }
                }
                let to = masters.iter().cycle().skip_while(|node| node.port() != from).nth(1);
                cluster.migrate_slot(slot, to.unwrap()).await;
            }
            // Leases move along.
            let owner = OwnerId::new(round + 1);
            let granted = until("lease", async || {
                match lock.try_acquire(&name, owner, Duration::from_secs(5)).await {
                    Ok(Acquired::Granted { token }) => Some(token),
                    Ok(held @ Acquired::Held { .. }) => panic!("{held:?}"),
                    Err(error) => {
                        assert!(error.is_retryable(), "{error:?}");
                        None
                    }
                }
            })
            .await;
            assert!(granted.number() > 0);
            until("release", async || lock.release(&name, owner).await.ok()).await;
            load.go_on(200).await;
        }
        let told = load.stop().await;
        let errors: BTreeMap<_, _> = told.iter().flat_map(|told| told.errors.clone()).collect();
        let found = examine_intact(&store, &told).await;
        println!("`{settings}`: {found:?} {errors:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_listed_over_all_masters() {
    let cluster = Cluster::start().await;
    let store = store(&with_settings(&cluster.url(), "")).await;
    let other = support::store(&with_settings(&cluster.url(), "")).await;
    let mut expected = Vec::new();
    for n in 0..200 {
        let k = key(&format!("k{n:03}"));
        append(&store, &k, write(1, 1), &["x"]).await.unwrap();
        append(&other, &k, write(1, 1), &["x"]).await.unwrap();
        expected.push(k);
    }
    for node in &cluster.nodes()[..3] {
        let count: u64 = node.query(&["DBSIZE"]).await;
        assert!(count > 0, "a master without a memory");
    }
    cluster.reset_stats().await;
    assert_eq!(store.keys(None, NonZeroUsize::MAX).await.unwrap(), expected);
    let counts = cluster.command_counts().await;
    assert!(!counts.contains_key("keys"), "{counts:?}");
    let page = store.keys(Some(&expected[9]), NonZeroUsize::new(5).unwrap()).await.unwrap();
    assert_eq!(page, expected[10..15]);
    // After a failover too.
    let slot = slot_of(&cluster.nodes()[0], store.link(), "k000").await;
    let old = cluster.master_of(slot).await;
    old.kill();
    cluster.master_of(slot).await;
    let listed = until("listing", async || {
        let keys = store.keys(None, NonZeroUsize::MAX).await;
        match keys {
            Ok(keys) => Some(keys),
            Err(error) => {
                assert!(error.is_retryable(), "{error:?}");
                None
            }
        }
    })
    .await;
    assert_eq!(listed, expected);
}

/// The timer below is set to ten seconds, so a faster waiter was woken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn release_on_any_node_wakes_other_connections() {
    let cluster = Cluster::start().await;
    let settings = with_settings(&cluster.url(), "");
    let manager = async || LockManager::new(Arc::new(RedisLock::new(link(&settings).await)));
    let (ours, theirs) = (manager().await, manager().await);
    let options = LockOptions::new().with_ttl(Duration::from_secs(20));
    let mut waits = Vec::new();
    for n in 0..24 {
        let name = LockKey::new(format!("lease {n}")).unwrap();
        let guard = ours.lock(&name, &options).await.unwrap();
        let waiting = tokio::spawn({
            let (theirs, name) = (theirs.clone(), name.clone());
            async move { theirs.lock(&name, &options).await.unwrap() }
        });
        until("waiter", async || (theirs.waiting(&name) == 1).then_some(())).await;
        // It waits in the queue at the server.
        let place = link(&settings).await.keys().line(name.as_str());
        let slot: u16 = cluster.nodes()[0].query(&["CLUSTER", "KEYSLOT", &place]).await;
        let node = cluster.master_of(slot).await;
        until("place in line", async || {
            let length: u64 = node.query(&["ZCARD", &place]).await;
            (length == 1).then_some(())
        })
        .await;
        let begun = tokio::time::Instant::now();
        guard.release().await;
        waiting.await.unwrap().release().await;
        waits.push(begun.elapsed());
    }
    waits.sort_unstable();
    println!("hand-over between links: median {:?}, longest {:?}", waits[12], waits[23]);
    assert!(waits[23] < Duration::from_secs(2), "{waits:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_renewed_once_per_slot() {
    let cluster = Cluster::start().await;
    let lock = RedisLock::new(link(&with_settings(&cluster.url(), "")).await);
    let mut leases = Vec::new();
    for n in 0..60_u128 {
        let name = LockKey::new(format!("lease {}", n % 20)).unwrap();
        let name = if n < 20 { name } else { LockKey::new(format!("lease {n}")).unwrap() };
        let (owner, ttl) = (OwnerId::new(n + 1), Duration::from_secs(20));
        match lock.try_acquire(&name, owner, ttl).await.unwrap() {
            Acquired::Granted { token } => leases.push(Lease { key: name, owner, token, ttl }),
            held @ Acquired::Held { .. } => panic!("{held:?}"),
        }
    }
    lock.release(&leases[7].key, leases[7].owner).await.unwrap();
    let foreign = OwnerId::new(999);
    leases[9].owner = foreign;
    lock.renew(&leases).await.unwrap();
    cluster.reset_stats().await;
    let answers = lock.renew(&leases).await.unwrap();
    for (n, answer) in answers.iter().enumerate() {
        let expected = match n {
            7 => Renewal::Vanished,
            9 => Renewal::NotOwner,
            _ => Renewal::Renewed,
        };
        assert_eq!(*answer, expected, "lease {n}");
    }
    let counts = cluster.command_counts().await;
    let requests = counts["evalsha"];
    assert!(requests <= 60, "{counts:?}");
    let answer = lock.release(&leases[0].key, leases[0].owner).await.unwrap();
    assert_eq!(answer, Release::Released);
}

/// A node that is powered off does not refuse connections: it does not answer at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_master_delays_only_its_slots_briefly() {
    let cluster = Cluster::start().await;
    let url = with_settings(&cluster.url(), "connect_timeout=2s&response_timeout=300ms");
    let before = store(&url).await;
    let names: Vec<_> = (0..30).map(|n| key(&format!("k{n}"))).collect();
    for name in &names {
        append(&before, name, write(1, 1), &["before"]).await.unwrap();
    }
    let slot = slot_of(&cluster.nodes()[0], before.link(), "k0").await;
    let silent = cluster.master_of(slot).await;
    silent.pause();
    // The connected clients write to all slots, so answers of the other nodes arrive in between.
    let begun = tokio::time::Instant::now();
    let mut left = names.clone();
    while !left.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "not writable again: {left:?}");
        let mut failed = Vec::new();
        for name in left {
            if append(&before, &name, write(1, 2), &["during"]).await.is_err() {
                failed.push(name);
            }
        }
        for name in names.iter().take(5).filter(|name| !failed.contains(*name)) {
            before.head(name).await.unwrap();
        }
        left = failed;
    }
    // New clients can connect although that node is still silent.
    let after = store(&url).await;
    for name in &names {
        assert_eq!(checked_outline(&after, name).await.metas.len(), 2);
    }
    silent.resume();
}
