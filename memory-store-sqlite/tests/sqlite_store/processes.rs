//! Several processes on one file, and processes that are killed.
//!
//! The children run this same test binary: [`child`] does nothing unless the parent requests it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::support;
use crate::support::{append, batch, checked_outline, key, texts, write};
use memory_core::store::{
    Access, Applied, Clear, FlushReceipt, Restore, Retention, SequenceSet, Splice, StoreErrorKind,
    SummaryRecord,
};
use memory_core::{MemoryKey, MemoryStore, Sequence};
use memory_store_sqlite::{SqliteConfig, SqliteStore};
use rusqlite::Connection;
use uuid::Uuid;

const ROLE: &str = "MEMORY_TEST_ROLE";
const FILE: &str = "MEMORY_TEST_FILE";
const NAME: &str = "MEMORY_TEST_NAME";

/// Starts this binary again, in another role.
fn spawn(role: &str, file: &Path, name: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::child", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(FILE, file)
        .env(NAME, name.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let stdout: BufReader<ChildStdout> = BufReader::new(child.stdout.take().unwrap());
    stdout.lines().map_while(Result::ok)
}

#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let file = std::env::var(FILE).unwrap();
    let name: u32 = std::env::var(NAME).unwrap().parse().unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match role.as_str() {
        "write" => runtime.block_on(write_until_killed(&file, name)),
        "count" => runtime.block_on(write_some(&file, name)),
        "hold" => hold(&file),
        "append" => append_on_request(&runtime, &file),
        other => panic!("{other}"),
    }
}

/// Sends a line to the parent, immediately and whole.
fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(format!("{line}\n").as_bytes()).unwrap();
    stdout.flush().unwrap();
}

/// Three tasks append to one memory and report acknowledged writes; another fills, flushes and
/// clears a second memory.
async fn write_until_killed(file: &str, name: u32) {
    let store = Arc::new(SqliteStore::open(file).await.unwrap());
    for task in 0..3_u32 {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for number in 1.. {
                let texts = [0, 1, 2].map(|part| format!("{name} {task} {number} {part}"));
                let writer = u128::from(name) << 8 | u128::from(task);
                let append = batch(write(writer, number), &texts);
                store.append(&key("log"), Access::OPEN, &append).await.unwrap();
                say(&format!("ack {name} {task} {number}"));
            }
        });
    }
    let k = key("churn");
    for number in 1.. {
        append(&*store, &k, write(name.into(), number), &["one", "two", "three", "four"])
            .await
            .unwrap();
        let outline = store.outline(&k).await.unwrap();
        let places: Vec<_> = outline.metas.iter().map(|meta| meta.sequence).collect();
        if number % 7 == 0 {
            let clear = Clear::new(write(u128::from(name) | 1 << 64, number));
            store.clear(&k, Access::OPEN, &clear).await.unwrap();
        } else if places.len() > 4 {
            let mut retention = Retention::forever();
            retention.max_bytes = 2_000;
            let mut splice = Splice {
                summarized: places[..2].to_vec(),
                evicted: places[2..4].to_vec(),
                summary: Some(support::message("a summary")),
                archive: Some(retention),
                ..Splice::new(outline.head.generation)
            };
            let id = Uuid::from_u128(u128::from(name) << 64 | u128::from(number));
            let mut receipt = FlushReceipt::new(id, "test", jiff::Timestamp::UNIX_EPOCH);
            receipt.summarized = splice.summarized.iter().copied().collect();
            receipt.evicted = splice.evicted.iter().copied().collect();
            let summary = support::message("a summary");
            receipt.summary =
                Some(SummaryRecord::new(summary.id, places[0], summary.tokens, "test"));
            splice.receipt = Some(receipt);
            store.splice(&k, Access::OPEN, &splice).await.unwrap();
            if number % 3 == 0 {
                let write = write(u128::from(name) | 2 << 64, number);
                let restore = Restore { write, receipt: id };
                store.restore(&k, Access::OPEN, &restore).await.unwrap();
            }
        }
    }
}

/// Each archived removal has all its messages.
async fn checked_archive(store: &SqliteStore, key: &MemoryKey) {
    let most = NonZeroUsize::MAX;
    for removal in store.removals(key, None, most).await.unwrap() {
        let messages =
            store.archived(key, removal.number, Sequence::ZERO, most.into()).await.unwrap();
        let places: SequenceSet = messages.iter().map(|stored| stored.meta.sequence).collect();
        assert_eq!((places, messages.len() as u64), (removal.places, removal.messages));
    }
}

async fn write_some(file: &str, name: u32) {
    let store = SqliteStore::open(file).await.unwrap();
    for number in 1..=40 {
        let texts = [format!("{name} {number} a"), format!("{name} {number} b")];
        store
            .append(&key("shared"), Access::OPEN, &batch(write(name.into(), number), &texts))
            .await
            .unwrap();
    }
    say("done");
}

/// Appends a message for each line of the parent, and reports it.
fn append_on_request(runtime: &tokio::runtime::Runtime, file: &str) {
    let store = runtime.block_on(SqliteStore::open(file)).unwrap();
    say("open");
    for (number, line) in (1..).zip(std::io::stdin().lines().map_while(Result::ok)) {
        let texts = [line.as_str()];
        runtime.block_on(append(&store, &key("k"), write(1, number), &texts)).unwrap();
    }
}

/// Holds SQLite's write lock until the parent ends it.
fn hold(file: &str) {
    let connection = Connection::open(file).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    say("held");
    let _ = std::io::stdin().read(&mut [0]);
    connection.execute_batch("COMMIT").unwrap();
}

#[tokio::test]
async fn acknowledged_writes_survive_kill_9_at_any_moment() {
    const KILLS: u32 = 36;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory.db");
    let mut acknowledged: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    let mut total = 0_u64;
    for name in 0..KILLS {
        let mut child = spawn("write", &file, name);
        let lines = lines(&mut child);
        let reader = std::thread::spawn(move || lines.collect::<Vec<_>>());
        // From before the file is open to well into the work.
        tokio::time::sleep(Duration::from_millis(u64::from(fastrand::u8(5..120)))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        for line in reader.join().unwrap() {
            // The test harness prints too, and the last line may be incomplete.
            let words: Vec<_> = line.split(' ').collect();
            if let ["ack", name, task, number] = words[..] {
                let writer = (name.parse().unwrap(), task.parse().unwrap());
                let number: u64 = number.parse().unwrap_or_default();
                let last = acknowledged.entry(writer).or_default();
                *last = number.max(*last);
                total += 1;
            }
        }
        if name % 6 != 5 && name + 1 != KILLS {
            // The next child finds the file as the killed one left it.
            continue;
        }
        let store = SqliteStore::open(file.as_path()).await.unwrap();
        let log = checked_outline(&store, &key("log")).await;
        checked_outline(&store, &key("churn")).await;
        checked_archive(&store, &key("churn")).await;
        let mut found: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        let texts = texts(&store, &key("log")).await;
        assert_eq!(log.head.counters.appended, texts.len() as u64);
        for batch in texts.chunks(3) {
            let parts: Vec<Vec<u64>> = batch
                .iter()
                .map(|text| text.split(' ').map(|part| part.parse().unwrap()).collect())
                .collect();
            for (index, part) in parts.iter().enumerate() {
                assert_eq!(part[..3], parts[0][..3], "a torn batch");
                assert_eq!(part[3], index as u64, "a torn batch");
            }
            let writer = (parts[0][0] as u32, parts[0][1] as u32);
            let last = found.insert(writer, parts[0][2]).unwrap_or_default();
            assert_eq!(parts[0][2], last + 1, "lost or doubled within {writer:?}");
        }
        for (writer, number) in &acknowledged {
            assert!(
                found.get(writer) >= Some(number),
                "{writer:?} got an acknowledgement of {number}: {found:?}"
            );
        }
        drop(store);
        let check =
            Connection::open(&file)
                .unwrap()
                .query_row("PRAGMA integrity_check", (), |row| row.get::<_, String>(0));
        assert_eq!(check.unwrap(), "ok");
    }
    assert!(total > 0, "no child lived long enough to write");
    eprintln!("{KILLS} kills, {total} batches acknowledged, none lost");
}

#[tokio::test]
async fn processes_open_a_new_file_together() {
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory.db");
        let children: Vec<_> = (0..6).map(|name| spawn("count", &file, name)).collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
        let store = SqliteStore::open(file).await.unwrap();
        let outline = checked_outline(&store, &key("shared")).await;
        assert_eq!(outline.head.counters.appended, 6 * 40 * 2);
        for pair in texts(&store, &key("shared")).await.chunks(2) {
            assert_eq!(pair[0].strip_suffix('a'), pair[1].strip_suffix('b'), "a torn batch");
        }
    }
}

#[tokio::test]
async fn writes_of_another_process_are_signaled() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory.db");
    let store = SqliteStore::open(file.as_path()).await.unwrap();
    let mut watch = store.watch(&key("k")).await.unwrap();
    let mut child = spawn("append", &file, 0);
    let mut said = lines(&mut child);
    assert!(said.any(|line| line.ends_with("open")));
    let mut requests = child.stdin.take().unwrap();
    for number in 1..=20 {
        writeln!(requests, "{number}").unwrap();
        watch.changed().await.unwrap();
        assert_eq!(texts(&store, &key("k")).await.len(), number);
    }
    drop(requests);
    said.for_each(drop);
    assert!(child.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_writes_wait_for_a_foreign_lock() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory.db");
    let store = Arc::new(SqliteStore::open(file.as_path()).await.unwrap());
    append(&*store, &key("k"), write(1, 1), &["before"]).await.unwrap();
    let mut child = spawn("hold", &file, 0);
    let mut said = lines(&mut child);
    assert!(said.any(|line| line.ends_with("held")));

    let waiting: Vec<_> = (0..20_u128)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                append(&*store, &key("k"), write(100 + writer, 1), &["waited"]).await
            })
        })
        .collect();
    for _ in 0..50 {
        assert_eq!(texts(&*store, &key("k")).await, ["before"]);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(waiting.iter().all(|task| !task.is_finished()));
    drop(child.stdin.take());
    for task in waiting {
        task.await.unwrap().unwrap();
    }
    said.for_each(drop);
    assert!(child.wait().unwrap().success());
    assert_eq!(texts(&*store, &key("k")).await.len(), 21);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lock_held_past_the_timeout_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory.db");
    let config = SqliteConfig::new(&file).with_operation_timeout(Duration::from_millis(100));
    let store = SqliteStore::open(config).await.unwrap();
    append(&store, &key("k"), write(1, 1), &["before"]).await.unwrap();
    let mut child = spawn("hold", &file, 0);
    let mut said = lines(&mut child);
    assert!(said.any(|line| line.ends_with("held")));

    let error = append(&store, &key("k"), write(1, 2), &["late"]).await.unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Unavailable(_)));
    assert!(error.is_retryable());
    assert_eq!(error.applied(), Applied::No);
    assert_eq!(
        error.to_string(),
        format!(
            "append to tests:sqlite:k: the store did not answer: another process kept {} locked; \
             end long transactions on it or raise the operation timeout",
            file.display()
        )
    );
    drop(child.stdin.take());
    said.for_each(drop);
    child.wait().unwrap();
    append(&store, &key("k"), write(1, 2), &["late"]).await.unwrap();
    assert_eq!(texts(&store, &key("k")).await, ["before", "late"]);
}
