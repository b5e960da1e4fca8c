//! Processes are killed in the middle of a fork and of a copy. The new memories are then absent, unfinished or complete, and
//! the same call by another process completes them.

use std::sync::Arc;
use std::time::Duration;

use memory_core::Message;
use memory_core::store::StoreErrorKind;
use memory_core_testkit::intercept::Intercept;
use memory_instance::{ForkOptions, MemoryInstance, MemoryManager};
use memory_lock::LockManager;
use uuid::Uuid;

use crate::child::{builder, open, say};
use crate::marks::{MarkedCalls, Marks};
use crate::parent::{Child, Errand, Orders};

const LEASE: Duration = Duration::from_millis(240);
/// Several parts.
const MESSAGES: usize = 60;

const POINTS: [&str; 4] = [
    "before a step of a copy",
    "after a step of a copy, untold",
    "before a fork",
    "after a fork, untold",
];

fn options() -> ForkOptions {
    ForkOptions::new().with_id(Uuid::from_u128(7))
}

fn memories(manager: &MemoryManager) -> [MemoryInstance; 3] {
    ["k", "fork", "copy"].map(|key| manager.memory("m", key).unwrap())
}

/// The work of a child.
pub(crate) async fn copy(orders: &Orders) {
    let marks = Marks::new(&orders.point, orders.passes);
    let (store, locks) = open(&orders.url).await;
    let store = Arc::new(Intercept::new(store, MarkedCalls(marks)));
    let manager = builder(1, LEASE).build(store, LockManager::new(locks)).unwrap();
    let [memory, fork, copy] = memories(&manager);
    memory.fork(&fork, options()).await.unwrap();
    memory.copy_to(&copy).await.unwrap();
    say("copied");
    std::future::pending::<()>().await;
}

async fn kill(url: &str) {
    let (store, locks) = open(url).await;
    let manager = builder(1, LEASE).build(store, LockManager::new(locks)).unwrap();
    let [memory, fork, copy] = memories(&manager);
    let padding = "x".repeat(20 << 10);
    let talk = (0..MESSAGES).map(|number| Message::user(format!("{number} {padding}")));
    memory.append_all(talk).await.unwrap();
    let messages = memory.messages().await.unwrap();
    let (mut process, mut unfinished, mut stopped) = (0, 0, 0);
    for point in POINTS {
        for passes in 0.. {
            process += 1;
            let orders = Orders::write(url, process);
            let orders = Orders { errand: Errand::Copy, point: point.to_owned(), passes, ..orders };
            let mut child = Child::start(&orders);
            // Whichever comes first.
            let is_over = child.wait_for_one_of(["here", "copied"]) == Some("copied");
            child.kill();
            for new in [&fork, &copy] {
                match new.messages().await {
                    Ok(found) => assert!(found.is_empty() || found == messages, "{point}"),
                    Err(error) => {
                        assert_eq!(error.store_kind(), Some(&StoreErrorKind::Unfinished));
                        unfinished += 1;
                    }
                }
            }
            memory.fork(&fork, options()).await.unwrap();
            memory.copy_to(&copy).await.unwrap();
            for new in [&fork, &copy] {
                assert_eq!(new.messages().await.unwrap(), messages, "{point}, {passes} before");
                assert_eq!(new.counters().await.unwrap(), memory.counters().await.unwrap());
                new.delete().await.unwrap();
            }
            if is_over {
                break;
            }
            stopped += 1;
        }
    }
    println!("{url}: {stopped} kills, {unfinished} unfinished");
    assert!(stopped >= 10 && unfinished >= 5, "{stopped} kills, {unfinished} unfinished");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_copies_are_completed_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    kill(&format!("sqlite://{}", folder.path().join("memory.db").display())).await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_copies_are_completed_on_redis() {
    let server = memory_redis_testkit::any_server().await;
    let prefix = memory_redis_testkit::unique_prefix();
    kill(&format!("{}?prefix={prefix}", server.url())).await;
}
