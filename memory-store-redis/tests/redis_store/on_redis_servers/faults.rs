//! The effects of a failing link on requests, which can be sent again safely.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::load::{Load, assert_recognized, assert_unknown, examine_intact};
use crate::support::{
    append, checked_outline, key, link, message, places, receipt, store, texts, until,
    with_settings, write,
};
use memory_core::lease::{LeaseProof, OwnerId};
use memory_core::store::{Access, AppendOutcome, Clear, Splice, StoreErrorKind};
use memory_core::{MemoryStore, Sequence};
use memory_lock::{
    Acquired, Applied, HandOver, Lease, LockBackend, LockError, LockErrorKind, LockKey, RedisLock,
    Release, Renewal,
};
use memory_redis_testkit::{Cluster, ClusterShape, Fault, Proxy, Server};
use memory_store_redis::RedisStore;

/// Shorter than all faults that take time.
const RESPONSE: Duration = Duration::from_millis(300);
const LATE: Duration = Duration::from_millis(700);

async fn behind_a_proxy() -> (Server, Proxy, RedisStore) {
    let server = Server::start().await;
    let settings = format!("response_timeout={}ms", RESPONSE.as_millis());
    let proxy = Proxy::in_front_of(&with_settings(server.url(), &settings)).await;
    let store = store(proxy.url()).await;
    (server, proxy, store)
}

/// The faults after which a request was applied, or will be, although no answer arrived.
const ANSWERLESS: [Fault; 3] = [Fault::CutAfterRequest, Fault::HalfReply, Fault::Delay(LATE)];

fn strike(proxy: &Proxy, fault: Fault) {
    proxy.times_on(1, fault, &["EVALSHA"]);
}

/// A late request is executed only when it has arrived, and delays the requests sent after it.
async fn settle(fault: Fault) {
    if let Fault::Delay(time) = fault {
        tokio::time::sleep(time).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_append_is_recognized_after_a_lost_answer() {
    let (_server, proxy, store) = behind_a_proxy().await;
    let k = key("k");
    let mut expected = Vec::new();
    for (number, fault) in ANSWERLESS.into_iter().cycle().take(9).enumerate() {
        let number = number as u64;
        append(&store, &k, write(2, number), &["before"]).await.unwrap();
        let text = format!("through {fault:?}");
        strike(&proxy, fault);
        let error = append(&store, &k, write(1, number), &[&text, "and more"]).await.unwrap_err();
        assert_unknown(&error);
        assert!(!error.to_string().contains("through"), "the message itself in {error}");
        let place = number * 3 + 2;
        settle(fault).await;
        let again = append(&store, &k, write(1, number), &[&text, "and more"]).await.unwrap();
        assert_recognized(again.outcome, place);
        expected.extend(["before".to_owned(), text, "and more".to_owned()]);
        assert_eq!(texts(&store, &k).await, expected);
    }
    assert_eq!(checked_outline(&store, &k).await.head.counters.appended, 27);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_append_is_recognized() {
    let (server, proxy, store) = behind_a_proxy().await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["first"]).await.unwrap();
    // Silence of two seconds.
    proxy.set(Fault::Hold);
    let begun = tokio::time::Instant::now();
    let error = append(&store, &k, write(1, 2), &["late"]).await.unwrap_err();
    assert_unknown(&error);
    assert!(begun.elapsed() < RESPONSE * 2, "{:?}", begun.elapsed());
    tokio::time::sleep_until(begun + Duration::from_secs(2)).await;
    proxy.set(Fault::Forward);
    let direct = with_prefix_of(&store, server.url()).await;
    until("late append", async || (texts(&direct, &k).await.len() == 2).then_some(())).await;
    let again = append(&store, &k, write(1, 2), &["late"]).await.unwrap();
    assert_recognized(again.outcome, 2);
    assert_eq!(checked_outline(&store, &k).await.head.counters.appended, 2);
}

/// The same memories over another link.
async fn with_prefix_of(store: &RedisStore, url: &str) -> RedisStore {
    let prefix = store.link().config().prefix();
    RedisStore::new(link(&format!("{url}/?prefix={prefix}")).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_append_that_never_arrived_is_applied_once() {
    let (_server, proxy, store) = behind_a_proxy().await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["first"]).await.unwrap();
    strike(&proxy, Fault::CutBeforeRequest);
    let error = append(&store, &k, write(1, 2), &["second"]).await.unwrap_err();
    assert_unknown(&error);
    assert_eq!(texts(&store, &k).await, ["first"]);
    let again = append(&store, &k, write(1, 2), &["second"]).await.unwrap();
    assert_eq!(again.outcome, AppendOutcome::Appended { first: Sequence::new(2) });
    assert_eq!(checked_outline(&store, &k).await.head.counters.appended, 2);
}

/// The driver reports half an answer as a parse error, not as a broken connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_an_answer_proves_nothing() {
    let (_server, proxy, store) = behind_a_proxy().await;
    append(&store, &key("k"), write(1, 1), &["first"]).await.unwrap();
    strike(&proxy, Fault::HalfReply);
    let error = append(&store, &key("k"), write(1, 2), &["second"]).await.unwrap_err();
    assert_unknown(&error);
    let source = std::error::Error::source(&error).unwrap();
    let source = source.downcast_ref::<redis::RedisError>().unwrap();
    assert!(!source.is_connection_dropped(), "{source:?}");
    assert_eq!(source.kind(), redis::ErrorKind::Parse);
    assert_eq!(texts(&store, &key("k")).await, ["first", "second"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_flush_is_recognized_after_a_lost_answer() {
    let (_server, proxy, store) = behind_a_proxy().await;
    for (number, fault) in ANSWERLESS.into_iter().enumerate() {
        let k = key(&format!("k{number}"));
        append(&store, &k, write(1, 1), &["one", "two", "three", "four"]).await.unwrap();
        // The script is known from here on.
        let generation = store.head(&k).await.unwrap().generation;
        store.splice(&k, Access::OPEN, &Splice::new(generation)).await.unwrap();
        let splice = Splice {
            summarized: places([1, 2]),
            evicted: places([3]),
            summary: Some(message("a summary")),
            receipt: Some(receipt(77)),
            next_flush_at: Some(5),
            ..Splice::new(generation)
        };
        strike(&proxy, fault);
        assert_unknown(&store.splice(&k, Access::OPEN, &splice).await.unwrap_err());
        settle(fault).await;
        let counters = store.splice(&k, Access::OPEN, &splice).await.unwrap();
        assert_eq!((counters.summarized, counters.evicted, counters.summaries), (2, 1, 1));
        assert_eq!(store.splice(&k, Access::OPEN, &splice).await.unwrap(), counters);
        assert_eq!(texts(&store, &k).await, ["a summary", "four"]);
        let head = checked_outline(&store, &k).await.head;
        assert_eq!((head.counters, head.next_flush_at), (counters, Some(5)));
        assert_eq!(store.receipts(&k).await.unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_clear_keeps_later_messages() {
    let (_server, proxy, store) = behind_a_proxy().await;
    for (number, fault) in ANSWERLESS.into_iter().enumerate() {
        let k = key(&format!("k{number}"));
        append(&store, &k, write(1, 1), &["old"]).await.unwrap();
        store.clear(&k, Access::OPEN, &Clear::new(write(2, 1))).await.unwrap();
        append(&store, &k, write(1, 2), &["old too"]).await.unwrap();
        let clear = Clear::new(write(2, 2));
        strike(&proxy, fault);
        assert_unknown(&store.clear(&k, Access::OPEN, &clear).await.unwrap_err());
        settle(fault).await;
        append(&store, &k, write(1, 3), &["new"]).await.unwrap();
        let counters = store.clear(&k, Access::OPEN, &clear).await.unwrap().counters;
        assert_eq!((counters.cleared, counters.present.messages), (2, 1));
        assert_eq!(texts(&store, &k).await, ["new"]);
        checked_outline(&store, &k).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claim_with_a_lost_answer_raised_the_token() {
    let (_server, proxy, store) = behind_a_proxy().await;
    let lock = RedisLock::new(store.link().clone());
    for (number, fault) in ANSWERLESS.into_iter().enumerate() {
        let k = key(&format!("k{number}"));
        let proof = acquire(&lock, &name(k.lease_name()), 1).await;
        store.claim(&k, proof).await.unwrap();
        strike(&proxy, fault);
        assert_unknown(&store.claim(&k, proof).await.unwrap_err());
        settle(fault).await;
        store.claim(&k, proof).await.unwrap();
        assert_eq!(store.head(&k).await.unwrap().fence, proof.token);
    }
}

fn name(text: &str) -> LockKey {
    LockKey::new(text).unwrap()
}

const TTL: Duration = Duration::from_secs(30);

async fn acquire(lock: &RedisLock, name: &LockKey, owner: u128) -> LeaseProof {
    let owner = OwnerId::new(owner);
    match lock.try_acquire(name, owner, TTL).await.unwrap() {
        Acquired::Granted { token } => LeaseProof { owner, token },
        held @ Acquired::Held { .. } => panic!("{held:?}"),
    }
}

fn assert_unknown_to_the_lock(error: &LockError) {
    assert_eq!(error.applied(), Applied::Unknown, "{error:?}");
    assert!(error.is_retryable(), "{error:?}");
    let kind = error.kind();
    assert!(
        matches!(kind, LockErrorKind::Unavailable | LockErrorKind::NoAnswer { .. }),
        "{kind:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lease_with_lost_answers_changes_once_per_request() {
    let (_server, proxy, store) = behind_a_proxy().await;
    let lock = RedisLock::new(store.link().clone());
    // Makes the server know the scripts.
    let warm = name("warm");
    let (one, two) = (OwnerId::new(1), OwnerId::new(2));
    let lease = |key: &LockKey, owner, token| Lease { key: key.clone(), owner, token, ttl: TTL };
    let proof = acquire(&lock, &warm, 1).await;
    lock.renew(&[lease(&warm, one, proof.token)]).await.unwrap();
    lock.hand_over(&warm, one, two, TTL).await.unwrap();
    lock.release(&warm, two).await.unwrap();

    for (number, fault) in ANSWERLESS.into_iter().enumerate() {
        let k = name(&format!("lease {number}"));
        strike(&proxy, fault);
        assert_unknown_to_the_lock(&lock.try_acquire(&k, one, TTL).await.unwrap_err());
        settle(fault).await;
        let info = lock.inspect(&k).await.unwrap().unwrap();
        assert_eq!(info.owner, one);
        assert_eq!(acquire(&lock, &k, 1).await, info.proof(), "another grant");

        let own = lease(&k, one, info.token);
        strike(&proxy, fault);
        assert_unknown_to_the_lock(&lock.renew(std::slice::from_ref(&own)).await.unwrap_err());
        settle(fault).await;
        assert_eq!(lock.renew(&[own]).await.unwrap(), [Renewal::Renewed]);

        strike(&proxy, fault);
        assert_unknown_to_the_lock(&lock.hand_over(&k, one, two, TTL).await.unwrap_err());
        settle(fault).await;
        let token = lock.inspect(&k).await.unwrap().unwrap().token;
        assert!(token > info.token);
        let again = lock.hand_over(&k, one, two, TTL).await.unwrap();
        assert_eq!(again, HandOver::HandedOver { token });

        strike(&proxy, fault);
        assert_unknown_to_the_lock(&lock.release(&k, two).await.unwrap_err());
        settle(fault).await;
        assert_eq!(lock.release(&k, two).await.unwrap(), Release::NotOwner);
        assert_eq!(lock.inspect(&k).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_scripts_are_sent_once() {
    let (server, proxy, store) = behind_a_proxy().await;
    let k = key("k");
    let steady = BTreeMap::from([("EVALSHA".to_owned(), 1)]);
    let once_more = BTreeMap::from([("EVAL".to_owned(), 1), ("EVALSHA".to_owned(), 1)]);
    let mut number = 0;
    let mut count = async |expected: &BTreeMap<String, u64>| {
        number += 1;
        proxy.reset_requests();
        append(&store, &k, write(1, number), &["x"]).await.unwrap();
        assert_eq!(&proxy.request_counts(), expected, "append {number}");
    };
    count(&once_more).await;
    count(&steady).await;
    for _ in 0..3 {
        server.command(&["SCRIPT", "FLUSH"]).await;
        server.reset_stats().await;
        count(&once_more).await;
        count(&steady).await;
        let counts = server.command_counts().await;
        assert_eq!((counts.get("eval"), counts.get("evalsha")), (Some(&1), Some(&2)));
    }
    assert_eq!(checked_outline(&store, &k).await.head.counters.appended, 8);
}

/// Eight writers, and a fault of some kind every few milliseconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_survive_all_faults_without_loss_or_duplicates() {
    let (server, proxy, store) = behind_a_proxy().await;
    let load = Load::start(&store, 8, 3);
    load.go_on(100).await;
    for round in 0..60 {
        match round % 6 {
            0 => proxy.once(Fault::CutAfterRequest),
            1 => proxy.once(Fault::HalfReply),
            2 => proxy.once(Fault::CutBeforeRequest),
            3 => proxy.times(3, Fault::CutAfterRequest),
            4 => proxy.cut_links(),
            _ if round % 12 == 5 => {
                server.command(&["SCRIPT", "FLUSH"]).await;
            }
            _ => {
                proxy.set(Fault::Hold);
                tokio::time::sleep(RESPONSE + RESPONSE / 2).await;
                proxy.set(Fault::Forward);
            }
        }
        load.go_on(20).await;
    }
    proxy.set(Fault::Forward);
    let told = load.stop().await;
    let found = examine_intact(&store, &told).await;
    assert!(found.errors > 40 && found.duplicates > 20, "{found:?}");
    println!("{found:?}");
}

/// The reason why the link makes its own retries: those of the driver repeat an applied request and return
/// `Ok`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_command_is_applied_once_unlike_bare_driver() {
    let shape = ClusterShape { masters: 1, replicas: 0, proxied: true };
    let cluster = Cluster::start_with(shape).await;
    let proxy = &cluster.proxies()[0];
    let client = redis::cluster::ClusterClient::new([proxy.url()]).unwrap();
    let mut bare = client.get_async_connection().await.unwrap();
    proxy.times_on(1, Fault::CutAfterRequest, &["INCR"]);
    let told: u64 = redis::cmd("INCR").arg("n").query_async(&mut bare).await.unwrap();
    assert_eq!(told, 2, "one INCR, told as done");

    let store = store(&with_settings(&cluster.url(), "")).await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["first"]).await.unwrap();
    for (number, fault) in [Fault::CutAfterRequest, Fault::HalfReply].into_iter().enumerate() {
        let (number, place) = (number as u64 + 2, number as u64 + 2);
        strike(proxy, fault);
        let error = append(&store, &k, write(1, number), &["once"]).await.unwrap_err();
        assert_unknown(&error);
        let again = until("link to the node", async || {
            let again = append(&store, &k, write(1, number), &["once"]).await;
            match again {
                Err(error) if matches!(error.kind(), StoreErrorKind::Unavailable(_)) => None,
                again => Some(again.unwrap()),
            }
        })
        .await;
        assert_recognized(again.outcome, place);
    }
    assert_eq!(checked_outline(&store, &k).await.head.counters.appended, 3);
}
