//! Clears with a backup.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use async_trait::async_trait;
use memory_core::{MemoryKey, MemoryResource, Message};
use memory_instance::backup::{
    BackupError, BackupReader, BackupSink, BackupStream, CopyReceipt, RestoredTtl,
};
use memory_instance::{FlushMode, MemoryInstance};
use tokio::io::AsyncWrite;
use tokio::task::JoinHandle;

use crate::support::{On, World, checked, texts, with};

on_every_backend![
    cleared_messages_are_those_backed_up,
    failing_sink_clears_nothing,
    changed_memory_is_backed_up_again,
    concurrent_writers_lose_no_message,
];

/// The point at which a sink fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fails {
    Begin,
    Write,
    Complete,
}

/// Keeps the newest backup in memory.
#[derive(Debug, Default)]
struct Kept {
    file: Arc<Mutex<Vec<u8>>>,
    fails: Option<Fails>,
    /// Another handle, by which the memory is changed before a backup is complete.
    other: Option<MemoryInstance>,
    completed: usize,
    waiting: Option<JoinHandle<()>>,
}

struct Stream {
    file: Arc<Mutex<Vec<u8>>>,
    fails: bool,
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.fails {
            return Poll::Ready(Err(io::ErrorKind::StorageFull.into()));
        }
        self.file.lock().unwrap().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl BackupSink for Kept {
    async fn begin(&mut self, _: &MemoryKey) -> io::Result<BackupStream> {
        if self.fails == Some(Fails::Begin) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.file.lock().unwrap().clear();
        let (file, fails) = (Arc::clone(&self.file), self.fails == Some(Fails::Write));
        Ok(Box::new(Stream { file, fails }))
    }

    async fn complete(&mut self, receipt: &CopyReceipt) -> io::Result<String> {
        if self.fails == Some(Fails::Complete) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.completed += 1;
        match (&self.other, self.completed) {
            (Some(other), 1) => {
                other.append(Message::user("late")).await.unwrap();
            }
            // The version stays, but not the messages.
            (Some(other), 2) => {
                let first = other.messages().await.unwrap()[0].meta.sequence;
                other.replace(first, Message::user("changed")).await.unwrap().unwrap();
            }
            (Some(other), 3) => {
                let other = other.clone();
                self.waiting = Some(tokio::spawn(async move {
                    other.append(Message::user("last")).await.unwrap();
                }));
                tokio::task::yield_now().await;
            }
            _ => {}
        }
        Ok(format!("backup {} of {}", self.completed, receipt.key))
    }
}

fn manual() -> memory_instance::ManagerBuilder {
    with(MemoryResource::new("m", 1 << 20)).with_flush_mode(FlushMode::Manual)
}

/// The texts in the backup.
async fn restored(world: &World, sink: &Kept) -> Vec<String> {
    let file = sink.file.lock().unwrap().clone();
    let memory = world.manager.memory("m", "restored").unwrap();
    let backup = BackupReader::open(file.as_slice()).await.unwrap();
    memory.restore_backup(backup, RestoredTtl::Kept).await.unwrap();
    texts(&memory).await
}

async fn cleared_messages_are_those_backed_up(on: On) {
    let world = on.world(manual()).await;
    let (memory, mut sink) = (world.memory(), Kept::default());
    let absent = memory.clear_with_backup(&mut sink).await.unwrap_err();
    assert!(matches!(absent, BackupError::NoMemory(_)), "{absent}");
    memory.append_all(["one", "two"].map(Message::user)).await.unwrap();
    let refused = memory.read_only().clear_with_backup(&mut sink).await.unwrap_err();
    assert_eq!(refused.code().as_str(), "unauthorized");
    let done = memory.clear_with_backup(&mut sink).await.unwrap();
    assert_eq!(done.cleared.receipt.map(|receipt| receipt.messages), Some(2));
    assert_eq!(done.place, format!("backup 1 of {}", memory.key()));
    assert!(memory.is_empty().await.unwrap());
    assert_eq!(restored(&world, &sink).await, ["one", "two"]);
}

async fn failing_sink_clears_nothing(on: On) {
    let world = on.world(manual()).await;
    let memory = world.memory();
    memory.append_all(["one", "two"].map(Message::user)).await.unwrap();
    for fails in [Fails::Begin, Fails::Write, Fails::Complete] {
        let mut sink = Kept { fails: Some(fails), ..Kept::default() };
        let error = memory.clear_with_backup(&mut sink).await.unwrap_err();
        assert!(matches!(error, BackupError::Write(_)), "{error}");
        assert_eq!(texts(&memory).await, ["one", "two"], "{fails:?}");
    }
}

async fn changed_memory_is_backed_up_again(on: On) {
    let world = on.world(manual()).await;
    let memory = world.memory();
    memory.append_all(["one", "two"].map(Message::user)).await.unwrap();
    let other = Some(world.in_another_process(manual()));
    let mut sink = Kept { other, ..Kept::default() };
    let done = memory.clear_with_backup(&mut sink).await.unwrap();
    assert_eq!(sink.completed, 3);
    assert_eq!(done.cleared.counters.cleared, 3);
    assert_eq!(restored(&world, &sink).await, ["changed", "two", "late"]);
    // It came during the third backup and had to wait.
    sink.waiting.unwrap().await.unwrap();
    assert_eq!(texts(&memory).await, ["last"]);
}

async fn concurrent_writers_lose_no_message(on: On) {
    let world = on.world(manual()).await;
    let memory = world.memory();
    memory.append(Message::user("first")).await.unwrap();
    let writer = |name: &'static str| {
        let memory = world.in_another_process(manual());
        async move {
            for number in 0..30 {
                memory.append(Message::user(format!("{name}{number}"))).await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    };
    let clears = async {
        let mut all = Vec::new();
        for round in 0..4 {
            let mut sink = Kept::default();
            memory.clear_with_backup(&mut sink).await.unwrap();
            let copy = world.manager.memory("m", &format!("copy {round}")).unwrap();
            let file = sink.file.lock().unwrap().clone();
            let backup = BackupReader::open(file.as_slice()).await.unwrap();
            copy.restore_backup(backup, RestoredTtl::Kept).await.unwrap();
            all.extend(texts(&copy).await);
        }
        all
    };
    let (mut all, ..) = tokio::join!(clears, writer("a"), writer("b"));
    all.extend(texts(&memory).await);
    all.sort_unstable();
    let texts_of = |name| (0..30).map(move |number| format!("{name}{number}"));
    let mut expected: Vec<_> = texts_of("a").chain(texts_of("b")).collect();
    expected.push("first".into());
    expected.sort_unstable();
    assert_eq!(all, expected);
    checked(&memory, &world.manager).await;
}
