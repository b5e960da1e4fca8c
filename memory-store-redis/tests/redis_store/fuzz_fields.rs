//! Fuzzing: fields of a memory that were damaged, or written by another program.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::support;
use crate::support::{append, key, message, places, receipt, store, write};
use memory_core::store::{
    Access, ArchivedRemoval, Clear, Read, Restore, Retention, Splice, StoreError, StoreErrorKind,
    SummaryRecord,
};
use memory_core::{MemoryKey, MemoryStore, Sequence};
use memory_core_testkit::fuzz::{SECRET, corpus, mutated, peak_of};
use memory_redis_testkit::any_server;
use memory_store_redis::RedisStore;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use redis::aio::MultiplexedConnection;
use tokio::time::Instant;
use uuid::Uuid;

memory_core_testkit::count_allocations!();

/// A memory with all kinds of fields.
async fn whole(store: &RedisStore, key: &MemoryKey) {
    for number in 1..=6 {
        append(store, key, write(1, number), &[SECRET, "five"]).await.unwrap();
    }
    let generation = store.head(key).await.unwrap().generation;
    let splice = Splice {
        evicted: places([2]),
        summarized: places([4, 5]),
        summary: Some(message("a summary")),
        receipt: Some(receipt(9)),
        ..Splice::new(generation)
    };
    store.splice(key, Access::OPEN, &splice).await.unwrap();
    archive_flush(store, key, 30, 6, 7).await.unwrap();
    archive_flush(store, key, 31, 8, 9).await.unwrap();
}

/// Replaces two messages by a summary, and archives them.
async fn archive_flush(
    store: &RedisStore,
    key: &MemoryKey,
    id: u128,
    first: u64,
    last: u64,
) -> Result<(), StoreError> {
    let generation = store.head(key).await?.generation;
    let mut splice = Splice { summarized: places(first..=last), ..Splice::new(generation) };
    let (new, mut receipt) = (message("another summary"), receipt(id));
    receipt.summarized = splice.summarized.iter().copied().collect();
    receipt.summary = Some(SummaryRecord::new(new.id, Sequence::new(first), new.tokens, "rules"));
    splice.summary = Some(new);
    splice.receipt = Some(receipt);
    splice.archive = Some(Retention::keep_for(Duration::from_secs(60)));
    store.splice(key, Access::OPEN, &splice).await.map(drop)
}

/// All reads and then all writes. Each returns, and no error contains the texts.
async fn use_all(store: &RedisStore, k: &MemoryKey) {
    let one = NonZeroUsize::MIN;
    let mut told: Vec<StoreError> = Vec::new();
    let head = store.head(k).await;
    let generation = head.as_ref().map(|head| head.generation).unwrap_or_default();
    told.extend(head.err());
    let all: Vec<_> = (0..9).map(Sequence::new).collect();
    told.extend(store.read(k, Read::default()).await.err());
    told.extend(store.read(k, Read { limit: Some(one.into()), after: None }).await.err());
    told.extend(store.outline(k).await.err());
    told.extend(store.fetch(k, generation.into(), &all).await.err());
    told.extend(store.receipts(k).await.err());
    match store.removals(k, None, NonZeroUsize::MAX).await {
        Ok(removals) => {
            for ArchivedRemoval { number, .. } in removals {
                let messages =
                    store.archived(k, number, Sequence::ZERO, NonZeroUsize::MAX.into()).await;
                told.extend(messages.err());
            }
        }
        Err(error) => told.push(error),
    }
    for (number, receipt) in [(60, 31), (61, 30), (62, 29)] {
        let restore = Restore { write: write(5, number), receipt: Uuid::from_u128(receipt) };
        told.extend(store.restore(k, Access::OPEN, &restore).await.err());
    }
    told.extend(archive_flush(store, k, 32, 10, 11).await.err());
    told.extend(append(store, k, write(1, 50), &["new"]).await.err());
    told.extend(append(store, k, write(3, 1), &["new"]).await.err());
    let splice = Splice { evicted: places([3]), ..Splice::new(generation) };
    told.extend(store.splice(k, Access::OPEN, &splice).await.err());
    let archive = Some(Retention::forever());
    let clear = Clear { archive, ..Clear::new(write(4, 1)) };
    told.extend(store.clear(k, Access::OPEN, &clear).await.err());
    told.extend(store.clear(k, Access::OPEN, &Clear::new(write(4, 2))).await.err());
    for error in told {
        let text = error.to_string();
        assert!(!text.contains(SECRET), "{text}");
        assert!(text.len() < 1_000, "{text}");
        // A permanent fault of the data.
        assert!(!matches!(error.kind(), StoreErrorKind::Unavailable(_)), "{error:?}");
        assert!(!error.is_retryable(), "{error:?}");
    }
}

async fn damage(connection: &mut MultiplexedConnection, place: &str, field: &str, value: &[u8]) {
    let mut set = redis::cmd("HSET");
    set.arg(place).arg(field).arg(value);
    set.query_async::<()>(connection).await.unwrap();
}

#[test]
fn no_field_value_panics_hangs_or_leaks_text() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (server, store, mut connection) = runtime.block_on(async {
        let server = any_server().await;
        let store = store(server.url()).await;
        let client = redis::Client::open(server.url()).unwrap();
        let connection = client.get_multiplexed_async_connection().await.unwrap();
        (server, store, connection)
    });
    let good = key("good");
    let place_of = |key: &MemoryKey| store.link().keys().memory(key.as_str());
    let stored: Vec<(Vec<u8>, Vec<u8>)> = runtime.block_on(async {
        whole(&store, &good).await;
        redis::cmd("HGETALL").arg(place_of(&good)).query_async(&mut connection).await.unwrap()
    });
    let fields =
        ["h", "h", "h", "i", "g", "v", "m1", "m3", "m4", "m7", "r0", "z", "a1", "a2", "o1", "o2"]
            .map(str::to_owned);
    let fields = fields.into_iter().chain([1, 3, 4].map(|writer| format!("w{writer:032x}")));
    let fields = fields.chain([30, 31].map(|receipt| format!("u{receipt:032x}")));
    let seeds: Vec<Vec<u8>> = corpus("field")
        .into_iter()
        .chain(
            stored
                .iter()
                .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.clone())),
        )
        .map(|(_, value)| value)
        .collect();
    let value = prop_oneof![
        4 => mutated(seeds),
        1 => prop::collection::vec(any::<u8>(), 0..70),
    ];
    let damages =
        prop::collection::vec((prop::sample::select(fields.collect::<Vec<_>>()), value), 1..4);
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 400;
    }
    let number = std::cell::Cell::new(0_u64);
    let done = TestRunner::new(config).run(&damages, |damages| {
        number.set(number.get() + 1);
        let k = key(&format!("k{}", number.get()));
        let mut connection = connection.clone();
        let begun = Instant::now();
        let ((), peak) = peak_of(|| {
            runtime.block_on(async {
                let mut restore = redis::cmd("HSET");
                restore.arg(place_of(&k));
                for (name, value) in &stored {
                    restore.arg(name).arg(value);
                }
                restore.query_async::<()>(&mut connection).await.unwrap();
                for (field, value) in &damages {
                    damage(&mut connection, &place_of(&k), field, value).await;
                }
                use_all(&store, &k).await;
                let delete = redis::cmd("DEL").arg(place_of(&k)).to_owned();
                delete.query_async::<()>(&mut connection).await.unwrap();
            });
        });
        assert!(peak < 16 << 20, "{peak} bytes");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        Ok(())
    });
    drop(server);
    if let Err(failure) = done {
        panic!("{failure}");
    }
}

/// An index with impossibly many places, or one that disagrees with the counters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_index_is_reported_and_can_be_cleared() {
    let server = any_server().await;
    let store = store(server.url()).await;
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for (number, index) in ["1 9999999999", "3 2", "1 1 1 9", "1", "", "5 9"].iter().enumerate() {
        let k = key(&format!("k{number}"));
        whole(&store, &k).await;
        let place = store.link().keys().memory(k.as_str());
        damage(&mut connection, &place, "i", index.as_bytes()).await;
        for error in [
            store.read(&k, Read::default()).await.unwrap_err(),
            store.outline(&k).await.unwrap_err(),
        ] {
            assert!(matches!(error.kind(), StoreErrorKind::Corrupt(_)), "{error:?}");
            assert!(error.to_string().contains(&place), "{error}");
        }
        // The append path does not read it, and a clear repairs it.
        append(&store, &k, write(7, 1), &["new"]).await.unwrap();
        let clear = Clear::new(write(8, 1));
        let counters = store.clear(&k, Access::OPEN, &clear).await.unwrap().counters;
        assert_eq!(counters.present.messages, 0);
        append(&store, &k, write(7, 2), &["newer"]).await.unwrap();
        assert_eq!(support::texts(&store, &k).await, ["newer"]);
        support::checked_outline(&store, &k).await;
        let names: Vec<String> =
            redis::cmd("HKEYS").arg(&place).query_async(&mut connection).await.unwrap();
        assert_eq!(names.iter().filter(|name| name.starts_with('m')).count(), 1, "{names:?}");
    }
}

/// No list of removed messages may remove an existing message, or be processed forever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_list_of_removed_places_removes_nothing() {
    let server = any_server().await;
    let store = store(server.url()).await;
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let lists = ["1 12", "1 99999999999", "12 1", "7", "2 2 4 99"];
    for (number, gone) in lists.iter().enumerate() {
        let k = key(&format!("k{number}"));
        whole(&store, &k).await;
        let place = store.link().keys().memory(k.as_str());
        damage(&mut connection, &place, "g", gone.as_bytes()).await;
        let before = support::texts(&store, &k).await;
        let generation = store.head(&k).await.unwrap().generation;
        let splice = Splice { evicted: places([12]), ..Splice::new(generation) };
        store.splice(&k, Access::OPEN, &splice).await.unwrap();
        assert_eq!(support::texts(&store, &k).await, before[..before.len() - 1], "{gone}");
        let left: bool =
            redis::cmd("HEXISTS").arg(&place).arg("g").query_async(&mut connection).await.unwrap();
        assert!(!left, "{gone}");
    }
    // A clear also removes the messages that such a list kept from being deleted.
    let k = key("cleared");
    whole(&store, &k).await;
    let place = store.link().keys().memory(k.as_str());
    damage(&mut connection, &place, "m2", b"not swept").await;
    damage(&mut connection, &place, "g", b"12 1").await;
    let clear = Clear::new(write(8, 1));
    store.clear(&k, Access::OPEN, &clear).await.unwrap();
    let names: Vec<String> =
        redis::cmd("HKEYS").arg(&place).query_async(&mut connection).await.unwrap();
    assert!(!names.iter().any(|name| name.starts_with(['m', 'g'])), "{names:?}");
}

/// A damaged archive is reported, deletes no present message, and ends with a clear.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_archive_is_reported_and_can_be_cleared() {
    let server = any_server().await;
    let store = store(server.url()).await;
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let states = ["", "1 1 99999999999 1 1", "3 1 3 1 1", "1 3 2 1 1", "x", "1 1 3 1 1 1"];
    for (number, state) in states.iter().enumerate() {
        let k = key(&format!("k{number}"));
        whole(&store, &k).await;
        let place = store.link().keys().memory(k.as_str());
        damage(&mut connection, &place, "z", state.as_bytes()).await;
        let error = store.removals(&k, None, NonZeroUsize::MAX).await.unwrap_err();
        assert!(matches!(error.kind(), StoreErrorKind::Corrupt(_)), "{error:?}");
        assert!(error.to_string().contains(&place), "{error}");
        let before = support::texts(&store, &k).await;
        assert!(archive_flush(&store, &k, 40, 10, 11).await.is_err());
        assert_eq!(support::texts(&store, &k).await, before);
        let archive = Some(Retention::forever());
        let clear = Clear { archive, ..Clear::new(write(8, 1)) };
        store.clear(&k, Access::OPEN, &clear).await.unwrap();
        let names: Vec<String> =
            redis::cmd("HKEYS").arg(&place).query_async(&mut connection).await.unwrap();
        let left = names.iter().any(|name| name.starts_with(['m', 'g', 'a', 'o', 'u', 'z']));
        assert!(!left, "{names:?}");
    }
    // A removal that names present messages is damaged: they are kept.
    let k = key("other");
    whole(&store, &k).await;
    let place = store.link().keys().memory(k.as_str());
    damage(&mut connection, &place, "a1", b"f1 no removal").await;
    let before = support::texts(&store, &k).await;
    let kept = store.removals(&k, None, NonZeroUsize::MAX).await.unwrap();
    assert_eq!(kept.len(), 1);
    archive_flush(&store, &k, 40, 10, 11).await.unwrap();
    assert_eq!(support::texts(&store, &k).await.len(), before.len() - 1);
    let left: bool =
        redis::cmd("HEXISTS").arg(&place).arg("a1").query_async(&mut connection).await.unwrap();
    assert!(!left);
}
