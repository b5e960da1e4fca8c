//! A scan while the memory changes.

use std::num::NonZeroUsize;
use std::sync::Mutex;

use async_trait::async_trait;
use uuid::Uuid;

use crate::health::ServerHealth;
use crate::lease::{LeaseDomain, LeaseProof};
use crate::store::{
    Access, Append, Appended, ArchivedRemoval, Clear, Cleared, Counters, Cursor, Durability,
    FlushReceipt, FoundIn, Head, MessageId, NewMessage, Outline, Page, PageLimit, Read,
    RemoveUnused, RemovedUnused, Replace, Retention, SearchQuery, Splice, StoreError,
    StoreErrorKind, StoreWatch, UnusedPage, UnusedQuery, WriterId,
};
use crate::{
    Clock, ContentType, InMemoryStore, MemoryKey, MemoryStore, Message, Sequence, StoredMessage,
};

/// A store in which a flush moves a message to the archive between two reads of a scan.
#[derive(Debug)]
struct Flushed {
    store: InMemoryStore,
    /// The messages that are still to be flushed, one before each read of messages.
    flushes: Mutex<Vec<Sequence>>,
}

impl Flushed {
    async fn flush(&self, key: &MemoryKey) -> Result<(), StoreError> {
        let Some(place) = self.flushes.lock().unwrap().pop() else { return Ok(()) };
        let outline = self.store.outline(key).await?;
        let id = Uuid::from_u128(place.number().into());
        let mut receipt = FlushReceipt::new(id, "test", jiff::Timestamp::UNIX_EPOCH);
        receipt.evicted = [place].into_iter().collect();
        let splice = Splice {
            evicted: vec![place],
            receipt: Some(receipt),
            archive: Some(Retention::forever()),
            ..Splice::of(&outline)
        };
        self.store.splice(key, Access::OPEN, &splice).await.map(drop)
    }
}

#[async_trait]
impl MemoryStore for Flushed {
    async fn append(
        &self,
        key: &MemoryKey,
        access: Access,
        append: &Append,
    ) -> Result<Appended, StoreError> {
        self.store.append(key, access, append).await
    }

    async fn replace(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &Replace,
    ) -> Result<Counters, StoreError> {
        self.store.replace(key, access, replace).await
    }

    async fn splice(
        &self,
        key: &MemoryKey,
        access: Access,
        splice: &Splice,
    ) -> Result<Counters, StoreError> {
        self.store.splice(key, access, splice).await
    }

    async fn clear(
        &self,
        key: &MemoryKey,
        access: Access,
        clear: &Clear,
    ) -> Result<Cleared, StoreError> {
        self.store.clear(key, access, clear).await
    }

    async fn removals(
        &self,
        key: &MemoryKey,
        before: Option<u64>,
        limit: NonZeroUsize,
    ) -> Result<Vec<ArchivedRemoval>, StoreError> {
        self.store.removals(key, before, limit).await
    }

    async fn archived(
        &self,
        key: &MemoryKey,
        removal: u64,
        after: Sequence,
        limit: PageLimit,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        self.store.archived(key, removal, after, limit).await
    }

    async fn claim(&self, key: &MemoryKey, lease: LeaseProof) -> Result<(), StoreError> {
        self.store.claim(key, lease).await
    }

    async fn head(&self, key: &MemoryKey) -> Result<Head, StoreError> {
        self.store.head(key).await
    }

    async fn read(&self, key: &MemoryKey, read: Read) -> Result<Page, StoreError> {
        self.store.read(key, read).await
    }

    async fn read_before(
        &self,
        key: &MemoryKey,
        before: Option<Cursor>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        self.flush(key).await?;
        self.store.read_before(key, before, limit).await
    }

    async fn outline(&self, key: &MemoryKey) -> Result<Outline, StoreError> {
        self.store.outline(key).await
    }

    async fn fetch(
        &self,
        key: &MemoryKey,
        snapshot: Cursor,
        places: &[Sequence],
    ) -> Result<Vec<StoredMessage>, StoreError> {
        self.store.fetch(key, snapshot, places).await
    }

    async fn receipts(&self, key: &MemoryKey) -> Result<Vec<FlushReceipt>, StoreError> {
        self.store.receipts(key).await
    }

    async fn keys(
        &self,
        after: Option<&MemoryKey>,
        limit: NonZeroUsize,
    ) -> Result<Vec<MemoryKey>, StoreError> {
        self.store.keys(after, limit).await
    }

    async fn unused(&self, query: &UnusedQuery) -> Result<UnusedPage, StoreError> {
        self.store.unused(query).await
    }

    async fn remove(
        &self,
        key: &MemoryKey,
        remove: RemoveUnused,
    ) -> Result<RemovedUnused, StoreError> {
        self.store.remove(key, remove).await
    }

    async fn watch(&self, key: &MemoryKey) -> Result<Box<dyn StoreWatch>, StoreError> {
        self.store.watch(key).await
    }

    async fn server(&self) -> Result<Option<ServerHealth>, StoreError> {
        Ok(None)
    }

    fn lease_domain(&self) -> Option<&LeaseDomain> {
        None
    }

    fn durability(&self) -> Durability {
        Durability::Memory
    }
}

async fn filled(count: u128, flushes: &[u64]) -> (Flushed, MemoryKey) {
    let store = InMemoryStore::new(Clock::manual());
    let key = MemoryKey::new("tests", "scan", "k").unwrap();
    let message = |number: u128| NewMessage {
        id: MessageId::new(Uuid::from_u128(number)),
        message: Message::user(format!("alpha {number}")),
        tokens: 1,
        priority: None,
        content_type: ContentType::Conversation,
        created_at: jiff::Timestamp::UNIX_EPOCH,
    };
    let messages = (1..=count).map(message).collect();
    let append = Append { write: WriterId::new(1).write(1), messages, ttl: None, expected: None };
    store.append(&key, Access::OPEN, &append).await.unwrap();
    let flushes = Mutex::new(flushes.iter().copied().map(Sequence::new).collect());
    (Flushed { store, flushes }, key)
}

#[tokio::test]
async fn moved_message_is_found() {
    let (store, key) = filled(10, &[3]).await;
    let found = store.search(&key, &SearchQuery::new("alpha")).await.unwrap();
    assert_eq!(found.matches, 10);
    let moved = found.hits.iter().find(|hit| hit.sequence == Sequence::new(3)).unwrap();
    assert!(matches!(moved.found_in, FoundIn::Archived { .. }));
}

#[tokio::test]
async fn restless_memory_is_a_conflict() {
    let (store, key) = filled(10, &[1, 2, 3, 4, 5, 6, 7, 8]).await;
    let refused = store.search(&key, &SearchQuery::new("alpha")).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
    assert!(refused.to_string().starts_with("search "), "{refused}");
}

#[tokio::test]
async fn one_search_reads_ten_thousand_messages() {
    let (scanned, key) = filled(10_300, &[]).await;
    let query = SearchQuery::new("\"alpha 7\"");
    for store in [&scanned as &dyn MemoryStore, &scanned.store] {
        let first = store.search(&key, &query).await.unwrap();
        assert_eq!((first.matches, first.looked_at), (0, 10_000));
        let before = first.coverage.next().unwrap();
        assert_eq!(before, Sequence::new(301));
        let rest = store.search(&key, &query.clone().with_before(before)).await.unwrap();
        assert_eq!((rest.matches, rest.looked_at, rest.coverage.next()), (1, 300, None));
    }
}

#[tokio::test]
async fn one_search_reads_a_bounded_number_of_bytes() {
    let (store, key) = filled(1, &[]).await;
    let long = Message::user("beta ".repeat(1 << 19));
    let message = |number: u128| NewMessage {
        id: MessageId::new(Uuid::from_u128(100 + number)),
        message: long.clone(),
        tokens: 1,
        priority: None,
        content_type: ContentType::Conversation,
        created_at: jiff::Timestamp::UNIX_EPOCH,
    };
    let messages = (1..=6).map(message).collect();
    let append = Append { write: WriterId::new(1).write(2), messages, ttl: None, expected: None };
    store.append(&key, Access::OPEN, &append).await.unwrap();
    let found = store.search(&key, &SearchQuery::new("alpha")).await.unwrap();
    // Each message has 2.5 MiB.
    assert_eq!((found.looked_at, found.coverage.next()), (4, Some(Sequence::new(4))));
}
