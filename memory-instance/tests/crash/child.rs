//! The work of the children until they are killed.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use memory_core::store::{WriteId, WriterId};
use memory_core::{EstimateCounter, MemoryResource, MemoryStore};
use memory_core_testkit::intercept::Intercept;
use memory_instance::{FlushMode, ManagerBuilder, MemoryInstance, MemoryManager};
use memory_lock::{Clock, ClockExt as _, LockBackend, LockManager, SqliteLock};
use memory_store_sqlite::{SqliteConfig, SqliteStore};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::ledger::{Batch, PARTS};
use crate::marks::{MarkedCalls, MarkedLocks, Marks};
use crate::parent::{Errand, Orders};

/// The number of tasks per child that append.
pub(crate) const TASKS: u32 = 2;

#[test]
fn child() {
    let Some(orders) = Orders::given() else { return };
    // The output of the test harness has no line end so far.
    say("");
    if let Some(kibibytes) = orders.file_limit {
        let limit = |maximum| Rlimit { current: Some(maximum), maximum: Some(maximum) };
        // Prevents a core dump.
        setrlimit(Resource::Core, limit(0)).unwrap();
        setrlimit(Resource::Fsize, limit(kibibytes << 10)).unwrap();
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match orders.errand {
        Errand::Write => runtime.block_on(work(&orders)),
        Errand::Copy => runtime.block_on(crate::copied::copy(&orders)),
        Errand::Edit => runtime.block_on(crate::watched::edit(&orders)),
        Errand::Past => runtime.block_on(crate::past::change(&orders)),
        Errand::Single => runtime.block_on(crate::single::run(&orders)),
        Errand::Lease => runtime.block_on(crate::parent::hold_a_lease(&orders)),
    }
}

/// Writes a line to the parent, at once and in one piece. The child exits when the parent has ended.
pub(crate) fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(1);
    }
}

/// The TTL of the children's leases: short, because their holders die.
pub(crate) const DOOMED: Duration = Duration::from_millis(240);

/// Settings that parent and children share: messages of 20 tokens, and a flush every dozen batches.
pub(crate) fn builder(padding: usize, lease: Duration) -> ManagerBuilder {
    let max_tokens = if padding == 0 { 1_000 } else { 200_000 };
    let mut resource = MemoryResource::new("m", max_tokens);
    resource.flushing_strategy.kind = Some("hybrid_summary".into());
    resource.flushing_strategy.summary_tokens = Some(100);
    resource.lock.ttl = lease;
    resource.lock.refresh_interval = lease / 3;
    // A vocabulary would be loaded by each process.
    let builder = MemoryManager::builder().with_token_counter(Arc::new(EstimateCounter));
    builder.with_resource(resource).with_flush_mode(FlushMode::Manual)
}

/// The id of a batch, independent of the process that sends it.
pub(crate) fn write_of(batch: Batch) -> WriteId {
    WriterId::named(&format!("{} {}", batch.process, batch.task)).write(batch.number)
}

pub(crate) async fn open(url: &str) -> (Arc<dyn MemoryStore>, Arc<dyn LockBackend>) {
    match url.strip_prefix("sqlite://") {
        Some(path) => {
            let config = SqliteConfig::new(path);
            let store = SqliteStore::open(config).await.unwrap();
            (Arc::new(store), Arc::new(SqliteLock::open(path, Clock::system()).unwrap()))
        }
        None => open_redis(url).await,
    }
}

#[cfg(feature = "redis")]
async fn open_redis(url: &str) -> (Arc<dyn MemoryStore>, Arc<dyn LockBackend>) {
    use memory_store_redis::{RedisConfig, RedisStore};
    let store = RedisStore::open(RedisConfig::from_url(url).unwrap()).await.unwrap();
    let locks = memory_lock::RedisLock::new(store.link().clone());
    (Arc::new(store), Arc::new(locks))
}

#[cfg(not(feature = "redis"))]
async fn open_redis(url: &str) -> (Arc<dyn MemoryStore>, Arc<dyn LockBackend>) {
    panic!("{url} needs the feature `redis`")
}

async fn work(orders: &Orders) {
    let marks = Marks::new(&orders.point, orders.passes);
    let (store, locks) = open(&orders.url).await;
    let store = Arc::new(Intercept::new(store, MarkedCalls(Arc::clone(&marks))));
    let locks = LockManager::new(Arc::new(MarkedLocks { locks, marks: Arc::clone(&marks) }));
    let manager = builder(orders.padding, DOOMED)
        .with_summarizer(marks.summarizer())
        .build(store, locks)
        .unwrap();
    let memory = manager.memory("m", "k").unwrap();
    say("up");
    let tasks: Vec<_> =
        (0..TASKS).map(|task| tokio::spawn(append(memory.clone(), orders.clone(), task))).collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Appends one batch after another and reports the acknowledged ones. The first task also flushes, and the second
/// one works under the lease of the memory.
async fn append(memory: MemoryInstance, orders: Orders, task: u32) {
    for number in 1.. {
        let batch = Batch { process: orders.process, task, number };
        let prepared = memory.prepare_as(write_of(batch), batch.messages(orders.padding)).unwrap();
        // If the server was killed, the batch is resent until a new server is up.
        let first = loop {
            match memory.send(&prepared).await {
                Ok(appended) => break appended.outcome.first().unwrap(),
                Err(error) => say(&format!("trouble {error}")),
            }
        };
        say(&format!("ack {task} {number} {}", first.number()));
        if let (0, Some(arm)) = (task, &orders.arm)
            && number == u64::from(orders.passes) + 1
        {
            crate::sqlite::arm(&orders.url, arm);
            say("armed");
        }
        if task == 0 && number % 6 == 0 {
            match memory.perform_flush().await {
                Ok(Some(receipt)) => {
                    say(&format!("flushed {}", serde_json::to_string(&receipt).unwrap()));
                }
                Ok(None) => {}
                Err(error) => say(&format!("trouble {error}")),
            }
        }
        if task == 1 && number % 7 == 0 {
            let turn = memory.exclusive(|session| async move { session.messages().await });
            if let Err(error) = turn.await {
                say(&format!("trouble {error}"));
            }
        }
    }
}

impl Batch {
    /// Its messages. The padding makes the log file grow quickly.
    pub(crate) fn messages(self, padding: usize) -> Vec<memory_core::Message> {
        let Self { process, task, number } = self;
        let padding = "x".repeat(padding);
        (0..PARTS)
            .map(|part| {
                let text =
                    format!("{process} {task} {number} {part} p{part}. found this {padding}");
                memory_core::Message::user(text)
            })
            .collect()
    }
}
