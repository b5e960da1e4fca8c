//! Store and leases on a server in a container: both suites, and the effects of a pause, a stop and a restart.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use memory_core::Clock;
use memory_core::conformance::{StoreFixture, assert_counters};
use memory_core::store::{
    Access, Append, AppendOutcome, MessageId, NewMessage, StoreError, WriterId,
};
use memory_core::{ContentType, MemoryKey, MemoryStore, Message};
use memory_lock::RedisLock;
use memory_lock::conformance::Subject;
use memory_redis_container_tests::RedisContainer;
use memory_redis_testkit::unique_prefix;
use memory_store_redis::{RedisConfig, RedisLink, RedisStore, RedisStoreConfig};

async fn link(url: &str) -> RedisLink {
    let config = RedisConfig::from_url(url).unwrap();
    let config = config.with_prefix(&unique_prefix()).unwrap();
    RedisLink::open(config.with_response_timeout(Duration::from_millis(500))).await.unwrap()
}

#[derive(Debug)]
struct Fixture(String);

#[async_trait]
impl StoreFixture for Fixture {
    async fn fresh(&self, clock: Clock) -> Arc<dyn MemoryStore> {
        let config = RedisStoreConfig::new().with_clock(clock);
        Arc::new(RedisStore::with_config(link(&self.0).await, config))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_and_leases_conform() {
    let server = RedisContainer::start().await;
    memory_core::conformance::run_all(&Fixture(server.url())).await;
    memory_lock::conformance::run(async || {
        Subject::new(Arc::new(RedisLock::new(link(&server.url()).await)))
    })
    .await
    .unwrap_or_else(|failures| panic!("{failures}"));
}

fn append(number: u64) -> Append {
    let message = NewMessage {
        id: MessageId::new(uuid::Uuid::from_u128(number.into())),
        message: Message::user(number.to_string()),
        tokens: 1,
        priority: None,
        content_type: ContentType::Conversation,
        created_at: jiff::Timestamp::UNIX_EPOCH,
    };
    Append {
        write: WriterId::new(1).write(number),
        messages: [message].into(),
        ttl: None,
        expected: None,
    }
}

/// Sends an append until the store has an answer, as a caller of the store does.
async fn until_answered(store: &RedisStore, key: &MemoryKey, number: u64) -> AppendOutcome {
    loop {
        match store.append(key, Access::OPEN, &append(number)).await {
            Ok(appended) => return appended.outcome,
            Err(error) if error.is_retryable() => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_stop_and_restart_lose_nothing() {
    let server =
        RedisContainer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let store = RedisStore::new(link(&server.url()).await);
    let key = MemoryKey::new("tests", "containers", "k").unwrap();
    store.append(&key, Access::OPEN, &append(1)).await.unwrap();

    server.pause().await;
    let silence: StoreError = store.append(&key, Access::OPEN, &append(2)).await.unwrap_err();
    assert!(silence.is_retryable(), "{silence}");
    server.unpause().await;
    until_answered(&store, &key, 2).await;

    server.stop().await;
    let gone = store.append(&key, Access::OPEN, &append(3)).await.unwrap_err();
    assert!(gone.is_retryable(), "{gone}");
    server.start_again().await;
    let outcome = until_answered(&store, &key, 3).await;
    assert!(!outcome.is_duplicate(), "it was stopped when this was sent first");
    for number in 1..=3 {
        assert!(until_answered(&store, &key, number).await.is_duplicate());
    }
    let outline = store.outline(&key).await.unwrap();
    assert_counters(&outline);
    assert_eq!(outline.metas.len(), 3);
}
