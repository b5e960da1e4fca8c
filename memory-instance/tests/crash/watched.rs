//! A watcher follows a memory whose writers are killed while they append, flush, replace and clear.
//!
//! `MEMORY_WATCH_EVENTS` sets the number of events on each backend.

use std::time::Duration;

use fastrand::Rng;
use memory_core::Message;
use memory_core_testkit::replica::Replica;
use memory_instance::WatchFrom;
use memory_lock::LockManager;
use tokio::time::{Instant, timeout};

use crate::child::{builder, open};
use crate::parent::{Child, Errand, Orders, seed};

const LEASE: Duration = Duration::from_millis(240);
/// The most writers at a time.
const WRITERS: usize = 2;
/// The least number of kills.
const MIN_KILLS: u32 = 10;

fn events() -> u64 {
    match std::env::var("MEMORY_WATCH_EVENTS") {
        Ok(events) => events.parse().unwrap(),
        Err(_) => 3_000,
    }
}

/// The work of a child.
pub(crate) async fn edit(orders: &Orders) {
    let (store, locks) = open(&orders.url).await;
    let manager = builder(0, LEASE).build(store, LockManager::new(locks)).unwrap();
    let memory = manager.memory("m", "k").unwrap();
    let mut random = Rng::with_seed(u64::from(orders.process));
    for number in 0_u64.. {
        // An error leaves the watcher what was written; the next step is another one.
        let _ = match random.u8(0..60) {
            0 => memory.clear().await.map(drop),
            1..=3 => {
                let prompt = format!("prompt {number} of {}", orders.process);
                memory.ensure_system("agent", &prompt).await.map(drop)
            }
            4..=8 => memory.perform_flush().await.map(drop),
            _ => {
                let count = random.u64(1..5);
                let batch =
                    (0..count).map(|part| Message::user(format!("{number}.{part} and more words")));
                memory.append_all(batch).await.map(drop)
            }
        };
    }
}

/// Kills writers until the watcher has seen enough events, and compares its copy with the memory.
async fn follow(url: &str) {
    let mut random = Rng::with_seed(seed());
    let (store, locks) = open(url).await;
    let manager = builder(0, LEASE).build(store, LockManager::new(locks)).unwrap();
    let memory = manager.memory("m", "k").unwrap();
    let mut watcher = memory.watch(WatchFrom::Start).await.unwrap();
    let (mut replica, mut kills, mut process) = (Replica::default(), 0_u32, 0);
    let mut writers = Vec::new();
    while replica.events < events() || kills < MIN_KILLS {
        while writers.len() < WRITERS {
            process += 1;
            let orders = Orders { errand: Errand::Edit, ..Orders::write(url, process) };
            writers.push(Child::start(&orders));
        }
        let until = Instant::now() + Duration::from_millis(random.u64(20..200));
        while let Ok(change) =
            timeout(until.saturating_duration_since(Instant::now()), watcher.next()).await
        {
            replica.apply(change.unwrap());
        }
        writers.swap_remove(random.usize(0..writers.len())).kill();
        kills += 1;
    }
    for writer in writers {
        writer.kill();
    }
    while !replica.equals(&memory.messages().await.unwrap()) {
        replica.apply(watcher.next().await.unwrap());
    }
    println!("{url}: {} events, {kills} kills, {} restarts", replica.events, replica.lags);
    assert_eq!(replica.lags, 0, "a watcher that follows never starts over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watcher_follows_killed_writers_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    follow(&format!("sqlite://{}", folder.path().join("memory.db").display())).await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watcher_follows_killed_writers_on_redis() {
    let server = memory_redis_testkit::any_server().await;
    let prefix = memory_redis_testkit::unique_prefix();
    follow(&format!("{}?prefix={prefix}", server.url())).await;
}
