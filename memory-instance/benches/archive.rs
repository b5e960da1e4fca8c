//! A flush and a clear of 1,000 messages, which deletes them or keeps them in the archive, and their return: the
//! step of the store alone, and `perform_flush` of 1,000 of 2,000 messages as callers see it.
//!
//! `cargo bench -p memory-instance --features redis --bench archive`, with a `redis-server` on the PATH or
//! `MEMORY_TEST_REDIS_URL`.

#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use memory_core::resource::ArchiveSettings;
use memory_core::store::{
    Access, Append, Clear, FlushReceipt, MessageId, MessageMeta, NewMessage, RemoveUnused, Restore,
    Retention, Splice, SummaryRecord, UnusedMemory, WriteId, WriterId,
};
use memory_core::{ContentType, MemoryKey, MemoryResource, MemoryStore, Message, Sequence};
use memory_instance::{FlushMode, MemoryInstance, MemoryManager};
use memory_redis_testkit::{any_server, unique_prefix};
use memory_store_redis::{RedisConfig, RedisLink, RedisStore};
use memory_store_sqlite::{SqliteConfig, SqliteStore};
use uuid::Uuid;

const TEXT: &str = "The customer asks to move the flight from New York to Seattle to the morning of \
                    May 20th, keeping both seats together and the checked bags as they are booked; \
                    the fare difference may be charged to the card on file.";
const MESSAGES: u64 = 1_000;

fn message() -> NewMessage {
    NewMessage {
        id: MessageId::new(Uuid::from_u128(fastrand::u128(..))),
        message: Message::user(TEXT),
        tokens: 50,
        priority: None,
        content_type: ContentType::Conversation,
        created_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn once() -> WriteId {
    WriterId::new(fastrand::u128(..)).write(1)
}

/// A new memory with messages, and the flush that replaces all but one of them by a summary.
async fn filled(store: &dyn MemoryStore, archive: Option<Retention>) -> (MemoryKey, Splice) {
    let key = MemoryKey::new("bench", "archive", &fastrand::u128(..).to_string()).unwrap();
    let messages = (0..=MESSAGES).map(|_| message()).collect();
    let append = Append { write: once(), messages, ttl: None, expected: None };
    store.append(&key, Access::OPEN, &append).await.unwrap();
    let outline = store.outline(&key).await.unwrap();
    let mut splice = Splice::of(&outline);
    splice.summarized = (1..=MESSAGES).map(Sequence::new).collect();
    let summary = message();
    let mut receipt = FlushReceipt::new(
        Uuid::from_u128(fastrand::u128(..)),
        "bench",
        jiff::Timestamp::UNIX_EPOCH,
    );
    receipt.summarized = splice.summarized.iter().copied().collect();
    receipt.summary =
        Some(SummaryRecord::new(summary.id, Sequence::new(1), summary.tokens, "bench"));
    (splice.summary, splice.receipt, splice.archive) = (Some(summary), Some(receipt), archive);
    (key, splice.weighed(&outline.metas))
}

/// The operation that is measured, after the flush for a restore.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Measured {
    Flush,
    Clear,
    Restore,
}

async fn one(store: &dyn MemoryStore, archive: Option<Retention>, measured: Measured) -> Duration {
    let (key, splice) = filled(store, archive).await;
    let restore = Restore { write: once(), receipt: splice.receipt.as_ref().unwrap().id };
    if measured == Measured::Restore {
        store.splice(&key, Access::OPEN, &splice).await.unwrap();
    }
    let begun = Instant::now();
    match measured {
        Measured::Flush => store.splice(&key, Access::OPEN, &splice).await.unwrap(),
        Measured::Clear => {
            let clear = Clear { archive, ..Clear::new(once()) };
            store.clear(&key, Access::OPEN, &clear).await.unwrap().counters
        }
        Measured::Restore => store.restore(&key, Access::OPEN, &restore).await.unwrap(),
    };
    let took = begun.elapsed();
    // So that the databases stay small.
    let head = store.head(&key).await.unwrap();
    let outline = store.outline(&key).await.unwrap();
    let mut listed = UnusedMemory::new(key.clone(), head.generation, head.version);
    listed.newest = outline.metas.last().map(MessageMeta::newest);
    let all = NonZeroUsize::new(1 << 20).unwrap();
    store.remove(&key, RemoveUnused::new(&listed, all)).await.unwrap();
    took
}

/// A memory of a manager whose budget is this many tokens; a flush reduces it to half.
async fn memory(url: &str, tokens: u64, archive: ArchiveSettings) -> MemoryInstance {
    let mut resource = MemoryResource::new("bench", tokens);
    resource.flushing_strategy.kind = Some("hybrid_summary".into());
    resource.archive = archive;
    let builder = MemoryManager::builder().with_resource(resource);
    let manager = builder.with_flush_mode(FlushMode::Manual).open(url).await.unwrap();
    manager.memory("bench", "whole").unwrap()
}

/// A flush of half of twice the messages.
async fn whole(memory: &MemoryInstance) -> Duration {
    for _ in 0..2 {
        memory.append_all((0..MESSAGES).map(|_| Message::user(TEXT))).await.unwrap();
    }
    let begun = Instant::now();
    let receipt = memory.perform_flush().await.unwrap().unwrap();
    let took = begun.elapsed();
    assert!(receipt.summarized.len().abs_diff(1_000) < 50, "{receipt:?}");
    memory.delete().await.unwrap();
    took
}

fn archive(criterion: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (_server, stores) = runtime.block_on(async {
        let server = any_server().await;
        let prefix = unique_prefix();
        let config = RedisConfig::from_url(server.url()).unwrap();
        let config = config.with_prefix(&prefix).unwrap();
        let url = format!("{}?prefix={prefix}", server.url());
        let redis: Arc<dyn MemoryStore> =
            Arc::new(RedisStore::new(RedisLink::open(config).await.unwrap()));
        let file = folder.path().join("memory.db");
        let sqlite: Arc<dyn MemoryStore> =
            Arc::new(SqliteStore::open(SqliteConfig::new(&*file)).await.unwrap());
        let file = format!("sqlite://{}", file.display());
        (server, [("SQLite", sqlite, file), ("Redis", redis, url)])
    });
    for (name, store, url) in stores {
        let mut group = criterion.benchmark_group(format!("{name}, 1,000 messages"));
        group.throughput(Throughput::Elements(MESSAGES)).sample_size(20);
        let forever = Some(Retention::forever());
        for (name, archive, measured) in [
            ("flush, deleting", None, Measured::Flush),
            ("flush, archiving", forever, Measured::Flush),
            ("clear, deleting", None, Measured::Clear),
            ("clear, archiving", forever, Measured::Clear),
            ("undo", forever, Measured::Restore),
        ] {
            group.bench_function(name, |bench| {
                bench.iter_custom(|rounds| {
                    runtime.block_on(async {
                        let mut all = Duration::ZERO;
                        for _ in 0..rounds {
                            all += one(&*store, archive, measured).await;
                        }
                        all
                    })
                });
            });
        }
        let deleting = ArchiveSettings::none;
        let each = runtime.block_on(async {
            let memory = memory(&url, 1 << 30, deleting()).await;
            memory.append(Message::user(TEXT)).await.unwrap();
            let tokens = memory.counters().await.unwrap().present.tokens;
            memory.delete().await.unwrap();
            tokens
        });
        for (name, archive) in [
            ("perform_flush, deleting", deleting()),
            ("perform_flush, archiving", ArchiveSettings::forever()),
        ] {
            let memory = runtime.block_on(memory(&url, 2 * MESSAGES * each, archive));
            group.bench_function(name, |bench| {
                bench.iter_custom(|rounds| {
                    runtime.block_on(async {
                        let mut all = Duration::ZERO;
                        for _ in 0..rounds {
                            all += whole(&memory).await;
                        }
                        all
                    })
                });
            });
        }
    }
}

criterion_group!(benches, archive);
criterion_main!(benches);
