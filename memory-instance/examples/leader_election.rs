//! Leader election among processes on one machine, and a fencing token that keeps a deposed leader from writing.
//! Leases are in one SQLite file, the data of the application in another.
//!
//! `cargo run -p memory-instance --example leader_election`, any number of times. The two nodes of this program share
//! nothing but the files, like two processes.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use memory_instance::{Clock, ClockExt as _, FencingToken, LockManager};
use memory_lock::{LockKey, LockOptions, SqliteLock};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Path::new(".")).await {
        Ok(story) => println!("{story}"),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Two terms: the first leader stalls, the second one takes over, and then the first one wakes up.
async fn run(folder: &Path) -> Result<String> {
    let a = Node::open("a", folder)?;
    let b = Node::open("b", folder)?;
    let leader = LockKey::new("leader")?;
    // A leader that crashes is replaced after the TTL. The lease is refreshed for as long as the leader lives.
    let options = LockOptions::new()
        .with_ttl(Duration::from_secs(10))
        .with_wait_timeout(Duration::from_secs(2));
    let mut story = Vec::new();

    let lease = a.locks.lock(&leader, &options).await?;
    let old = lease.fence();
    story.push(a.lead(old)?);

    // Node a stalls: its lease ends without its knowledge. Here an operator takes it away.
    b.locks.break_lease(&leader).await?;

    // The usual form: lead for as long as the future runs, and stop when the lease is lost.
    let won = b.locks.with_lock_refresh(&leader, &options, |lease| {
        let led = b.lead(lease.fence()).map_err(|error| error.to_string());
        async move { led }
    });
    story.push(won.await??);

    // Node a wakes up, and still believes that it is the leader.
    story.push(a.lead(old)?);
    lease.release().await;

    story.push(format!("written in all: {}", b.written()?));
    Ok(story.join("\n"))
}

/// A process that wants to lead.
struct Node {
    name: &'static str,
    locks: LockManager,
    data: Mutex<Connection>,
}

impl Node {
    fn open(name: &'static str, folder: &Path) -> Result<Self> {
        let leases = SqliteLock::open(folder.join("leader_election_leases.db"), Clock::system())?;
        let data = Connection::open(folder.join("leader_election_data.db"))?;
        data.busy_timeout(Duration::from_secs(5))?;
        data.execute_batch(
            "CREATE TABLE IF NOT EXISTS fence (token INTEGER NOT NULL);
             CREATE TABLE IF NOT EXISTS entry (node TEXT NOT NULL, token INTEGER NOT NULL);",
        )?;
        Ok(Self { name, locks: LockManager::new(Arc::new(leases)), data: Mutex::new(data) })
    }

    /// Writes one entry as the leader, unless a later leader has shown its token: the comparison and the write
    /// are one transaction. It consults no clock and no lease, so a stalled leader cannot do harm.
    fn lead(&self, token: FencingToken) -> Result<String> {
        let name = self.name;
        let number = token.as_i64();
        let mut data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = data.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let newest: Option<i64> =
            transaction.query_row("SELECT token FROM fence", [], |row| row.get(0)).optional()?;
        match newest {
            Some(newest) if number < newest => {
                return Ok(format!("node {name} is refused: a later leader has written"));
            }
            Some(_) => transaction.execute("UPDATE fence SET token = ?1", [number])?,
            None => transaction.execute("INSERT INTO fence VALUES (?1)", [number])?,
        };
        transaction.execute("INSERT INTO entry VALUES (?1, ?2)", (name, number))?;
        transaction.commit()?;
        Ok(format!("node {name} leads and writes"))
    }

    fn written(&self) -> Result<i64> {
        let data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(data.query_row("SELECT count(*) FROM entry", [], |row| row.get(0))?)
    }
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn deposed_leader_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for run in 1..=2 {
            let story = super::run(folder.path()).await.unwrap();
            let expected = [
                "node a leads and writes",
                "node b leads and writes",
                "node a is refused: a later leader has written",
                &format!("written in all: {}", 2 * run),
            ];
            assert_eq!(story.lines().collect::<Vec<_>>(), expected);
        }
    }
}
