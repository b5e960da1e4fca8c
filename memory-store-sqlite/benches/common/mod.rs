//! Shared by the benches: a store in a folder, a message, and direct use of SQLite.

#![allow(dead_code, reason = "each bench uses its own part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use memory_core::store::{Access, Append, Durability, MessageId, NewMessage, WriterId};
use memory_core::{ContentType, MemoryKey, MemoryStore, Message};
use memory_store_sqlite::{SqliteConfig, SqliteStore};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// About 60 tokens, as in a chat.
const TEXT: &str = "The shipment left the warehouse on Tuesday and was scanned in Leipzig this \
    morning at 06:12; the carrier expects to deliver it tomorrow between nine and noon. If nobody \
    is at home, it will be handed to the neighbors at number 14, as agreed with the customer.";

pub(crate) fn message() -> NewMessage {
    NewMessage {
        id: MessageId::new(uuid::Uuid::from_u128(7)),
        message: Message::user(TEXT),
        tokens: 60,
        priority: None,
        content_type: ContentType::Conversation,
        created_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

pub(crate) fn key(name: &str) -> MemoryKey {
    MemoryKey::new("bench", "store", name).unwrap()
}

/// In the build folder, which is on a disk (the folder for temporary files may not be), or in the one that the
/// environment names.
pub(crate) fn folder() -> TempDir {
    let folder = std::env::var_os("MEMORY_BENCH_FOLDER");
    tempfile::tempdir_in(folder.unwrap_or(env!("CARGO_TARGET_TMPDIR").into())).unwrap()
}

pub(crate) struct Subject {
    pub(crate) runtime: Runtime,
    pub(crate) store: Arc<SqliteStore>,
    numbers: AtomicU64,
    _folder: TempDir,
}

impl Subject {
    pub(crate) fn new(durability: Durability) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let folder = folder();
        let config = SqliteConfig::new(folder.path().join("memory.db")).with_durability(durability);
        let store = Arc::new(runtime.block_on(SqliteStore::open(config)).unwrap());
        Self { runtime, store, numbers: AtomicU64::new(0), _folder: folder }
    }

    pub(crate) fn fill(&self, key: &MemoryKey, count: usize) {
        for first in (0..count).step_by(1_000) {
            let messages = vec![message(); (count - first).min(1_000)];
            self.runtime.block_on(self.send(key, 0, messages));
        }
    }

    pub(crate) async fn append(&self, key: &MemoryKey) {
        self.send(key, 1, vec![message()]).await;
    }

    async fn send(&self, key: &MemoryKey, writer: u128, messages: Vec<NewMessage>) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        send(&self.store, key, writer, number, messages).await;
    }

    /// This many appends by each of this many tasks, to this many keys.
    pub(crate) fn append_by_tasks(&self, tasks: u64, keys: u64, each: u64) {
        self.runtime.block_on(async {
            let tasks = (0..tasks).map(|task| {
                let (store, key) = (Arc::clone(&self.store), key(&(task % keys).to_string()));
                let first = self.numbers.fetch_add(each, Ordering::Relaxed);
                tokio::spawn(async move {
                    for number in first..first + each {
                        let writer = u128::from(task) + 2;
                        send(&store, &key, writer, number + 1, vec![message()]).await;
                    }
                })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.unwrap();
            }
        });
    }
}

pub(crate) async fn send(
    store: &SqliteStore,
    key: &MemoryKey,
    writer: u128,
    number: u64,
    messages: Vec<NewMessage>,
) {
    let append = Append {
        write: WriterId::new(writer).write(number),
        messages: messages.into(),
        ttl: None,
        expected: None,
    };
    store.append(key, Access::OPEN, &append).await.unwrap();
}

/// Direct use of SQLite: a prepared insert of the same message, in one transaction each, on the calling thread.
pub(crate) struct Bare {
    connection: Connection,
    _folder: TempDir,
}

impl Bare {
    pub(crate) fn new(synchronous: &str) -> Self {
        let folder = folder();
        let connection = Connection::open(folder.path().join("bare.db")).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.pragma_update(None, "synchronous", synchronous).unwrap();
        let table = "CREATE TABLE message (seq INTEGER PRIMARY KEY, memory TEXT, body TEXT)";
        connection.execute_batch(table).unwrap();
        Self { connection, _folder: folder }
    }

    pub(crate) fn insert(&self) {
        let body = serde_json::to_string(&Message::user(TEXT)).unwrap();
        self.connection
            .prepare_cached("INSERT INTO message (memory, body) VALUES (?1, ?2)")
            .unwrap()
            .execute(("bench:store:k", body))
            .unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
