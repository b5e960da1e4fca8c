//! Bare Redis: one script that pushes a message and counts it, with nothing checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use anyhow::Context as _;
use memory_lock::{Clock, ClockExt as _};
use redis::aio::MultiplexedConnection;
use tokio::time::Instant;

use super::append as bare;
use crate::bench::Keys;
use crate::bench::measure::{Latencies, Measured};
use crate::bench::ours::message;

/// One multiplexed connection, and separate keys.
pub(crate) struct BareRedis {
    connection: MultiplexedConnection,
    script: Arc<redis::Script>,
    prefix: String,
    names: AtomicU64,
}

impl BareRedis {
    pub(crate) async fn open(url: &str) -> anyhow::Result<Self> {
        // The driver does not know the settings in the query.
        let url = url.split_once('?').map_or(url, |(server, _)| server);
        let client = redis::Client::open(url).context("open the bare server")?;
        let connection = client.get_multiplexed_async_connection().await;
        Ok(Self {
            connection: connection.context("connect to the bare server")?,
            script: Arc::new(bare::script()),
            prefix: format!("memory-bench-{}", Clock::system().now_micros()),
            names: AtomicU64::new(0),
        })
    }

    /// A new list, and its counters.
    fn new_keys(&self) -> [String; 2] {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        let prefix = &self.prefix;
        [format!("{prefix}:{number}:messages"), format!("{prefix}:{number}:counters")]
    }

    pub(crate) async fn appends(
        &self,
        tasks: usize,
        keys: Keys,
        count: usize,
    ) -> anyhow::Result<Measured> {
        let shared = self.new_keys();
        let begun = Arc::new(AtomicUsize::new(0));
        let mut all = Latencies::begin()?;
        let running: Vec<_> = (0..tasks)
            .map(|_| {
                let keys = if keys == Keys::One { shared.clone() } else { self.new_keys() };
                let (connection, script) = (self.connection.clone(), Arc::clone(&self.script));
                tokio::spawn(append(connection, script, keys, Arc::clone(&begun), count))
            })
            .collect();
        for task in running {
            all.merge(&task.await??)?;
        }
        Ok(all.end())
    }

    /// Makes a list of this length, which is read first.
    pub(crate) async fn fill(&self, count: usize) -> anyhow::Result<()> {
        let texts: Vec<_> = (0..count).map(|n| message(n).to_value().to_string()).collect();
        let key = format!("{}:filled", self.prefix);
        let mut connection = self.connection.clone();
        for some in texts.chunks(500) {
            let push = redis::cmd("RPUSH").arg(&key).arg(some).exec_async(&mut connection).await;
            push.context("fill the bare list")?;
        }
        Ok(())
    }

    /// The ten newest of a list, and their JSON read.
    pub(crate) async fn reads(&self, count: usize) -> anyhow::Result<Measured> {
        let key = format!("{}:filled", self.prefix);
        let mut connection = self.connection.clone();
        let mut range = redis::cmd("LRANGE");
        range.arg(&key).arg(-10).arg(-1);
        let mut latencies = Latencies::begin()?;
        for _ in 0..count {
            let started = Instant::now();
            let texts: Vec<String> = range.query_async(&mut connection).await?;
            for text in texts {
                std::hint::black_box(memory_core::Message::from_json(&text)?);
            }
            latencies.add(started.elapsed());
            if !latencies.goes_on() {
                break;
            }
        }
        Ok(latencies.end())
    }

    pub(crate) async fn clean_up(&self) -> anyhow::Result<()> {
        let mut keys = vec![format!("{}:filled", self.prefix)];
        let names = self.names.load(Ordering::Relaxed);
        for number in 0..names {
            keys.push(format!("{}:{number}:messages", self.prefix));
            keys.push(format!("{}:{number}:counters", self.prefix));
        }
        let mut connection = self.connection.clone();
        redis::cmd("UNLINK").arg(keys).exec_async(&mut connection).await.context("clean up")
    }
}

async fn append(
    mut connection: MultiplexedConnection,
    script: Arc<redis::Script>,
    keys: [String; 2],
    begun: Arc<AtomicUsize>,
    count: usize,
) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::begin()?;
    loop {
        let number = begun.fetch_add(1, Ordering::Relaxed);
        if number >= count || !latencies.goes_on() {
            return Ok(latencies);
        }
        let started = Instant::now();
        let text = message(number).to_value().to_string();
        let call = bare::call(&script, &keys, &text, 100);
        let _: Vec<i64> = call.invoke_async(&mut connection).await?;
        latencies.add(started.elapsed());
    }
}
