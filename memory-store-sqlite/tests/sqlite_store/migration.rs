//! Files of earlier versions.

use std::num::NonZeroUsize;

use crate::support::{append, checked_outline, write};
use jiff::Timestamp;
use memory_core::plan::{Policy, ToolLink, ToolRef, UnitState, Units};
use memory_core::store::{
    Access, FlushReceipt, FoundIn, Metadata, Read, Restore, Retention, SearchQuery, Splice,
    UpdateMetadata,
};
use memory_core::{MemoryKey, MemoryStore as _, Sequence};
use memory_store_sqlite::SqliteStore;
use uuid::Uuid;

/// Ten messages that version 2 of the schema wrote: chat messages, Anthropic blocks, the first function API, and
/// one that would be refused today.
const VERSION_2: &[u8] = include_bytes!("fixtures/version_2.sqlite");

#[tokio::test]
async fn file_of_version_2_gets_all_links() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    std::fs::write(&path, VERSION_2).unwrap();
    let key = MemoryKey::new("default", "default", "old").unwrap();
    let store = SqliteStore::open(path.clone()).await.unwrap();

    let outline = checked_outline(&store, &key).await;
    let named = |id: &str, name: &str| ToolRef { id: id.into(), name: name.into() };
    let expected = [
        ToolLink::default(),
        ToolLink::default(),
        ToolLink::of_calls([named("c1", "get_tide"), named("c2", "get_tide")]),
        ToolLink::of_results([ToolRef::by_id("c1")]),
        ToolLink::of_results([ToolRef::by_id("c2")]),
        ToolLink::of_calls([named("t1", "ls"), named("t2", "ls")]),
        ToolLink::of_results(["t1", "t2"].map(ToolRef::by_id)),
        ToolLink::of_calls([ToolRef::by_id("function_call:f")]),
        ToolLink::of_results([ToolRef::by_id("function_call:f")]),
        ToolLink::default(),
    ];
    assert!(outline.metas.iter().map(|meta| &meta.link).eq(&expected));
    let timeout = Policy::DEFAULT_OPEN_CALL_TIMEOUT;
    let units = Units::group(&outline.metas, Timestamp::UNIX_EPOCH, timeout);
    assert_eq!(units.len(), 6);
    assert!(units.iter().all(|unit| unit.state() == UnitState::Whole));

    let page = store.read(&key, Read::default()).await.unwrap();
    assert_eq!(page.messages.len(), 10);
    assert_eq!(
        page.messages[1].message.field("trace").unwrap().to_string(),
        "9007199254740993",
        "numbers keep their text"
    );
    assert_eq!(page.messages[9].message.role().as_str(), "narrator");

    append(&store, &key, write(9, 1), &["new"]).await.unwrap();
    drop(store);
    let again = SqliteStore::open(path.clone()).await.unwrap();
    assert_eq!(checked_outline(&again, &key).await.metas[..10], outline.metas[..]);
}

/// Eight messages that version 3 of the schema wrote, of which a flush evicted six.
const VERSION_3: &[u8] = include_bytes!("fixtures/version_3.sqlite");

#[tokio::test]
async fn older_files_get_an_archive() {
    for (version, bytes) in [(2, VERSION_2), (3, VERSION_3)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.db");
        std::fs::write(&path, bytes).unwrap();
        let key = MemoryKey::new("default", "default", "old").unwrap();
        let store = SqliteStore::open(path.clone()).await.unwrap();
        let before = checked_outline(&store, &key).await;
        let messages = store.read(&key, Read::default()).await.unwrap().messages;
        let most = NonZeroUsize::MAX;
        let text = messages[0].message.text();
        let word = text.split_whitespace().next().unwrap();
        assert!(store.rebuild_index(&key).await.unwrap() > Some(0));
        let found = store.search(&key, &SearchQuery::new(word)).await.unwrap();
        assert!(found.hits.iter().any(|hit| hit.sequence == messages[0].meta.sequence));
        assert!(store.removals(&key, None, most).await.unwrap().is_empty());

        let evicted: Vec<_> = before.metas.iter().skip(1).map(|meta| meta.sequence).collect();
        let mut receipt = FlushReceipt::new(Uuid::from_u128(1), "fifo", Timestamp::UNIX_EPOCH);
        receipt.evicted = evicted.iter().copied().collect();
        let splice = Splice {
            evicted,
            receipt: Some(receipt),
            archive: Some(Retention::forever()),
            ..Splice::of(&before)
        };
        store.splice(&key, Access::OPEN, &splice).await.unwrap();
        drop(store);

        let store = SqliteStore::open(path.clone()).await.unwrap();
        let removals = store.removals(&key, None, most).await.unwrap();
        assert_eq!(removals.len(), 1, "version {version}");
        let number = removals[0].number;
        let archived = store.archived(&key, number, Sequence::ZERO, most.into()).await.unwrap();
        assert_eq!(archived, messages[1..]);
        let restore = Restore { write: write(8, 1), receipt: Uuid::from_u128(1) };
        store.restore(&key, Access::OPEN, &restore).await.unwrap();
        assert_eq!(store.read(&key, Read::default()).await.unwrap().messages, messages);
        let after = checked_outline(&store, &key).await;
        assert_eq!(after.head.counters, before.head.counters);
    }
}

/// Thirty messages, of which two flushes summarized and archived nineteen, and the first summary. The later versions
/// erased message 30; version 6 has the tables of an index that no search has filled yet.
const WITH_ARCHIVE: [(u64, &[u8]); 4] = [
    (4, include_bytes!("fixtures/version_4.sqlite")),
    (5, include_bytes!("fixtures/version_5.sqlite")),
    (6, include_bytes!("fixtures/version_6.sqlite")),
    (7, include_bytes!("fixtures/version_7.sqlite")),
];

#[tokio::test]
async fn archives_of_older_files_are_kept() {
    for (version, bytes) in WITH_ARCHIVE {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.db");
        std::fs::write(&path, bytes).unwrap();
        let key = MemoryKey::new("default", "default", "old").unwrap();
        let store = SqliteStore::open(path).await.unwrap();
        let counters = checked_outline(&store, &key).await.head.counters;
        let erased = u64::from(version > 4);
        assert_eq!((counters.appended, counters.summarized, counters.withdrawn), (30, 19, erased));
        assert_eq!(store.erasures(&key).await.unwrap().len() as u64, erased);
        let found = store.search(&key, &SearchQuery::new("\"message 3 of\"")).await.unwrap();
        assert_eq!(found.hits.len(), 1, "version {version}");
        assert!(matches!(found.hits[0].found_in, FoundIn::Archived { .. }));
        let removals = store.removals(&key, None, NonZeroUsize::MAX).await.unwrap();
        assert_eq!(removals.len(), 2);
        assert_eq!(store.metadata(&key).await.unwrap(), Metadata::default());
        let patch = [("state", "open")].into();
        let update = UpdateMetadata { write: write(7, 1), patch, expected: Some(0), ttl: None };
        let set = store.update_metadata(&key, Access::OPEN, &update).await.unwrap();
        append(&store, &key, write(9, 1), &["new"]).await.unwrap();
        assert_eq!(store.metadata(&key).await.unwrap(), set, "version {version}");
        for (removal, number) in removals.iter().zip(1..) {
            let (limit, receipt) = (NonZeroUsize::MAX.into(), removal.receipt.as_ref().unwrap().id);
            let archived = store.archived(&key, removal.number, Sequence::ZERO, limit).await;
            let restore = Restore { write: write(8, number), receipt };
            store.restore(&key, Access::OPEN, &restore).await.unwrap();
            let messages = store.read(&key, Read::default()).await.unwrap().messages;
            assert!(archived.unwrap().iter().all(|one| messages.contains(one)));
        }
        let messages = store.read(&key, Read::default()).await.unwrap().messages;
        assert_eq!(messages.len() as u64, 31 - erased);
        let counters = checked_outline(&store, &key).await.head.counters;
        assert_eq!((counters.appended, counters.summarized, counters.summaries), (31, 0, 0));
    }
}

/// A fork that version 6 of the schema wrote: of 17 messages, the tool results at 4, 8 and 12 were cleared, 5 was erased, and
/// the memory was forked. Then a search indexed the fork, and message 18 was appended.
const PAST: &[u8] = include_bytes!("fixtures/version_6_past.sqlite");

#[tokio::test]
async fn index_and_origin_of_older_file_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    std::fs::write(&path, PAST).unwrap();
    let key = MemoryKey::new("default", "default", "old").unwrap();
    let store = SqliteStore::open(path).await.unwrap();
    let origin = store.origin(&key).await.unwrap().unwrap();
    assert_eq!((origin.key.as_str(), origin.at.number()), ("default:default:source", 17));
    let erasures = store.erasures(&key).await.unwrap();
    assert_eq!((erasures.len(), erasures[0].reason.as_str()), (1, "request"));
    assert_eq!(
        store.origin(&MemoryKey::new("default", "default", "source").unwrap()).await.unwrap(),
        None
    );
    let found = async |words: &str| {
        let results = store.search(&key, &SearchQuery::new(words)).await.unwrap();
        results.hits.iter().map(|hit| hit.sequence.number()).collect::<Vec<_>>()
    };
    // Indexed, cleared and archived, not indexed yet, and erased.
    assert_eq!(found("\"question 3\"").await, [14]);
    assert_eq!(found("\"page 1 of\"").await, [8]);
    assert_eq!(found("later").await, [18]);
    assert!(found("\"answer 0\"").await.is_empty());
    append(&store, &key, write(9, 1), &["newest"]).await.unwrap();
    assert_eq!(found("newest").await, [19]);
    let receipt = store.receipts(&key).await.unwrap().remove(0);
    assert_eq!(receipt.replaced.len(), 3);
    let restore = Restore { write: write(8, 1), receipt: receipt.id };
    store.restore(&key, Access::OPEN, &restore).await.unwrap();
    let messages = store.read(&key, Read::default()).await.unwrap().messages;
    assert_eq!(messages.len(), 18);
    assert!(messages[3].message.text().starts_with("page 0 of fares page 0"));
    assert_eq!(found("\"page 1 of\"").await, [8]);
    let counters = checked_outline(&store, &key).await.head.counters;
    assert_eq!((counters.appended, counters.present.messages), (18, 18));
}
