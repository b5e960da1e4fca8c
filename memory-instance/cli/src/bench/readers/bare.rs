//! Bare readers: one request for all messages, decoded into `serde_json::Value`.

use std::hint::black_box;
use std::path::PathBuf;

use anyhow::Context as _;
use memory_core::MemoryKey;
use redis::aio::MultiplexedConnection;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tokio::time::Instant;

use crate::args::sqlite_path;

/// A reader with a separate connection.
pub(super) enum BareReader {
    Sqlite { file: PathBuf, key: String, least: usize },
    Redis { connection: MultiplexedConnection, key: String, least: usize },
}

impl BareReader {
    pub(super) async fn open(url: &str, key: &MemoryKey, least: usize) -> anyhow::Result<Self> {
        if let Some(file) = sqlite_path(url) {
            return Ok(Self::Sqlite { file: file.to_owned(), key: key.as_str().to_owned(), least });
        }
        // The driver does not know the settings in the query.
        let server = url.split_once('?').map_or(url, |(server, _)| server);
        let client = redis::Client::open(server).context("open the bare server")?;
        let connection = client.get_multiplexed_async_connection().await;
        let mut connection = connection.context("connect to the bare server")?;
        let key = find(&mut connection, key).await.context("find the memory on the server")?;
        Ok(Self::Redis { connection, key, least })
    }

    /// Returns the number of reads.
    pub(super) async fn read_until(self, until: Instant) -> anyhow::Result<u32> {
        match self {
            Self::Sqlite { file, key, least } => {
                let reads = move || select_until(&file, &key, least, until);
                tokio::task::spawn_blocking(reads).await?
            }
            Self::Redis { mut connection, key, least } => {
                let mut reads = 0;
                while Instant::now() < until {
                    let values = hmget(&mut connection, &key).await?;
                    check(values.len(), least)?;
                    black_box(values);
                    reads += 1;
                }
                Ok(reads)
            }
        }
    }
}

fn check(read: usize, least: usize) -> anyhow::Result<()> {
    anyhow::ensure!(read >= least, "a bare reader found {read} messages in place of {least}");
    Ok(())
}

/// The hash with the messages of this memory.
async fn find(connection: &mut MultiplexedConnection, key: &MemoryKey) -> anyhow::Result<String> {
    let mut pattern = String::from("*");
    for character in key.as_str().chars() {
        if "*?[]\\^".contains(character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('*');
    let mut cursor = 0_u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1_000).arg("TYPE").arg("hash");
        let (next, found): (u64, Vec<String>) = scan.query_async(connection).await?;
        for name in found {
            if redis::cmd("HEXISTS").arg(&name).arg("m1").query_async(connection).await? {
                return Ok(name);
            }
        }
        anyhow::ensure!(next != 0, "no hash holds the messages");
        cursor = next;
    }
}

/// The messages have the fields `m1`, `m2` and so on; the JSON follows a description without braces.
async fn hmget(connection: &mut MultiplexedConnection, key: &str) -> anyhow::Result<Vec<Value>> {
    let fields: u64 = redis::cmd("HLEN").arg(key).query_async(connection).await?;
    let mut read = redis::cmd("HMGET");
    read.arg(key);
    for place in 1..=fields {
        read.arg(format!("m{place}"));
    }
    let found: Vec<Option<Vec<u8>>> = read.query_async(connection).await?;
    let bodies = found.iter().flatten().map(|field| {
        let body = field.iter().position(|byte| *byte == b'{').and_then(|at| field.get(at..));
        Ok(serde_json::from_slice(body.context("a message without JSON")?)?)
    });
    bodies.collect()
}

fn select_until(file: &PathBuf, key: &str, least: usize, until: Instant) -> anyhow::Result<u32> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let find = "SELECT id << 36 FROM memory WHERE key = ?1";
    let first: i64 = connection.query_row(find, [key], |row| row.get(0))?;
    let mut select = connection.prepare(
        "SELECT place, id, tokens, priority, content_type, created_at, link, closed, summary, body
         FROM message WHERE place > ?1 AND place < ?2 ORDER BY place",
    )?;
    let mut reads = 0;
    while Instant::now() < until {
        let mut rows = select.query([first, first + (1 << 36)])?;
        let mut values: Vec<Value> = Vec::new();
        while let Some(row) = rows.next()? {
            for column in 0..9 {
                black_box(row.get_ref(column)?);
            }
            values.push(serde_json::from_str(row.get_ref(9)?.as_str()?)?);
        }
        check(values.len(), least)?;
        black_box(values);
        reads += 1;
    }
    Ok(reads)
}
