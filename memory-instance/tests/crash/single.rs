//! Processes are killed in the middle of a deletion, purge, conditional append, backup, restore, and a flush that clears
//! tool results. Each kill has a separate memory, which is then as before the operation or as after it; the same
//! operation by another process completes it.

use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use memory_core::conformance::assert_counters;
use memory_core::dialect::ToolCall;
use memory_core::resource::{ArchiveSettings, ClearToolResults};
use memory_core::store::{Counters, FlushReceipt, StoreErrorKind};
use memory_core::{MemoryResource, Message, Sequence, StoredMessage};
use memory_instance::backup::{BackupError, BackupReader, RestoredTtl};
use memory_instance::{ArchivedMessage, FlushMode, MemoryError, MemoryInstance, MemoryManager};
use memory_lock::LockManager;
use tokio::fs::File;
use tokio::time::Instant;

use crate::child::{DOOMED, open, say};
use crate::parent::{Child, Errand, LASTING, Orders, pause, seed};

const OPERATIONS: [&str; 6] = ["delete", "purge", "append if", "backup", "restore", "clear tools"];

/// Kills of each operation on each backend.
const KILLS: u32 = 3;

/// Several parts of a deletion.
const MESSAGES: usize = 320;

const BATCH: [&str; 3] = ["answer one", "answer two", "answer three"];

async fn manager(url: &str, lease: Duration) -> MemoryManager {
    let (store, locks) = open(url).await;
    let mut resource = MemoryResource::new("m", 2_000);
    resource.archive = ArchiveSettings::keep_for(Duration::from_hours(24));
    resource.flushing_strategy.kind = Some("clear_tool_results".into());
    resource.flushing_strategy.clear_tool_results = Some(ClearToolResults::new(1, 0));
    resource.lock.ttl = lease;
    resource.lock.refresh_interval = lease / 3;
    let builder = MemoryManager::builder().with_resource(resource);
    builder.with_flush_mode(FlushMode::Manual).build(store, LockManager::new(locks)).unwrap()
}

/// One operation on one memory.
struct Case<'a> {
    operation: &'a str,
    memory: MemoryInstance,
    /// Another memory, which is backed up.
    source: MemoryInstance,
    /// The backup.
    file: &'a Path,
}

/// The whole memory, as readers see it.
#[derive(Debug, PartialEq)]
struct State {
    messages: Vec<StoredMessage>,
    archived: Vec<ArchivedMessage>,
    receipts: Vec<FlushReceipt>,
    counters: Counters,
}

async fn state(memory: &MemoryInstance) -> Result<State, MemoryError> {
    let all = Sequence::ZERO..=Sequence::new(u64::MAX);
    Ok(State {
        messages: memory.messages().await?,
        archived: memory.archived(all).await?,
        receipts: memory.receipts().await?,
        counters: memory.counters().await?,
    })
}

impl<'a> Case<'a> {
    fn new(manager: &MemoryManager, operation: &'a str, number: u32, file: &'a Path) -> Self {
        let memory = manager.memory("m", &format!("{operation} {number}")).unwrap();
        let source = manager.memory("m", &format!("{operation} {number} source")).unwrap();
        Self { operation, memory, source, file }
    }

    async fn fill(&self) {
        let memory = match self.operation {
            "clear tools" => return turns(&self.memory).await,
            "backup" | "restore" => &self.source,
            _ => &self.memory,
        };
        // Several parts of a backup.
        let is_copied = matches!(self.operation, "backup" | "restore");
        let padding = "x".repeat(if is_copied { 2_000 } else { 20 });
        let talk = (0..MESSAGES).map(|number| Message::user(format!("{number} {padding}")));
        memory.append_all(talk).await.unwrap();
        let to = Sequence::new(MESSAGES as u64 - 30);
        let rewound = memory.rewind(to, memory.version().await.unwrap()).await.unwrap();
        assert!(rewound.applied().is_some());
        if self.operation == "restore" {
            memory.backup(File::create(self.file).await.unwrap()).await.unwrap();
        }
    }

    async fn run(&self) -> Result<(), BackupError> {
        let memory = &self.memory;
        match self.operation {
            "delete" => memory.delete().await.map(drop)?,
            "purge" => memory.purge().await.map(drop)?,
            "append if" => {
                let batch = BATCH.map(Message::assistant);
                let done = memory.append_if(memory.version().await?, batch).await?;
                assert!(done.applied().is_some());
            }
            "backup" => {
                let to = File::create(self.file).await.unwrap();
                self.source.backup(to).await.map(drop)?;
            }
            "restore" => self.restore().await?,
            _ => memory.perform_flush().await.map(drop)?,
        }
        Ok(())
    }

    async fn restore(&self) -> Result<(), BackupError> {
        let backup = BackupReader::open(File::open(self.file).await.unwrap()).await?;
        self.memory.restore_backup(backup, RestoredTtl::Kept).await.map(drop)
    }

    /// Checks the memory after a kill, and completes the operation.
    async fn check(&self, before: State, is_done: bool) {
        match self.operation {
            "delete" => self.check_delete(before, is_done).await,
            "purge" => self.check_purge(before, is_done).await,
            "append if" => self.check_append(before, is_done).await,
            "backup" => self.check_backup(before, is_done).await,
            "restore" => self.check_restore(before, is_done).await,
            _ => self.check_flush(before, is_done).await,
        }
    }

    async fn check_delete(&self, before: State, is_done: bool) {
        let memory = &self.memory;
        let after = state(memory).await.unwrap();
        assert!(!is_done || after.counters == Counters::default());
        if after != before {
            assert_eq!(after, State::nothing());
        }
        memory.delete().await.unwrap();
        assert_eq!(state(memory).await.unwrap(), State::nothing());
        let first = memory.append(Message::user("new")).await.unwrap();
        assert_eq!(first.outcome.first(), Some(Sequence::new(1)));
        assert_eq!(memory.delete().await.unwrap().messages, 1);
    }

    async fn check_purge(&self, before: State, is_done: bool) {
        let memory = &self.memory;
        let after = state(memory).await.unwrap();
        assert!(!is_done || after != before);
        let mut counters = memory.purge().await.unwrap().counters;
        assert_eq!(counters.cleared, before.counters.present.messages, "cleared once");
        let purged = State { counters: counters.clone(), ..State::nothing() };
        assert!(after == before || after == purged, "{:?}", after.counters);
        assert_eq!(state(memory).await.unwrap(), purged);
        counters = memory.append(Message::user("new")).await.unwrap().counters;
        assert_eq!(counters.appended, before.counters.appended + 1);
    }

    async fn check_append(&self, before: State, is_done: bool) {
        let (memory, old) = (&self.memory, before.messages.len());
        let found = memory.messages().await.unwrap();
        let is_there = found.len() > old;
        assert!(is_there || (!is_done && found == before.messages));
        let version = memory.version().await.unwrap();
        if !is_there {
            let batch = BATCH.map(Message::assistant);
            assert!(memory.append_if(version, batch).await.unwrap().applied().is_some());
        }
        let found = memory.messages().await.unwrap();
        let (kept, new) = found.split_at(old);
        assert_eq!(kept, before.messages);
        let texts: Vec<_> = new.iter().map(|stored| stored.message.text()).collect();
        assert_eq!(texts, BATCH, "the whole batch, once");
    }

    /// The file is refused, or has the whole memory.
    async fn check_backup(&self, before: State, is_done: bool) {
        assert_eq!(state(&self.source).await.unwrap(), before);
        if !self.file.exists() {
            return assert!(!is_done);
        }
        match self.restore().await {
            Ok(()) => assert_eq!(state(&self.memory).await.unwrap(), before),
            Err(error) => {
                let is_refused =
                    matches!(error, BackupError::Damaged { .. } | BackupError::NotABackup(_));
                assert!(is_refused && !is_done, "{error}");
                match self.memory.messages().await {
                    Ok(found) => assert_eq!(found, []),
                    Err(error) => assert_eq!(error.store_kind(), Some(&StoreErrorKind::Unfinished)),
                }
            }
        }
    }

    async fn check_restore(&self, before: State, is_done: bool) {
        match state(&self.memory).await {
            Ok(found) if found == State::nothing() => assert!(!is_done),
            Ok(found) => assert_eq!(found, before),
            Err(error) => {
                assert_eq!(error.store_kind(), Some(&StoreErrorKind::Unfinished));
                assert!(!is_done);
            }
        }
        self.restore().await.unwrap();
        assert_eq!(state(&self.memory).await.unwrap(), before);
    }

    /// The results are all there or all cleared, and the archive has the originals of the cleared ones.
    async fn check_flush(&self, before: State, is_done: bool) {
        let memory = &self.memory;
        let after = state(memory).await.unwrap();
        assert!(after == before || !after.receipts.is_empty());
        assert!(!is_done || after != before);
        let again = memory.perform_flush().await.unwrap();
        assert_eq!(again.is_some(), after == before, "cleared once");
        let after = state(memory).await.unwrap();
        let cleared = before.messages.iter().zip(&after.messages).filter(|(old, new)| old != new);
        let cleared: Vec<_> = cleared.map(|(old, _)| old).collect();
        assert_eq!((cleared.len(), after.messages.len()), (TURNS - 1, before.messages.len()));
        assert!(after.archived.iter().map(|one| &one.message).eq(cleared));
        memory.undo_flush(after.receipts[0].id).await.unwrap();
        assert_eq!(memory.messages().await.unwrap(), before.messages);
    }
}

impl State {
    fn nothing() -> Self {
        let (messages, archived, receipts) = (Vec::new(), Vec::new(), Vec::new());
        Self { messages, archived, receipts, counters: Counters::default() }
    }
}

const TURNS: usize = 8;

/// Turns of a question, a call with a result of some 200 tokens, and an answer.
async fn turns(memory: &MemoryInstance) {
    let talk = (0..TURNS).flat_map(|turn| {
        let (call, page) = (format!("c{turn}"), format!("page {turn} of fares ").repeat(40));
        [
            Message::user(format!("question {turn}")),
            Message::calls([ToolCall::function(&call, "f", "{}")]),
            Message::tool_result(&call, page),
            Message::assistant(format!("answer {turn}")),
        ]
    });
    memory.append_all(talk).await.unwrap();
}

/// The work of a child.
pub(crate) async fn run(orders: &Orders) {
    let manager = manager(&orders.url, DOOMED).await;
    let (operation, file) = orders.point.split_once('@').unwrap();
    let case = Case::new(&manager, operation, orders.process, Path::new(file));
    // The first request of a process takes longer, which is no part of the operation.
    assert!(manager.store().outline(case.source.key()).await.is_ok());
    say("begins");
    case.run().await.unwrap();
    say("done");
    std::future::pending::<()>().await;
}

async fn kill(url: &str) {
    let (seed, folder) = (seed(), tempfile::tempdir().unwrap());
    println!("seed {seed}");
    let mut random = Rng::with_seed(seed);
    let manager = manager(url, LASTING).await;
    let mut stopped = 0;
    for operation in OPERATIONS {
        let file = folder.path().join("first");
        let case = Case::new(&manager, operation, 0, &file);
        case.fill().await;
        let begun = Instant::now();
        case.run().await.unwrap();
        let takes = u64::try_from(begun.elapsed().as_micros()).unwrap();
        for number in 1..=KILLS {
            let file = folder.path().join(format!("{operation} {number}"));
            let case = Case::new(&manager, operation, number, &file);
            case.fill().await;
            let of =
                if matches!(operation, "backup" | "restore") { &case.source } else { &case.memory };
            let before = state(of).await.unwrap();
            let point = format!("{operation}@{}", file.display());
            let orders = Orders { errand: Errand::Single, point, ..Orders::write(url, number) };
            let mut child = Child::start(&orders);
            assert!(child.wait_for("begins"), "{:?}", child.heard);
            // Each kill in another part of the operation.
            let part = takes / u64::from(KILLS);
            let after = part * u64::from(number - 1) + random.u64(0..=part);
            pause(Duration::from_micros(after));
            let is_done = child.kill().iter().any(|line| line == "done");
            stopped += u32::from(!is_done);
            case.check(before, is_done).await;
            if let Ok(outline) = manager.store().outline(case.memory.key()).await {
                assert_counters(&outline);
            }
        }
    }
    println!("{url}: {stopped} operations were stopped");
    assert!(stopped > KILLS, "only {stopped} operations were stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_operations_are_whole_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    kill(&format!("sqlite://{}", folder.path().join("memory.db").display())).await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_operations_are_whole_on_redis() {
    let server = memory_redis_testkit::any_server().await;
    let prefix = memory_redis_testkit::unique_prefix();
    kill(&format!("{}?prefix={prefix}", server.url())).await;
}
