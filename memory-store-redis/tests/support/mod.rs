//! What the tests of the store have in common.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::Arc;

use memory_core::conformance::{ManualClock, StoreFixture, assert_counters};
use memory_core::{
    Access, Append, Appended, ContentType, MemoryKey, MemoryStore, Message, MessageId, NewMessage,
    Outline, Read, StoreError, WriteId, WriterId,
};
use memory_redis_testkit::unique_prefix;
use memory_store_redis::{RedisConfig, RedisLink, RedisStore, RedisStoreConfig, TokenChecks};

/// A link under a prefix of its own.
pub(crate) async fn link(url: &str) -> RedisLink {
    let config = RedisConfig::from_url(url).unwrap();
    let config = if config.prefix() == "memory" {
        config.with_prefix(&unique_prefix()).unwrap()
    } else {
        config
    };
    RedisLink::open(config).await.unwrap()
}

pub(crate) async fn store(url: &str) -> RedisStore {
    RedisStore::new(link(url).await)
}

/// Fresh stores for the conformance suite.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) url: String,
    pub(crate) checks: TokenChecks,
}

#[async_trait::async_trait]
impl StoreFixture for Fixture {
    async fn fresh(&self, clock: ManualClock) -> Arc<dyn MemoryStore> {
        let config = RedisStoreConfig::new()
            .with_token_checks(self.checks)
            .with_time_source(move || clock.micros());
        Arc::new(RedisStore::with_config(link(&self.url).await, config))
    }
}

pub(crate) fn key(name: &str) -> MemoryKey {
    MemoryKey::new("tests", "redis", name).unwrap()
}

pub(crate) fn write(writer: u128, number: u64) -> WriteId {
    WriterId::new(writer).write(number)
}

pub(crate) fn message(text: &str) -> NewMessage {
    NewMessage {
        id: MessageId::new(uuid::Uuid::from_u128(fastrand::u128(..))),
        message: Message::user(text),
        tokens: u32::try_from(text.len()).unwrap(),
        priority: None,
        content_type: ContentType::Conversation,
        created_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

pub(crate) fn batch(write: WriteId, texts: &[&str]) -> Append {
    let messages = texts.iter().map(|text| message(text)).collect();
    Append { write, messages, access: Access::OPEN, ttl: None }
}

pub(crate) async fn append(
    store: &dyn MemoryStore,
    key: &MemoryKey,
    write: WriteId,
    texts: &[&str],
) -> Result<Appended, StoreError> {
    store.append(key, batch(write, texts)).await
}

pub(crate) async fn texts(store: &dyn MemoryStore, key: &MemoryKey) -> Vec<String> {
    let page = store.read(key, Read::default()).await.unwrap();
    page.messages.iter().map(|message| message.message.text().into_owned()).collect()
}

/// The outline, after a recount.
pub(crate) async fn checked_outline(store: &dyn MemoryStore, key: &MemoryKey) -> Outline {
    let outline = store.outline(key).await.unwrap();
    assert_counters(&outline);
    outline
}
