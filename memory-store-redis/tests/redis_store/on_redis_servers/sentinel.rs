//! Behind Sentinel: the contract, and the losses of a failover at each level of acknowledgement.

use std::sync::Arc;
use std::time::Duration;

use crate::support;
use crate::support::load::{Found, Load, examine};
use crate::support::{
    Fixture, append, checked_outline, key, link, store, until, with_settings, write,
};
use memory_core::MemoryStore;
use memory_core::conformance::run_all;
use memory_core::lease::OwnerId;
use memory_lock::conformance::{self, Subject};
use memory_lock::{Acquired, LockBackend, LockKey, RedisLock};
use memory_redis_testkit::{Sentinels, Server};
use memory_store_redis::TokenChecks;
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_and_leases_conform_behind_sentinel() {
    let group = Sentinels::start().await;
    for checks in [TokenChecks::LiveLeases, TokenChecks::TokensAlone] {
        run_all(&Fixture { url: group.url(), checks }).await;
    }
    let passed =
        conformance::run(async || Subject::new(Arc::new(RedisLock::new(link(&group.url()).await))))
            .await
            .unwrap_or_else(|failures| panic!("{failures}"));
    assert!(passed >= 25);
}

/// The number of failovers at each level.
fn fail_overs() -> usize {
    let asked = std::env::var("MEMORY_TEST_FAILOVERS").ok();
    asked.map_or(2, |count| count.parse().expect("MEMORY_TEST_FAILOVERS is a number"))
}

/// Kills the master this often under the load of eight writers; after each, the writers have to continue, and
/// all acknowledged writes are looked up.
async fn measure(level: &str, settings: &str) -> Found {
    let group = Sentinels::start().await;
    let store = store(&with_settings(&group.url(), settings)).await;
    let mut sum = Found::default();
    let mut outages = Vec::new();
    for round in 0..fail_overs() {
        // Separate memories for each round: otherwise losses of one round would be counted again.
        let prefix = format!("{level}-{round}");
        let load = Load::start_named(&store, 8, 3, &prefix);
        load.go_on(200).await;
        let old = group.kill_master().await;
        let begun = Instant::now();
        let new = group.current_master().await;
        assert_ne!(old.port(), new.port());
        // Two of two replicas can confirm only once the old master is back as one.
        group.restart(old).await;
        load.go_on(100).await;
        outages.push(begun.elapsed());
        group.wait_until_healthy().await;
        load.go_on(100).await;
        let found = examine(&store, &load.stop().await).await;
        assert_eq!(found.doubled, 0, "{level}, round {round}: {found:?}");
        sum += found;
        // A server that returns fetches all data, so the data of earlier rounds is removed.
        group.current_master().await.command(&["FLUSHALL"]).await;
    }
    outages.sort_unstable();
    println!(
        "{level}: {} failovers, {} batches acknowledged, {} lost, {} doubled; {} errors met, {} \
         retries recognized; until 100 more were written: median {:?}, longest {:?}; longest \
         append {:?}",
        outages.len(),
        sum.acknowledged,
        sum.lost,
        sum.doubled,
        sum.errors,
        sum.duplicates,
        outages[outages.len() / 2],
        outages[outages.len() - 1],
        sum.longest,
    );
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fail_over_loses_at_most_unreplicated_writes() {
    measure("default", "response_timeout=1s").await;
}

/// Sentinel prefers the replica that has most, but the one that confirmed may be the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_after_one_confirmation_duplicates_nothing() {
    measure("replicas=1", "replicas=1&response_timeout=1s").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fail_over_after_all_confirmations_loses_nothing() {
    let found = measure("replicas=2", "replicas=2&response_timeout=1s").await;
    assert_eq!(found.lost, 0, "every replica had it");
}

/// A killed process has handed its acknowledged writes to the kernel, so the levels do not differ there. They
/// differ for replicas that lag. Both replicas are paused here while the master takes 48 MB, more than all
/// buffers between them hold, and dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lagging_replicas_lose_only_unconfirmed_writes() {
    const APPENDS: u64 = 16;
    for (level, replicas, response) in
        [("default", 0, "2s"), ("replicas=1", 1, "200ms"), ("replicas=2", 2, "200ms")]
    {
        let group = Sentinels::start().await;
        let settings = format!("replicas={replicas}&response_timeout={response}");
        let store = store(&with_settings(&group.url(), &settings)).await;
        let k = key("k");
        until("confirmation", async || append(&store, &k, write(1, 1), &["first"]).await.ok())
            .await;
        let old = group.current_master().await;
        let answers = old.commands(&[&["SET", "x", "1"], &["WAIT", "2", "5000"]]).await;
        assert_eq!(answers[1], redis::Value::Int(2));
        let lagging = || group.servers().iter().filter(|server| server.port() != old.port());
        lagging().for_each(Server::pause);
        let large = "x".repeat(3 << 20);
        let mut acknowledged = 0;
        for number in 0..APPENDS {
            let text = format!("{number} {large}");
            match append(&store, &k, write(2, number + 1), &[&text]).await {
                Ok(_) => acknowledged += 1,
                Err(error) => support::load::assert_unknown(&error),
            }
        }
        old.kill();
        lagging().for_each(Server::resume);
        group.current_master().await;
        // A confirmation by two must wait for the old master, as a replica.
        group.restart(old).await;
        let present = until("new master", async || store.head(&k).await.ok()).await;
        let present = present.counters.appended - 1;
        let lost = acknowledged - present.min(acknowledged);
        println!("{level}: {acknowledged} of {APPENDS} acknowledged, {lost} of these lost");
        if replicas == 0 {
            assert_eq!(acknowledged, APPENDS);
            assert!(lost > 0, "the buffers held it all, and this shows nothing");
        } else {
            assert_eq!((acknowledged, lost), (0, 0), "nothing was confirmed, so nothing counts");
        }
        // A writer that sends the newest batch again gets a correct result.
        let text = format!("{} {large}", APPENDS - 1);
        until("append", async || append(&store, &k, write(2, APPENDS), &[&text]).await.ok()).await;
        let last = support::texts(&store, &k).await;
        assert_eq!(last.iter().filter(|there| **there == text).count(), 1);
        checked_outline(&store, &k).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_master_is_abandoned_for_its_replacement() {
    let group = Sentinels::start().await;
    let store = store(&with_settings(&group.url(), "response_timeout=300ms")).await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["one"]).await.unwrap();
    let old = group.current_master().await;
    let answers = old.commands(&[&["SET", "x", "1"], &["WAIT", "2", "5000"]]).await;
    assert_eq!(answers[1], redis::Value::Int(2));
    old.pause();
    let begun = Instant::now();
    let appended = until("new master", async || {
        let appended = append(&store, &k, write(1, 2), &["two"]).await;
        if let Err(error) = &appended {
            assert!(error.is_retryable(), "{error:?}");
        }
        appended.ok()
    })
    .await;
    println!("appended again after {:?}", begun.elapsed());
    assert_eq!(appended.outcome.first(), Some(memory_core::Sequence::new(2)));
    old.resume();
    group.wait_until_healthy().await;
    append(&store, &k, write(1, 3), &["three"]).await.unwrap();
    let new = group.current_master().await;
    assert_ne!(new.port(), old.port());
    assert_eq!(support::texts(&store, &k).await, ["one", "two", "three"]);
    checked_outline(&store, &k).await;
}

/// A lease that was lost with the master costs its holder the right to write, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_rise_over_a_fail_over() {
    let group = Sentinels::start().await;
    let link = link(&with_settings(&group.url(), "response_timeout=500ms")).await;
    let lock = RedisLock::new(link);
    let name = LockKey::new("a lease").unwrap();
    let grant = async |owner: u128| {
        let owner = OwnerId::new(owner);
        until("grant", async || {
            match lock.try_acquire(&name, owner, Duration::from_secs(20)).await {
                Ok(Acquired::Granted { token }) => Some(token),
                Ok(Acquired::Held { .. }) => None,
                Err(error) => {
                    assert!(error.is_retryable(), "{error:?}");
                    None
                }
            }
        })
        .await
    };
    let mut last = grant(1).await;
    for owner in 2..=3 {
        let before = OwnerId::new(owner - 1);
        group.kill_master().await;
        group.current_master().await;
        until("release", async || lock.release(&name, before).await.ok()).await;
        let next = grant(owner).await;
        assert!(next > last, "{next:?} after {last:?}");
        last = next;
        let down = group.servers().iter().find(|server| !server.is_running()).unwrap();
        group.restart(down).await;
        group.wait_until_healthy().await;
    }
    let store = store(&group.url()).await;
    assert!(store.head(&key("none")).await.unwrap().counters.appended == 0);
}
