//! Every public async operation of this crate, dropped after each of its polls, in process and on
//! SQLite: no lease, waiter or task is left over. On servers: `redis_server_cancellation`. With
//! backends that fail meanwhile: `cancel`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]
#![allow(clippy::future_not_send, reason = "the sweeps run on the thread of their test")]
#![allow(dead_code, reason = "shared with the sweeps on servers")]

mod leases;
mod sweep;

use std::sync::Arc;

use leases::Ground;
use memory_lock::InProcessLock;
use sweep::Table;

#[tokio::test]
async fn dropped_calls_leave_nothing_behind() {
    let mut table = Table::default();
    Ground::new("in process", Arc::new(InProcessLock::default()), 2).sweep(&mut table).await;
    #[cfg(feature = "sqlite")]
    {
        sqlite::sweep(&mut table).await;
        sqlite::sweep_while_another_process_writes(&mut table).await;
    }
    table.print();
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use memory_lock::{Clock, ClockExt as _, SqliteLock};
    use rusqlite::Connection;

    use crate::leases::Ground;
    use crate::sweep::Table;

    pub(crate) async fn sweep(table: &mut Table) {
        let dir = tempfile::tempdir().unwrap();
        ground("SQLite", dir.path()).sweep(table).await;
        assert_closed(dir.path()).await;
    }

    /// Calls that find the file locked wait for it on other threads.
    pub(crate) async fn sweep_while_another_process_writes(table: &mut Table) {
        let dir = tempfile::tempdir().unwrap();
        let ground = ground("busy SQLite", dir.path());
        let other = Connection::open(dir.path().join("leases.db")).unwrap();
        other.busy_timeout(Duration::from_secs(20)).unwrap();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
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
        ground.sweep(table).await;
        drop(stop);
        writes.join().unwrap();
        drop(ground);
        assert_closed(dir.path()).await;
    }

    fn is_over(error: std::sync::mpsc::RecvTimeoutError) -> bool {
        error == std::sync::mpsc::RecvTimeoutError::Disconnected
    }

    fn ground(name: &'static str, dir: &Path) -> Ground {
        let path = dir.join("leases.db");
        let lock = SqliteLock::open(&path, Clock::system()).unwrap();
        let mut ground = Ground::new(name, Arc::new(lock), 3);
        ground.left = Box::new(move || {
            let file = Connection::open(&path).unwrap();
            let held = "SELECT key FROM memory_leases WHERE owner IS NOT NULL";
            let mut held = file.prepare(held).unwrap();
            let held = held.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
            Box::pin(std::future::ready(held))
        });
        ground
    }

    /// No connection to a file below this folder is left.
    async fn assert_closed(dir: &Path) {
        crate::sweep::until("closing the file", async || match crate::sweep::open_files(dir) {
            open if open.is_empty() => Ok(()),
            open => Err(format!("still open: {open:?}")),
        })
        .await;
    }
}
