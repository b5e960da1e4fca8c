//! Bare SQLite: the limits of the disk and the database.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use memory_core::store::Durability;
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::bench::measure::{Latencies, Measured};
use crate::bench::ours::message;

/// A separate SQLite file, used directly.
pub(crate) struct BareSqlite {
    connection: Arc<Mutex<Connection>>,
    _folder: TempDir,
}

impl BareSqlite {
    /// A new file in this folder.
    pub(crate) async fn open(parent: PathBuf, durability: Durability) -> anyhow::Result<Self> {
        blocking(move || {
            let folder = tempfile::Builder::new().prefix(".memory-bench-").tempdir_in(&parent)?;
            let connection = Connection::open(folder.path().join("bare.db"))?;
            connection.pragma_update(None, "journal_mode", "wal")?;
            let synchronous = if durability == Durability::Disk { "full" } else { "normal" };
            connection.pragma_update(None, "synchronous", synchronous)?;
            connection.execute_batch(
                "CREATE TABLE message (place INTEGER PRIMARY KEY, tokens INTEGER NOT NULL, body TEXT NOT NULL)",
            )?;
            Ok(Self { connection: Arc::new(Mutex::new(connection)), _folder: folder })
        })
        .await
        .context("open the bare database")
    }

    /// One prepared insert for each transaction.
    pub(crate) async fn inserts(&self, count: usize) -> anyhow::Result<Measured> {
        self.with(move |connection| {
            let mut insert =
                connection.prepare("INSERT INTO message (tokens, body) VALUES (?1, ?2)")?;
            let mut latencies = Latencies::begin()?;
            for number in 0..count {
                let started = Instant::now();
                insert.execute((100, message(number).to_value().to_string()))?;
                latencies.add(started.elapsed());
                if !latencies.goes_on() {
                    break;
                }
            }
            Ok(latencies.end())
        })
        .await
    }

    /// Makes the table this long.
    pub(crate) async fn fill(&self, count: usize) -> anyhow::Result<()> {
        self.with(move |connection| {
            let all = connection.unchecked_transaction()?;
            let mut insert = all.prepare("INSERT INTO message (tokens, body) VALUES (?1, ?2)")?;
            for number in 0..count {
                insert.execute((100, message(number).to_value().to_string()))?;
            }
            drop(insert);
            Ok(all.commit()?)
        })
        .await
    }

    /// The ten newest rows, by their number, and their JSON read.
    pub(crate) async fn reads(&self, count: usize) -> anyhow::Result<Measured> {
        self.with(move |connection| {
            let newest: i64 =
                connection.query_row("SELECT max(place) FROM message", [], |row| row.get(0))?;
            let mut select = connection.prepare(
                "SELECT place, tokens, body FROM message WHERE place > ?1 ORDER BY place LIMIT 11",
            )?;
            let mut latencies = Latencies::begin()?;
            for _ in 0..count {
                let started = Instant::now();
                let rows = select.query_map([newest - 10], |row| row.get::<_, String>(2))?;
                for row in rows {
                    std::hint::black_box(memory_core::Message::from_json(&row?)?);
                }
                latencies.add(started.elapsed());
                if !latencies.goes_on() {
                    break;
                }
            }
            Ok(latencies.end())
        })
        .await
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let connection = Arc::clone(&self.connection);
        blocking(move || work(&connection.lock().unwrap_or_else(PoisonError::into_inner)))
            .await
            .context("use the bare database")
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    spawn_blocking(work).await?
}
