//! Memories in a SQLite file, alone and while another process writes to it.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use memory_core::store::{Access, Append, WriterId};
use memory_core::{MemoryKey, MemoryStore, Message};
use memory_instance::MemoryManager;
use memory_lock::Clock;
use memory_lock_testkit::{Cut, Table, open_files, sweep, tasks, until_tasks};
use memory_store_sqlite::{SqliteConfig, SqliteStore};
use rusqlite::Connection;

use crate::opening::{assert_closed, sweep_managers, sweep_opening};
use crate::worlds::World;
use crate::{facade, stores};

pub(crate) const OPERATIONS: [&str; 2] = ["SqliteStore::open", "SqliteStore::remove_expired"];

const ROUNDS: usize = 3;

fn url(dir: &Path) -> String {
    format!("sqlite://{}", dir.join("memory.db").display())
}

fn connections(dir: &Path) -> Vec<String> {
    open_files(dir).iter().map(|file| file.display().to_string()).collect()
}

pub(crate) async fn sweep_all(table: &mut Table) {
    let before = tasks();
    let dir = tempfile::tempdir().unwrap();
    let world = World::opened("SQLite", &url(dir.path()), ROUNDS).await;
    world.sweep(facade::OPERATIONS, table, facade::cut_off).await;
    world.sweep(stores::OPERATIONS, table, stores::cut_off).await;
    assert_no_leases(dir.path());
    drop(world);
    assert_closed("SQLite", &async || connections(dir.path())).await;
    until_tasks(before, "SQLite").await;

    let dir = tempfile::tempdir().unwrap();
    let left = async || connections(dir.path());
    sweep_managers("SQLite", &url(dir.path()), ROUNDS, left, table).await;
    let open = async |cut: Cut| {
        let path = dir.path().join("store.db");
        let done = cut.off(SqliteStore::open(path.clone())).await.map(Result::unwrap);
        let ended = done.is_some();
        drop(done);
        assert_closed("a store", &left).await;
        drop(SqliteStore::open(path).await.unwrap());
        assert_closed("a store", &left).await;
        ended
    };
    sweep_opening(OPERATIONS[0], "SQLite", ROUNDS, open, table).await;
    sweep_remove_expired(dir.path(), table).await;
    assert_closed("a store", &left).await;
    until_tasks(before, OPERATIONS[1]).await;
}

/// Calls that find the file locked wait for it on other threads.
pub(crate) async fn sweep_while_another_process_writes(table: &mut Table) {
    let dir = tempfile::tempdir().unwrap();
    let world = World::opened("busy SQLite", &url(dir.path()), ROUNDS).await;
    let other = Connection::open(dir.path().join("memory.db")).unwrap();
    other.busy_timeout(Duration::from_secs(20)).unwrap();
    let (stop, stopped) = channel::<()>();
    let is_over = |error| error == RecvTimeoutError::Disconnected;
    let writes = std::thread::spawn(move || {
        loop {
            other.execute_batch("BEGIN IMMEDIATE").unwrap();
            let over = stopped.recv_timeout(Duration::from_millis(2)).is_err_and(is_over);
            other.execute_batch("ROLLBACK").unwrap();
            if over || stopped.recv_timeout(Duration::from_micros(200)).is_err_and(is_over) {
                return;
            }
        }
    });
    world.sweep(facade::OPERATIONS, table, facade::cut_off).await;
    world.sweep(stores::OPERATIONS, table, stores::cut_off).await;
    drop(stop);
    writes.join().unwrap();
    assert_no_leases(dir.path());
    drop(world);
    assert_closed("busy SQLite", &async || connections(dir.path())).await;
}

/// Asserts that no row of the file contains a held lease.
fn assert_no_leases(dir: &Path) {
    let file = Connection::open(dir.join("memory.db")).unwrap();
    let count = "SELECT count(*) FROM memory_leases WHERE owner IS NOT NULL";
    let held: i64 = file.query_row(count, [], |row| row.get(0)).unwrap();
    assert_eq!(held, 0, "leases are left over");
}

async fn sweep_remove_expired(dir: &Path, table: &mut Table) {
    let clock = Clock::manual();
    let config = SqliteConfig::new(dir.join("expiring.db")).with_clock(clock.clone());
    let store = SqliteStore::open(config).await.unwrap();
    // Only a memory can prepare a message.
    let manager =
        MemoryManager::builder().with_resource(memory_core::MemoryResource::new("m", 1_000));
    let manager = manager.open("memory://").await.unwrap();
    let batch = manager.memory("m", "k").unwrap().prepare([Message::user("hello")]).unwrap();
    let most = NonZeroUsize::new(100).unwrap();
    let points = sweep("SQLite", ROUNDS, async |cut| {
        let ttl = Duration::from_secs(10);
        let mut keys = Vec::new();
        for number in 0..3 {
            let rendered = format!("{number} {:x}", fastrand::u64(..));
            let key = MemoryKey::new("p", "m", &rendered).unwrap();
            let append = Append {
                write: WriterId::new(fastrand::u128(..)).write(1),
                messages: batch.messages().to_vec().into(),
                ttl: (number < 2).then_some(ttl),
                expected: None,
            };
            store.append(&key, Access::OPEN, &append).await.unwrap();
            keys.push(key);
        }
        clock.advance(ttl * 2);
        let done = cut.off(store.remove_expired(most)).await.map(Result::unwrap);
        let again = store.remove_expired(most).await.unwrap();
        assert!(done.is_none_or(|removed| removed == 2 && again == 0), "{cut:?}: {again}");
        assert_eq!(store.remove_expired(most).await.unwrap(), 0, "{cut:?}");
        let mut there = Vec::new();
        for key in &keys {
            let page = store.read(key, memory_core::store::Read::default()).await.unwrap();
            there.push(page.messages.len());
        }
        assert_eq!(there, [0, 0, 1], "{cut:?}: what has no TTL stays");
        done.is_some()
    })
    .await;
    table.add(OPERATIONS[1], "SQLite", points);
}
