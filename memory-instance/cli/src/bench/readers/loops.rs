//! The readers of the other process.

use std::sync::Arc;
use std::time::Duration;

use memory_instance::{MemoryInstance, MemoryManager};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::bare::BareReader;
use super::{Layout, READERS, RESOURCE, WINDOW, builder};

/// How the other process reads, and for how long.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::bench) struct Order {
    layout: Layout,
    key: String,
    /// The fewest messages that a read returns.
    least: usize,
    millis: u64,
}

impl Order {
    pub(super) fn new(layout: Layout, key: String, least: usize, lasts: Duration) -> Self {
        let millis = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
        Self { layout, key, least, millis }
    }
}

/// Reads until the time is over; returns the reads of all messages or of a window per second.
pub(in crate::bench) async fn run_order(
    url: &str,
    manager: &MemoryManager,
    order: &Order,
) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let until = begun + Duration::from_millis(order.millis);
    let shared = rebuilt(manager, order)?;
    let mut running = Vec::with_capacity(READERS);
    for _ in 0..READERS {
        let (manager, order) = (manager.clone(), order.clone());
        running.push(match order.layout {
            Layout::Bare => {
                let reader = BareReader::open(url, shared.key(), order.least).await?;
                tokio::spawn(reader.read_until(until))
            }
            Layout::Cold => tokio::spawn(async move {
                let mut reads = 0;
                while Instant::now() < until {
                    all(&rebuilt(&manager, &order)?, order.least).await?;
                    window(&rebuilt(&manager, &order)?).await?;
                    reads += 2;
                }
                Ok(reads)
            }),
            Layout::NoViews | Layout::Warm => {
                let memory = shared.clone();
                tokio::spawn(async move {
                    let mut reads = 0;
                    while Instant::now() < until {
                        all(&memory, order.least).await?;
                        window(&memory).await?;
                        reads += 2;
                    }
                    Ok(reads)
                })
            }
        });
    }
    let mut reads = 0;
    for reader in running {
        reads += reader.await??;
    }
    Ok((f64::from(reads) / begun.elapsed().as_secs_f64().max(1e-9) * 10.0).round() / 10.0)
}

/// The memory in a manager that has read nothing yet.
fn rebuilt(manager: &MemoryManager, order: &Order) -> anyhow::Result<MemoryInstance> {
    let builder = match order.layout {
        Layout::NoViews => builder().with_view_bytes(0),
        Layout::Bare | Layout::Cold | Layout::Warm => builder(),
    };
    let manager = builder.build(Arc::clone(manager.store()), manager.locks().clone())?;
    Ok(manager.memory(RESOURCE, &order.key)?)
}

async fn all(memory: &MemoryInstance, least: usize) -> anyhow::Result<()> {
    let read = memory.messages().await?.len();
    anyhow::ensure!(read >= least, "a reader found {read} messages in place of {least} or more");
    Ok(())
}

async fn window(memory: &MemoryInstance) -> anyhow::Result<()> {
    std::hint::black_box(memory.context(WINDOW).await?);
    Ok(())
}
