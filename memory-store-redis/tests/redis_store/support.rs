//! Helpers for the tests of the store.

pub(crate) mod load;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memory_core::Clock;
use memory_core::conformance::{Rollback, StoreFixture, assert_counters};
use memory_core::store::{
    Access, Append, Appended, FlushReceipt, MessageId, NewMessage, Outline, Read, StoreError,
    WriteId, WriterId,
};
use memory_core::{ContentType, MemoryKey, MemoryStore, Message, Sequence};
use memory_redis_testkit::unique_prefix;
use memory_store_redis::{RedisConfig, RedisLink, RedisStore, RedisStoreConfig, TokenChecks};
use tokio::time::{Instant, sleep};

/// A link under a separate prefix.
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
    async fn fresh(&self, clock: Clock) -> Arc<dyn MemoryStore> {
        Arc::new(self.open(clock).await)
    }

    async fn fresh_with_rollback(
        &self,
        clock: Clock,
    ) -> Option<(Arc<dyn MemoryStore>, Arc<dyn Rollback>)> {
        let store = self.open(clock).await;
        Some((Arc::new(store.clone()), Arc::new(Dumped { store, kept: Mutex::default() })))
    }

    fn forks_in_one_step(&self) -> bool {
        !self.url.contains("+cluster://")
    }
}

impl Fixture {
    async fn open(&self, clock: Clock) -> RedisStore {
        let config = RedisStoreConfig::new().with_token_checks(self.checks).with_clock(clock);
        RedisStore::with_config(link(&self.url).await, config)
    }
}

/// Puts the memories of a store back to their dumps.
#[derive(Debug)]
pub(crate) struct Dumped {
    pub(crate) store: RedisStore,
    pub(crate) kept: Mutex<Vec<(String, Vec<u8>)>>,
}

async fn memories(link: &RedisLink) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    link.scan_memories(|key| keys.extend([key])).await.unwrap();
    keys
}

#[async_trait::async_trait]
impl Rollback for Dumped {
    async fn keep(&self) {
        let link = self.store.link();
        let mut kept = Vec::new();
        for key in memories(link).await {
            match link.send(redis::cmd("DUMP").arg(&key)).await.unwrap() {
                redis::Value::BulkString(dump) => kept.push((key, dump)),
                other => panic!("{key}: {other:?}"),
            }
        }
        *self.kept.lock().unwrap() = kept;
    }

    async fn go_back(&self) {
        let link = self.store.link();
        for key in memories(link).await {
            link.send(redis::cmd("DEL").arg(&key)).await.unwrap();
        }
        let kept = self.kept.lock().unwrap().clone();
        for (key, dump) in kept {
            link.send(redis::cmd("RESTORE").arg(&key).arg(0).arg(dump)).await.unwrap();
        }
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
    Append { write, messages, ttl: None, expected: None }
}

pub(crate) async fn append(
    store: &dyn MemoryStore,
    key: &MemoryKey,
    write: WriteId,
    texts: &[&str],
) -> Result<Appended, StoreError> {
    store.append(key, Access::OPEN, &batch(write, texts)).await
}

pub(crate) async fn texts(store: &dyn MemoryStore, key: &MemoryKey) -> Vec<String> {
    let page = store.read(key, Read::default()).await.unwrap();
    page.messages.iter().map(|message| message.message.text().into_owned()).collect()
}

/// A URL with these settings, such as `replicas=1`, and a separate prefix.
pub(crate) fn with_settings(url: &str, settings: &str) -> String {
    let join = match url {
        _ if url.contains('?') => "&",
        _ if url.starts_with("redis+unix") => "?",
        _ => "/?",
    };
    format!(
        "{url}{join}prefix={}{}{settings}",
        unique_prefix(),
        if settings.is_empty() { "" } else { "&" }
    )
}

pub(crate) fn places(numbers: impl IntoIterator<Item = u64>) -> Vec<Sequence> {
    numbers.into_iter().map(Sequence::new).collect()
}

pub(crate) fn receipt(id: u128) -> FlushReceipt {
    let mut receipt =
        FlushReceipt::new(uuid::Uuid::from_u128(id), "hybrid_summary", jiff::Timestamp::UNIX_EPOCH);
    receipt.duration = Duration::from_millis(12);
    (receipt.tokens_before, receipt.tokens_after) = (20, 10);
    (receipt.messages_before, receipt.messages_after) = (5, 3);
    receipt
}

/// Polls until the answer is available, for at most 30 s.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < deadline, "after 30 s still no {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// The outline, after a recount.
pub(crate) async fn checked_outline(store: &dyn MemoryStore, key: &MemoryKey) -> Outline {
    let outline = store.outline(key).await.unwrap();
    assert_counters(&outline);
    outline
}

/// Writes `count` messages, in batches of this length.
pub(crate) async fn fill(store: &RedisStore, key: &MemoryKey, count: usize) {
    let texts: Vec<_> = (1..=count).map(|n| format!("message {n} of a long history")).collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    for (number, some) in texts.chunks(1_000).enumerate() {
        append(store, key, write(9, number as u64 + 1), some).await.unwrap();
    }
}
