//! Forks on one server: in one step, or in parts for large memories.

use std::time::Duration;

use crate::support::load::assert_unknown;
use crate::support::{
    append, checked_outline, fill, key, link, places, receipt, store, texts, until, with_settings,
    write,
};
use memory_core::store::{
    Access, Erase, Fork, ForkOrigin, Forked, FrameWriters, Read, Splice, StoreErrorKind, WriterId,
};
use memory_core::{MemoryKey, MemoryStore, Sequence};
use memory_redis_testkit::{Fault, Proxy, Server, any_server};
use memory_store_redis::RedisStore;
use uuid::Uuid;

/// The most fields of a memory that is forked in one step.
const FIELDS: usize = 2_048;
/// The fields of a memory beside its messages: the head and a writer.
const OTHERS: usize = 2;
/// The most bytes of such a memory.
const BYTES: usize = 2 << 20;

async fn planned(store: &RedisStore, from: &MemoryKey, at: u64) -> Fork {
    let head = store.head(from).await.unwrap();
    let copy = Uuid::from_u128(fastrand::u128(..));
    let origin = ForkOrigin {
        key: from.clone(),
        at: Sequence::new(at),
        version: head.version,
        forked_at: jiff::Timestamp::UNIX_EPOCH,
        id: Some(copy),
    };
    Fork { from: from.clone(), generation: head.generation, copy, origin }
}

async fn forked(store: &RedisStore, to: &MemoryKey, fork: &Fork) -> Forked {
    store.fork(to, Access::OPEN, fork).await.unwrap()
}

/// A memory of 60 messages by this writer, with flushes.
async fn flushed(store: &RedisStore, k: &MemoryKey, writer: WriterId) {
    append(store, k, writer.write(1), &["message"; 60]).await.unwrap();
    for number in 1..=20_u64 {
        let generation = store.head(k).await.unwrap().generation;
        let evicted = places([number]);
        let mut receipt = receipt(number.into());
        receipt.evicted = evicted.iter().copied().collect();
        let splice = Splice { evicted, receipt: Some(receipt), ..Splice::new(generation) };
        store.splice(k, Access::OPEN, &splice).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_memory_is_forked_in_one_step() {
    let server = any_server().await;
    let store = store(server.url()).await;
    // The fields of session writers are known without a list of all.
    for (name, writer) in [("a", WriterId::new(9)), ("b", WriterId::session(1_700_000_000_000, 1))]
    {
        let k = key(name);
        flushed(&store, &k, writer).await;
        // The first fork of each memory takes all fields but those of writers.
        for (at, erasures) in [(60, 0), (60, 1), (55, 1), (49, 0), (20, 0)] {
            if erasures == 1 && at == 60 {
                let places = std::iter::once(Sequence::new(50)).collect();
                let erase = Erase { write: writer.write(2), places, reason: "test".into() };
                store.erase(&k, Access::OPEN, &erase).await.unwrap();
            }
            let to = key(&format!("fork-{name}-{at}-{erasures}"));
            let fork = planned(&store, &k, at).await;
            assert_eq!(forked(&store, &to, &fork).await, Forked::Complete);
            let all = store.read(&k, Read::default()).await.unwrap().messages;
            let taken: Vec<_> =
                all.into_iter().filter(|one| one.meta.sequence.number() <= at).collect();
            assert_eq!(store.read(&to, Read::default()).await.unwrap().messages, taken);
            let frame = store.frame(&to, FrameWriters::Included).await.unwrap();
            assert_eq!((frame.receipts.len(), frame.erasures.len()), (16, erasures));
            assert_eq!((frame.last.number(), frame.forgotten_millis), (at, 0));
            assert_eq!((frame.writers, frame.origin), (Vec::new(), Some(fork.origin)));
            assert_eq!(sessions(&store, &to).await, 0);
            checked_outline(&store, &to).await;
            append(&store, &to, writer.write(1), &["next"]).await.unwrap();
            checked_outline(&store, &to).await;
        }
    }
}

/// The number of fields for session writers.
async fn sessions(store: &RedisStore, key: &MemoryKey) -> usize {
    let mut list = redis::cmd("HKEYS");
    list.arg(store.link().keys().memory(key.as_str()));
    let fields = store.link().send(&list).await.unwrap();
    let fields: Vec<String> = redis::from_redis_value(fields).unwrap();
    fields.iter().filter(|field| field.starts_with(['p', 's', 'w'])).count()
}

/// How long the server ran scripts since its counts were reset.
async fn script_time(server: &Server) -> Duration {
    let stats: String = server.query(&["INFO", "commandstats"]).await;
    let of_scripts = stats.lines().filter(|line| line.starts_with("cmdstat_eval"));
    let micros = of_scripts
        .filter_map(|line| line.split_once("usec=")?.1.split(',').next()?.parse::<u64>().ok());
    Duration::from_micros(micros.sum())
}

/// Messages with so many bytes each.
async fn fill_with(store: &RedisStore, key: &MemoryKey, count: usize, length: usize) {
    let text = "x".repeat(length);
    for (number, some) in vec![text.as_str(); count].chunks(256).enumerate() {
        append(store, key, write(9, number as u64 + 1), some).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn largest_fork_in_one_step_is_short() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let count = FIELDS - OTHERS;
    let (whole, cut) = (count as u64, count as u64 - 1);
    for length in [1, 300, BYTES / FIELDS - 400] {
        let k = key(&format!("k{length}"));
        fill_with(&store, &k, count, length).await;
        for at in [whole, cut, whole / 2, 1] {
            let (to, fork) = (key(&format!("fork-{length}-{at}")), planned(&store, &k, at).await);
            server.reset_stats().await;
            assert_eq!(forked(&store, &to, &fork).await, Forked::Complete);
            let took = script_time(&server).await;
            eprintln!("{count} messages of {length} bytes, {at} of them forked: {took:?}");
            assert!(took < Duration::from_millis(100), "{took:?}");
            assert_eq!(checked_outline(&store, &to).await.metas.len() as u64, at);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn larger_memory_is_forked_in_parts() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let (many, large) = (key("many"), key("large"));
    fill_with(&store, &many, FIELDS - OTHERS + 1, 1).await;
    fill_with(&store, &large, 1, BYTES).await;
    for (number, k) in [many, large].into_iter().enumerate() {
        let to = key(&format!("fork-{number}"));
        let fork = planned(&store, &k, 1).await;
        server.reset_stats().await;
        assert_eq!(forked(&store, &to, &fork).await, Forked::InParts);
        assert!(!server.command_counts().await.contains_key("copy"));
        assert_eq!(texts(&store, &to).await, [""; 0]);
        append(&store, &to, write(1, 1), &["free"]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_without_copy_forks_in_parts() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let (k, to) = (key("k"), key("fork"));
    fill(&store, &k, 10).await;
    let fork = planned(&store, &k, 10).await;
    for command in ["copy", "memory"] {
        server.command(&["ACL", "SETUSER", "default", &format!("-{command}")]).await;
        assert_eq!(forked(&store, &to, &fork).await, Forked::InParts);
        assert_eq!(texts(&store, &to).await, [""; 0]);
        server.command(&["ACL", "SETUSER", "default", &format!("+{command}")]).await;
    }
    assert_eq!(forked(&store, &to, &fork).await, Forked::Complete);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_origin_is_left_to_the_parts() {
    let server = any_server().await;
    let store = store(server.url()).await;
    // A message of the whole or of the part that is taken, and one whose tokens are taken off.
    for (lost, at) in [("m4", 10), ("m4", 5), ("m9", 8)] {
        let (k, to) = (key(&format!("{lost}-{at}")), key("fork"));
        fill(&store, &k, 10).await;
        let memory = store.link().keys().memory(k.as_str());
        let lose = redis::cmd("HDEL").arg(&memory).arg(lost).to_owned();
        store.link().send(&lose).await.unwrap();
        let fork = planned(&store, &k, at).await;
        assert_eq!(forked(&store, &to, &fork).await, Forked::InParts);
        assert_eq!(texts(&store, &to).await, [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_fork_is_recognized_after_a_lost_answer() {
    let server = Server::start().await;
    let proxy = Proxy::in_front_of(&with_settings(server.url(), "response_timeout=300ms")).await;
    let through = store(proxy.url()).await;
    let prefix = through.link().config().prefix();
    let direct = RedisStore::new(link(&format!("{}/?prefix={prefix}", server.url())).await);
    let k = key("k");
    fill(&through, &k, 10).await;
    let late = Fault::Delay(Duration::from_millis(700));
    for (number, fault) in
        [Fault::CutBeforeRequest, Fault::CutAfterRequest, Fault::HalfReply, late].iter().enumerate()
    {
        let (to, fork) = (key(&format!("fork-{number}")), planned(&through, &k, 10).await);
        proxy.times_on(1, *fault, &["EVALSHA"]);
        let lost = through.fork(&to, Access::OPEN, &fork).await.unwrap_err();
        assert_unknown(&lost);
        let arrives = *fault != Fault::CutBeforeRequest;
        if arrives {
            let there = async || (texts(&direct, &to).await.len() == 10).then_some(());
            until("fork", there).await;
            append(&direct, &to, write(1, 1), &["later"]).await.unwrap();
        }
        assert_eq!(forked(&through, &to, &fork).await, Forked::Complete);
        assert_eq!(texts(&through, &to).await.len(), 10 + usize::from(arrives));
        let another = planned(&through, &k, 10).await;
        let refused = through.fork(&to, Access::OPEN, &another).await.unwrap_err();
        assert_eq!(refused.kind(), &StoreErrorKind::Exists);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watcher_of_the_new_key_is_signaled() {
    let server = Server::start().await;
    let ours = store(server.url()).await;
    let prefix = ours.link().config().prefix();
    let theirs = RedisStore::new(link(&format!("{}/?prefix={prefix}", server.url())).await);
    let (k, to) = (key("k"), key("fork"));
    fill(&ours, &k, 10).await;
    let mut watch = theirs.watch(&to).await.unwrap();
    let mut of_origin = theirs.watch(&k).await.unwrap();
    let fork = planned(&ours, &k, 10).await;
    let waiting = async {
        tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.unwrap().unwrap();
    };
    let forking = async { assert_eq!(forked(&ours, &to, &fork).await, Forked::Complete) };
    tokio::join!(waiting, forking);
    // The registration of the origin's watchers was not copied, and that of the fork was kept.
    append(&ours, &k, write(1, 1), &["new"]).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), of_origin.changed()).await.unwrap().unwrap();
    append(&ours, &to, write(1, 1), &["new"]).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.unwrap().unwrap();
    let unwatched = key("unwatched");
    let fork = planned(&ours, &k, 11).await;
    assert_eq!(forked(&ours, &unwatched, &fork).await, Forked::Complete);
    let memory = ours.link().keys().memory(unwatched.as_str());
    let registered = ours.link().send(redis::cmd("HEXISTS").arg(&memory).arg("v")).await.unwrap();
    assert!(!redis::from_redis_value::<bool>(registered).unwrap());
}
