//! Tests of cases that need direct access to the connection.

use std::num::NonZeroUsize;
use std::sync::Arc;

use memory_core::store::{
    Access, Append, Appended, Applied, MessageId, NewMessage, StoreError, StoreErrorKind,
    StoreWatch as _, WriterId,
};
use memory_core::{ContentType, MemoryKey, Message};
use memory_sqlite_file::WorkerThreads;
use tempfile::TempDir;
use uuid::Uuid;

use super::{Slot, Writer};
use crate::codec::Encoded;
use crate::commands::AppendRows;
use crate::config::{CommitThread, SqliteConfig};
use crate::open::open_file;
use crate::readers::Reads;
use crate::watches::{Registry, SqliteWatch};

fn writer(commits: CommitThread) -> (TempDir, Arc<Writer>) {
    writer_with(commits, WorkerThreads::new("test", NonZeroUsize::MIN))
}

fn writer_with(commits: CommitThread, thread: WorkerThreads) -> (TempDir, Arc<Writer>) {
    let folder = tempfile::tempdir().unwrap();
    let config = SqliteConfig::new(folder.path().join("m.db")).with_commit_thread(commits);
    let (connection, file) = open_file(&config).unwrap();
    let watches = Arc::new(Registry::new(config.clone()));
    (folder, Arc::new(Writer::new(config, file, connection, thread, watches)))
}

fn append(number: u64, text: &str) -> AppendRows {
    let new = NewMessage {
        id: MessageId::new(Uuid::nil()),
        message: Message::user(text),
        tokens: 1,
        priority: None,
        content_type: ContentType::Conversation,
        created_at: jiff::Timestamp::UNIX_EPOCH,
    };
    let encoded = vec![Encoded::new(&new.message).unwrap()];
    let write = WriterId::new(u128::from(number)).write(1);
    let messages = [new].into();
    let append = Append { write, messages, ttl: None, expected: None };
    AppendRows { access: Access::OPEN, append, encoded }
}

async fn send(writer: &Arc<Writer>, number: u64, text: &str) -> Result<Appended, StoreError> {
    writer.submit(&MemoryKey::new("p", "m", "k").unwrap(), append(number, text)).await
}

fn with_connection<T>(writer: &Writer, run: impl FnOnce(&mut rusqlite::Connection) -> T) -> T {
    let mut state = writer.lock();
    let Some(Slot(Some(connection))) = &mut state.parked else {
        panic!("the connection is in use")
    };
    run(connection)
}

#[tokio::test]
async fn write_without_room_fails_alone() {
    for commits in [CommitThread::Caller, CommitThread::Store] {
        let (_folder, writer) = writer(commits);
        send(&writer, 1, "first").await.unwrap();
        with_connection(&writer, |connection| {
            let pages: i64 =
                connection.query_row("PRAGMA page_count", (), |row| row.get(0)).unwrap();
            connection
                .query_row(&format!("PRAGMA max_page_count = {}", pages + 4), (), |_| Ok(()))
                .unwrap();
        });
        let large = "x".repeat(100_000);
        let (before, refused, after) =
            tokio::join!(send(&writer, 2, "a"), send(&writer, 3, &large), send(&writer, 4, "b"));
        before.unwrap();
        after.unwrap();
        let error = refused.unwrap_err();
        assert!(matches!(error.kind(), StoreErrorKind::Full(_)), "{error}");
        assert_eq!(error.applied(), Applied::No);
        let last = send(&writer, 5, "c").await.expect("no room");
        assert_eq!(last.counters.appended, 4);
        assert_eq!(last.outcome.first().unwrap().number(), 4);
    }
}

#[tokio::test]
async fn replacement_during_a_commit_is_not_acknowledged() {
    for commits in [CommitThread::Caller, CommitThread::Store] {
        let (folder, writer) = writer(commits);
        send(&writer, 1, "first").await.unwrap();
        let file = folder.path().join("m.db");
        let (there, backup) = (file.clone(), folder.path().join("backup"));
        std::fs::copy(&file, &backup).unwrap();
        with_connection(&writer, |connection| {
            let replace = move || {
                std::fs::rename(&backup, &there).unwrap();
                false
            };
            connection.commit_hook(Some(replace)).unwrap();
        });
        // All that share the commit.
        let (a, b) = tokio::join!(send(&writer, 2, "a"), send(&writer, 3, "b"));
        for error in [a.unwrap_err(), b.unwrap_err()] {
            assert!(matches!(error.kind(), StoreErrorKind::Replaced(_)), "{error}");
            assert!(!error.is_retryable());
        }
        let late = send(&writer, 4, "c").await.unwrap_err();
        assert!(matches!(late.kind(), StoreErrorKind::Replaced(_)), "{late}");
        assert_eq!(late.applied(), Applied::No);
    }
}

#[tokio::test]
async fn unknown_commit_outcome_is_reported_and_writing_continues() {
    for commits in [CommitThread::Caller, CommitThread::Store] {
        let (_folder, writer) = writer(commits);
        send(&writer, 1, "first").await.unwrap();
        with_connection(&writer, |connection| connection.commit_hook(Some(|| true)).unwrap());
        let error = send(&writer, 2, "a").await.unwrap_err();
        assert_eq!(error.applied(), Applied::Unknown);
        assert!(!error.is_retryable(), "{error}");
        // The connection is in doubt, so this is another one, without the hook.
        let next = send(&writer, 2, "a").await.expect("still broken");
        assert_eq!(next.counters.appended, 2);
    }
}

#[tokio::test]
async fn write_of_a_dropped_caller_is_signaled() {
    let (_folder, writer) = writer(CommitThread::Store);
    let key = MemoryKey::new("p", "m", "k").unwrap();
    let mut watch = SqliteWatch::new(&writer.watches, &key);
    let (entered, commits) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    with_connection(&writer, move |connection| {
        let hold = move || {
            entered.send(()).unwrap();
            released.recv().is_err()
        };
        connection.commit_hook(Some(hold)).unwrap();
    });
    let mut dropped = Box::pin(send(&writer, 1, "x"));
    let poll =
        std::future::poll_fn(|context| std::task::Poll::Ready(dropped.as_mut().poll(context)));
    assert!(poll.await.is_pending());
    commits.recv().unwrap();
    drop(dropped);
    release.send(()).unwrap();
    // There is no poller.
    watch.changed().await.unwrap();
}

#[tokio::test]
async fn lone_write_commits_on_the_calling_thread() {
    let (_folder, writer) = writer(CommitThread::Caller);
    for number in 1..=20 {
        send(&writer, number, "x").await.unwrap();
        with_connection(&writer, |_| ());
    }
}

#[tokio::test]
async fn job_of_a_dropped_caller_leaves_the_queue() {
    let (_folder, writer) = writer(CommitThread::Caller);
    let mut dropped = Box::pin(send(&writer, 1, "never"));
    // It has yielded to others once, and is first in line.
    let poll =
        std::future::poll_fn(|context| std::task::Poll::Ready(dropped.as_mut().poll(context)));
    assert!(poll.await.is_pending());
    assert_eq!(writer.lock().waiting.len(), 1);
    drop(dropped);
    assert!(writer.lock().waiting.is_empty());
    let next = send(&writer, 2, "a").await.expect("stuck");
    assert_eq!(next.counters.appended, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_waits_for_the_runner() {
    let (folder, writer) = writer(CommitThread::Store);
    let sends = (0..30).map(|number| {
        let writer = Arc::clone(&writer);
        tokio::spawn(async move { send(&writer, number, "x").await.unwrap() })
    });
    for send in sends.collect::<Vec<_>>() {
        send.await.unwrap();
    }
    writer.close(Reads::Ended);
    assert!(!folder.path().join("m.db-wal").exists(), "the log is folded into the file");
}

#[tokio::test]
async fn write_without_a_thread_is_retryable() {
    let thread = WorkerThreads::with_stack_size("test", NonZeroUsize::MIN, 1 << 48);
    let (_folder, writer) = writer_with(CommitThread::Store, thread);
    for number in 1..=3 {
        let error = send(&writer, number, "x").await.unwrap_err();
        assert!(matches!(error.kind(), StoreErrorKind::Unavailable(_)), "{error}");
        assert!(error.to_string().contains("raise the process's limit on threads"), "{error}");
        assert_eq!((error.applied(), error.is_retryable()), (Applied::No, true));
        with_connection(&writer, |_| ());
    }
}

async fn commits_of_64_writers(commits: CommitThread, keys: u64) -> f64 {
    const TASKS: u64 = 64;
    const EACH: u64 = 50;
    let (_folder, writer) = writer(commits);
    let sends = (0..TASKS).map(|task| {
        let writer = Arc::clone(&writer);
        tokio::spawn(async move {
            for number in 0..EACH {
                let key = MemoryKey::new("p", "m", &(task % keys).to_string()).unwrap();
                writer.submit(&key, append(1 + task * EACH + number, "x")).await.unwrap();
            }
        })
    });
    for send in sends.collect::<Vec<_>>() {
        send.await.unwrap();
    }
    let commits = writer.lock().commits;
    let each = (TASKS * EACH) as f64 / commits as f64;
    eprintln!("{commits:?}, {keys} keys: {each} writes a commit");
    each
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_wait_share_a_commit() {
    for (commits, keys) in [
        (CommitThread::Caller, 1),
        (CommitThread::Caller, 64),
        (CommitThread::Store, 1),
        (CommitThread::Store, 64),
    ] {
        assert!(commits_of_64_writers(commits, keys).await > 16.0);
    }
}

#[tokio::test]
async fn writers_of_one_thread_share_a_commit_too() {
    for (commits, keys) in [
        (CommitThread::Caller, 1),
        (CommitThread::Caller, 64),
        (CommitThread::Store, 1),
        (CommitThread::Store, 64),
    ] {
        assert!(commits_of_64_writers(commits, keys).await > 16.0);
    }
}
