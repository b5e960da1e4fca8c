//! Every public async operation of this crate, dropped after each of its polls, in process and on
//! SQLite: no lease, waiter or task is left over. On servers: `on_redis_servers::cancellation`. With
//! backends that fail meanwhile: `cancel`.

#![allow(clippy::future_not_send, reason = "the sweeps run on the thread of their test")]

use std::sync::Arc;

use memory_lock::InProcessLock;
use memory_lock_testkit::{LeaseSweep, Table};

#[tokio::test]
async fn dropped_calls_leave_nothing_behind() {
    let mut table = Table::default();
    LeaseSweep::new("in process", Arc::new(InProcessLock::default()), 2).run(&mut table).await;
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
    use memory_lock_testkit::{LeaseSweep, Table, open_files, until};
    use rusqlite::Connection;

    pub(crate) async fn sweep(table: &mut Table) {
        let dir = tempfile::tempdir().unwrap();
        leases("SQLite", dir.path()).run(table).await;
        assert_closed(dir.path()).await;
    }

    /// Calls that find the file locked wait for it on other threads.
    pub(crate) async fn sweep_while_another_process_writes(table: &mut Table) {
        let dir = tempfile::tempdir().unwrap();
        let leases = leases("busy SQLite", dir.path());
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
        leases.run(table).await;
        drop(stop);
        writes.join().unwrap();
        drop(leases);
        assert_closed(dir.path()).await;
    }

    fn is_over(error: std::sync::mpsc::RecvTimeoutError) -> bool {
        error == std::sync::mpsc::RecvTimeoutError::Disconnected
    }

    fn leases(name: &'static str, dir: &Path) -> LeaseSweep {
        let path = dir.join("leases.db");
        let lock = SqliteLock::open(&path, Clock::system()).unwrap();
        LeaseSweep::new(name, Arc::new(lock), 3).with_leftovers(move || {
            let file = Connection::open(&path).unwrap();
            let held = "SELECT key FROM memory_leases WHERE owner IS NOT NULL";
            let mut held = file.prepare(held).unwrap();
            let held = held.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
            Box::pin(std::future::ready(held))
        })
    }

    /// No connection to a file below this folder is left.
    async fn assert_closed(dir: &Path) {
        until("closing the file", async || match open_files(dir) {
            open if open.is_empty() => Ok(()),
            open => Err(format!("still open: {open:?}")),
        })
        .await;
    }
}
