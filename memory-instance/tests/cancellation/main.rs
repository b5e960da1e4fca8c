//! Drops every public async operation of stores, memories, turns, managers and summarizers after each of its polls.
//! After each drop: the operation is applied completely or not at all, the counters match a recount, a resent write
//! is stored once, and no lease, task or connection remains. `memory-lock` has its
//! own sweeps. `complete` checks that no operation is missing.

#![allow(clippy::future_not_send, reason = "the sweeps run on the thread of their test")]

mod complete;
mod facade;
mod far;
#[cfg(feature = "redis")]
mod on_redis;
#[cfg(feature = "redis")]
mod on_redis_servers;
mod on_sqlite;
mod opening;
mod spans;
mod stores;
mod worlds;

use std::sync::Arc;

use far::{Far, FarLock};
use memory_core::{InMemoryStore, MemoryStore};
use memory_core_testkit::intercept::Intercept;
use memory_lock::{Clock, ClockExt as _, InProcessLock, LockBackend, LockManager};
use memory_lock_testkit::{Table, tasks, until_tasks};
use worlds::World;

fn in_memory() -> (Arc<dyn MemoryStore>, Arc<dyn LockBackend>) {
    (Arc::new(InMemoryStore::new(Clock::anchored())), Arc::new(InProcessLock::default()))
}

fn far_away() -> World {
    let (store, locks) = in_memory();
    let store: Arc<dyn MemoryStore> = Arc::new(Intercept::new(store, Far));
    World::new("far memory", &store, &LockManager::new(Arc::new(FarLock(locks))), None)
}

#[tokio::test(start_paused = true)]
async fn dropped_call_leaves_nothing_behind_in_memory() {
    let before = tasks();
    let mut table = Table::default();
    let (store, locks) = in_memory();
    let near = World::new("memory", &store, &LockManager::new(locks), None);
    let far = far_away();
    let guarded = far.behind_a_breaker("circuit breaker");
    for world in [&near, &far, &guarded] {
        world.sweep(facade::OPERATIONS, &mut table, facade::cut_off).await;
        world.sweep(stores::OPERATIONS, &mut table, stores::cut_off).await;
    }
    near.sweep(facade::SUMMARY_OPERATIONS, &mut table, facade::cut_off_summary).await;
    opening::sweep_managers("memory", "memory://", 1, async || Vec::new(), &mut table).await;
    drop((near, far, guarded));
    until_tasks(before, "all is gone").await;
    table.print();
}

#[tokio::test]
async fn dropped_call_leaves_nothing_behind_on_sqlite() {
    let mut table = Table::default();
    on_sqlite::sweep_all(&mut table).await;
    table.print();
}

#[tokio::test]
async fn dropped_call_leaves_nothing_behind_on_shared_file() {
    let mut table = Table::default();
    on_sqlite::sweep_while_another_process_writes(&mut table).await;
    table.print();
}
