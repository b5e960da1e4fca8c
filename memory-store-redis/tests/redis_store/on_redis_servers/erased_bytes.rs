//! A search of the server's files and fields for the bytes of erased messages.

use std::num::NonZeroUsize;
use std::path::Path;

use crate::support::{
    append, checked_outline, key, message, places, receipt, store, texts, until, write,
};
use memory_core::store::{
    Access, Clear, Erase, RemoveUnused, Retention, Splice, SummaryRecord, UnusedMemory,
};
use memory_core::{MemoryKey, MemoryStore as _};
use memory_redis_testkit::Server;
use memory_store_redis::RedisStore;

const SECRET: &str = "needle-4929-1111";

fn count(bytes: &[u8]) -> usize {
    bytes.windows(SECRET.len()).filter(|at| *at == SECRET.as_bytes()).count()
}

/// How often the secret is in files of a folder.
fn in_files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| match std::fs::read(&path) {
            _ if path.is_dir() => in_files(&path),
            Ok(bytes) => count(&bytes),
            Err(_) => 0,
        })
        .sum()
}

/// How often the secret is in fields of all keys.
async fn in_keys(server: &Server) -> usize {
    let mut found = 0;
    for key in server.query::<Vec<String>>(&["KEYS", "*"]).await {
        if server.query::<String>(&["TYPE", &key]).await == "hash" {
            let fields: Vec<Vec<u8>> = server.query(&["HGETALL", &key]).await;
            found += fields.iter().map(|field| count(field)).sum::<usize>();
        }
    }
    found
}

/// Rewrites the append-only file and the snapshot.
async fn rewrite(server: &Server) {
    server.command(&["BGREWRITEAOF"]).await;
    until("rewritten file", async || {
        let info: String = server.query(&["INFO", "persistence"]).await;
        let is_done =
            info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0");
        is_done.then_some(())
    })
    .await;
    server.command(&["SAVE"]).await;
}

async fn start() -> (Server, RedisStore) {
    let args = ["--appendonly", "yes", "--rdbcompression", "no"];
    let server = Server::start_with(&args).await;
    let store = store(server.url()).await;
    (server, store)
}

/// A memory with the secret in a present, a summarized, an evicted, a replaced and a removed message, and in the reason
/// of a fallback.
async fn filled(store: &RedisStore) -> MemoryKey {
    let k = key("erased");
    let all: Vec<_> = (1..=8).map(|number| format!("{SECRET} {number}")).collect();
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    append(store, &k, write(1, 1), &all).await.unwrap();
    let outline = checked_outline(store, &k).await;
    let splice = Splice { evicted: places([8]), ..Splice::of(&outline) };
    store.splice(&k, Access::OPEN, &splice).await.unwrap();
    let outline = checked_outline(store, &k).await;
    let summary = message("a summary without it");
    let mut flush = receipt(1);
    flush.summarized = places([2, 3]).into_iter().collect();
    flush.evicted = places([4]).into_iter().collect();
    let mut record = SummaryRecord::new(summary.id, places([2])[0], summary.tokens, "test");
    record.fallback = Some(format!("other: it said {SECRET}"));
    flush.summary = Some(record);
    let splice = Splice {
        summarized: places([2, 3]),
        evicted: places([4]),
        summary: Some(summary),
        receipt: Some(flush),
        archive: Some(Retention::forever()),
        ..Splice::of(&outline)
    };
    store.splice(&k, Access::OPEN, &splice).await.unwrap();
    k
}

#[tokio::test]
async fn server_has_no_byte_of_erased_messages() {
    let (server, store) = start().await;
    let k = filled(&store).await;
    // Each of seven messages, and two receipts. The message that was removed without an archive is swept.
    assert_eq!(in_keys(&server).await, 7 + 2);
    let erase = Erase {
        write: write(2, 1),
        places: places([1, 3, 4, 5, 6, 7, 8]).into_iter().collect(),
        reason: "test".into(),
    };
    let erased = store.erase(&k, Access::OPEN, &erase).await.unwrap().erasure;
    assert_eq!((erased.messages, erased.not_found.len()), (6, 1));
    assert_eq!((erased.summaries.len(), in_keys(&server).await), (1, 1));
    let erase = Erase {
        write: write(2, 2),
        places: places([2]).into_iter().collect(),
        reason: "test".into(),
    };
    let erased = store.erase(&k, Access::OPEN, &erase).await.unwrap().erasure;
    assert_eq!(erased.messages, 2);
    assert!(texts(&store, &k).await.is_empty());
    checked_outline(&store, &k).await;
    assert_eq!(in_keys(&server).await, 0);
    assert!(in_files(server.dir()) > 0, "the append-only file is not rewritten yet");
    rewrite(&server).await;
    assert_eq!(in_files(server.dir()), 0);
}

#[tokio::test]
async fn server_has_no_byte_of_a_deleted_memory() {
    for way in ["delete", "purge"] {
        let (server, store) = start().await;
        let k = filled(&store).await;
        assert_eq!(in_keys(&server).await, 7 + 2);
        if way == "delete" {
            let head = checked_outline(&store, &k).await.head;
            // The message at the newest place is removed.
            let listed = UnusedMemory::new(k.clone(), head.generation, head.version);
            let part = RemoveUnused::new(&listed, NonZeroUsize::new(3).unwrap());
            while store.remove(&k, part).await.unwrap().more {}
        } else {
            store.clear(&k, Access::OPEN, &Clear::new(write(2, 1))).await.unwrap();
        }
        until("swept fields", async || (in_keys(&server).await == 0).then_some(())).await;
        rewrite(&server).await;
        assert_eq!(in_files(server.dir()), 0, "{way}");
    }
}

#[tokio::test]
async fn server_keeps_bytes_without_erasure() {
    let (server, store) = start().await;
    filled(&store).await;
    rewrite(&server).await;
    assert!(in_files(server.dir()) >= 2 * 9, "{}", in_files(server.dir()));
}
