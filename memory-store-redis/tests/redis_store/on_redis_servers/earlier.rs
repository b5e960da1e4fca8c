//! Memories that earlier versions wrote.

use std::num::NonZeroUsize;

use crate::support::{append, checked_outline, key, receipt, store, texts, write};
use memory_core::plan::{ToolLink, ToolRef};
use memory_core::store::{
    Access, AppendOutcome, Clear, Erase, Read, RemovalCause, Restore, Retention, Splice, WriterId,
};
use memory_core::{MemoryKey, MemoryStore as _, Sequence};
use memory_redis_testkit::Server;
use memory_store_redis::RedisStore;

/// The fields of a memory's hash and their values, in hexadecimal, as the version before wrote them: the ids of
/// calls in an array, that of a result as a string, and no links of Anthropic's blocks.
const HASH: &str = include_str!("../fixtures/earlier_hash.txt");

/// The same of a memory with an archive, as the first version that had archives wrote it. Of nine messages, 2 and 3 were
/// summarized, 4 was evicted, and 8 was taken back.
const WITH_ARCHIVE: &str = include_str!("../fixtures/archive_hash.txt");

/// The same of a fork, as the first version wrote it that cleared tool results: of 17 messages, the results at 4, 8 and 12 were
/// cleared, 5 was erased, and then the memory was forked and message 18 appended.
const FORK: &str = include_str!("../fixtures/past_hash.txt");

/// The form of the stored head.
async fn form(server: &Server, store: &RedisStore, key: &MemoryKey) -> u8 {
    let place = store.link().keys().memory(key.as_str());
    let head: Vec<u8> = server.query(&["HGET", &place, "h"]).await;
    // After the length of the array.
    let at = if head[0] == 0xdc { 3 } else { 1 };
    head[at]
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// A memory with the fields of a fixture.
async fn stored(store: &RedisStore, hash: &str) -> MemoryKey {
    let k = key("old");
    let mut command = redis::cmd("HSET");
    command.arg(store.link().keys().memory(k.as_str()));
    for line in hash.lines() {
        let (field, value) = line.split_once(' ').unwrap();
        command.arg(bytes(field)).arg(bytes(value));
    }
    store.link().send(&command).await.unwrap();
    k
}

#[tokio::test]
async fn earlier_version_is_read_and_written() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let k = stored(&store, HASH).await;
    let outline = checked_outline(&store, &k).await;
    let links: Vec<_> = outline.metas.iter().map(|meta| meta.link.clone()).collect();
    assert_eq!(links.len(), 10);
    assert_eq!(links[2], ToolLink::of_calls(["c1", "c2"].map(ToolRef::by_id)));
    assert_eq!(links[3], ToolLink::of_results([ToolRef::by_id("c1")]));
    assert_eq!(links[7], ToolLink::of_calls([ToolRef::by_id("function_call:f")]));
    assert_eq!(links[8], ToolLink::of_results([ToolRef::by_id("function_call:f")]));
    let page = store.read(&k, Read::default()).await.unwrap();
    assert_eq!(page.messages.len(), 10);
    let trace = page.messages[1].message.field("trace").unwrap().to_string();
    assert_eq!(trace, "9007199254740993");
    assert_eq!(page.messages[9].message.role().as_str(), "narrator");

    append(&store, &k, write(9, 1), &["new"]).await.unwrap();
    let mut splice = Splice::of(&checked_outline(&store, &k).await);
    splice.evicted = (3..=5).map(Sequence::new).collect();
    store.splice(&k, Access::OPEN, &splice).await.unwrap();
    let outline = checked_outline(&store, &k).await;
    assert_eq!(outline.metas.len(), 8);
    assert_eq!(form(&server, &store, &k).await, 2, "earlier versions can still read it");

    let mut splice = Splice::of(&outline);
    splice.evicted = (7..=8).map(Sequence::new).collect();
    splice.archive = Some(Retention::forever());
    let mut receipt = receipt(5);
    receipt.evicted = splice.evicted.iter().copied().collect();
    splice.receipt = Some(receipt);
    store.splice(&k, Access::OPEN, &splice).await.unwrap();
    // They would leave the archive behind.
    assert_eq!(form(&server, &store, &k).await, 3);
    let removals = store.removals(&k, None, NonZeroUsize::MAX).await.unwrap();
    assert_eq!((removals.len(), removals[0].messages), (1, 2));
    let restore = Restore { write: write(9, 2), receipt: uuid::Uuid::from_u128(5) };
    store.restore(&k, Access::OPEN, &restore).await.unwrap();
    assert_eq!(checked_outline(&store, &k).await.metas, outline.metas);
}

#[tokio::test]
async fn earlier_archive_is_read_and_written() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let k = stored(&store, WITH_ARCHIVE).await;
    let archived = async |removal| {
        let read = store.archived(&k, removal, Sequence::ZERO, NonZeroUsize::MAX.into()).await;
        let read = read.unwrap();
        read.iter().map(|one| one.message.text().into_owned()).collect::<Vec<_>>()
    };
    let present = ["one", "two to three", "five", "six", "seven", "nine"];
    assert_eq!(texts(&store, &k).await, present);
    let outline = checked_outline(&store, &k).await;
    let counters = &outline.head.counters;
    assert_eq!((counters.summarized, counters.evicted, counters.withdrawn), (2, 1, 1));
    let removals = store.removals(&k, None, NonZeroUsize::MAX).await.unwrap();
    let listed: Vec<_> = removals.iter().map(|one| (one.number, one.cause, one.tokens)).collect();
    assert_eq!(listed, [(5, RemovalCause::Withdrawal, 5), (3, RemovalCause::Flush, 12)]);
    let receipts: Vec<_> = removals.into_iter().filter_map(|one| one.receipt).collect();
    assert_eq!(store.receipts(&k).await.unwrap(), receipts);
    assert_eq!([archived(3).await, archived(5).await].concat(), ["two", "three", "four", "eight"]);

    // Retries of both kinds of writers are recognized, and later writes continue.
    let session = WriterId::new(0x5e55_1096_1a22_d1bd_7160_0000_0000_0007).write(1);
    for (known, place) in [(write(1, 3), 9), (session, 7)] {
        let again = append(&store, &k, known, &["again"]).await.unwrap().outcome;
        assert_eq!(again, AppendOutcome::Duplicate { first: Some(Sequence::new(place)) });
    }
    append(&store, &k, write(1, 4), &["ten"]).await.unwrap();
    let restore = Restore { write: write(9, 1), receipt: uuid::Uuid::from_u128(1) };
    store.restore(&k, Access::OPEN, &restore).await.unwrap();
    let all = ["one", "two", "three", "four", "five", "six", "seven", "nine", "ten"];
    assert_eq!(texts(&store, &k).await, all);
    let clear = Clear { archive: Some(Retention::forever()), ..Clear::new(write(9, 2)) };
    let receipt = store.clear(&k, Access::OPEN, &clear).await.unwrap().receipt.unwrap();
    assert_eq!((receipt.messages, receipt.removal), (9, Some(9)));
    assert_eq!(archived(9).await, all);
    assert_eq!(archived(5).await, ["eight"]);
    let erase = Erase {
        write: write(9, 3),
        places: [8, 9].map(Sequence::new).into_iter().collect(),
        reason: "test".into(),
    };
    store.erase(&k, Access::OPEN, &erase).await.unwrap();
    assert!(archived(5).await.is_empty() && archived(9).await.len() == 8);
    checked_outline(&store, &k).await;
    assert_eq!(form(&server, &store, &k).await, 3);
}

#[tokio::test]
async fn earlier_originals_erasure_and_origin_are_kept() {
    let server = Server::start().await;
    let store = store(server.url()).await;
    let k = stored(&store, FORK).await;
    let before = texts(&store, &k).await;
    let cleared = |texts: &[String]| {
        texts.iter().filter(|text| text.starts_with("[tool result cleared")).count()
    };
    assert_eq!((before.len(), cleared(&before)), (17, 3));
    let origin = store.origin(&k).await.unwrap().unwrap();
    assert_eq!((origin.key.as_str(), origin.at.number()), ("default:default:source", 17));
    let erasures = store.erasures(&k).await.unwrap();
    assert_eq!((erasures.len(), erasures[0].reason.as_str()), (1, "request"));
    assert!(erasures[0].present.contains(Sequence::new(5)));
    let counters = checked_outline(&store, &k).await.head.counters;
    assert_eq!((counters.appended, counters.withdrawn), (17, 0), "a fork counts what it took");
    append(&store, &k, write(9, 1), &["new"]).await.unwrap();
    let receipt = store.receipts(&k).await.unwrap().remove(0);
    let restore = Restore { write: write(9, 2), receipt: receipt.id };
    store.restore(&k, Access::OPEN, &restore).await.unwrap();
    let after = texts(&store, &k).await;
    assert_eq!((after.len(), cleared(&after)), (18, 0));
    assert!(after[3].starts_with("page 0 of fares page 0"));
    checked_outline(&store, &k).await;
}
