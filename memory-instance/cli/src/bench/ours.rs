//! Appends and reads of memories.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use memory_core::Message;
use memory_core::store::{Cursor, Durability};
use memory_instance::{MemoryInstance, MemoryManager};
use memory_lock::{Clock, ClockExt as _};
use tokio::time::Instant;

use super::Keys;
use super::measure::{Latencies, Measured};

/// The number of messages in the memory that is read.
pub(crate) const FILLED: usize = 10_000;

/// The budget of the requested window.
const WINDOW: u64 = 4_000;

/// The store given.
pub(crate) struct Ours {
    manager: MemoryManager,
    resource: String,
    run: u64,
    measurements: AtomicU64,
    used: Mutex<Vec<MemoryInstance>>,
}

impl Ours {
    pub(crate) fn new(manager: MemoryManager, resource: String) -> Self {
        let (run, measurements, used) =
            (Clock::system().now_millis(), AtomicU64::new(0), Mutex::default());
        Self { manager, resource, run, measurements, used }
    }

    pub(crate) fn durability(&self) -> Durability {
        self.manager.store().durability()
    }

    /// A new memory.
    fn new_memory(&self, name: &str) -> anyhow::Result<MemoryInstance> {
        let number = self.measurements.fetch_add(1, Ordering::Relaxed);
        let memory =
            self.manager.memory(&self.resource, &format!("{}-{number}-{name}", self.run))?;
        self.used.lock().unwrap_or_else(PoisonError::into_inner).push(memory.clone());
        Ok(memory)
    }

    /// Removes all its data, because the store may belong to a user.
    pub(crate) async fn clean_up(&self) -> anyhow::Result<()> {
        let used = std::mem::take(&mut *self.used.lock().unwrap_or_else(PoisonError::into_inner));
        for memory in used {
            memory.clear().await?;
        }
        Ok(())
    }

    /// Tasks that append one message after another, up to the requested number.
    pub(crate) async fn appends(
        &self,
        tasks: usize,
        keys: Keys,
        count: usize,
    ) -> anyhow::Result<Measured> {
        let shared = self.new_memory("shared")?;
        let mut memories = Vec::with_capacity(tasks);
        for _ in 0..tasks {
            memories.push(match keys {
                Keys::One => shared.clone(),
                Keys::Many => self.new_memory("own")?,
            });
        }
        let begun = Arc::new(AtomicUsize::new(0));
        let mut all = Latencies::begin()?;
        let running: Vec<_> = memories
            .into_iter()
            .map(|memory| tokio::spawn(append(memory, Arc::clone(&begun), count)))
            .collect();
        for task in running {
            all.merge(&task.await??)?;
        }
        Ok(all.end())
    }

    /// A memory with many messages.
    pub(crate) async fn filled(&self) -> anyhow::Result<MemoryInstance> {
        let memory = self.new_memory("filled")?;
        let mut number = 0;
        while number < FILLED {
            let batch = (number..FILLED.min(number + 500)).map(message);
            memory.append_all(batch).await.context("fill a memory")?;
            number += 500;
        }
        Ok(memory)
    }
}

async fn append(
    memory: MemoryInstance,
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
        memory.append(message(number)).await?;
        latencies.add(started.elapsed());
    }
}

/// A message of some 100 tokens, as agents write them.
pub(crate) fn message(number: usize) -> Message {
    Message::assistant(format!(
        "Step {number}: the reservation K7Q{number:05} is in the system under the customer's name. \
         The outbound flight leaves New York at 07:00 PM and arrives in Seattle at 03:00 AM the next \
         day, with one change in Atlanta. One bag is included, two more cost 50 dollars each. The fare \
         can be refunded until 24 hours before departure; after that a change costs 75 dollars and the \
         difference in price. Shall I go on with the booking, or look for another connection?"
    ))
}

/// The messages since the last read: ten.
pub(crate) async fn read_news(memory: &MemoryInstance, count: usize) -> anyhow::Result<Measured> {
    let whole = memory.page(None, None).await?;
    let seen = whole.messages.iter().rev().nth(10).context("a memory with messages")?;
    let cursor = Cursor::at(whole.cursor.generation, &seen.meta);
    drop(whole.messages);
    let mut latencies = Latencies::begin()?;
    for _ in 0..count {
        let started = Instant::now();
        let page = memory.page(Some(cursor), None).await?;
        latencies.add(started.elapsed());
        anyhow::ensure!(
            page.messages.len() == 10,
            "{} messages in place of 10",
            page.messages.len()
        );
        if !latencies.goes_on() {
            break;
        }
    }
    Ok(latencies.end())
}

pub(crate) async fn read_counters(
    memory: &MemoryInstance,
    count: usize,
) -> anyhow::Result<Measured> {
    let mut latencies = Latencies::begin()?;
    for _ in 0..count {
        let started = Instant::now();
        memory.counters().await?;
        latencies.add(started.elapsed());
        if !latencies.goes_on() {
            break;
        }
    }
    Ok(latencies.end())
}

pub(crate) async fn read_context(
    memory: &MemoryInstance,
    count: usize,
) -> anyhow::Result<Measured> {
    let mut latencies = Latencies::begin()?;
    for _ in 0..count {
        let started = Instant::now();
        memory.context(WINDOW).await?;
        latencies.add(started.elapsed());
        if !latencies.goes_on() {
            break;
        }
    }
    Ok(latencies.end())
}
